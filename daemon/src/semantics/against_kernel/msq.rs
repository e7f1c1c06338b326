//! Message queues against the kernel's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use dipc_wire::call::flags;
use dipc_wire::{Errno, ObjectId};
use proptest::prelude::*;

use super::super::testing::{NOW, caller, node};
use super::super::{
    Credentials, Granted, Limits, Outcome, Permissions, Queue, Setting, Ticket, Wake,
};
use super::kernel::{self, Judged, PATIENCE, Pending, Results};
use super::{inside_namespace, this_process, this_user};

/// What a call gave: for `msgrcv` type and text.
type Message = Option<(i64, Vec<u8>)>;
type Given = Judged<Message>;

#[derive(Clone, Debug)]
enum Step {
    Send { mtype: i64, len: usize, flags: u32 },
    Receive { mtype: i64, size: u64, flags: u32 },
    Set { mode: u16, qbytes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let mtype = prop_oneof![12 => 1..5i64, 1 => -1..=0i64, 1 => Just(i64::MAX)];
    let len = prop_oneof![12 => 0..12usize, 1 => 8190..8195usize];
    let nowait = prop_oneof![1 => Just(0), 2 => Just(flags::NOWAIT)];
    let wanted = prop_oneof![12 => -5..6i64, 1 => Just(i64::MIN), 1 => Just(i64::MIN + 1)];
    let size = prop_oneof![12 => 0..14u64, 1 => Just(8192), 1 => Just(u64::MAX)];
    let receiving = prop_oneof![
        4 => Just(0),
        8 => Just(flags::NOWAIT),
        2 => Just(flags::NOERROR),
        2 => Just(flags::EXCEPT),
        3 => Just(flags::COPY | flags::NOWAIT),
        2 => any::<u16>().prop_map(u32::from),
    ];
    let mode = prop_oneof![6 => Just(0o600), 1 => Just(0o400), 1 => Just(0o200)];
    let qbytes = prop_oneof![6 => 0..60u64, 2 => Just(16_384), 1 => Just(16_385)];
    prop_oneof![
        8 => (mtype, len, nowait).prop_map(|(mtype, len, flags)| Step::Send { mtype, len, flags }),
        8 => (wanted, size, receiving)
            .prop_map(|(mtype, size, flags)| Step::Receive { mtype, size, flags }),
        2 => (mode, qbytes).prop_map(|(mode, qbytes)| Step::Set { mode, qbytes }),
    ]
}

/// The same queue twice.
struct Twice {
    ours: Queue,
    theirs: kernel::Queue,
    who: Credentials,
    results: Results<Message>,
    /// Results that came before they were expected.
    early: RefCell<BTreeMap<u64, Given>>,
    senders: Vec<u64>,
    receivers: Vec<u64>,
}

impl Twice {
    fn new() -> Self {
        let who = this_user();
        let permissions = Permissions::new(ObjectId::new(node(1), 0), 0, &who, 0o600);
        Twice {
            ours: Queue::new(permissions, &Limits::LINUX, NOW),
            theirs: kernel::Queue::new(),
            who,
            results: channel(),
            early: RefCell::default(),
            senders: Vec::new(),
            receivers: Vec::new(),
        }
    }

    fn take(&mut self, number: u64, step: Step) -> Result<(), TestCaseError> {
        let mut wakes = Vec::new();
        let who = self.who.clone();
        let (me, ticket, id) = (caller(this_process(), &who), Ticket(number), self.theirs.id);
        match step {
            Step::Send {
                mtype,
                len,
                mut flags,
            } => {
                // The kernel lets the senders that fit race for the room: the
                // outcome is certain only while there is but one.
                if !self.senders.is_empty() {
                    flags |= flags::NOWAIT;
                }
                let text = vec![number as u8; len];
                let ours = Limits::LINUX.check_message(mtype, len).and_then(|()| {
                    self.ours
                        .send(me, mtype, &text, flags, ticket, NOW, &mut wakes)
                });
                let theirs = move || kernel::msgsnd(id, mtype, &text, flags).map(|()| None);
                let pending = Pending::start(number, &self.results.0, theirs);
                let ours = match ours {
                    Ok(Outcome::Blocked) => {
                        self.senders.push(number);
                        Ok(Outcome::Blocked)
                    }
                    other => other.map(|_| Outcome::Done(None)),
                };
                self.check(number, ours, &pending)?;
            }
            Step::Receive { mtype, size, flags } => {
                let ours = self
                    .ours
                    .receive(me, mtype, size, flags, ticket, NOW, &mut wakes);
                let theirs = move || kernel::msgrcv(id, mtype, size, flags).map(Some);
                let pending = Pending::start(number, &self.results.0, theirs);
                let ours = match ours {
                    Ok(Outcome::Done(got)) => Ok(Outcome::Done(Some((got.mtype, got.text)))),
                    Ok(Outcome::Blocked) => {
                        self.receivers.push(number);
                        Ok(Outcome::Blocked)
                    }
                    Err(errno) => Err(errno),
                };
                self.check(number, ours, &pending)?;
            }
            Step::Set { mode, .. } if self.would_race(mode) => {}
            Step::Set { mode, qbytes } => {
                let (uid, gid) = (who.uid, who.gid);
                let limits = Limits::LINUX;
                let new = Setting { uid, gid, mode };
                let ours = self
                    .ours
                    .set(me, new, Some(qbytes), &limits, NOW, &mut wakes);
                let theirs = self.theirs.set(uid, gid, mode, qbytes);
                prop_assert_eq!(ours.map_err(Errno::raw), theirs);
            }
        }
        self.see(wakes)?;
        self.compare()
    }

