//! The programs of a node: one thread each, which asks one thing at a time.
//! `node/client.rs` and `node/process.rs`.
//!
//! | rule | stands for |
//! |---|---|
//! | a call goes to its object's home, EINVAL without a link | `node/calls.rs`, `call` |
//! | a program that dies before it has read its answer: the call is taken back | `client.rs`, `take_back` |
//! | a signal, or death, withdraws a call that waits | `client.rs`, `withdraw` |
//! | a process's end: its calls, its adjustments at each home, its attachments | `process.rs`, `process_ended` |

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::call::{Call, Reply, SemOp, flags};
use dipc_wire::coherence::Access;
use dipc_wire::peer::Message;
use dipc_wire::{Errno, Kind, NodeId, ObjectId};

use super::desk::{Desk, Task};
use super::home::Asker;
use super::letters::{Letter, Payload};
use super::names::Wanted;
use super::node::{Life, Pending};
use super::record::{Told, What};
use super::variants::Variant;
use crate::semantics::Ticket;

/// Where a call waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Here(Ticket),
    Away(NodeId, u64),
}

/// A call on an object, as far as it may have to be taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) call: Call,
    pub(super) payload: Payload,
}

/// What a process is doing.
#[derive(Clone, Debug)]
pub(super) enum State {
    Idle,
    /// It waits for the answer to a call.
    Calling(Asked, Option<Place>),
    /// The answer is there, and not read; `true`: no home has given it.
    Answered(Asked, Reply<'static>, Payload, bool),
    Looking(Wanted),
    Attaching(ObjectId),
    Touching(ObjectId, u64, Access),
}

/// A process.
pub(super) struct Process {
    pub(super) state: State,
    /// It has ended, and a call of it has not.
    pub(super) gone: bool,
    /// Homes where it may have adjustments.
    undo: BTreeSet<NodeId>,
    pub(super) attached: BTreeSet<ObjectId>,
    pub(super) known: BTreeSet<(Kind, ObjectId)>,
    /// What it received last: the broken variant takes that back too.
    last: Option<(Asked, Reply<'static>, Payload)>,
    /// It does nothing of its own accord.
    pub(super) auditor: bool,
}

impl Life {
    /// A program starts.
    pub(super) fn spawn(&mut self, pid: u32, auditor: bool, desk: &mut Desk<'_>) {
        let process = Process {
            state: State::Idle,
            gone: false,
            undo: BTreeSet::new(),
            attached: BTreeSet::new(),
            known: BTreeSet::new(),
            last: None,
            auditor,
        };
        self.processes.insert(pid, process);
        if !auditor {
            desk.later(1, Task::Think(pid));
        }
    }

    pub(super) fn is_mapped(&self, id: ObjectId) -> bool {
        self.processes
            .values()
            .any(|it| !it.gone && it.attached.contains(&id))
    }

    /// How often a segment is attached here.
    pub(super) fn attachments(&self, id: ObjectId) -> u64 {
        self.processes
            .values()
            .filter(|it| it.attached.contains(&id))
            .count() as u64
    }

    /// Processes that wait for something, and for what.
    pub(super) fn busy(&self) -> BTreeMap<u32, Option<&Asked>> {
        let busy = self
            .processes
            .iter()
            .filter(|(_, it)| !matches!(it.state, State::Idle));
        busy.map(|(&pid, it)| match &it.state {
            State::Calling(asked, _) => (pid, Some(asked)),
            _ => (pid, None),
        })
        .collect()
    }

    /// A process goes on.
    pub(super) fn think(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        match process.state.clone() {
            State::Calling(..) | State::Looking(_) | State::Attaching(_) => {}
            State::Answered(asked, reply, payload, nobody) => {
                process.state = State::Idle;
                process.last = Some((asked.clone(), reply.clone(), payload.clone()));
                self.read(pid, &asked, &reply, payload, nobody, desk);
                self.rest(pid, desk);
            }
            State::Touching(id, granule, access) => self.touch(pid, id, granule, access, desk),
            State::Idle if process.auditor => {}
            State::Idle => self.work(pid, desk),
        }
    }

    /// It thinks before it goes on.
    pub(super) fn rest(&mut self, pid: u32, desk: &mut Desk<'_>) {
        if self.processes.get(&pid).is_some_and(|it| !it.auditor) {
            let wait = desk.while_up_to(self.habits.think);
            desk.later(wait, Task::Think(pid));
        }
    }

    // ---- calls ----

