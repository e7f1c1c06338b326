//! Every target, a fixed number of times: first what was found before, then the
//! seeds, then the seeds with changes that are the same in each run. What was
//! reached is counted, so that the tests cannot pass by getting nowhere.

use dipc_fuzz::{Reached, TARGETS, regressions};

/// Changed inputs of each target.
const ROUNDS: usize = 40_000;

/// A linear congruence: looks random, and is the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % below.max(1)
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.roll(bytes.len() + 1);
    match dice.roll(6) {
        0 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
        1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)]),
        4 => bytes.truncate(at),
        _ => {
            let from = dice.roll(other.len() + 1);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn takes_anything(name: &str, least: usize) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    let mut reached = Reached::new();
    for bytes in regressions(target).expect("they can be read") {
        (target.take)(&bytes, &mut reached);
    }
    let seeds = (target.seeds)();
    let mut dice = Dice(7);
    for seed in &seeds {
        (target.take)(seed, &mut reached);
    }
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=dice.roll(5) {
            let other = &seeds[dice.roll(seeds.len())];
            change(&mut bytes, other, &mut dice);
        }
        // A seed of everything in a row shall not grow without end.
        bytes.truncate(4096);
        (target.take)(&bytes, &mut reached);
    }
    println!(
        "{name}: {} seeds, {ROUNDS} changes, {} reached",
        seeds.len(),
        reached.len()
    );
    assert!(reached.len() >= least, "only {reached:?}");
}

macro_rules! targets {
    ($($test:ident: $name:literal, $least:literal;)*) => {
        $(#[test]
        fn $test() {
            takes_anything($name, $least);
        })*

        #[test]
        fn each_target_is_tried() {
            let tried = [$($name),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(tried));
        }
    };
}

targets! {
    any_stream_is_frames_or_refused: "frames", 5;
    any_bytes_are_a_request_or_refused: "local", 300;
    any_bytes_are_a_peers_message_or_refused: "peer", 130;
    any_bytes_are_a_referees_message_or_refused: "referee", 250;
    any_bytes_are_rows_or_refused: "rows", 30;
    any_text_is_limits_or_refused: "limits", 50;
    the_coherence_machine_takes_anything: "coherence", 34;
    the_referees_machine_takes_anything: "naming", 20;
    a_set_takes_anything: "semaphores", 17;
    a_queue_takes_anything: "queues", 15;
}