    /// IPC_SET makes the kernel's receivers look and line up anew, whenever they
    /// happen to run. The outcome is certain only for a single one that may no
    /// longer read, with no sender that could reach it first.
    fn would_race(&self, mode: u16) -> bool {
        match self.receivers.len() {
            0 => false,
            1 => mode & 0o400 != 0 || !self.senders.is_empty(),
            _ => true,
        }
    }

    fn check(
        &mut self,
        number: u64,
        ours: Result<Outcome<Message>, Errno>,
        pending: &Pending,
    ) -> Result<(), TestCaseError> {
        match ours {
            Ok(Outcome::Blocked) => {
                let sleeps = pending.sleeps(|| self.has_ended(number));
                prop_assert!(sleeps, "we wait, the kernel says {:?}", self.early.borrow());
            }
            Ok(Outcome::Done(ours)) => prop_assert_eq!(Ok(ours), self.result(number)?),
            Err(errno) => prop_assert_eq!(Err(errno.raw()), self.result(number)?),
        }
        Ok(())
    }

    fn see(&mut self, wakes: Vec<Wake>) -> Result<(), TestCaseError> {
        for Wake { ticket, result } in wakes {
            self.senders.retain(|&waiting| waiting != ticket.0);
            self.receivers.retain(|&waiting| waiting != ticket.0);
            let ours = result.map(|granted| match granted {
                Granted::Done => None,
                Granted::Message(got) => Some((got.mtype, got.text)),
            });
            prop_assert_eq!(ours.map_err(Errno::raw), self.result(ticket.0)?);
        }
        for &waiting in self.senders.iter().chain(&self.receivers) {
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

    fn result(&self, number: u64) -> Result<Given, TestCaseError> {
        while !self.has_ended(number) {
            let next = self.results.1.recv_timeout(PATIENCE);
            let next = next.map_err(|_| TestCaseError::fail(format!("{number} still waits")))?;
            self.early.borrow_mut().extend([next]);
        }
        Ok(self.early.borrow_mut().remove(&number).unwrap())
    }

    /// Of the receiver that a message was handed to, the kernel tells the
    /// thread, and we the process: so only whether there was one is compared.
    fn compare(&self) -> Result<(), TestCaseError> {
        let ours = self
            .ours
            .stat(caller(this_process(), &self.who), false)
            .map(|stat| {
                let counts = [stat.cbytes, stat.qnum, stat.qbytes];
                let told = [stat.lspid.is_some(), stat.lrpid.is_some()];
                (
                    stat.perm.mode,
                    counts,
                    told,
                    [stat.stime != 0, stat.rtime != 0],
                )
            });
        let theirs = self.theirs.stat().map(|stat| {
            let counts = [stat.__msg_cbytes, stat.msg_qnum, stat.msg_qbytes];
            let told = [stat.msg_lspid != 0, stat.msg_lrpid != 0];
            let times = [stat.msg_stime != 0, stat.msg_rtime != 0];
            (stat.msg_perm.mode, counts, told, times)
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
        prop_assert_eq!(self.senders.len() + self.receivers.len(), 0);
        Ok(())
    }
}

#[test]
fn queues_with_waiters_do_what_the_kernels_do() {
    const NAME: &str = concat!(
        "semantics::against_kernel::msq::",
        "queues_with_waiters_do_what_the_kernels_do"
    );
    if !inside_namespace(NAME) {
        return;
    }
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_time: 60_000,
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
