//! Semaphore sets against the kernel's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use dipc_wire::call::{SemOp, flags};
use dipc_wire::{Errno, ObjectId};
use proptest::prelude::*;

use super::super::testing::{NOW, caller, node, pid};
use super::super::{Credentials, Outcome, Permissions, SemSet, Setting, Ticket, Wake};
use super::kernel::{self, Judged, PATIENCE, Pending, Results, Set};
use super::{inside_namespace, this_process, this_user};

const NSEMS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    Operate(Vec<SemOp>),
    SetValue(i32, i32),
    SetAll(Vec<u16>),
    Set {
        uid: Option<u32>,
        mode: u16,
    },
    /// A process does all this, waiting for nothing, and exits.
    Process(Vec<Vec<SemOp>>),
}

fn operation() -> impl Strategy<Value = SemOp> {
    let num = prop_oneof![30 => 0..NSEMS, 1 => Just(NSEMS), 1 => Just(u16::MAX)];
    let op = prop_oneof![
        10 => -2..=2i16,
        1 => prop_oneof![Just(i16::MIN), Just(i16::MAX), Just(-20_000), Just(20_000)],
    ];
    let flags = prop_oneof![
        4 => Just(0),
        2 => Just(flags::NOWAIT),
        2 => Just(flags::UNDO),
        1 => any::<u16>().prop_map(u32::from),
    ];
    (num, op, flags).prop_map(|(num, op, flags)| SemOp {
        num,
        op,
        flags: flags as u16,
    })
}

fn without_waiting(mut ops: Vec<SemOp>) -> Vec<SemOp> {
    for op in &mut ops {
        op.flags |= flags::NOWAIT as u16;
    }
    ops
}

fn step() -> impl Strategy<Value = Step> {
    let ops = || proptest::collection::vec(operation(), 1..4);
    let value = prop_oneof![8 => 0..4i32, 1 => 32_760..32_770, 1 => Just(-1), 1 => Just(i32::MAX)];
    let values = prop_oneof![6 => 0..4u16, 1 => 32_766..32_769u16];
    let uid = prop_oneof![4 => Just(None), 1 => Just(Some(u32::MAX))];
    let mode = prop_oneof![9 => Just(0o600), 1 => Just(0o400), 1 => Just(0o200), 1 => any::<u16>()];
    prop_oneof![
        14 => ops().prop_map(Step::Operate),
        2 => (-1..4i32, value).prop_map(|(num, value)| Step::SetValue(num, value)),
        1 => proptest::collection::vec(values, usize::from(NSEMS)).prop_map(Step::SetAll),
        1 => (uid, mode).prop_map(|(uid, mode)| Step::Set { uid, mode }),
        2 => proptest::collection::vec(ops().prop_map(without_waiting), 1..4).prop_map(Step::Process),
    ]
}

/// The same set twice.
struct Twice {
    ours: SemSet,
    theirs: Set,
    who: Credentials,
    results: Results<()>,
    /// Results that came before they were expected.
    early: RefCell<BTreeMap<u64, Judged<()>>>,
    waiting: Vec<u64>,
}

impl Twice {
    fn new() -> Self {
        let who = this_user();
        let permissions = Permissions::new(ObjectId::new(node(1), 0), 0, &who, 0o600);
        Twice {
            ours: SemSet::new(permissions, NSEMS, NOW),
            theirs: Set::new(NSEMS),
            who,
            results: channel(),
            early: RefCell::default(),
            waiting: Vec::new(),
        }
    }

    fn take(&mut self, number: u64, step: Step) -> Result<(), TestCaseError> {
        let mut wakes = Vec::new();
        let who = self.who.clone();
        let me = caller(this_process(), &who);
        match step {
            Step::Operate(ops) => {
                let ours = self.ours.operate(&ops, me, Ticket(number), NOW, &mut wakes);
                self.operate(number, ops, ours)?;
            }
            Step::SetValue(num, value) => {
                let ours = self.ours.set_value(me, num, value, NOW, &mut wakes);
                let theirs = self.theirs.control(num, libc::SETVAL, value).map(drop);
                prop_assert_eq!(ours.map_err(Errno::raw), theirs);
            }
            Step::SetAll(values) => {
                let ours = self.ours.set_all(me, &values, NOW, &mut wakes);
                prop_assert_eq!(ours.map_err(Errno::raw), self.theirs.set_all(&values));
            }
            Step::Set { uid, mode } => {
                let (uid, gid) = (uid.unwrap_or(who.uid), who.gid);
                let ours = self.ours.set(me, Setting { uid, gid, mode }, NOW);
                prop_assert_eq!(ours.map_err(Errno::raw), self.theirs.set(uid, gid, mode));
            }
            Step::Process(arrays) if self.would_only_touch(&arrays) => {}
            Step::Process(arrays) => {
                let (child, theirs) = kernel::in_a_child(self.theirs.id, &arrays);
                for (ops, theirs) in arrays.iter().zip(theirs) {
                    let it = caller(pid(child), &who);
                    let ours = self.ours.operate(ops, it, Ticket(number), NOW, &mut wakes);
                    prop_assert_eq!(
                        ours == Ok(Outcome::Done(())),
                        theirs,
                        "{:?} {:?}",
                        ours,
                        ops
                    );
                }
                self.ours.exit(pid(child), NOW, &mut wakes);
            }
        }
        self.see(wakes)?;
        self.compare()
    }

