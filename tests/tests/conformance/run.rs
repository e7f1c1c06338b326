//! Plays the cases: sections side by side, each on a cluster of its own, and the
//! cases of a section one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::thread;

use dipc_tests::{Cluster, apart, skip};
use nix::unistd::geteuid;

use crate::Section;
use crate::case::Case;
use crate::stage::{Stage, World};

/// What came of a case in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It is as the kernel has it.
    Passed,
    /// It is otherwise, on purpose, for this reason.
    Differs(&'static str),
    /// It was seen to be otherwise. The thread has said how.
    Failed,
    /// This machine or user cannot try it, for this reason.
    Skipped(&'static str),
}

/// By number and world.
pub(crate) type Outcomes = BTreeMap<(u32, World), Outcome>;

/// Which cases are played.
pub(crate) struct Selection(Option<Vec<(u32, u32)>>);

impl Selection {
    /// By `DIPC_CASES`: numbers and ranges with commas between; unset is all.
    pub(crate) fn from_environment() -> Self {
        let Ok(text) = std::env::var("DIPC_CASES") else {
            return Selection(None);
        };
        let number = |word: &str| {
            word.trim()
                .parse()
                .unwrap_or_else(|_| panic!("DIPC_CASES: {word:?} is no number; write 23,40-47"))
        };
        let range = |item: &str| match item.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None => (number(item), number(item)),
        };
        Selection(Some(text.split(',').map(range).collect()))
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    fn has(&self, number: u32) -> bool {
        let inside = |(first, last): &(u32, u32)| (*first..=*last).contains(&number);
        self.0
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(inside))
    }
}

/// Plays all that are selected.
pub(crate) fn all(sections: &'static [Section], selection: &Selection) -> Outcomes {
    thread::scope(|scope| {
        let running: Vec<_> = sections
            .iter()
            .map(|section| scope.spawn(|| play_section(section, selection)))
            .collect();
        let joined = running.into_iter().map(|thread| thread.join());
        joined
            .flat_map(|outcomes| outcomes.expect("a section that can be played"))
            .collect()
    })
}

/// What is wrong, a line each.
pub(crate) fn complaints(outcomes: &Outcomes) -> Vec<String> {
    let failed = outcomes
        .iter()
        .filter(|(_, outcome)| **outcome == Outcome::Failed);
    let complaint = |(number, world): &(u32, World)| {
        let world = world.name();
        format!("behaviour {number}, {world}: fails")
    };
    failed.map(|(case, _)| complaint(case)).collect()
}

/// Says what was not tried, and why.
pub(crate) fn say_skipped(outcomes: &Outcomes) {
    let mut numbers: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for ((number, _), outcome) in outcomes {
        if let Outcome::Skipped(why) = outcome {
            numbers.entry(why).or_default().insert(*number);
        }
    }
    for (why, numbers) in numbers {
        skip::because(&format!("conformance of behaviours {numbers:?}"), why);
    }
}

fn play_section(section: &Section, selection: &Selection) -> Outcomes {
    let cases: Vec<&Case> = section
        .cases
        .iter()
        .filter(|case| selection.has(case.number))
        .collect();
    let mut outcomes = Outcomes::new();
    if cases.is_empty() {
        return outcomes;
    }
    let cluster = Cluster::start(2);
    for case in cases {
        for &world in case.worlds {
            outcomes.insert((case.number, world), play(case, world, &cluster));
        }
    }
    if !complaints(&outcomes).is_empty() {
        cluster.print_logs();
    }
    outcomes
}

fn play(case: &Case, world: World, cluster: &Cluster) -> Outcome {
    if let Some(why) = impossible(case, world) {
        return Outcome::Skipped(why);
    }
    let what = format!("behaviour {}, {}", case.number, world.name());
    // A thread of its own, so that a panic names the case and ends only that.
    let played = thread::scope(|scope| {
        let act = || {
            let mut stage = Stage::new(world, cluster);
            (case.play)(&mut stage);
            stage.difference()
        };
        let thread = thread::Builder::new().name(what).spawn_scoped(scope, act);
        thread.expect("a thread").join()
    });
    match played {
        Ok(None) => Outcome::Passed,
        Ok(Some(reason)) => Outcome::Differs(reason),
        Err(_) => Outcome::Failed,
    }
}

fn impossible(case: &Case, world: World) -> Option<&'static str> {
    static NAMESPACES: OnceLock<bool> = OnceLock::new();
    if case.needs_root && !geteuid().is_root() {
        return Some("not root");
    }
    if world == World::Kernel && !*NAMESPACES.get_or_init(|| apart::refusal().is_none()) {
        return Some("no IPC namespace of its own");
    }
    None
}
