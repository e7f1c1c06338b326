//! The System V calls, in the order of their checks.
//!
//! What the machines leave to the layers around them is done here as it is
//! there: `node/calls.rs` and `node/home/` (limits, look-ups, EINVAL for an id
//! that is nobody's) and the shim's `sem.rs` and `msg.rs` (pointers, timeouts).
//! That those layers do the same is what the live library is compared for.

use dipc_wire::call::{PRIVATE, Perm, SemOp, flags};
use dipc_wire::{Errno, Kind, ObjectId};

use super::super::limits::{check_value, weight};
use super::super::msq::check_receive;
use super::super::testing::{NOW, caller};
use super::super::{Fate, Outcome, Permissions, Queue, Registry, Segment, SemSet, Setting, Ticket};
use super::history::{ACTORS, Step, Verb};
use super::machines::{Became, Machines, Mistake, Waiting, process};
use super::plan::Value;
use super::text;

type Told = Result<Vec<Value>, Errno>;

/// Of an answer that tells nothing.
fn done(result: Result<(), Errno>) -> Told {
    result.map(|()| vec![Value::Number(0)])
}

fn number(result: Result<i32, Errno>) -> Told {
    result.map(|number| vec![Value::Number(number.into())])
}

fn was(time: i64) -> Value {
    Value::Number((time != 0).into())
}

/// A stat's first fields, behind the result of the call.
fn permissions(perm: &Perm<'_>) -> Vec<Value> {
    let [uid, gid, cuid, cgid] = [perm.uid, perm.gid, perm.cuid, perm.cgid].map(i64::from);
    [0, perm.key.into(), uid, gid, cuid, cgid, perm.mode.into()]
        .map(Value::Number)
        .into()
}

impl Machines {
    /// Makes the call of a step, on the object that it names.
    pub(super) fn perform(&mut self, step: &Step, id: Option<ObjectId>, ticket: Ticket) -> Became {
        let ended = match step.verb {
            Verb::SemGet => return self.get(step, Kind::Sem, step.number(1) as i32 as u64),
            Verb::MsgGet => return self.get(step, Kind::Msg, 0),
            Verb::ShmGet => return self.get(step, Kind::Shm, step.number(1) as u64),
            Verb::SemOp => return self.semop(step, id, ticket),
            Verb::MsgSnd => return self.msgsnd(step, id, ticket),
            Verb::MsgRcv => return self.msgrcv(step, id, ticket),
            Verb::ShmDt => self.shmdt(step),
            // A negative id is looked at before the value, any other after it.
            Verb::SetVal if step.number(0) >= 0 && check_value(step.number(2) as i32).is_err() => {
                Err(Errno::ERANGE)
            }
            _ => id
                .ok_or(Errno::EINVAL)
                .and_then(|id| match step.verb as i32 {
                    verb if verb < Verb::MsgGet as i32 => self.semctl(step, id),
                    verb if verb < Verb::ShmGet as i32 => self.msgctl(step, id),
                    _ => self.shm_call(step, id),
                }),
        };
        Became::Ended(ended)
    }

    fn get(&mut self, step: &Step, kind: Kind, size: u64) -> Became {
        let (key, flags) = match kind {
            Kind::Msg => (step.number(0) as i32, step.number(1) as u32),
            _ => (step.number(0) as i32, step.number(2) as u32),
        };
        match self.find_or_make(step.actor, kind, key, size, flags) {
            Ok(id) => Became::Made(id),
            Err(errno) => Became::Ended(Err(errno)),
        }
    }

