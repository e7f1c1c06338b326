//! Semaphore sets: semop(2), semctl(2).
//!
//! ```text
//!             operate, set_value, exit, …
//!                        │ change
//!     ┌──────────────────▼─────────────────┐   tried in turn, whenever a
//!     │ values: value, last pid, otime     │◀──value that they name changes
//!     └──────────────────┬─────────────────┘   │
//!     ┌──────────────────▼───────┐   ┌─────────┴────────┐
//!     │ undo: per process, what  │   │ waiters, in line │──▶ wakes
//!     │ to give back when it ends│   └──────────────────┘
//!     └──────────────────────────┘
//! ```
//!
//! A change hands what it frees to the waiters before it returns: a `+1` that
//! completes a sleeper is not seen by anybody else (behaviour 43), and each
//! completion may complete others (47). The line is first come, first served
//! for those that can proceed; one that cannot holds back nobody (42).

mod undo;
mod values;
mod waiters;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use dipc_wire::call::{SemOp, SemStat};
use dipc_wire::{Errno, NodeId, Pid};

use super::limits::{SEMVMX, check_value};
use super::perm::Access;
#[cfg(test)]
use super::sabotage::{self, Sabotage};
use super::{Caller, Credentials, Granted, Outcome, Permissions, Setting, Ticket, Wake};
use undo::{Adjustments, Undo};
use values::{Attempt, Values};
use waiters::{Turn, Waiter, Waiters};

/// A semaphore set at its home.
#[derive(Clone, Debug)]
pub struct SemSet {
    permissions: Permissions,
    ctime: i64,
    values: Values,
    undo: Undo,
    waiters: Waiters,
}

impl SemSet {
    /// `nsems` semaphores with the value 0 that nobody has touched (behaviour
    /// 18). [`Limits::check_create`](super::Limits::check_create) bounds `nsems`.
    pub fn new(permissions: Permissions, nsems: u16, now: i64) -> Self {
        SemSet {
            permissions,
            ctime: now,
            values: Values::new(usize::from(nsems)),
            undo: Undo::default(),
            waiters: Waiters::default(),
        }
    }

    /// Whether `semget` may hand out this set's id (behaviours 2 to 7).
    pub fn check_get(&self, who: &Credentials, nsems: u64, flags: u32) -> Result<(), Errno> {
        self.permissions
            .check_get(who, flags, nsems <= self.values.len() as u64)
    }

    /// `semop`: all of `ops` in their order, or none.
    ///
    /// [`Limits::check_nsops`](super::Limits::check_nsops) comes before the set is
    /// looked up. Then, in this order (behaviour 23): EFBIG for a semaphore that
    /// the set does not have, EACCES, and what the operations bring: ERANGE,
    /// EAGAIN, or waiting under `ticket`. EINVAL for no operations.
    pub fn operate(
        &mut self,
        ops: &[SemOp],
        caller: Caller<'_>,
        ticket: Ticket,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<Outcome<()>, Errno> {
        let highest = ops.iter().map(|op| op.num).max().ok_or(Errno::EINVAL)?;
        if usize::from(highest) >= self.values.len() {
            return Err(Errno::EFBIG);
        }
        let wanted = if waiters::alters(ops) {
            Access::WRITE
        } else {
            Access::READ
        };
        self.permissions.check(caller.credentials, wanted)?;

        match attempt(&mut self.values, &mut self.undo, ops, caller.pid, now) {
            Attempt::Done => {
                self.settle(changed_by(ops), now, wakes);
                Ok(Outcome::Done(()))
            }
            Attempt::Fails(errno) => Err(errno),
            Attempt::Blocks(blocking) => {
                self.waiters.push(Waiter {
                    ticket,
                    pid: caller.pid,
                    ops: ops.into(),
                    blocking,
                });
                Ok(Outcome::Blocked)
            }
        }
    }

    /// The call waits no more: a signal came, its time is over, or its process
    /// or its thread has gone. False when it does not wait here, which means
    /// that its [`Wake`] has been pushed.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        self.waiters.withdraw(ticket)
    }

