//! What holds after any history.

use dipc_wire::call::{SemOp, flags};
use dipc_wire::{Errno, Pid};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::testing::{NOW, caller, node, permissions, pid_on, user};
use super::super::{Outcome, Ticket, Wake};
use super::values::Attempt;
use super::{SemSet, attempt};

const SEMS: u16 = 3;
const TOKENS: u16 = 6;
const UNDO: u16 = flags::UNDO as u16;
const NOWAIT: u16 = flags::NOWAIT as u16;

#[derive(Clone, Debug)]
enum Step {
    /// Take tokens, or give back those that were taken without SEM_UNDO.
    Take {
        who: Pid,
        ops: Vec<SemOp>,
    },
    Give {
        which: Index,
    },
    /// A process holds nothing any more and its waiters are withdrawn.
    Exit(Pid),
    ForgetNode(u8),
    /// The process of a granted call died before it learned of the grant.
    Revert {
        which: Index,
    },
    Withdraw {
        which: Index,
    },
}

fn process() -> impl Strategy<Value = Pid> {
    (1..=2u8, 1..=3u32).prop_map(|(node, pid)| pid_on(node, pid))
}

fn step() -> impl Strategy<Value = Step> {
    let flag = prop_oneof![3 => Just(0), 3 => Just(UNDO), 1 => Just(NOWAIT)];
    let take = (0..SEMS, -3..=-1i16, flag).prop_map(|(num, op, flags)| SemOp { num, op, flags });
    let ops = proptest::collection::vec(take, 1..4);
    prop_oneof![
        8 => (process(), ops).prop_map(|(who, ops)| Step::Take { who, ops }),
        6 => any::<Index>().prop_map(|which| Step::Give { which }),
        1 => process().prop_map(Step::Exit),
        1 => (1..=2u8).prop_map(Step::ForgetNode),
        2 => any::<Index>().prop_map(|which| Step::Revert { which }),
        1 => any::<Index>().prop_map(|which| Step::Withdraw { which }),
    ]
}

/// A call that succeeded or waits.
#[derive(Clone, Debug)]
struct Known {
    ticket: Ticket,
    who: Pid,
    ops: Vec<SemOp>,
}

/// What an observer of all calls knows of the set.
#[derive(Default)]
struct Observer {
    waiting: Vec<Known>,
    granted: Vec<Known>,
}

impl Observer {
    /// Sorts wakes in; checks that equals are served in the order they came.
    fn see(&mut self, wakes: Vec<Wake>) -> Result<(), TestCaseError> {
        for Wake { ticket, result } in wakes {
            let at = self.waiting.iter().position(|known| known.ticket == ticket);
            let at = at.ok_or_else(|| TestCaseError::fail("woken without having waited"))?;
            let known = self.waiting.remove(at);
            match result {
                Ok(_) => {
                    let overtaken = self.waiting[..at]
                        .iter()
                        .find(|other| other.ops == known.ops);
                    prop_assert!(overtaken.is_none(), "{known:?} overtook {overtaken:?}");
                    self.granted.push(known);
                }
                Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
            }
        }
        Ok(())
    }

    /// What all granted calls hold of this semaphore.
    fn held(&self, num: u16) -> i32 {
        let ops = self.granted.iter().flat_map(|known| &known.ops);
        ops.filter(|op| op.num == num)
            .map(|op| -i32::from(op.op))
            .sum()
    }

    fn ended(&mut self, gone: impl Fn(Pid) -> bool) {
        for known in self.granted.iter_mut().filter(|known| gone(known.who)) {
            known.ops.retain(|op| op.flags & UNDO == 0);
        }
    }
}

/// No waiter is left that could end now, by success or failure.
fn nobody_waits_in_vain(set: &SemSet) -> Result<(), TestCaseError> {
    for turn in set.waiters.all() {
        let mut copy = set.clone();
        let waiter = copy.waiters.get_mut(turn).unwrap().clone();
        let result = attempt(
            &mut copy.values,
            &mut copy.undo,
            &waiter.ops,
            waiter.pid,
            NOW,
        );
        prop_assert_eq!(result, Attempt::Blocks(waiter.blocking));
        prop_assert_eq!(
            copy.values.iter().collect::<Vec<_>>(),
            set.values.iter().collect::<Vec<_>>()
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn tokens_are_conserved_and_nobody_waits_in_vain(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let owner = user(1000);
        let mut set = SemSet::new(permissions(0o600), SEMS, NOW);
        let (mut observer, mut wakes) = (Observer::default(), Vec::new());
        set.set_all(caller(pid_on(1, 99), &owner), &[TOKENS; SEMS as usize], NOW, &mut wakes).unwrap();

        for (number, step) in steps.into_iter().enumerate() {
            let ticket = Ticket(number as u64);
            match step {
                Step::Take { who, ops } => {
                    let known = Known { ticket, who, ops: ops.clone() };
                    match set.operate(&ops, caller(who, &owner), ticket, NOW, &mut wakes) {
                        Ok(Outcome::Done(())) => observer.granted.push(known),
                        Ok(Outcome::Blocked) => observer.waiting.push(known),
                        Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
                    }
                }
                Step::Give { which } => {
                    if observer.granted.is_empty() { continue }
                    let known = observer.granted.swap_remove(which.index(observer.granted.len()));
                    let ops: Vec<SemOp> =
                        known.ops.iter().map(|op| SemOp { op: -op.op, ..*op }).collect();
                    if ops.is_empty() { continue }
                    let given = set.operate(&ops, caller(known.who, &owner), ticket, NOW, &mut wakes);
                    prop_assert_eq!(given, Ok(Outcome::Done(())));
                }
                Step::Exit(who) => {
                    for known in observer.waiting.extract_if(.., |known| known.who == who) {
                        prop_assert!(set.withdraw(known.ticket));
                    }
                    observer.ended(|other| other == who);
                    set.exit(who, NOW, &mut wakes);
                }
                Step::ForgetNode(number) => {
                    observer.waiting.retain(|known| known.who.node != node(number));
                    observer.ended(|other| other.node == node(number));
                    set.forget_node(node(number), NOW, &mut wakes);
                }
                Step::Revert { which } => {
                    if observer.granted.is_empty() { continue }
                    let known = observer.granted.swap_remove(which.index(observer.granted.len()));
                    set.revert(&known.ops, known.who, NOW, &mut wakes);
                }
                Step::Withdraw { which } => {
                    if observer.waiting.is_empty() { continue }
                    let known = observer.waiting.remove(which.index(observer.waiting.len()));
                    prop_assert!(set.withdraw(known.ticket));
                    prop_assert!(!set.withdraw(known.ticket));
                }
            }
            observer.see(std::mem::take(&mut wakes))?;
            nobody_waits_in_vain(&set)?;
            prop_assert_eq!(set.waiters.all().count(), observer.waiting.len());
            for (num, value) in (0..).zip(set.values.iter()) {
                prop_assert_eq!(i32::from(value) + observer.held(num), i32::from(TOKENS));
            }
        }
        // When everybody has ended, all is as it was.
        for (node, process) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)] {
            let who = pid_on(node, process);
            for known in observer.waiting.extract_if(.., |known| known.who == who) {
                set.withdraw(known.ticket);
            }
            set.exit(who, NOW, &mut wakes);
            observer.ended(|other| other == who);
            observer.see(std::mem::take(&mut wakes))?;
        }
        observer.ended(|_| true);
        for (num, value) in (0..).zip(set.values.iter()) {
            prop_assert_eq!(i32::from(value) + observer.held(num), i32::from(TOKENS));
        }
    }
}
