//! The objects of a home: `node/home` without its locks.
//!
//! | rule | stands for |
//! |---|---|
//! | a call is applied, its answer goes back, or it waits under a ticket | `node/home/waiters.rs`, `may_wait` |
//! | whoever was woken is answered, once | the same, `wake` |
//! | a withdrawn call fails unless it was granted before | the same, `withdraw` |
//! | where a process may have adjustments, it is undone | `node/home/exits.rs`, `exit` |
//! | a dead node's waiters, adjustments, attachments go | the same, `forget_node` |
//! | a removed object's key is free, and its room | `node/calls.rs`, `remove` |

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::call::{Call, PRIVATE, Reply, SemCommand, SemOp, flags};
use dipc_wire::limits::weight;
use dipc_wire::referee::ToReferee;
use dipc_wire::{Errno, Kind, Limits, NodeId, ObjectId, Pid};

use super::desk::Desk;
use super::letters::{LifeId, Payload};
use super::specification::QUEUE_BYTES;
use super::variants::Variant;
use crate::semantics::{
    Caller, Credentials, Fate, Granted, Outcome, Permissions, Queue, Registry, Segment, SemSet,
    Ticket, Wake,
};

/// The cluster's limits: queues that are soon full.
pub(super) const LIMITS: Limits = Limits {
    msgmnb: QUEUE_BYTES as u64,
    ..Limits::LINUX
};
/// Bytes of a granule, and how many a segment has.
pub(super) const GRANULE: u64 = 4096;
pub(super) const GRANULES: u64 = 3;

/// Who is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A process of this node.
    Process(u32),
    /// A peer's call.
    Peer(NodeId, u64),
}

/// An answer on its way.
pub(super) struct Answer {
    pub(super) asker: Asker,
    pub(super) reply: Reply<'static>,
    pub(super) payload: Payload,
}

/// What waits for the same thing: of two equal ones the first to come is the
/// first to go.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    Sem(u16, i16),
    Send(usize),
    Receive(i64),
}

struct Waiter {
    asker: Asker,
    pid: Pid,
    on: (Kind, ObjectId),
    line: Option<Line>,
}

/// A home.
pub(super) struct Home {
    me: LifeId,
    pub(super) sems: Registry<SemSet>,
    pub(super) msgs: Registry<Queue>,
    pub(super) shms: Registry<Segment>,
    waiters: BTreeMap<Ticket, Waiter>,
    tickets: u64,
    undo: BTreeMap<Pid, BTreeSet<ObjectId>>,
    nobody: Credentials,
    pub(super) answers: Vec<Answer>,
    /// For the referee.
    pub(super) news: Vec<ToReferee>,
    /// Segments that have ended.
    pub(super) destroyed: Vec<ObjectId>,
}

/// The one second of the simulation: times of objects are not looked at.
const NOW: i64 = 1;

impl Home {
    pub(super) fn new(me: LifeId) -> Self {
        let first = (me.incarnation.0.wrapping_mul(0x9e37_79b9) as u32) % ObjectId::SERIALS;
        Home {
            me,
            sems: Registry::new(me.node, Kind::Sem, first),
            msgs: Registry::new(me.node, Kind::Msg, first),
            shms: Registry::new(me.node, Kind::Shm, first),
            waiters: BTreeMap::new(),
            tickets: 0,
            undo: BTreeMap::new(),
            nobody: Credentials::default(),
            answers: Vec::new(),
            news: Vec::new(),
            destroyed: Vec::new(),
        }
    }

    fn answer(&mut self, asker: Asker, reply: Reply<'static>, payload: Payload) {
        self.answers.push(Answer {
            asker,
            reply,
            payload,
        });
    }