    /// The process has ended: what it did with SEM_UNDO is given back (behaviours
    /// 49 to 51). Harmless for a process that has nothing to give back.
    ///
    /// Its blocked calls are [withdrawn](Self::withdraw) by ticket, before.
    pub fn exit(&mut self, pid: Pid, now: i64, wakes: &mut Vec<Wake>) {
        let Some(adjustments) = self.undo.take(pid) else {
            return;
        };
        for (num, by) in adjustments.pending() {
            self.values.adjust(num, by, pid);
        }
        self.values.touch(now);
        self.settle_after_control(adjustments.pending().map(|(num, _)| num), now, wakes);
    }

    /// The node is dead: its waiters are dropped without a wake, and its
    /// processes have [ended](Self::exit) (behaviour 59).
    pub fn forget_node(&mut self, node: NodeId, now: i64, wakes: &mut Vec<Wake>) {
        self.forget_waiters(node);
        for pid in self.undo.of_node(node) {
            self.exit(pid, now, wakes);
        }
    }

    /// Nobody of this node waits any more.
    pub fn forget_waiters(&mut self, node: NodeId) {
        self.waiters.forget_node(node);
    }

    /// Takes back operations that were granted to a process which ended before
    /// it learned of them, so that no token dies on the way.
    ///
    /// Comes before or after that process's [`exit`](Self::exit). Of an
    /// operation with SEM_UNDO only that is taken back which the process still
    /// has to give back: the rest, `exit` or SETVAL has settled. Operations on
    /// semaphores that do not exist are ignored.
    pub fn revert(&mut self, ops: &[SemOp], pid: Pid, now: i64, wakes: &mut Vec<Wake>) {
        for &op in ops.iter().rev() {
            let back = -i32::from(op.op);
            let back = if values::undoes(op) {
                self.take_adjustment(pid, op.num, back)
            } else {
                back
            };
            if back != 0 && usize::from(op.num) < self.nsems() {
                self.values.adjust(op.num, back, pid);
                self.values.touch(now);
            }
        }
        let nsems = self.nsems();
        self.settle(
            changed_by(ops).filter(|&num| usize::from(num) < nsems),
            now,
            wakes,
        );
    }

    /// Reduces a process's pending adjustment by at most `wanted`, towards 0;
    /// returns by how much.
    fn take_adjustment(&mut self, pid: Pid, num: u16, wanted: i32) -> i32 {
        let Some(adjustments) = self.undo.of(pid) else {
            return 0;
        };
        let pending = adjustments.get(num);
        if pending.signum() != wanted.signum() {
            return 0;
        }
        let taken = wanted.signum() * wanted.abs().min(pending.abs());
        adjustments.add(num, -taken);
        taken
    }

    /// How many semaphores the set has.
    pub fn nsems(&self) -> usize {
        self.values.len()
    }

    /// GETVAL: EACCES, then EINVAL for no such semaphore (behaviours 61, 65).
    pub fn get_value(&self, caller: Caller<'_>, num: i32) -> Result<i32, Errno> {
        self.readable(caller, num).map(|num| self.values.value(num))
    }

    /// GETPID: who last changed it; errors as [`get_value`](Self::get_value).
    pub fn get_pid(&self, caller: Caller<'_>, num: i32) -> Result<Option<Pid>, Errno> {
        self.readable(caller, num).map(|num| self.values.pid(num))
    }

    /// GETNCNT: how many calls wait for it to rise; errors as
    /// [`get_value`](Self::get_value).
    pub fn ncnt(&self, caller: Caller<'_>, num: i32) -> Result<i32, Errno> {
        self.readable(caller, num)
            .map(|num| self.waiters.count(num, |op| op.op < 0) as i32)
    }

