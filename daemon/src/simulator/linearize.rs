//! Whether a history is linearizable: whether its calls can be put into one
//! order, each between its invocation and its answer, in which the
//! [`Specification`] gives the answers that the programs got.
//!
//! An object's history is judged by itself: a history is linearizable if that of
//! each of its objects is (Herlihy and Wing). First the order is tried in which
//! the home says that it worked; it proves itself, or not. Then all others are,
//! depth first, as Wing and Gong and Lowe did: a call may come next if no other
//! was answered before it was made; and no state, that is calls done and the
//! object after them, is tried twice.
//!
//! Calls of unknown outcome (their process died, or the home was lost on the
//! way) may come at any later time, or never. What a dead process's call did and
//! was taken back must be taken back if it is in the order at all.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::record::{Entry, Told, What};
use super::specification::Specification;

/// States tried until a history is given up.
const MOST: usize = 300_000;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict<S> {
    /// There is an order; the object is like this after it.
    Linearizable(S),
    /// There is none.
    Impossible,
    /// None was found among as many states as are tried.
    GivenUp,
}

/// Which calls are in an order.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Calls(Vec<u64>);

impl Calls {
    fn none(of: usize) -> Self {
        Calls(vec![0; of.div_ceil(64)])
    }
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }
    fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }
}

struct Search<'a, S> {
    entries: &'a [Entry],
    /// Whether what a dead process did must have been taken back.
    binding: &'a dyn Fn(&Entry) -> bool,
    /// The entries in the order in which they are tried.
    order: Vec<usize>,
    seen: HashSet<u64>,
    left: usize,
    found: Option<S>,
}

/// Judges a history. `binding` says of an [`What::Exit`] or [`What::TakeBack`]
/// whether it must have happened in the end.
pub(super) fn judge<S: Specification>(
    initial: S,
    entries: &[Entry],
    binding: &dyn Fn(&Entry) -> bool,
) -> Verdict<S> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&at| (entries[at].effect.unwrap_or(u64::MAX), entries[at].invoked));
    let mut search = Search {
        entries,
        binding,
        order,
        seen: HashSet::new(),
        left: MOST,
        found: None,
    };
    if let Some(last) = search.as_the_home_says(initial.clone()) {
        return Verdict::Linearizable(last);
    }
    search.all(initial);
    match search.found {
        Some(last) => Verdict::Linearizable(last),
        None if search.left == 0 => Verdict::GivenUp,
        None => Verdict::Impossible,
    }
}

