//! Many seeds, and one again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cluster::{Cluster, Figures};
use super::variants::Variant;

/// Seeds of an ordinary `cargo test`. `.ci/run` has more.
const SEEDS: u64 = 1_000;
/// Lines of a trace that are shown.
const LINES: usize = 60;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

/// One seed's run.
pub(super) fn run(seed: u64, variant: Option<Variant>) -> Result<Figures, String> {
    Variant::prepare(variant);
    let mut cluster = Cluster::new(seed, variant, false);
    let checked = cluster.run_and_check();
    Variant::prepare(None);
    checked.map(|()| cluster.figures)
}

/// The same again, with all lines of what happened.
pub(super) fn traced(
    seed: u64,
    variant: Option<Variant>,
) -> (Vec<String>, Result<Figures, String>) {
    Variant::prepare(variant);
    let mut cluster = Cluster::new(seed, variant, true);
    let checked = cluster.run_and_check();
    Variant::prepare(None);
    let lines = cluster.shared.trace.take().unwrap_or_default();
    (lines.into(), checked.map(|()| cluster.figures))
}

/// For people: what was wrong, what led to it, and how to see it again.
fn report(seed: u64, what: &str) -> String {
    let (lines, _) = traced(seed, None);
    let last = lines.len().saturating_sub(LINES);
    let lines: Vec<String> = lines[last..]
        .iter()
        .map(|line| line.chars().take(300).collect())
        .collect();
    format!(
        "seed {seed}: {what}\n\nThe last of {} lines:\n{}\n\nOnce more, in full:\n  \
         DIPC_SIMULATOR_SEED={seed} cargo test -p dipcd --lib simulator::campaign -- --nocapture\n",
        last + LINES,
        lines.join("\n"),
    )
}

/// Says something though the test passes.
fn say(what: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{what}\n").as_bytes());
}

#[test]
fn clusters_keep_their_promises_under_any_seed() {
    if let Some(seed) = number("DIPC_SIMULATOR_SEED") {
        let (lines, checked) = traced(seed, None);
        println!("{}", lines.join("\n"));
        let figures = checked.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        return println!("simulator: seed {seed}, {figures:?}, 0 failures");
    }
    let seeds = number("DIPC_SIMULATOR_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let total = Mutex::new((Figures::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let done = run(seed, None);
                    let mut total = total.lock().unwrap();
                    match done {
                        Ok(figures) => total.0 += figures,
                        Err(what) => total.1.push((seed, what)),
                    }
                }
            });
        }
    });
    let (figures, mut failures) = total.into_inner().unwrap();
    failures.sort();
    let Figures {
        steps,
        calls,
        crashes,
        cuts,
    } = figures;
    say(&format!(
        "simulator: {seeds} seeds, {steps} steps, {calls} calls, {crashes} crashes, {cuts} cuts, {} failures",
        failures.len()
    ));
    if let Some((seed, what)) = failures.first() {
        let others = failures.iter().skip(1).take(40);
        let others =
            others.map(|(seed, what)| format!("\n  {seed}: {}", what.lines().next().unwrap_or("")));
        panic!(
            "{}\nThese seeds fail too:{}",
            report(*seed, what),
            others.collect::<String>()
        );
    }
}

#[test]
fn a_seed_is_one_run_event_for_event() {
    for seed in [1, 2, 3, 5, 8] {
        let digest = || {
            let (lines, figures) = traced(seed, None);
            assert!(lines.len() > 100);
            let mut hasher = DefaultHasher::new();
            (lines, format!("{figures:?}")).hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
