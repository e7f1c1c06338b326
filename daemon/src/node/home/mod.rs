//! The objects whose home is this node.
//!
//! Calls come here from local programs and from peers alike, and are applied to
//! the pure machines of [`crate::semantics`]. This module adds what they leave
//! out: locks, the clock, and the way of the answers.
//!
//! Lock order: a registry, then an object, then the waiters. Answers are sent
//! with no lock held.

mod exits;
mod get;
mod msg;
mod sem;
mod shm;
mod waiters;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use dipc_wire::call::{Call, Reply, SemOp};
use dipc_wire::referee::Membership;
use dipc_wire::sharing::Sharing;
use dipc_wire::{Errno, Kind, NodeId, ObjectId, Pid};
use parking_lot::{Mutex, RwLock};

use super::answer::Asker;
use super::users::Users;
use super::{Shape, Task};
use crate::node::timer::Timer;
use crate::semantics::{Credentials, Limits, Queue, Registry, Segment, SemSet, Setting, Ticket};

pub(crate) use get::Lookup;
pub(crate) use sem::{may_fail_now, undoes};
pub(crate) use waiters::Waiters;

/// An object behind its lock; `None` once it is removed, for those who found it
/// in the registry just before.
type Slot<T> = Arc<Mutex<Option<T>>>;
type Objects<T> = RwLock<Registry<Slot<T>>>;

/// All objects of this home.
pub(crate) struct Home {
    sems: Objects<SemSet>,
    msgs: Objects<Queue>,
    shms: Objects<Segment>,
    waiters: Waiters,
    /// In which sets a process may have adjustments.
    undo: Mutex<HashMap<Pid, BTreeSet<ObjectId>>>,
    /// The cluster's: a referee that is started anew may bring others.
    limits: RwLock<Limits>,
    /// Whether it was said that a limit is reached.
    full: AtomicBool,
    /// Of segments whose creator wants nothing else.
    pub(crate) sharing: Sharing,
    pub(crate) users: Users,
}

/// Who calls, with what rights here.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) pid: Pid,
    pub(crate) credentials: Credentials,
}

impl Caller {
    fn borrow(&self) -> crate::semantics::Caller<'_> {
        crate::semantics::Caller {
            pid: self.pid,
            credentials: &self.credentials,
        }
    }
}

/// Seconds since the epoch: the clock of all times that IPC_STAT shows.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// Runs `act` on an object; EINVAL when there is none (behaviour 20).
fn with<T, R>(
    objects: &Objects<T>,
    id: ObjectId,
    act: impl FnOnce(&mut T) -> Result<R, Errno>,
) -> Result<R, Errno> {
    let slot = objects.read().get(id).cloned().ok_or(Errno::EINVAL)?;
    let mut object = slot.lock();
    act(object.as_mut().ok_or(Errno::EINVAL)?)
}

impl Home {
    pub(crate) fn new(
        me: Membership,
        limits: Limits,
        sharing: Sharing,
        timer: Arc<Timer<Task>>,
        users: Users,
    ) -> Self {
        // Another life of this node gave other ids: an old one must not name a
        // new object by accident.
        let first = (me.incarnation.0.wrapping_mul(0x9e37_79b9) as u32) % ObjectId::SERIALS;
        Home {
            sems: RwLock::new(Registry::new(me.node, Kind::Sem, first)),
            msgs: RwLock::new(Registry::new(me.node, Kind::Msg, first)),
            shms: RwLock::new(Registry::new(me.node, Kind::Shm, first)),
            waiters: Waiters::new(timer),
            undo: Mutex::new(HashMap::new()),
            limits: RwLock::new(limits),
            full: AtomicBool::new(false),
            sharing,
            users,
        }
    }