impl<S: Specification> Search<'_, S> {
    fn must(&self, at: usize, done: &Calls) -> bool {
        let entry = &self.entries[at];
        match entry.what {
            What::TakeBack(of) => done.has(of) && (self.binding)(entry),
            What::Exit => (self.binding)(entry),
            _ => entry.told != Told::Unknown,
        }
    }

    fn is_whole(&self, done: &Calls) -> bool {
        (0..self.entries.len()).all(|at| done.has(at) || !self.must(at, done))
    }

    /// Each call at the moment that the home names, if that is between its
    /// invocation and its answer.
    fn as_the_home_says(&self, mut object: S) -> Option<S> {
        let mut done = Calls::none(self.entries.len());
        for &at in &self.order {
            let entry = &self.entries[at];
            let Some(effect) = entry.effect else { continue };
            // A call of unknown outcome has one only if it was not refused.
            if entry.told == Told::Unknown && !object.clone().step(self.entries, at) {
                continue;
            }
            if matches!(entry.what, What::TakeBack(of) if !done.has(of)) {
                continue;
            }
            let during = entry.invoked <= effect && entry.returned.is_none_or(|end| effect <= end);
            if !during || !object.step(self.entries, at) {
                return None;
            }
            done.add(at);
        }
        self.is_whole(&done).then_some(object)
    }

    /// Before this, nothing may come that was asked later.
    fn first_answer(&self, done: &Calls) -> u64 {
        let open = (0..self.entries.len()).filter(|&at| !done.has(at));
        let answers = open.filter_map(|at| match self.entries[at].what {
            // There is nothing to take back.
            What::TakeBack(of) if !done.has(of) => None,
            _ => self.entries[at].returned,
        });
        answers.min().unwrap_or(u64::MAX)
    }

    /// Depth first, without recursion: histories are long.
    fn all(&mut self, initial: S) {
        let done = Calls::none(self.entries.len());
        let mut stack = vec![(initial, done)];
        while let Some((object, done)) = stack.pop() {
            if self.is_whole(&done) {
                self.found = Some(object);
                return;
            }
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let first_answer = self.first_answer(&done);
            for &at in self.order.iter().rev() {
                let entry = &self.entries[at];
                let too_early = matches!(entry.what, What::TakeBack(of) if !done.has(of));
                if done.has(at) || entry.invoked > first_answer || too_early {
                    continue;
                }
                let mut next = (object.clone(), done.clone());
                if !next.0.step(self.entries, at) {
                    continue;
                }
                next.1.add(at);
                let mut hasher = DefaultHasher::new();
                next.hash(&mut hasher);
                if self.seen.insert(hasher.finish()) {
                    stack.push(next);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::call::{SemOp, flags};
    use dipc_wire::{Incarnation, NodeId, Pid};

    use super::super::letters::LifeId;
    use super::super::specification::{Queue, Set};
    use super::*;

    /// A call of a process, from when to when.
    fn entry(
        pid: u32,
        what: What,
        told: Told,
        invoked: u64,
        returned: impl Into<Option<u64>>,
    ) -> Entry {
        let (node, incarnation) = (NodeId::SOLO, Incarnation(1));
        Entry {
            pid: Pid { node, pid },
            life: LifeId { node, incarnation },
            what,
            told,
            invoked,
            effect: None,
            returned: returned.into(),
        }
    }

    fn add(op: i16, flags: u32) -> What {
        let flags = flags as u16;
        What::Operate(vec![SemOp { num: 0, op, flags }])
    }

    fn values(value: u16) -> (What, Told) {
        (What::Values, Told::Values(vec![value]))
    }

    fn is_possible<S: Specification>(initial: S, entries: &[Entry]) -> bool {
        match judge(initial, entries, &|_| true) {
            Verdict::Linearizable(_) => true,
            Verdict::Impossible => false,
            Verdict::GivenUp => panic!("given up"),
        }
    }

    #[test]
    fn a_value_that_was_read_too_late_is_impossible_and_one_read_meanwhile_is_not() {
        for (began, expected) in [(1, true), (6, false)] {
            let (what, told) = values(0);
            let history = [
                entry(1, add(1, 0), Told::Done, 2, 5),
                entry(2, what, told, began, 8),
            ];
            assert_eq!(is_possible(Set::new(1), &history), expected);
        }
    }

    #[test]
    fn a_call_of_unknown_outcome_may_have_happened_or_not_but_not_twice() {
        for (value, expected) in [(0, true), (1, true), (2, false)] {
            let (what, told) = values(value);
            let history = [
                entry(1, add(1, 0), Told::Unknown, 1, None),
                entry(2, what, told, 3, 4),
            ];
            assert_eq!(is_possible(Set::new(1), &history), expected, "{value}");
        }
    }

    #[test]
    fn what_was_taken_back_and_what_was_undone_must_show() {
        for what in [What::Exit, What::TakeBack(1)] {
            let (told, until) = match what {
                What::Exit => (Told::Done, Some(4)),
                _ => (Told::Unknown, None),
            };
            for (value, expected) in [(2, true), (1, false)] {
                let (look, seen) = values(value);
                let history = [
                    entry(1, add(2, 0), Told::Done, 1, 2),
                    entry(2, add(-1, flags::UNDO), told.clone(), 3, until),
                    entry(2, what.clone(), Told::Done, 5, 6),
                    entry(3, look, seen, 7, 8),
                ];
                assert_eq!(
                    is_possible(Set::new(1), &history),
                    expected,
                    "{what:?} {value}"
                );
            }
        }
    }

    #[test]
    fn a_queue_gives_each_message_once_and_the_first_first() {
        let text = |n: u8| vec![n];
        let send = |n, at| entry(1, What::Send(1, text(n)), Told::Done, at, at + 1);
        let receive = |n, at| entry(2, What::Receive(0), Told::Message(1, text(n)), at, at + 1);
        assert!(is_possible(
            Queue::default(),
            &[send(1, 1), send(2, 3), receive(1, 5), receive(2, 7)]
        ));
        assert!(!is_possible(
            Queue::default(),
            &[send(1, 1), send(2, 3), receive(2, 5)]
        ));
        assert!(!is_possible(
            Queue::default(),
            &[send(1, 1), receive(1, 5), receive(1, 7)]
        ));
        let nothing = entry(2, What::Receive(0), Told::Refused, 5, 6);
        assert!(!is_possible(Queue::default(), &[send(1, 1), nothing]));
    }
}
