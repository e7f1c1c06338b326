//! What holds after any history.

use std::collections::BTreeMap;

use dipc_wire::call::flags;
use dipc_wire::{Errno, Pid};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::testing::{NOW, caller, node, permissions, pid_on, root};
use super::super::{Granted, Limits, Outcome, Setting, Ticket, Wake};
use super::{Queue, Received};

#[derive(Clone, Debug)]
enum Step {
    Send {
        who: Pid,
        mtype: i64,
        len: usize,
        flags: u32,
    },
    Receive {
        who: Pid,
        mtype: i64,
        size: u64,
        flags: u32,
    },
    Withdraw {
        which: Index,
    },
    /// A receiver died before it learned of its message.
    PutBack {
        which: Index,
    },
    SetQbytes(u64),
    ForgetNode(u8),
}

fn process() -> impl Strategy<Value = Pid> {
    (1..=3u8, 1..=2u32).prop_map(|(node, pid)| pid_on(node, pid))
}

fn step() -> impl Strategy<Value = Step> {
    let nowait = prop_oneof![3 => Just(0), 1 => Just(flags::NOWAIT)];
    let receiving = prop_oneof![Just(0), Just(flags::NOWAIT), Just(flags::EXCEPT)];
    prop_oneof![
        8 => (process(), 1..4i64, 8..20usize, nowait)
            .prop_map(|(who, mtype, len, flags)| Step::Send { who, mtype, len, flags }),
        8 => (process(), -4..5i64, 12..24u64, receiving)
            .prop_map(|(who, mtype, size, flags)| Step::Receive { who, mtype, size, flags }),
        1 => any::<Index>().prop_map(|which| Step::Withdraw { which }),
        1 => any::<Index>().prop_map(|which| Step::PutBack { which }),
        1 => (0..60u64).prop_map(Step::SetQbytes),
        1 => (1..=3u8).prop_map(Step::ForgetNode),
    ]
}

/// The text of the `number`th message: its number, filled up.
fn text(number: u64, len: usize) -> Vec<u8> {
    let mut text = vec![b'.'; len.max(8)];
    text[..8].copy_from_slice(&number.to_le_bytes());
    text
}

fn number(message: &Received) -> u64 {
    u64::from_le_bytes(message.text[..8].try_into().unwrap())
}

#[derive(Default)]
struct Observer {
    waiting: Vec<(Ticket, Pid)>,
    /// Type of each message that was accepted and is in nobody's hands.
    underway: BTreeMap<u64, i64>,
    received: Vec<Received>,
    /// Messages that waiting senders hold; by ticket, which is their number.
    held: BTreeMap<u64, i64>,
}

impl Observer {
    fn receive(&mut self, message: Received) -> Result<(), TestCaseError> {
        let number = number(&message);
        prop_assert_eq!(
            self.underway.remove(&number),
            Some(message.mtype),
            "lost or doubled"
        );
        self.received.push(message);
        Ok(())
    }

    fn see(&mut self, wakes: Vec<Wake>) -> Result<(), TestCaseError> {
        for Wake { ticket, result } in wakes {
            let at = self
                .waiting
                .iter()
                .position(|&(waiting, _)| waiting == ticket);
            self.waiting
                .remove(at.ok_or_else(|| TestCaseError::fail("woken unasked"))?);
            match (self.held.remove(&ticket.0), result) {
                (Some(mtype), Ok(Granted::Done)) => {
                    self.underway.insert(ticket.0, mtype);
                }
                (None, Ok(Granted::Message(message))) => self.receive(message)?,
                (None, Err(Errno::E2BIG)) => {}
                (held, result) => prop_assert!(false, "{:?} {:?}", held, result),
            }
        }
        Ok(())
    }
}