    /// GETZCNT: how many calls wait for it to be 0; errors as
    /// [`get_value`](Self::get_value).
    pub fn zcnt(&self, caller: Caller<'_>, num: i32) -> Result<i32, Errno> {
        self.readable(caller, num)
            .map(|num| self.waiters.count(num, |op| op.op == 0) as i32)
    }

    /// GETALL, in order: EACCES.
    pub fn get_all(
        &self,
        caller: Caller<'_>,
    ) -> Result<impl ExactSizeIterator<Item = u16> + '_, Errno> {
        self.permissions.check(caller.credentials, Access::READ)?;
        Ok(self.values.iter())
    }

    /// SETVAL: ERANGE (which [`check_value`] finds before the set is looked
    /// up), EINVAL for no such semaphore, EACCES (behaviours 52, 60 to 65).
    pub fn set_value(
        &mut self,
        caller: Caller<'_>,
        num: i32,
        value: i32,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<(), Errno> {
        let value = check_value(value)?;
        let num = self.existing(num)?;
        self.permissions.check(caller.credentials, Access::WRITE)?;
        self.values.set(num, value, caller.pid);
        self.undo.clear(num);
        self.ctime = now;
        self.settle_after_control([num].into_iter(), now, wakes);
        Ok(())
    }

    /// SETALL: EACCES, then ERANGE if any value is too high, and then nothing
    /// has changed (behaviours 52, 62, 63). EINVAL unless there are as many
    /// values as semaphores.
    pub fn set_all(
        &mut self,
        caller: Caller<'_>,
        values: &[u16],
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<(), Errno> {
        self.permissions.check(caller.credentials, Access::WRITE)?;
        if values.len() != self.values.len() {
            return Err(Errno::EINVAL);
        }
        if values.iter().any(|&value| i32::from(value) > SEMVMX) {
            return Err(Errno::ERANGE);
        }
        for (num, &value) in (0..).zip(values) {
            self.values.set(num, value, caller.pid);
        }
        self.undo.clear_all();
        self.ctime = now;
        #[cfg(test)]
        if sabotage::is(Sabotage::SetAllWakesNobody) {
            return Ok(());
        }
        self.settle_after_control(0..values.len() as u16, now, wakes);
        Ok(())
    }

    /// IPC_STAT, and SEM_STAT_ANY if `any`: EACCES.
    pub fn stat(&self, caller: Caller<'_>, any: bool) -> Result<SemStat<'static>, Errno> {
        if !any {
            self.permissions.check(caller.credentials, Access::READ)?;
        }
        Ok(SemStat {
            perm: self.permissions.stat(),
            otime: self.values.otime(),
            ctime: self.ctime,
            nsems: self.values.len() as u32,
        })
    }

    /// IPC_SET: EPERM, EINVAL (behaviours 65, 66). Who waits goes on waiting,
    /// permitted or not (behaviour 39).
    pub fn set(&mut self, caller: Caller<'_>, new: Setting, now: i64) -> Result<(), Errno> {
        self.permissions.check_owner(caller.credentials)?;
        self.permissions.set(new)?;
        self.ctime = now;
        Ok(())
    }

    /// IPC_RMID: EPERM. Everybody who waits gets EIDRM (behaviour 38), and
    /// what was to be undone is forgotten (56).
    pub fn remove(&mut self, caller: Caller<'_>, wakes: &mut Vec<Wake>) -> Result<(), Errno> {
        self.permissions.check_owner(caller.credentials)?;
        self.undo = Undo::default();
        let all = self.waiters.drain();
        wakes.extend(all.map(|ticket| Wake {
            ticket,
            result: Err(Errno::EIDRM),
        }));
        Ok(())
    }

    fn existing(&self, num: i32) -> Result<u16, Errno> {
        match u16::try_from(num) {
            Ok(num) if usize::from(num) < self.values.len() => Ok(num),
            _ => Err(Errno::EINVAL),
        }
    }

    fn readable(&self, caller: Caller<'_>, num: i32) -> Result<u16, Errno> {
        self.permissions.check(caller.credentials, Access::READ)?;
        self.existing(num)
    }

    /// An operation gave these semaphores new values: gives whoever waits for
    /// them what there is.
    fn settle(&mut self, nums: impl Iterator<Item = u16>, now: i64, wakes: &mut Vec<Wake>) {
        if self.waiters.is_empty() {
            return;
        }
        let mut turns = BTreeSet::new();
        concern(&self.waiters, &self.values, nums, &mut turns);
        self.wake(turns, now, wakes);
    }

    /// The same for what is no operation: SETVAL, SETALL, undo. ipc/sem.c then
    /// takes any semaphore of the set for changed when it looks for zeros.
    fn settle_after_control(
        &mut self,
        nums: impl Iterator<Item = u16>,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) {
        if self.waiters.is_empty() {
            return;
        }
        let mut turns = BTreeSet::new();
        concern(&self.waiters, &self.values, nums, &mut turns);
        if self.values.iter().any(|value| value == 0) {
            turns.extend(self.waiters.for_several_zeros());
        }
        self.wake(turns, now, wakes);
    }

    /// Tries these waiters, the first in line first, and whom their success
    /// concerns (behaviour 47). The others would block where they blocked
    /// before, since nothing that they name has changed.
    fn wake(&mut self, mut turns: BTreeSet<Turn>, now: i64, wakes: &mut Vec<Wake>) {
        while let Some(turn) = turns.pop_first() {
            let Some(waiter) = self.waiters.get_mut(turn) else {
                continue;
            };
            let ticket = waiter.ticket;
            match attempt(
                &mut self.values,
                &mut self.undo,
                &waiter.ops,
                waiter.pid,
                now,
            ) {
                Attempt::Blocks(blocking) => waiter.blocking = blocking,
                Attempt::Fails(errno) => {
                    self.waiters.remove(turn);
                    wakes.push(Wake {
                        ticket,
                        result: Err(errno),
                    });
                }
                Attempt::Done => {
                    if let Some(waiter) = self.waiters.remove(turn) {
                        let nums = changed_by(&waiter.ops);
                        concern(&self.waiters, &self.values, nums, &mut turns);
                    }
                    wakes.push(Wake {
                        ticket,
                        result: Ok(Granted::Done),
                    });
                }
            }
        }
    }
}

/// Applies `ops` for `pid`, with its adjustments, which begin with its first
/// successful SEM_UNDO (behaviour 57).
fn attempt(values: &mut Values, undo: &mut Undo, ops: &[SemOp], pid: Pid, now: i64) -> Attempt {
    let mut first = Adjustments::default();
    let known = if ops.iter().any(|&op| values::undoes(op)) {
        undo.of(pid)
    } else {
        None
    };
    let result = values.attempt(ops, pid, known.unwrap_or(&mut first), now);
    if result == Attempt::Done && !first.is_unused() {
        undo.begin(pid, first);
    }
    result
}

/// The semaphores that these operations, having succeeded, may have changed:
/// none if they only waited for zero.
fn changed_by(ops: &[SemOp]) -> impl Iterator<Item = u16> + '_ {
    let alters = waiters::alters(ops);
    ops.iter().filter(move |_| alters).map(|op| op.num)
}

/// Adds who must be tried now that these semaphores may have new values. As in
/// ipc/sem.c, a zero makes all those try who wait for several.
fn concern(
    waiters: &Waiters,
    values: &Values,
    nums: impl Iterator<Item = u16>,
    turns: &mut BTreeSet<Turn>,
) {
    let mut zero = false;
    for num in nums {
        let value = values.value(num);
        zero |= value == 0;
        turns.extend(waiters.concerned(num, value));
    }
    if zero {
        turns.extend(waiters.for_several_zeros());
    }
}