    /// A process calls.
    pub(super) fn call(&mut self, pid: u32, call: Call, payload: Payload, desk: &mut Desk<'_>) {
        let Some(id) = call.object() else { return };
        if let Some((kind, what)) = what(&call, &payload) {
            let caller = self.pid(pid);
            desk.record.invoke(kind, id, caller, self.id, what);
        }
        desk.shared
            .note(|| format!("{:?} process {pid}: {call:?} {payload:?}", self.id));
        let home = id.home();
        let asked = Asked {
            call,
            payload: payload.clone(),
        };
        if let Some(process) = self.processes.get_mut(&pid) {
            process.state = State::Calling(asked, None);
            if let Payload::Ops(ops) = &payload
                && ops.iter().any(|op| u32::from(op.flags) & flags::UNDO != 0)
            {
                process.undo.insert(home);
            }
        }
        let place = if home == self.id.node {
            let asker = Asker::Process(pid);
            let ticket = self.home.apply(self.pid(pid), call, &payload, asker, desk);
            self.set_deadline(&call, ticket, desk);
            ticket.map(Place::Here)
        } else {
            match self.ask(home, pid, call, payload, Pending::Call(pid), desk) {
                Some(tag) => Some(Place::Away(home, tag)),
                // Without a link its home is dead, and the object with it.
                None => {
                    return self.answered(
                        pid,
                        Reply::Failed(Errno::EINVAL),
                        Payload::Nothing,
                        true,
                        desk,
                    );
                }
            }
        };
        if let Some(State::Calling(_, at)) = self.processes.get_mut(&pid).map(|it| &mut it.state) {
            *at = place;
        }
    }

    pub(super) fn set_deadline(
        &mut self,
        call: &Call,
        ticket: Option<Ticket>,
        desk: &mut Desk<'_>,
    ) {
        if let (
            Call::SemOp {
                timeout: Some(wait),
                ..
            },
            Some(ticket),
        ) = (call, ticket)
        {
            desk.later(*wait / 1_000, Task::TimeOut(ticket));
        }
    }

    /// An answer has come; `nobody`: it is this node's own.
    pub(super) fn answered(
        &mut self,
        pid: u32,
        reply: Reply<'static>,
        payload: Payload,
        nobody: bool,
        desk: &mut Desk<'_>,
    ) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return desk.fail("an answer for nobody");
        };
        let State::Calling(asked, _) = process.state.clone() else {
            return desk.fail("a second answer to one call");
        };
        desk.shared.note(|| {
            format!(
                "{:?} process {pid} is answered {reply:?} {payload:?}",
                desk.life
            )
        });
        if process.gone {
            self.processes.remove(&pid);
            return self.take_back(pid, asked, &reply, payload, desk);
        }
        process.state = State::Answered(asked, reply, payload, nobody);
        let wait = desk.while_up_to(60);
        desk.later(wait, Task::Think(pid));
    }

    /// A signal came, or the process is gone: it waits no more.
    pub(super) fn withdraw(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let state = self.processes.get(&pid).map(|it| &it.state);
        match state {
            Some(&State::Calling(_, Some(Place::Here(ticket)))) => {
                self.home.withdraw(ticket, Errno::EINTR, desk)
            }
            Some(&State::Calling(_, Some(Place::Away(node, tag)))) => {
                if let Some(peer) = self.peers.get(&node) {
                    desk.send(
                        peer.end,
                        Letter::Peer(Message::Withdraw { tag }, Payload::Nothing),
                    );
                }
            }
            _ => {}
        }
    }

    /// Nobody has learned what a call did: it counts as not made.
    fn take_back(
        &mut self,
        pid: u32,
        asked: Asked,
        reply: &Reply<'static>,
        payload: Payload,
        desk: &mut Desk<'_>,
    ) {
        if desk.is(Variant::TokenDiesWithProcess) {
            return;
        }
        let (message, bytes) = match (asked.call, asked.payload, reply, payload) {
            (Call::SemOp { id, .. }, Payload::Ops(ops), Reply::Done, _) => {
                if id.home() == self.id.node {
                    return self.home.revert(self.pid(pid), id, &ops, desk);
                }
                (Message::UndeliveredOp { id, pid }, Payload::Ops(ops))
            }
            (Call::MsgRcv { id, .. }, _, &Reply::Message { mtype }, Payload::Text(text)) => {
                if id.home() == self.id.node {
                    return self.home.put_back(id, mtype, &text, desk);
                }
                (
                    Message::UndeliveredMessage { id, mtype },
                    Payload::Text(text),
                )
            }
            _ => return,
        };
        let home = asked
            .call
            .object()
            .and_then(|id| self.peers.get(&id.home()));
        if let Some(peer) = home {
            desk.send(peer.end, Letter::Peer(message, bytes));
        }
    }