    /// A call on an object of this home. Returns the ticket of one that waits.
    pub(super) fn apply(
        &mut self,
        pid: Pid,
        call: Call,
        payload: &Payload,
        asker: Asker,
        desk: &mut Desk<'_>,
    ) -> Option<Ticket> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let nobody = self.nobody.clone();
        let who = Caller {
            pid,
            credentials: &nobody,
        };
        let mut wakes = Vec::new();
        let mut on = None;
        let outcome: Result<Outcome<(Reply<'static>, Payload)>, Errno> = match (call, payload) {
            (Call::SemOp { id, .. }, Payload::Ops(ops)) => {
                on = Some(((Kind::Sem, id), sem_line(ops)));
                if ops.iter().any(|op| u32::from(op.flags) & flags::UNDO != 0) {
                    self.undo.entry(pid).or_default().insert(id);
                }
                let set = self.sems.get_mut(id).ok_or(Errno::EINVAL);
                set.and_then(|set| set.operate(ops, who, ticket, NOW, &mut wakes))
                    .map(done)
            }
            (Call::MsgSnd { id, mtype, flags }, Payload::Text(text)) => {
                on = Some(((Kind::Msg, id), Some(Line::Send(text.len()))));
                let queue = self.msgs.get_mut(id).ok_or(Errno::EINVAL);
                queue
                    .and_then(|q| q.send(who, mtype, text, flags, ticket, NOW, &mut wakes))
                    .map(done)
            }
            (
                Call::MsgRcv {
                    id,
                    mtype,
                    size,
                    flags,
                },
                _,
            ) => {
                on = Some(((Kind::Msg, id), Some(Line::Receive(mtype))));
                let queue = self.msgs.get_mut(id).ok_or(Errno::EINVAL);
                let got =
                    queue.and_then(|q| q.receive(who, mtype, size, flags, ticket, NOW, &mut wakes));
                got.map(|outcome| match outcome {
                    Outcome::Blocked => Outcome::Blocked,
                    Outcome::Done(it) => {
                        Outcome::Done((Reply::Message { mtype: it.mtype }, Payload::Text(it.text)))
                    }
                })
            }
            (
                Call::Sem {
                    id,
                    command: SemCommand::GetAll,
                },
                _,
            ) => {
                let values = self
                    .sems
                    .get(id)
                    .ok_or(Errno::EINVAL)
                    .and_then(|set| Ok(set.get_all(who)?.collect()));
                values.map(|values| Outcome::Done((Reply::Values, Payload::Values(values))))
            }
            (
                Call::Sem {
                    id,
                    command: SemCommand::SetValue(num, value),
                },
                _,
            ) => {
                let set = self.sems.get_mut(id).ok_or(Errno::EINVAL);
                set.and_then(|set| set.set_value(who, num, value, NOW, &mut wakes))
                    .map(|()| done(Outcome::Done(())))
            }
            (
                Call::Get {
                    kind,
                    key,
                    size,
                    flags,
                },
                _,
            ) => {
                let found = self
                    .find(kind, key, size, flags)
                    .unwrap_or(Err(Errno::EIDRM));
                found.map(|id| Outcome::Done((Reply::Id(id), Payload::Nothing)))
            }
            (Call::Remove { kind, id }, _) => self
                .remove(who, kind, id, &mut wakes)
                .map(|()| done(Outcome::Done(()))),
            (Call::Attach { id, flags }, _) => {
                let segment = self.shms.get_mut(id).ok_or(Errno::EINVAL);
                segment.and_then(|s| s.attach(who, flags, NOW)).map(|it| {
                    let reply = Reply::Attached {
                        size: it.size,
                        granule: it.granule,
                        quantum: it.quantum,
                        may_write: it.may_write,
                    };
                    Outcome::Done((reply, Payload::Nothing))
                })
            }
            (Call::Detach { id, count }, _) => {
                let known = self.shms.get(id).map(|_| ()).ok_or(Errno::EINVAL);
                self.detached(pid, id, count);
                known.map(|()| done(Outcome::Done(())))
            }
            _ => Err(Errno::EINVAL),
        };
        let waits = match outcome {
            Ok(Outcome::Blocked) => {
                let (on, line) = on?;
                self.waiters.insert(
                    ticket,
                    Waiter {
                        asker,
                        pid,
                        on,
                        line,
                    },
                );
                Some(ticket)
            }
            Ok(Outcome::Done((reply, payload))) => {
                desk.record.effect(pid);
                note_given(&payload, pid, desk);
                self.answer(asker, reply, payload);
                None
            }
            Err(errno) => {
                desk.record.effect(pid);
                self.answer(asker, Reply::Failed(errno), Payload::Nothing);
                None
            }
        };
        self.wake(wakes, desk);
        waits
    }

    fn wake(&mut self, wakes: Vec<Wake>, desk: &mut Desk<'_>) {
        for Wake { ticket, result } in wakes {
            let Some(waiter) = self.waiters.remove(&ticket) else {
                desk.fail("a ticket that nobody has was woken");
                continue;
            };
            desk.record.effect(waiter.pid);
            if result.is_ok() && self.overtakes(ticket, &waiter) {
                desk.fail("a call was served before one like it that came earlier");
            }
            let (reply, payload) = match result {
                Ok(Granted::Done) => (Reply::Done, Payload::Nothing),
                Ok(Granted::Message(it)) => {
                    (Reply::Message { mtype: it.mtype }, Payload::Text(it.text))
                }
                Err(errno) => (Reply::Failed(errno), Payload::Nothing),
            };
            note_given(&payload, waiter.pid, desk);
            self.answer(waiter.asker, reply, payload);
        }
    }

    /// Whether one like it came earlier and still waits.
    fn overtakes(&self, ticket: Ticket, served: &Waiter) -> bool {
        served.line.is_some()
            && (self.waiters.range(..ticket))
                .any(|(_, it)| it.on == served.on && it.line == served.line)
    }

    /// A call waits no more, unless it was granted.
    pub(super) fn withdraw(&mut self, ticket: Ticket, errno: Errno, desk: &mut Desk<'_>) {
        let Some(waiter) = self.waiters.get(&ticket) else {
            return;
        };
        let (asker, pid) = (waiter.asker, waiter.pid);
        let withdrawn = match waiter.on {
            (Kind::Sem, id) => self
                .sems
                .get_mut(id)
                .is_some_and(|set| set.withdraw(ticket)),
            (_, id) => self
                .msgs
                .get_mut(id)
                .is_some_and(|queue| queue.withdraw(ticket)),
        };
        if !withdrawn {
            return desk.fail("a call waits here and not in its machine");
        }
        self.waiters.remove(&ticket);
        desk.record.effect(pid);
        self.answer(asker, Reply::Failed(errno), Payload::Nothing);
    }

    /// The waiting call that a peer names so.
    pub(super) fn ticket_of(&self, asker: Asker) -> Option<Ticket> {
        let mut waiters = self.waiters.iter();
        waiters
            .find(|(_, it)| it.asker == asker)
            .map(|(&ticket, _)| ticket)
    }

    pub(super) fn revert(&mut self, pid: Pid, id: ObjectId, ops: &[SemOp], desk: &mut Desk<'_>) {
        let mut wakes = Vec::new();
        if let Some(set) = self.sems.get_mut(id) {
            set.revert(ops, pid, NOW, &mut wakes);
        }
        desk.record.taken_back(pid);
        self.wake(wakes, desk);
    }

    pub(super) fn put_back(&mut self, id: ObjectId, mtype: i64, text: &[u8], desk: &mut Desk<'_>) {
        let mut wakes = Vec::new();
        if let Some(queue) = self.msgs.get_mut(id) {
            queue.put_back(mtype, text.to_vec(), NOW, &mut wakes);
        }
        if let Some(pid) = desk.record.receiver(text) {
            desk.record.taken_back(pid);
        }
        self.wake(wakes, desk);
    }

    /// A process has ended.
    pub(super) fn exit(&mut self, pid: Pid, desk: &mut Desk<'_>) {
        for id in self.undo.remove(&pid).unwrap_or_default() {
            let mut wakes = Vec::new();
            if let Some(set) = self.sems.get_mut(id) {
                set.exit(pid, NOW, &mut wakes);
            }
            desk.record.undone(pid, id);
            self.wake(wakes, desk);
        }
    }

    /// A node is dead.
    pub(super) fn forget_node(&mut self, node: NodeId, desk: &mut Desk<'_>) {
        let waiters = self
            .waiters
            .extract_if(.., |_, waiter| waiter.pid.node == node);
        let waited: Vec<Ticket> = waiters.map(|(ticket, _)| ticket).collect();
        let undone: Vec<(Pid, ObjectId)> = (self.undo.iter())
            .filter(|(pid, _)| pid.node == node)
            .flat_map(|(&pid, ids)| ids.iter().map(move |&id| (pid, id)))
            .collect();
        self.undo.retain(|pid, _| pid.node != node);
        let mut wakes = Vec::new();
        for id in ids(&self.sems) {
            if let Some(set) = self.sems.get_mut(id) {
                match desk.is(Variant::UndoOfDeadNodeForgotten) {
                    false => set.forget_node(node, NOW, &mut wakes),
                    true => waited.iter().for_each(|&it| _ = set.withdraw(it)),
                }
            }
        }
        for (pid, id) in undone {
            desk.record.undone(pid, id);
        }
        self.wake(wakes, desk);
        for id in ids(&self.msgs) {
            if let Some(queue) = self.msgs.get_mut(id) {
                queue.forget_node(node);
            }
        }
        for id in ids(&self.shms) {
            let fate = self
                .shms
                .get_mut(id)
                .map(|segment| segment.forget_node(node, NOW));
            self.settle(id, fate);
        }
    }

    pub(super) fn mapped(&mut self, pid: Pid, id: ObjectId) {
        if let Some(segment) = self.shms.get_mut(id) {
            segment.mapped(pid);
        }
    }

    pub(super) fn detached(&mut self, pid: Pid, id: ObjectId, count: u32) {
        let fate = self
            .shms
            .get_mut(id)
            .map(|segment| segment.detach(pid, count, NOW));
        self.settle(id, fate);
    }

    fn settle(&mut self, id: ObjectId, fate: Option<Fate>) {
        if fate == Some(Fate::Destroyed) {
            self.shms.remove(id);
            self.news.push(ToReferee::Freed {
                kind: Kind::Shm,
                id,
            });
            self.destroyed.push(id);
        }
    }

    fn remove(
        &mut self,
        who: Caller<'_>,
        kind: Kind,
        id: ObjectId,
        wakes: &mut Vec<Wake>,
    ) -> Result<(), Errno> {
        let key = match kind {
            Kind::Sem => {
                self.sems
                    .get_mut(id)
                    .ok_or(Errno::EINVAL)?
                    .remove(who, wakes)?;
                let key = self.sems.key(id);
                self.sems.remove(id);
                key
            }
            Kind::Msg => {
                self.msgs
                    .get_mut(id)
                    .ok_or(Errno::EINVAL)?
                    .remove(who, wakes)?;
                let key = self.msgs.key(id);
                self.msgs.remove(id);
                key
            }
            Kind::Shm => {
                let fate = self.shms.get_mut(id).ok_or(Errno::EINVAL)?.remove(who)?;
                let key = self.shms.release_key(id);
                self.settle(id, Some(fate));
                key
            }
        };
        if let Some(key) = key {
            self.news.push(ToReferee::Released { kind, key, id });
        }
        if kind != Kind::Shm {
            self.news.push(ToReferee::Freed { kind, id });
        }
        Ok(())
    }

    pub(super) fn find(
        &self,
        kind: Kind,
        key: i32,
        size: u64,
        flags: u32,
    ) -> Option<Result<ObjectId, Errno>> {
        let who = &self.nobody;
        Some(match kind {
            Kind::Sem => self
                .sems
                .find(key)
                .map(|(id, it)| it.check_get(who, size, flags).map(|()| id))?,
            Kind::Msg => self
                .msgs
                .find(key)
                .map(|(id, it)| it.check_get(who, flags).map(|()| id))?,
            Kind::Shm => self
                .shms
                .find(key)
                .map(|(id, it)| it.check_get(who, size, flags).map(|()| id))?,
        })
    }

    pub(super) fn create(
        &mut self,
        pid: Pid,
        kind: Kind,
        key: i32,
        size: u64,
        quantum: u64,
        desk: &mut Desk<'_>,
    ) -> Result<ObjectId, Errno> {
        let nobody = &self.nobody;
        let permissions = |id| Permissions::new(id, key, nobody, 0o600);
        let weight = weight(kind, size);
        let id = match kind {
            Kind::Sem => self.sems.insert(&LIMITS, key, weight, |id| {
                SemSet::new(permissions(id), size as u16, NOW)
            }),
            Kind::Msg => self.msgs.insert(&LIMITS, key, weight, |id| {
                Queue::new(permissions(id), &LIMITS, NOW)
            }),
            Kind::Shm => self.shms.insert(&LIMITS, key, weight, |id| {
                Segment::new(permissions(id), size, GRANULE, quantum, pid, NOW)
            }),
        }?;
        desk.record.made(kind, id, self.me, size as usize);
        Ok(id)
    }

    /// What a referee that starts anew is told: keys, then objects.
    pub(super) fn known(&self) -> Vec<ToReferee> {
        fn of<T>(objects: &Registry<T>, kind: Kind, into: &mut Vec<ToReferee>) {
            let keys = objects
                .iter()
                .filter_map(|(id, _)| objects.key(id).map(|key| (id, key)));
            into.extend(keys.map(|(id, key)| ToReferee::Owns { kind, key, id }));
            into.extend(objects.weights().map(|(id, weight)| ToReferee::Holds {
                kind,
                id,
                weight,
            }));
        }
        let mut known = Vec::new();
        of(&self.sems, Kind::Sem, &mut known);
        of(&self.msgs, Kind::Msg, &mut known);
        of(&self.shms, Kind::Shm, &mut known);
        known
    }

    /// The keys of this home.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Kind, i32)> {
        self.known().into_iter().filter_map(|it| match it {
            ToReferee::Owns { kind, key, .. } if key != PRIVATE => Some((kind, key)),
            _ => None,
        })
    }

    /// All objects of this home.
    pub(super) fn objects(&self) -> Vec<(Kind, ObjectId)> {
        let sems = ids(&self.sems).into_iter().map(|id| (Kind::Sem, id));
        let msgs = ids(&self.msgs).into_iter().map(|id| (Kind::Msg, id));
        let shms = ids(&self.shms).into_iter().map(|id| (Kind::Shm, id));
        sems.chain(msgs).chain(shms).collect()
    }

    /// Who waits here.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Pid> {
        self.waiters.values().map(|waiter| waiter.pid)
    }
}

fn done(outcome: Outcome<()>) -> Outcome<(Reply<'static>, Payload)> {
    match outcome {
        Outcome::Done(()) => Outcome::Done((Reply::Done, Payload::Nothing)),
        Outcome::Blocked => Outcome::Blocked,
    }
}

fn note_given(payload: &Payload, pid: Pid, desk: &mut Desk<'_>) {
    if let Payload::Text(text) = payload {
        desk.record.given(text, pid);
    }
}

fn sem_line(ops: &[SemOp]) -> Option<Line> {
    match ops {
        [op] => Some(Line::Sem(op.num, op.op)),
        _ => None,
    }
}

fn ids<T>(objects: &Registry<T>) -> Vec<ObjectId> {
    objects.iter().map(|(id, _)| id).collect()
}
