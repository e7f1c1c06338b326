//! From samples to the table.

use std::collections::BTreeMap;

use super::Measure;
use crate::table::Table;

/// The rows: what is measured, and a floor beside it.
const ROWS: [(Measure, Measure); 9] = [
    (Measure::LocalSemop, Measure::KernelSemop),
    (Measure::LocalSemop, Measure::UnixRoundTrip),
    (Measure::RemoteSemop, Measure::KernelSemop),
    (Measure::RemoteSemop, Measure::TcpRoundTrip),
    (Measure::Message, Measure::KernelMessage),
    (Measure::Message, Measure::TcpRoundTrip),
    (Measure::ReadMiss, Measure::BareMiss),
    (Measure::WriteMiss, Measure::BareMiss),
    (Measure::Upgrade, Measure::TcpRoundTrip),
];

/// All samples of a run, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<Measure, Vec<u64>>);

impl Samples {
    /// Adds one round's.
    pub(crate) fn add(&mut self, measure: Measure, samples: Vec<u64>) {
        self.0.entry(measure).or_default().extend(samples);
    }

    /// The table: p50 and p99 of each measure and of its floor in µs, and the
    /// ratio of the two medians.
    pub(crate) fn render(mut self) -> String {
        self.0
            .values_mut()
            .for_each(|samples| samples.sort_unstable());
        let mut table = Table::new([
            "WHAT", ">P50 µs", ">P99 µs", "FLOOR", ">P50 µs", ">P99 µs", ">RATIO",
        ]);
        for (what, floor) in ROWS {
            let (Some(a), Some(b)) = (self.0.get(&what), self.0.get(&floor)) else {
                continue;
            };
            table.row([
                what.name().into(),
                micros(percentile(a, 50)),
                micros(percentile(a, 99)),
                floor.name().into(),
                micros(percentile(b, 50)),
                micros(percentile(b, 99)),
                format!(
                    "{:.2}",
                    percentile(a, 50) as f64 / percentile(b, 50).max(1) as f64
                ),
            ]);
        }
        table.render()
    }
}

/// The smallest sample that at least `percent` of all do not exceed; 0 of none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn micros(nanoseconds: u64) -> String {
    format!("{:.2}", nanoseconds as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<_> = (1..=100).collect();
        assert_eq!(
            (percentile(&hundred, 50), percentile(&hundred, 99)),
            (50, 99)
        );
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (7, 7));
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn a_row_has_a_measure_its_floor_and_their_ratio() {
        let mut samples = Samples::default();
        samples.add(Measure::RemoteSemop, vec![30_000, 50_000, 40_000]);
        samples.add(Measure::TcpRoundTrip, vec![20_000]);
        let text = samples.render();
        assert_eq!(text.lines().count(), 2, "{text}");
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = [
            "remote", "semop", "40.00", "50.00", "TCP", "round", "trip", "20.00", "20.00", "2.00",
        ];
        assert_eq!(words, expected);
    }
}
