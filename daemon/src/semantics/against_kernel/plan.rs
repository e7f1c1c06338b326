//! What the machines say about a history: the steps that are to be made, and
//! what each must come to.

use dipc_wire::Errno;

use super::history::{ACTORS, Step, Verb};

/// A number that a call tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Number(i64),
    /// A process of this history, by its place in the order of their births.
    Process(Option<usize>),
    /// The id of an object, by its place in [`Planned::binds`]' order.
    Object(usize),
    /// Nobody can say.
    Any,
}

/// What a call comes to: its result first, then what it tells beside.
pub(super) type Answer = Result<Vec<Value>, Errno>;

/// Whether a call returns at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(super) enum Waits {
    No,
    /// Until a later step ends it.
    Yes,
    /// Until its own timeout.
    TimesOut,
}

/// A step as it is made.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// With objects and actors found.
    pub(super) step: Step,
    /// The object that it is about; its id is the first number else.
    pub(super) object: Option<usize>,
    /// The object that it makes.
    pub(super) binds: Option<usize>,
    pub(super) waits: Waits,
    /// The actors whose wait it ends.
    pub(super) wakes: Vec<usize>,
    /// Somebody waits at this object: what waits must be seen to wait on.
    pub(super) settles: bool,
    /// The process that it brings to life, in place of which actor.
    pub(super) born: Option<(usize, usize)>,
    /// What it must come to, for one that waits at its end; `None` for one that
    /// is killed.
    pub(super) answer: Option<Answer>,
    /// Who asks: pid fields are seen from its node.
    pub(super) asker: usize,
}

/// A whole history, as it is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Planned>,
    /// On which actor's node each process lives.
    pub(super) nodes: Vec<usize>,
}

impl Plan {
    /// How many of the steps are System V calls, and how many of those wait.
    pub(super) fn calls(&self) -> (u64, u64) {
        let is_call = |planned: &&Planned| (planned.step.verb as i32) < Verb::Signal as i32;
        let calls = self.steps.iter().filter(is_call);
        let waits = calls.clone().filter(|planned| planned.waits == Waits::Yes);
        (calls.count() as u64, waits.count() as u64)
    }

    /// A plan in which each actor is still its first process.
    pub(super) fn new() -> Self {
        Plan {
            steps: Vec::new(),
            nodes: (0..ACTORS).collect(),
        }
    }
}
