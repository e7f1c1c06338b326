//! Makes a history that fails as short and plain as it gets.

use super::history::{History, Step};

/// The plainest history found that still `fails`, in at most so many tries.
pub(super) fn shrink(
    history: &History,
    tries: usize,
    mut fails: impl FnMut(&History) -> bool,
) -> History {
    let mut best = history.clone();
    let mut left = tries;
    let mut attempt = |candidate: History, best: &mut History| {
        if left == 0 || candidate == *best {
            return false;
        }
        left -= 1;
        let failed = fails(&candidate);
        if failed {
            *best = candidate;
        }
        failed
    };
    loop {
        let before = best.clone();
        let mut length = best.0.len().max(1);
        while length > 0 {
            let mut at = 0;
            while at < best.0.len() {
                let mut steps = best.0.clone();
                steps.drain(at..(at + length).min(steps.len()));
                if !attempt(History(steps), &mut best) {
                    at += length;
                }
            }
            length /= 2;
        }
        for at in 0..best.0.len() {
            for step in plainer(&best.0[at]) {
                let mut steps = best.0.clone();
                steps[at] = step;
                attempt(History(steps), &mut best);
            }
        }
        if best == before {
            return best;
        }
    }
}

/// The step with one thing about it plainer.
fn plainer(step: &Step) -> Vec<Step> {
    let mut all = Vec::new();
    let mut without_last = step.clone();
    if without_last.numbers.pop().is_some() {
        all.push(without_last);
    }
    for (at, &number) in step.numbers.iter().enumerate() {
        for plain in [0, 1, number / 2]
            .into_iter()
            .filter(|plain| plain.unsigned_abs() < number.unsigned_abs())
        {
            let mut step = step.clone();
            step.numbers[at] = plain;
            all.push(step);
        }
    }
    all
}
