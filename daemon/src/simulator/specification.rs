//! What a set and a queue are, in as few words as possible, and without a look
//! at the machines: values and FIFO, no lines of waiting calls, no wake-ups.

use std::collections::{BTreeMap, VecDeque};

use dipc_wire::Pid;
use dipc_wire::call::{SemOp, flags};

use super::record::{Entry, Told, What};

/// Bytes that a queue holds in the simulated cluster.
pub(super) const QUEUE_BYTES: usize = 96;

/// An object as a sequence of calls, one at a time, sees it.
pub(super) trait Specification: Clone + Eq + std::hash::Hash {
    /// Does a call; false when it cannot come now with that outcome.
    /// `entries` are those of the history, the call has the number `at`.
    fn step(&mut self, entries: &[Entry], at: usize) -> bool;

    /// Whether a call that waits would not have to.
    fn could_go_on(&self, what: &What) -> bool;
}

/// A semaphore set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Set {
    values: Vec<i32>,
    undo: BTreeMap<Pid, Vec<i32>>,
    removed: bool,
}

fn has_undo(op: &SemOp) -> bool {
    u32::from(op.flags) & flags::UNDO != 0
}

impl Set {
    pub(super) fn new(nsems: usize) -> Self {
        Set {
            values: vec![0; nsems],
            undo: BTreeMap::new(),
            removed: false,
        }
    }

    fn after(&self, ops: &[SemOp]) -> Option<Vec<i32>> {
        let mut values = self.values.clone();
        for op in ops {
            let value = &mut values[usize::from(op.num)];
            *value += i32::from(op.op);
            if *value < 0 || op.op == 0 && *value != 0 {
                return None;
            }
        }
        Some(values)
    }

    fn adjustments(&mut self, pid: Pid) -> &mut Vec<i32> {
        let none = vec![0; self.values.len()];
        self.undo.entry(pid).or_insert(none)
    }

    fn give_back(&mut self, num: usize, by: i32) {
        self.values[num] = (self.values[num] + by).max(0);
    }

    fn operate(&mut self, pid: Pid, ops: &[SemOp]) -> bool {
        let Some(values) = self.after(ops) else {
            return false;
        };
        self.values = values;
        for op in ops.iter().filter(|op| has_undo(op)) {
            self.adjustments(pid)[usize::from(op.num)] -= i32::from(op.op);
        }
        true
    }

    fn take_back(&mut self, pid: Pid, ops: &[SemOp]) {
        for op in ops.iter().rev() {
            let (num, mut back) = (usize::from(op.num), -i32::from(op.op));
            if has_undo(op) {
                // What the end of the process has given back is settled.
                let pending = &mut self.adjustments(pid)[num];
                let same_way = pending.signum() == back.signum();
                back = if same_way {
                    back.signum() * back.abs().min(pending.abs())
                } else {
                    0
                };
                *pending -= back;
            }
            self.give_back(num, back);
        }
    }
}

impl Specification for Set {
    fn step(&mut self, entries: &[Entry], at: usize) -> bool {
        let Entry {
            pid, what, told, ..
        } = &entries[at];
        if self.removed {
            return match what {
                What::Exit | What::TakeBack(_) => true,
                _ => *told == Told::Gone,
            };
        }
        match (what, told) {
            (What::Operate(ops), Told::Done | Told::Unknown) => self.operate(*pid, ops),
            (What::Operate(ops), Told::Refused) => self.after(ops).is_none(),
            (What::Values, Told::Values(seen)) => self
                .values
                .iter()
                .copied()
                .eq(seen.iter().map(|&value| i32::from(value))),
            (What::SetValue(num, value), Told::Done | Told::Unknown) => {
                self.values[usize::from(*num)] = i32::from(*value);
                for adjustments in self.undo.values_mut() {
                    adjustments[usize::from(*num)] = 0;
                }
                true
            }
            (What::Remove, Told::Done | Told::Unknown) => {
                self.removed = true;
                true
            }
            (What::Exit, _) => {
                let adjustments = self.undo.remove(pid).unwrap_or_default();
                (adjustments.iter().enumerate()).for_each(|(num, &by)| self.give_back(num, by));
                true
            }
            (What::TakeBack(of), _) => {
                if let What::Operate(ops) = &entries[*of].what {
                    self.take_back(*pid, ops);
                }
                true
            }
            (What::Values, Told::Unknown) => true,
            _ => false,
        }
    }

    fn could_go_on(&self, what: &What) -> bool {
        matches!(what, What::Operate(ops) if self.removed || self.after(ops).is_some())
    }
}

/// A message queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<(i64, Vec<u8>)>,
    /// By calls of whose outcome nobody has heard.
    taken: BTreeMap<usize, (i64, Vec<u8>)>,
    removed: bool,
}

impl Queue {
    fn wanted(&self, mtype: i64) -> Option<usize> {
        let mut all = self.messages.iter().enumerate();
        match mtype {
            0 => all.next(),
            1.. => all.find(|(_, (it, _))| *it == mtype),
            _ => all
                .filter(|(_, (it, _))| *it <= -mtype)
                .min_by_key(|(_, (it, _))| *it),
        }
        .map(|(at, _)| at)
    }

    fn has_room(&self, len: usize) -> bool {
        let bytes: usize = self.messages.iter().map(|(_, text)| text.len()).sum();
        bytes + len <= QUEUE_BYTES
    }
}

impl Specification for Queue {
    fn step(&mut self, entries: &[Entry], at: usize) -> bool {
        let Entry { what, told, .. } = &entries[at];
        if self.removed {
            return matches!(what, What::TakeBack(_)) || *told == Told::Gone;
        }
        match (what, told) {
            (What::Send(mtype, text), Told::Done | Told::Unknown) => {
                let room = self.has_room(text.len());
                self.messages.push_back((*mtype, text.clone()));
                room
            }
            (What::Send(_, text), Told::Refused) => !self.has_room(text.len()),
            (What::Receive(mtype), Told::Refused) => self.wanted(*mtype).is_none(),
            (What::Receive(mtype), told) => {
                let Some(message) = self.wanted(*mtype).and_then(|at| self.messages.remove(at))
                else {
                    return false;
                };
                match told {
                    Told::Message(mtype, text) => message == (*mtype, text.clone()),
                    Told::Unknown => self.taken.insert(at, message).is_none(),
                    _ => false,
                }
            }
            (What::Remove, Told::Done | Told::Unknown) => {
                self.removed = true;
                true
            }
            (What::TakeBack(of), _) => {
                self.messages.extend(self.taken.remove(of));
                self.messages
                    .rotate_right(usize::from(!self.messages.is_empty()));
                true
            }
            _ => false,
        }
    }

    fn could_go_on(&self, what: &What) -> bool {
        self.removed
            || match what {
                What::Send(_, text) => self.has_room(text.len()),
                What::Receive(mtype) => self.wanted(*mtype).is_some(),
                _ => false,
            }
    }
}
