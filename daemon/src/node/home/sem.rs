//! Semaphore calls.

use std::time::{Duration, Instant};

use dipc_wire::call::{Reply, SemCommand, SemOp, flags};
use dipc_wire::{Errno, ObjectId, Pid};

use super::waiters::{Target, WaitsOn};
use super::{Caller, Home, answer, now, with};
use crate::node::answer::Asker;
use crate::semantics::Ticket;
use crate::semantics::limits::check_value;

/// The operations of a payload.
fn decode_ops(payload: &[u8]) -> Result<Vec<SemOp>, Errno> {
    Ok(SemOp::decode_all(payload).ok_or(Errno::EINVAL)?.collect())
}

/// Whether any operation of a payload leaves something to be undone.
pub(crate) fn undoes(payload: &[u8]) -> bool {
    any_has(payload, flags::UNDO)
}

/// Whether any operation of a payload is not to wait.
pub(crate) fn may_fail_now(payload: &[u8]) -> bool {
    any_has(payload, flags::NOWAIT)
}

fn any_has(payload: &[u8], flag: u32) -> bool {
    SemOp::decode_all(payload).is_some_and(|mut ops| ops.any(|op| u32::from(op.flags) & flag != 0))
}

impl Home {
    pub(super) fn semop(
        &self,
        caller: &Caller,
        id: ObjectId,
        payload: &[u8],
        timeout: Option<u64>,
        asker: Asker,
    ) -> Option<Ticket> {
        let ops = match decode_ops(payload) {
            Ok(ops) => ops,
            Err(errno) => {
                asker.fail(errno);
                return None;
            }
        };
        let ticket = self.may_wait(
            Target {
                objects: &self.sems,
                id,
                on: WaitsOn::Sem,
            },
            caller.pid,
            asker,
            |set, ticket, wakes| {
                if undoes(payload) {
                    self.undo.lock().entry(caller.pid).or_default().insert(id);
                }
                set.operate(&ops, caller.borrow(), ticket, now(), wakes)
            },
            |asker, ()| asker.answer(&Reply::Done, &[]),
        )?;
        if let Some(timeout) = timeout {
            let end = Instant::now() + Duration::from_nanos(timeout);
            self.waiters.until(ticket, end);
        }
        Some(ticket)
    }

    pub(super) fn sem_command(
        &self,
        caller: &Caller,
        id: ObjectId,
        command: SemCommand,
        payload: &[u8],
        asker: &Asker,
    ) {
        let who = caller.borrow();
        let value = |value: Result<i32, Errno>| send_or_fail(asker, value.map(Reply::Value));
        match command {
            SemCommand::GetValue(n) => value(with(&self.sems, id, |set| set.get_value(who, n))),
            SemCommand::GetNcnt(n) => value(with(&self.sems, id, |set| set.ncnt(who, n))),
            SemCommand::GetZcnt(n) => value(with(&self.sems, id, |set| set.zcnt(who, n))),
            SemCommand::GetPid(n) => {
                let pid = with(&self.sems, id, |set| set.get_pid(who, n));
                send_or_fail(asker, pid.map(Reply::Process));
            }
            SemCommand::GetAll => {
                let values = with(&self.sems, id, |set| {
                    Ok(set
                        .get_all(who)?
                        .flat_map(u16::to_le_bytes)
                        .collect::<Vec<u8>>())
                });
                match values {
                    Ok(values) => asker.answer(&Reply::Values, &values),
                    Err(errno) => asker.fail(errno),
                }
            }
            SemCommand::SetValue(num, value) => {
                let mut wakes = Vec::new();
                let done = check_value(value).and_then(|_| {
                    with(&self.sems, id, |set| {
                        set.set_value(who, num, value, now(), &mut wakes)
                    })
                });
                answer(asker, done);
                self.wake(wakes);
            }
            SemCommand::SetAll => {
                let values: Vec<u16> = payload
                    .chunks_exact(2)
                    .map(|b| u16::from_le_bytes([b[0], b[1]]))
                    .collect();
                let mut wakes = Vec::new();
                let done = with(&self.sems, id, |set| {
                    set.set_all(who, &values, now(), &mut wakes)
                });
                answer(asker, done);
                self.wake(wakes);
            }
        }
    }

    /// A granted operation never reached its process: take it back.
    pub(crate) fn revert_op(&self, id: ObjectId, pid: Pid, payload: &[u8]) {
        let Ok(ops) = decode_ops(payload) else { return };
        let mut wakes = Vec::new();
        // A set that is gone has nothing to take back.
        let _ = with(&self.sems, id, |set| {
            set.revert(&ops, pid, now(), &mut wakes);
            Ok(())
        });
        self.wake(wakes);
    }
}

fn send_or_fail(asker: &Asker, reply: Result<Reply<'_>, Errno>) {
    asker.answer(&reply.unwrap_or_else(Reply::Failed), &[]);
}