    /// The kernel begins a process's adjustments even for an operation that
    /// fails, and at its exit tells a new otime though there is nothing to give
    /// back. We do not: who may not alter a set shall change nothing that
    /// others see. So such a process is no test.
    fn would_only_touch(&self, arrays: &[Vec<SemOp>]) -> bool {
        let undoes = |op: &SemOp| u32::from(op.flags) & flags::UNDO != 0;
        let (mut rehearsal, mut wakes) = (self.ours.clone(), Vec::new());
        let mut succeeds = |ops: &[SemOp]| {
            let me = caller(pid(0), &self.who);
            let outcome = rehearsal.operate(ops, me, Ticket(u64::MAX), NOW, &mut wakes);
            outcome == Ok(Outcome::Done(()))
        };
        let mut adjusts = false;
        for ops in arrays {
            adjusts |= succeeds(ops) && ops.iter().any(|op| undoes(op) && op.op != 0);
        }
        !adjusts && arrays.iter().flatten().any(undoes)
    }

    fn operate(
        &mut self,
        number: u64,
        ops: Vec<SemOp>,
        ours: Result<Outcome<()>, Errno>,
    ) -> Result<(), TestCaseError> {
        let id = self.theirs.id;
        let pending = Pending::start(number, &self.results.0, move || kernel::semop(id, &ops));
        match ours {
            Ok(Outcome::Blocked) => {
                self.waiting.push(number);
                let sleeps = pending.sleeps(|| self.has_ended(number));
                prop_assert!(sleeps, "we wait, the kernel says {:?}", self.early.borrow());
            }
            Ok(Outcome::Done(())) => prop_assert_eq!(self.result(number)?, Ok(())),
            Err(errno) => prop_assert_eq!(self.result(number)?, Err(errno.raw())),
        }
        Ok(())
    }

    fn see(&mut self, wakes: Vec<Wake>) -> Result<(), TestCaseError> {
        for Wake { ticket, result } in wakes {
            self.waiting.retain(|&waiting| waiting != ticket.0);
            prop_assert_eq!(result.map(drop).map_err(Errno::raw), self.result(ticket.0)?);
        }
        for &waiting in &self.waiting {
            prop_assert!(
                !self.has_ended(waiting),
                "{} ended: {:?}",
                waiting,
                self.early.borrow()
            );
        }
        Ok(())
    }

    fn has_ended(&self, number: u64) -> bool {
        self.early.borrow_mut().extend(self.results.1.try_iter());
        self.early.borrow().contains_key(&number)
    }

    fn result(&self, number: u64) -> Result<Judged<()>, TestCaseError> {
        while !self.has_ended(number) {
            let next = self.results.1.recv_timeout(PATIENCE);
            let next = next.map_err(|_| TestCaseError::fail(format!("{number} still waits")))?;
            self.early.borrow_mut().extend([next]);
        }
        Ok(self.early.borrow_mut().remove(&number).unwrap())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let me = caller(this_process(), &self.who);
        let ours = self.ours.get_all(me).map(Iterator::collect);
        prop_assert_eq!(ours.map_err(Errno::raw), self.theirs.get_all());
        for num in -1..=i32::from(NSEMS) {
            let last = self
                .ours
                .get_pid(me, num)
                .map(|last| last.map_or(0, |last| last.pid as i32));
            let ours = [
                self.ours.get_value(me, num),
                last,
                self.ours.ncnt(me, num),
                self.ours.zcnt(me, num),
            ];
            let theirs = [libc::GETVAL, libc::GETPID, libc::GETNCNT, libc::GETZCNT]
                .map(|command| self.theirs.control(num, command, 0));
            prop_assert_eq!(
                ours.map(|result| result.map_err(Errno::raw)),
                theirs,
                "of {}",
                num
            );
        }
        let ours = self.ours.stat(me, false).map(|stat| {
            (
                stat.perm.uid,
                stat.perm.mode,
                u64::from(stat.nsems),
                stat.otime != 0,
            )
        });
        let theirs = self.theirs.stat().map(|stat| {
            let perm = stat.sem_perm;
            (perm.uid, perm.mode, stat.sem_nsems, stat.sem_otime != 0)
        });
        prop_assert_eq!(ours.map_err(Errno::raw), theirs);
        Ok(())
    }

    fn remove(mut self) -> Result<(), TestCaseError> {
        let mut wakes = Vec::new();
        let who = self.who.clone();
        let ours = self.ours.remove(caller(this_process(), &who), &mut wakes);
        prop_assert_eq!(ours.map_err(Errno::raw), self.theirs.remove());
        self.see(wakes)?;
        prop_assert_eq!(self.waiting.len(), 0);
        Ok(())
    }
}

#[test]
fn sets_with_waiters_undo_and_cascades_do_what_the_kernels_do() {
    const NAME: &str = concat!(
        "semantics::against_kernel::sem::",
        "sets_with_waiters_undo_and_cascades_do_what_the_kernels_do"
    );
    if !inside_namespace(NAME) {
        return;
    }
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..40))| {
        let mut twice = Twice::new();
        for (number, step) in (0..).zip(steps) {
            twice.take(number, step)?;
        }
        twice.remove()?;
    });
}