    fn find_or_make(
        &mut self,
        actor: usize,
        kind: Kind,
        key: i32,
        size: u64,
        flags: u32,
    ) -> Result<ObjectId, Errno> {
        self.limits.check_get(kind, size)?;
        let who = self.processes[actor].who.clone();
        if key != PRIVATE {
            fn found<T>(
                objects: &Registry<T>,
                key: i32,
                check: impl FnOnce(&T) -> Result<(), Errno>,
            ) -> Option<Result<ObjectId, Errno>> {
                let (id, object) = objects.find(key)?;
                Some(check(object).map(|()| id))
            }
            let found = match kind {
                Kind::Sem => found(&self.sems, key, |set| set.check_get(&who, size, flags)),
                Kind::Msg => found(&self.msgs, key, |queue| queue.check_get(&who, flags)),
                Kind::Shm => found(&self.shms, key, |it| it.check_get(&who, size, flags)),
            };
            if let Some(found) = found {
                return found;
            }
            if flags & flags::CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        self.limits.check_create(kind, size)?;
        let permissions = |id| Permissions::new(id, key, &who, flags);
        let (weight, creator) = (weight(kind, size), self.pid(actor));
        match kind {
            Kind::Sem => self.sems.insert(&self.limits, key, weight, |id| {
                SemSet::new(permissions(id), size as u16, NOW)
            }),
            Kind::Msg => self.msgs.insert(&self.limits, key, weight, |id| {
                Queue::new(permissions(id), &self.limits, NOW)
            }),
            Kind::Shm => self.shms.insert(&self.limits, key, weight, |id| {
                Segment::new(permissions(id), size, 4096, 0, creator, NOW)
            }),
        }
    }

    fn semop(&mut self, step: &Step, id: Option<ObjectId>, ticket: Ticket) -> Became {
        match self.operate(step, id, ticket) {
            Err(errno) => Became::Ended(Err(errno)),
            Ok(Outcome::Done(())) => Became::Ended(done(Ok(()))),
            Ok(Outcome::Blocked) => {
                let id = id.unwrap_or_else(|| unreachable!("it waits at a set"));
                if step.number(1) < 0 {
                    return Became::Waits(Waiting::at(ticket, Kind::Sem, id, None));
                }
                if let Some(set) = self.sems.get_mut(id) {
                    set.withdraw(ticket);
                }
                Became::TimesOut
            }
        }
    }

    fn operate(
        &mut self,
        step: &Step,
        id: Option<ObjectId>,
        ticket: Ticket,
    ) -> Result<Outcome<()>, Errno> {
        let ops = operations(step);
        let timeout = step.number(1);
        if timeout == -3 {
            return Err(Errno::EFAULT);
        }
        if self.mistake != Some(Mistake::TooManyAfterId) {
            self.limits.check_nsops(ops.len())?;
        }
        if timeout == -4 {
            return Err(Errno::EFAULT);
        }
        if timeout == -2 {
            return Err(Errno::EINVAL);
        }
        let id = id.ok_or(Errno::EINVAL)?;
        let pid = self.pid(step.actor);
        let set = self.sems.get_mut(id).ok_or(Errno::EINVAL)?;
        if ops.iter().any(|op| u32::from(op.flags) & flags::UNDO != 0) {
            self.processes[step.actor].begun.insert(id);
        }
        self.limits.check_nsops(ops.len())?;
        let me = caller(pid, &self.processes[step.actor].who);
        set.operate(&ops, me, ticket, NOW, &mut self.wakes)
    }

    fn semctl(&mut self, step: &Step, id: ObjectId) -> Told {
        let num = step.number(1) as i32;
        let value = step.number(2) as i32;
        let (pid, new) = (self.pid(step.actor), self.setting(step).0);
        let me = caller(pid, &self.processes[step.actor].who);
        let set = self.sems.get_mut(id).ok_or(Errno::EINVAL)?;
        match step.verb {
            Verb::GetVal => number(set.get_value(me, num)),
            Verb::GetPid => set.get_pid(me, num).map(|pid| vec![process(pid)]),
            Verb::GetNcnt => number(set.ncnt(me, num)),
            Verb::GetZcnt => number(set.zcnt(me, num)),
            Verb::GetAll => set.get_all(me).map(|values| {
                let values = values.map(|value| Value::Number(value.into()));
                [Value::Number(0)].into_iter().chain(values).collect()
            }),
            Verb::SetVal => done(set.set_value(me, num, value, NOW, &mut self.wakes)),
            Verb::SetAll => {
                let value = |at| step.number(1 + at) as u16;
                let values: Vec<u16> = (0..set.nsems()).map(value).collect();
                done(set.set_all(me, &values, NOW, &mut self.wakes))
            }
            Verb::SemStat => set.stat(me, false).map(|stat| {
                let mut told = permissions(&stat.perm);
                told.push(match stat.otime {
                    0 if self.touched.contains(&id) => Value::Any,
                    otime => was(otime),
                });
                told.extend([was(stat.ctime), Value::Number(stat.nsems.into())]);
                told
            }),
            Verb::SemSet => done(set.set(me, new, NOW)),
            Verb::SemRm => {
                set.remove(me, &mut self.wakes)?;
                self.sems.remove(id);
                done(Ok(()))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn msgsnd(&mut self, step: &Step, id: Option<ObjectId>, ticket: Ticket) -> Became {
        let [mtype, len, flags, first] = [1, 2, 3, 4].map(|at| step.number(at));
        let sent = (|| {
            let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            self.limits.check_message(mtype, len)?;
            let (id, pid) = (id.ok_or(Errno::EINVAL)?, self.pid(step.actor));
            let queue = self.msgs.get_mut(id).ok_or(Errno::EINVAL)?;
            let me = caller(pid, &self.processes[step.actor].who);
            let text = text::counting(first, len);
            let sent = queue.send(me, mtype, &text, flags as u32, ticket, NOW, &mut self.wakes)?;
            Ok((sent, id))
        })();
        match sent {
            Err(errno) => Became::Ended(Err(errno)),
            Ok((Outcome::Done(()), _)) => Became::Ended(done(Ok(()))),
            Ok((Outcome::Blocked, id)) => {
                Became::Waits(Waiting::at(ticket, Kind::Msg, id, Some(len as u64)))
            }
        }
    }

    fn msgrcv(&mut self, step: &Step, id: Option<ObjectId>, ticket: Ticket) -> Became {
        let [mtype, room, flags] = [1, 2, 3].map(|at| step.number(at));
        let received = (|| {
            check_receive(room as u64, flags as u32)?;
            let (id, pid) = (id.ok_or(Errno::EINVAL)?, self.pid(step.actor));
            let queue = self.msgs.get_mut(id).ok_or(Errno::EINVAL)?;
            let me = caller(pid, &self.processes[step.actor].who);
            let (room, flags, wakes) = (room as u64, flags as u32, &mut self.wakes);
            let received = queue.receive(me, mtype, room, flags, ticket, NOW, wakes)?;
            Ok((received, id))
        })();
        match received {
            Err(errno) => Became::Ended(Err(errno)),
            Ok((Outcome::Done(message), _)) => {
                Became::Ended(Ok(text::told(message.mtype, &message.text)))
            }
            Ok((Outcome::Blocked, id)) => Became::Waits(Waiting::at(ticket, Kind::Msg, id, None)),
        }
    }

    fn msgctl(&mut self, step: &Step, id: ObjectId) -> Told {
        let (pid, (new, qbytes)) = (self.pid(step.actor), self.setting(step));
        let me = caller(pid, &self.processes[step.actor].who);
        let queue = self.msgs.get_mut(id).ok_or(Errno::EINVAL)?;
        match step.verb {
            Verb::MsgStat => queue.stat(me, false).map(|stat| {
                let mut told = permissions(&stat.perm);
                told.extend([stat.stime, stat.rtime, stat.ctime].map(was));
                let counts = [stat.cbytes, stat.qnum, stat.qbytes];
                told.extend(counts.map(|count| Value::Number(count as i64)));
                told.extend([stat.lspid, stat.lrpid].map(process));
                told
            }),
            Verb::MsgSet => {
                let (limits, wakes) = (&self.limits, &mut self.wakes);
                done(queue.set(me, new, Some(qbytes), limits, NOW, wakes))
            }
            _ => {
                queue.remove(me, &mut self.wakes)?;
                self.msgs.remove(id);
                done(Ok(()))
            }
        }
    }

    fn shm_call(&mut self, step: &Step, id: ObjectId) -> Told {
        let (pid, new) = (self.pid(step.actor), self.setting(step).0);
        let me = caller(pid, &self.processes[step.actor].who);
        let segment = self.shms.get_mut(id).ok_or(Errno::EINVAL)?;
        match step.verb {
            Verb::ShmAt => {
                segment.attach(me, step.number(1) as u32, NOW)?;
                segment.mapped(pid);
                self.processes[step.actor].attached.push(id);
                done(Ok(()))
            }
            Verb::ShmStat => segment.stat(me, false).map(|stat| {
                let mut told = permissions(&stat.perm);
                told.push(Value::Number(stat.size as i64));
                told.extend([stat.atime, stat.dtime, stat.ctime].map(was));
                told.extend([stat.cpid, stat.lpid].map(process));
                told.push(Value::Number(stat.nattch as i64));
                told
            }),
            Verb::ShmSet => done(segment.set(me, new, NOW)),
            Verb::ShmLock => done(segment.lock(me, step.number(1) != 0)),
            _ => {
                if segment.remove(me)? == Fate::Destroyed {
                    self.shms.remove(id);
                } else {
                    self.shms.release_key(id);
                }
                done(Ok(()))
            }
        }
    }

    fn shmdt(&mut self, step: &Step) -> Told {
        let attached = &mut self.processes[step.actor].attached;
        let which = step.number(0) as usize;
        if which >= attached.len() {
            return Err(Errno::EINVAL);
        }
        let id = attached.remove(which);
        self.detach(self.pid(step.actor), id);
        done(Ok(()))
    }

    /// What a step would have IPC_SET change, `msg_qbytes` included.
    pub(super) fn setting(&self, step: &Step) -> (Setting, u64) {
        let actors = |at| match step.number(at) {
            ..0 => None,
            actor => Some(&self.identities[actor as usize % ACTORS]),
        };
        let new = Setting {
            uid: actors(1).map_or(u32::MAX, |who| who.uid),
            gid: actors(2).map_or(u32::MAX, |who| who.gid),
            mode: step.number(3) as u16,
        };
        (new, step.number(4) as u64)
    }
}

impl Waiting {
    fn at(ticket: Ticket, kind: Kind, id: ObjectId, sends: Option<u64>) -> Self {
        Waiting {
            step: 0,
            ticket,
            object: (kind, id),
            sends,
        }
    }
}

/// The operations of a `semop`: those named, and copies of the last.
fn operations(step: &Step) -> Vec<SemOp> {
    let numbers = step.numbers.get(3..).unwrap_or_default();
    let mut ops: Vec<SemOp> = numbers
        .chunks_exact(3)
        .map(|op| SemOp {
            num: op[0] as u16,
            op: op[1] as i16,
            flags: op[2] as u16,
        })
        .collect();
    if let Some(&last) = ops.last() {
        let copies = step.number(2).clamp(0, 600) as usize;
        ops.resize((ops.len() + copies).min(600), last);
    }
    ops
}