    /// The cluster's limits, as they are now.
    pub(crate) fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// The referee says that they are these from now on. What exists stays.
    pub(crate) fn keep_to(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// What is refused whatever its object, and so before that is looked for
    /// (behaviours 23, 69). For programs and peers, where their calls come in.
    pub(crate) fn check_call(&self, call: &Call, payload: &[u8]) -> Result<(), Errno> {
        match *call {
            Call::SemOp { .. } => {
                let nsops = payload.len() / SemOp::BYTES;
                self.limits.read().check_nsops(nsops)
            }
            Call::MsgSnd { mtype, .. } => self.limits.read().check_message(mtype, payload.len()),
            _ => Ok(()),
        }
    }

    /// Applies a call on an object of this home, and sees that `asker` gets
    /// its answer, now or when it no longer has to wait. Returns the ticket of
    /// a call that waits.
    ///
    /// Calls that concern more of the node than the object (those that find,
    /// make and remove it, and attachments) are methods of their own.
    pub(crate) fn apply(
        &self,
        caller: &Caller,
        call: Call,
        payload: &[u8],
        asker: Asker,
    ) -> Option<Ticket> {
        match call {
            Call::SemOp { id, timeout } => self.semop(caller, id, payload, timeout, asker),
            Call::MsgSnd { id, mtype, flags } => {
                self.msgsnd(caller, id, mtype, payload, flags, asker)
            }
            Call::MsgRcv {
                id,
                mtype,
                size,
                flags,
            } => self.msgrcv(caller, id, mtype, size, flags, asker),
            Call::Sem { id, command } => {
                self.sem_command(caller, id, command, payload, &asker);
                None
            }
            Call::Stat { kind, id, any } => {
                self.stat(caller, kind, id, any, &asker);
                None
            }
            Call::Set {
                kind,
                id,
                uid,
                gid,
                mode,
                qbytes,
            } => {
                let done = self.owner(payload, uid, gid).and_then(|(uid, gid)| {
                    self.set(caller, kind, id, Setting { uid, gid, mode }, qbytes)
                });
                answer(&asker, done);
                None
            }
            Call::Get { .. }
            | Call::Remove { .. }
            | Call::Lock { .. }
            | Call::Attach { .. }
            | Call::Detach { .. }
            | Call::Inherit { .. }
            | Call::Remap { .. }
            | Call::Abandon { .. } => {
                asker.fail(Errno::EINVAL);
                None
            }
        }
    }

    /// The owner and group that IPC_SET names: by number when it comes from
    /// this node, by name (`owner NUL group`) from another one.
    fn owner(&self, names: &[u8], uid: u32, gid: u32) -> Result<(u32, u32), Errno> {
        if names.is_empty() {
            return Ok((uid, gid));
        }
        let names = std::str::from_utf8(names).map_err(|_| Errno::EINVAL)?;
        let (owner, group) = names.split_once('\0').ok_or(Errno::EINVAL)?;
        let number = |found: Option<u32>| found.ok_or(Errno::EINVAL);
        Ok((
            number(self.users.uid(owner))?,
            number(self.users.gid(group))?,
        ))
    }

    fn set(
        &self,
        caller: &Caller,
        kind: Kind,
        id: ObjectId,
        new: Setting,
        qbytes: Option<u64>,
    ) -> Result<(), Errno> {
        let caller = caller.borrow();
        let mut wakes = Vec::new();
        let done = match kind {
            Kind::Sem => with(&self.sems, id, |set| set.set(caller, new, now())),
            Kind::Msg => with(&self.msgs, id, |queue| {
                queue.set(caller, new, qbytes, &self.limits(), now(), &mut wakes)
            }),
            Kind::Shm => with(&self.shms, id, |segment| segment.set(caller, new, now())),
        };
        self.wake(wakes);
        done
    }

    fn stat(&self, caller: &Caller, kind: Kind, id: ObjectId, any: bool, asker: &Asker) {
        let who = caller.borrow();
        let reply = match kind {
            Kind::Sem => with(&self.sems, id, |set| set.stat(who, any)).map(Reply::Sem),
            Kind::Msg => with(&self.msgs, id, |queue| queue.stat(who, any)).map(Reply::Msg),
            Kind::Shm => with(&self.shms, id, |segment| segment.stat(who, any)).map(Reply::Shm),
        };
        let mut reply = reply.unwrap_or_else(Reply::Failed);
        let names = reply.perm().map(|perm| self.users.names(perm));
        if let (Some(perm), Some(names)) = (reply.perm_mut(), &names) {
            *perm = names.put(perm);
        }
        asker.answer(&reply, &[]);
    }

    /// IPC_RMID of a set or a queue. Returns the key that is free now.
    pub(crate) fn remove(
        &self,
        caller: &Caller,
        kind: Kind,
        id: ObjectId,
    ) -> Result<Option<i32>, Errno> {
        let mut wakes = Vec::new();
        let caller = caller.borrow();
        let key = match kind {
            Kind::Sem => take(&self.sems, id, |set| set.remove(caller, &mut wakes)),
            Kind::Msg => take(&self.msgs, id, |queue| queue.remove(caller, &mut wakes)),
            Kind::Shm => Err(Errno::EINVAL),
        };
        self.wake(wakes);
        key
    }

    /// All keys whose home is here.
    pub(crate) fn keys(&self) -> Vec<(Kind, i32, ObjectId)> {
        fn of<T>(objects: &Objects<T>, kind: Kind, into: &mut Vec<(Kind, i32, ObjectId)>) {
            let objects = objects.read();
            into.extend(
                objects
                    .iter()
                    .filter_map(|(id, _)| objects.key(id).map(|key| (kind, key, id))),
            );
        }
        let mut keys = Vec::new();
        of(&self.sems, Kind::Sem, &mut keys);
        of(&self.msgs, Kind::Msg, &mut keys);
        of(&self.shms, Kind::Shm, &mut keys);
        keys
    }

    /// What counts against the cluster's limits: all objects, and what each
    /// weighs.
    pub(crate) fn weights(&self) -> Vec<(Kind, ObjectId, u64)> {
        fn of<T>(objects: &Objects<T>, kind: Kind, into: &mut Vec<(Kind, ObjectId, u64)>) {
            let objects = objects.read();
            into.extend(objects.weights().map(|(id, weight)| (kind, id, weight)));
        }
        let mut weights = Vec::new();
        of(&self.sems, Kind::Sem, &mut weights);
        of(&self.msgs, Kind::Msg, &mut weights);
        of(&self.shms, Kind::Shm, &mut weights);
        weights
    }

    /// All objects of one kind that are here, as IPC_STAT shows them to who may
    /// read them.
    pub(crate) fn list(&self, kind: Kind) -> Vec<(ObjectId, Reply<'static>)> {
        fn of<T>(
            objects: &Objects<T>,
            stat: impl Fn(&T) -> Option<Reply<'static>>,
        ) -> Vec<(ObjectId, Reply<'static>)> {
            let slots: Vec<_> = objects
                .read()
                .iter()
                .map(|(id, slot)| (id, slot.clone()))
                .collect();
            slots
                .iter()
                .filter_map(|(id, slot)| Some((*id, stat(slot.lock().as_ref()?)?)))
                .collect()
        }
        let nobody = Credentials::default();
        let pid = Pid {
            node: NodeId::SOLO,
            pid: 0,
        };
        let who = crate::semantics::Caller {
            pid,
            credentials: &nobody,
        };
        match kind {
            Kind::Sem => of(&self.sems, |set| set.stat(who, true).ok().map(Reply::Sem)),
            Kind::Msg => of(&self.msgs, |queue| {
                queue.stat(who, true).ok().map(Reply::Msg)
            }),
            Kind::Shm => of(&self.shms, |segment| {
                segment.stat(who, true).ok().map(Reply::Shm)
            }),
        }
    }
}

/// Takes an object away if `remove` agrees. Returns the key it had.
fn take<T>(
    objects: &Objects<T>,
    id: ObjectId,
    remove: impl FnOnce(&mut T) -> Result<(), Errno>,
) -> Result<Option<i32>, Errno> {
    let slot = objects.read().get(id).cloned().ok_or(Errno::EINVAL)?;
    {
        let mut object = slot.lock();
        remove(object.as_mut().ok_or(Errno::EINVAL)?)?;
        *object = None;
    }
    let mut objects = objects.write();
    let key = objects.key(id);
    objects.remove(id);
    Ok(key)
}

fn answer(asker: &Asker, done: Result<(), Errno>) {
    asker.answer(&done.map_or_else(Reply::Failed, |()| Reply::Done), &[]);
}
