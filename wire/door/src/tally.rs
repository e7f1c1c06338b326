//! Refusals, counted by reason; and how many of them the log may have.
//!
//! Whoever is refused can come again a thousand times a second. Each time
//! counts, but a log that he can fill is one more thing that he can break.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines that the log has of refusals in a [`PERIOD`].
const LINES: u32 = 10;
/// For how long [`LINES`] are enough.
const PERIOD: Duration = Duration::from_secs(1);

/// All refusals so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
    /// When the present period began, by the caller's clock.
    began: Duration,
    /// Lines of the present period.
    lines: u32,
    /// Refusals since the last line that had none.
    unsaid: u64,
}

/// What a line of the log says besides who and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// How often it happened for this reason.
    pub count: u64,
    /// How many refusals before this one have no line.
    pub unsaid: u64,
}

impl Tally {
    /// Counts one; returns what to log of it, if it is to be logged. `now` is the
    /// time since any fixed moment.
    pub fn note(&mut self, reason: &'static str, now: Duration) -> Option<Line> {
        let count = self.counts.entry(reason).or_default();
        *count += 1;
        if now.saturating_sub(self.began) >= PERIOD {
            self.began = now;
            self.lines = 0;
        }
        if self.lines == LINES {
            self.unsaid += 1;
            return None;
        }
        self.lines += 1;
        Some(Line {
            count: *count,
            unsaid: std::mem::take(&mut self.unsaid),
        })
    }

    /// Each reason there was, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_counts_and_a_flood_has_few_lines() {
        let mut tally = Tally::default();
        let now = Duration::from_secs(100);
        assert_eq!(
            tally.note("key", now),
            Some(Line {
                count: 1,
                unsaid: 0
            })
        );
        let said = (0..1000).filter_map(|_| tally.note("plain", now)).count();
        assert_eq!(said, 9);
        let later = tally.note("key", now + PERIOD);
        assert_eq!(
            later,
            Some(Line {
                count: 2,
                unsaid: 991
            })
        );
        let counts: Vec<_> = tally.counts().collect();
        assert_eq!(counts, [("key", 2), ("plain", 1000)]);
    }
}
