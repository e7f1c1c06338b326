//! Many histories, one after the other.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use super::actors::STEPS;
use super::generate::{self, Shape};
use super::history::{History, Step, Verb};
use super::judge::{Disagreement, Target};
use super::machines::{Machines, Mistake};
use super::namespace::Kernel;
use super::plan::Plan;
use super::shrink::shrink;

/// How many calls the kernel is asked, if nobody says.
const CALLS: u64 = 60_000;

/// How long a failure may be shortened before it is told.
const PATIENCE: Duration = Duration::from_secs(40);

/// Most of the time many calls by one, since to hand over costs more than a call.
const SHAPE: Shape = Shape {
    steps: 160,
    deaths: 60,
    same: 4,
};

/// What the machines say of a history that this target plays.
pub(super) fn plan(target: &dyn Target, history: &History, mistake: Option<Mistake>) -> Plan {
    Machines::new(target.identities(), mistake).plan(history, STEPS)
}

/// What has been played.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Count {
    pub(super) calls: u64,
    pub(super) waits: u64,
    pub(super) histories: u64,
}

impl Count {
    pub(super) fn add(&mut self, plan: &Plan) {
        let (calls, waits) = plan.calls();
        self.calls += calls;
        self.waits += waits;
        self.histories += 1;
    }
}

/// A number from the environment.
pub(super) fn setting(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    let number = value.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The first seed: `DIPC_DIFFERENTIAL_SEED`, or another one each time.
pub(super) fn first_seed() -> u64 {
    setting("DIPC_DIFFERENTIAL_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64 >> 8)
    })
}

/// Says something though the test passes.
pub(super) fn say(what: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("{what}\n").as_bytes());
}

fn regressions() -> Vec<(PathBuf, History)> {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/semantics/against_kernel/regressions"
    ));
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let history = text
            .parse()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, history)
    };
    let chosen = env::var_os("DIPC_DIFFERENTIAL_REPLAY").map(PathBuf::from);
    files.into_iter().chain(chosen).map(read).collect()
}

/// Plays those that once failed, then new ones until there were so many calls.
///
/// # Panics
/// With the shortest history found that fails like the first one that does.
pub(super) fn campaign(
    target: &mut dyn Target,
    what: &str,
    shape: Shape,
    calls: u64,
    tries: usize,
) {
    let mut count = Count::default();
    for (path, history) in regressions() {
        let plan = plan(target, &history, None);
        count.add(&plan);
        if let Err(disagreement) = target.play(&plan) {
            panic!("{what}: {} fails again: {disagreement}", path.display());
        }
    }
    let first = first_seed();
    while count.calls < calls {
        let seed = first.wrapping_add(count.histories);
        let history = generate::history(seed, shape);
        let plan = plan(target, &history, None);
        count.add(&plan);
        if let Err(disagreement) = target.play(&plan) {
            explain(target, what, seed, &history, &disagreement, tries);
        }
    }
    say(&format!(
        "{what}: {} calls, of which {} waited, in {} histories, 0 disagreements",
        count.calls, count.waits, count.histories
    ));
}

fn explain(
    target: &mut dyn Target,
    what: &str,
    seed: u64,
    history: &History,
    disagreement: &Disagreement,
    tries: usize,
) -> ! {
    let tries = setting("DIPC_DIFFERENTIAL_TRIES").map_or(tries, |tries| tries as usize);
    let (mut last, end) = (disagreement.clone(), Instant::now() + PATIENCE);
    let short = shrink(history, tries, |candidate| {
        if Instant::now() > end {
            return false;
        }
        let planned = plan(target, candidate, None);
        match target.play(&planned) {
            Ok(()) => false,
            Err(disagreement) => {
                last = disagreement;
                true
            }
        }
    });
    panic!(
        "{what}: after DIPC_DIFFERENTIAL_SEED={seed}: {disagreement}\n\
         {} steps are enough: {last}\n\n{short}\n\
         When its cause is mended, keep it as a file of regressions/.",
        short.0.len()
    )
}

#[test]
fn the_machines_do_what_the_kernel_does() {
    let Some(mut kernel) = Kernel::new() else {
        return;
    };
    let calls = setting("DIPC_DIFFERENTIAL_CALLS").unwrap_or(CALLS);
    campaign(&mut kernel, "machines and kernel", SHAPE, calls, 2_000);
}

#[test]
fn a_history_is_what_its_text_says() {
    for seed in 0..50 {
        let history = generate::history(seed, SHAPE);
        assert_eq!(history.to_string().parse(), Ok(history));
    }
    let comment = "# why\n\n 1 kill\n";
    let kill = History(vec![Step::new(1, Verb::Kill, [])]);
    assert_eq!(comment.parse(), Ok(kill));
    for wrong in ["9 kill", "1 jump", "1 getval x", "1 kill 1"] {
        assert!(wrong.parse::<History>().is_err(), "{wrong}");
    }
}