fn invariants(queue: &Queue, observer: &Observer) -> Result<(), TestCaseError> {
    let queued: BTreeMap<u64, i64> = queue
        .messages
        .iter()
        .map(|message| {
            (
                u64::from_le_bytes(message.text[..8].try_into().unwrap()),
                message.mtype,
            )
        })
        .collect();
    prop_assert_eq!(queued.len(), queue.messages.len());
    prop_assert_eq!(&queued, &observer.underway);
    let bytes: usize = queue
        .messages
        .iter()
        .map(|message| message.text.len())
        .sum();
    prop_assert_eq!(queue.cbytes, bytes as u64);
    prop_assert_eq!(
        queue.senders.len() + queue.receivers.len(),
        observer.waiting.len()
    );
    for receiver in &queue.receivers {
        let types = queue.messages.iter().map(|message| message.mtype);
        prop_assert_eq!(
            receiver.wanted.choose(types),
            None,
            "{:?} waits in vain",
            receiver
        );
    }
    for sender in &queue.senders {
        prop_assert!(
            !queue.has_room(sender.message.text.len()),
            "{:?} waits in vain",
            sender
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn messages_are_neither_lost_nor_doubled_and_nobody_waits_in_vain(
        steps in proptest::collection::vec(step(), 1..150)
    ) {
        let limits = Limits { msgmnb: 40, ..Limits::LINUX };
        let who_all = root();
        let mut queue = Queue::new(permissions(0o600), &limits, NOW);
        let (mut observer, mut wakes) = (Observer::default(), Vec::new());

        for (step_number, step) in (1..).zip(steps) {
            let ticket = Ticket(step_number);
            match step {
                Step::Send { who, mtype, len, flags } => {
                    let text = text(step_number, len);
                    let had_room = queue.has_room(text.len());
                    let sent = queue.send(caller(who, &who_all), mtype, &text, flags, ticket, NOW, &mut wakes);
                    match sent {
                        Ok(Outcome::Done(())) => {
                            observer.underway.insert(step_number, mtype);
                        }
                        Ok(Outcome::Blocked) => {
                            observer.held.insert(step_number, mtype);
                            observer.waiting.push((ticket, who));
                        }
                        Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
                    }
                    prop_assert_eq!(had_room, sent == Ok(Outcome::Done(())));
                }
                Step::Receive { who, mtype, size, flags } => {
                    let me = caller(who, &who_all);
                    match queue.receive(me, mtype, size, flags, ticket, NOW, &mut wakes) {
                        Ok(Outcome::Done(message)) => {
                            observer.receive(message)?;
                        }
                        Ok(Outcome::Blocked) => observer.waiting.push((ticket, who)),
                        Err(errno) => prop_assert!(matches!(errno, Errno::ENOMSG | Errno::E2BIG)),
                    }
                }
                Step::Withdraw { which } => {
                    if observer.waiting.is_empty() { continue }
                    let (ticket, _) = observer.waiting.remove(which.index(observer.waiting.len()));
                    observer.held.remove(&ticket.0);
                    prop_assert!(queue.withdraw(ticket));
                    prop_assert!(!queue.withdraw(ticket));
                }
                Step::PutBack { which } => {
                    if observer.received.is_empty() { continue }
                    let at = which.index(observer.received.len());
                    let message = observer.received.swap_remove(at);
                    observer.underway.insert(number(&message), message.mtype);
                    queue.put_back(message.mtype, message.text, NOW, &mut wakes);
                }
                Step::SetQbytes(qbytes) => {
                    let setting = Setting { uid: 0, gid: 0, mode: 0o600 };
                    let me = caller(pid_on(1, 9), &who_all);
                    queue.set(me, setting, Some(qbytes), &limits, NOW, &mut wakes).unwrap();
                }
                Step::ForgetNode(number) => {
                    let dead = observer.waiting.extract_if(.., |(_, who)| who.node == node(number));
                    for (ticket, _) in dead {
                        observer.held.remove(&ticket.0);
                    }
                    queue.forget_node(node(number));
                }
            }
            observer.see(std::mem::take(&mut wakes))?;
            invariants(&queue, &observer)?;
        }
    }
}

proptest! {
    #[test]
    fn of_one_type_messages_leave_in_the_order_in_which_their_senders_got_room(
        sends in proptest::collection::vec((1..4i64, 8..20usize), 1..40),
        receives in proptest::collection::vec(-3..4i64, 1..60),
    ) {
        let limits = Limits { msgmnb: 50, ..Limits::LINUX };
        let who = root();
        let me = caller(pid_on(1, 1), &who);
        let mut queue = Queue::new(permissions(0o600), &limits, NOW);
        let (mut wakes, mut accepted) = (Vec::new(), Vec::new());
        for (ticket, (mtype, len)) in (0..).zip(&sends) {
            let text = text(ticket, *len);
            if queue.send(me, *mtype, &text, 0, Ticket(ticket), NOW, &mut wakes) == Ok(Outcome::Done(())) {
                accepted.push(ticket);
            }
        }
        for mtype in receives {
            let last = Ticket(u64::MAX);
            if let Ok(Outcome::Done(message)) =
                queue.receive(me, mtype, 99, flags::NOWAIT, last, NOW, &mut wakes)
            {
                let at = accepted.iter().position(|&other| other == number(&message)).unwrap();
                let same = |&&other: &&u64| sends[other as usize].0 == message.mtype;
                prop_assert_eq!(accepted[..at].iter().find(same), None);
                accepted.remove(at);
            }
            accepted.extend(wakes.drain(..).map(|wake| wake.ticket.0));
        }
    }
}
