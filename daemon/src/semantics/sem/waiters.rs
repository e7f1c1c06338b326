//! The calls that wait at a set, and whose turn it is when a value changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dipc_wire::call::SemOp;
use dipc_wire::{NodeId, Pid};

use crate::semantics::Ticket;
#[cfg(test)]
use crate::semantics::sabotage::{self, Sabotage};

/// A waiter's place in the line.
///
/// As in ipc/sem.c, calls that only wait for zero come before those that change
/// values: they take nothing from anybody, and the zero they wait for must not
/// be hidden from them by a call behind which they happen to stand. Of these,
/// calls of a single operation come first: who is last is the semaphore's last
/// process. Among equals the first to block is the first in line (behaviour 42).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Turn {
    alters: bool,
    /// It waits for more than one zero, and does nothing else.
    several: bool,
    arrival: u64,
}

/// A call that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) pid: Pid,
    pub(super) ops: Box<[SemOp]>,
    /// Which of `ops` could not happen when they were last tried.
    pub(super) blocking: usize,
}

impl Waiter {
    /// The operation that it waits for, which alone is counted by GETNCNT and
    /// GETZCNT (behaviour 40).
    pub(super) fn waits_for(&self) -> SemOp {
        self.ops[self.blocking]
    }
}

/// The waiters of a set.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiters {
    line: BTreeMap<Turn, Waiter>,
    turns: HashMap<Ticket, Turn>,
    /// Who names which semaphore: only they are tried when it changes.
    watched: BTreeSet<(u16, Turn)>,
    arrivals: u64,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// At the end of the line.
    pub(super) fn push(&mut self, waiter: Waiter) {
        let alters = alters(&waiter.ops);
        let turn = Turn {
            alters,
            several: !alters && waiter.ops.len() > 1,
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        #[cfg(test)]
        let turn = match sabotage::is(Sabotage::LastComeFirstServed) {
            true => Turn {
                arrival: u64::MAX - turn.arrival,
                ..turn
            },
            false => turn,
        };
        self.turns.insert(waiter.ticket, turn);
        self.watched
            .extend(waiter.ops.iter().map(|op| (op.num, turn)));
        self.line.insert(turn, waiter);
    }

    pub(super) fn get_mut(&mut self, turn: Turn) -> Option<&mut Waiter> {
        self.line.get_mut(&turn)
    }

    pub(super) fn remove(&mut self, turn: Turn) -> Option<Waiter> {
        let waiter = self.line.remove(&turn)?;
        self.turns.remove(&waiter.ticket);
        for op in &waiter.ops {
            self.watched.remove(&(op.num, turn));
        }
        Some(waiter)
    }

    /// Whether there was one with this ticket.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> bool {
        match self.turns.get(&ticket) {
            Some(&turn) => self.remove(turn).is_some(),
            None => false,
        }
    }

    /// The processes of this node wait for nothing any more.
    pub(super) fn forget_node(&mut self, node: NodeId) {
        let of_node = self
            .line
            .iter()
            .filter(|(_, waiter)| waiter.pid.node == node);
        let turns: Vec<Turn> = of_node.map(|(&turn, _)| turn).collect();
        for turn in turns {
            self.remove(turn);
        }
    }

    /// Empties the line, in its order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Ticket> + use<> {
        self.turns.clear();
        self.watched.clear();
        std::mem::take(&mut self.line)
            .into_values()
            .map(|waiter| waiter.ticket)
    }

    /// Those that wait at this operation's semaphore and kind of operation.
    pub(super) fn count(&self, num: u16, kind: impl Fn(SemOp) -> bool) -> usize {
        self.watching(num)
            .filter_map(|turn| self.line.get(&turn))
            .map(Waiter::waits_for)
            .filter(|&op| op.num == num && kind(op))
            .count()
    }

    /// Who must be tried now that a semaphore has a new value: all who name it,
    /// but those who only wait for zero only if it is.
    pub(super) fn concerned(&self, num: u16, value: i32) -> impl Iterator<Item = Turn> + '_ {
        self.watching(num)
            .filter(move |turn| turn.alters || value == 0)
    }

    /// Those that wait for more than one semaphore to be zero, and for nothing
    /// else.
    pub(super) fn for_several_zeros(&self) -> impl Iterator<Item = Turn> + '_ {
        let first_that_alters = Turn {
            alters: true,
            several: false,
            arrival: 0,
        };
        let only_wait = self.line.range(..first_that_alters);
        only_wait.map(|(&turn, _)| turn).filter(|turn| turn.several)
    }

    /// Everybody, in line.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = Turn> + '_ {
        self.line.keys().copied()
    }

    fn watching(&self, num: u16) -> impl Iterator<Item = Turn> + '_ {
        let first = Turn {
            alters: false,
            several: false,
            arrival: 0,
        };
        let last = Turn {
            alters: true,
            several: true,
            arrival: u64::MAX,
        };
        self.watched
            .range((num, first)..=(num, last))
            .map(|&(_, turn)| turn)
    }
}

/// Whether a call that succeeds changes a value (behaviour 33).
pub(super) fn alters(ops: &[SemOp]) -> bool {
    ops.iter().any(|op| op.op != 0)
}