    /// The program reads its answer.
    fn read(
        &mut self,
        pid: u32,
        asked: &Asked,
        reply: &Reply<'static>,
        payload: Payload,
        nobody: bool,
        desk: &mut Desk<'_>,
    ) {
        let told = match (reply, payload) {
            (Reply::Done, _) => Told::Done,
            (Reply::Values, Payload::Values(values)) => Told::Values(values),
            (Reply::Message { mtype }, Payload::Text(text)) => Told::Message(*mtype, text),
            (Reply::Failed(Errno::EAGAIN | Errno::ENOMSG | Errno::EINTR), _) => Told::Refused,
            (Reply::Failed(Errno::EIDRM), _) if nobody => Told::Unknown,
            (Reply::Failed(Errno::EIDRM | Errno::EINVAL), _) => Told::Gone,
            (reply, _) => return desk.fail(&format!("{:?} was answered {reply:?}", asked.call)),
        };
        let caller = self.pid(pid);
        if what(&asked.call, &asked.payload).is_some() {
            match nobody && told == Told::Gone {
                true => desk.record.unasked(caller),
                false => desk.record.told(caller, told.clone()),
            }
        }
        let id = asked.call.object();
        let over = nobody || matches!(asked.call, Call::Remove { .. }) || told == Told::Gone;
        if let (Some(process), Some(id)) = (self.processes.get_mut(&pid), id)
            && over
        {
            process.known.retain(|&(_, it)| it != id);
        }
    }

    // ---- keys ----

    pub(super) fn wanted_by(&self, pid: u32) -> Option<Wanted> {
        match self.processes.get(&pid)?.state {
            State::Looking(wanted) => Some(wanted),
            _ => None,
        }
    }

    pub(super) fn set_not(&mut self, pid: u32, id: ObjectId) {
        if let Some(State::Looking(wanted)) = self.processes.get_mut(&pid).map(|it| &mut it.state) {
            wanted.not = Some(id);
        }
    }

    pub(super) fn look(&mut self, pid: u32, wanted: Wanted, desk: &mut Desk<'_>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.state = State::Looking(wanted);
        }
        self.look_for(pid, desk);
    }

    pub(super) fn found(&mut self, pid: u32, found: Result<ObjectId, Errno>, desk: &mut Desk<'_>) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let State::Looking(Wanted { kind, key, .. }) = process.state else {
            return desk.fail("a key was found that nobody looked for");
        };
        desk.shared.note(|| {
            format!(
                "{:?} process {pid}: {kind} key {key} is {found:?}",
                desk.life
            )
        });
        process.state = State::Idle;
        process.known.extend(found.ok().map(|id| (kind, id)));
        match process.gone {
            true => drop(self.processes.remove(&pid)),
            false => self.rest(pid, desk),
        }
    }

    // ---- the end ----

    /// A process of this node has ended.
    pub(super) fn process_ended(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let who = self.pid(pid);
        let Some(process) = self.processes.get_mut(&pid).filter(|it| !it.gone) else {
            return;
        };
        desk.shared
            .note(|| format!("{:?} process {pid} ends", desk.life));
        process.gone = true;
        let homes = std::mem::take(&mut process.undo);
        let (state, last) = (process.state.clone(), process.last.take());
        if matches!(state, State::Calling(..) | State::Answered(..)) {
            desk.record.died_in_call(who);
        }
        desk.record.exit_due(|entry| entry.pid == who, |_| true);
        match state {
            State::Calling(..) => self.withdraw(pid, desk),
            State::Answered(asked, reply, payload, _) => {
                process.state = State::Idle;
                self.take_back(pid, asked, &reply, payload, desk);
            }
            State::Touching(..) => {
                process.state = State::Idle;
                self.segments.leave(pid);
            }
            State::Idle => {
                if let (true, Some((asked, reply, payload))) =
                    (desk.is(Variant::MessageTakenBackTwice), last)
                {
                    self.take_back(pid, asked, &reply, payload, desk);
                }
            }
            State::Looking(_) | State::Attaching(_) => {}
        }
        for home in homes {
            if home == self.id.node {
                self.home.exit(who, desk);
            } else if let Some(peer) = self.peers.get(&home) {
                desk.send(
                    peer.end,
                    Letter::Peer(Message::Exited { pid }, Payload::Nothing),
                );
            }
        }
        self.drop_attachments(pid, desk);
    }
}

/// What a call is in its object's history; segments have none.
fn what(call: &Call, payload: &Payload) -> Option<(Kind, What)> {
    use dipc_wire::call::SemCommand;
    let ops = |payload: &Payload| match payload {
        Payload::Ops(ops) => ops.clone(),
        _ => Vec::<SemOp>::new(),
    };
    Some(match (call, payload) {
        (Call::SemOp { .. }, payload) => (Kind::Sem, What::Operate(ops(payload))),
        (
            Call::Sem {
                command: SemCommand::GetAll,
                ..
            },
            _,
        ) => (Kind::Sem, What::Values),
        (
            &Call::Sem {
                command: SemCommand::SetValue(num, value),
                ..
            },
            _,
        ) => (Kind::Sem, What::SetValue(num as u16, value as u16)),
        (&Call::MsgSnd { mtype, .. }, Payload::Text(text)) => {
            (Kind::Msg, What::Send(mtype, text.clone()))
        }
        (&Call::MsgRcv { mtype, .. }, _) => (Kind::Msg, What::Receive(mtype)),
        (&Call::Remove { kind, .. }, _) if kind != Kind::Shm => (kind, What::Remove),
        _ => return None,
    })
}
