//! The data of a set: values, last processes, and when an operation last
//! succeeded. It knows nothing of who waits, and owns no more than it shows, so
//! that it can one day lie elsewhere than the rest of the set.

use dipc_wire::call::{SemOp, flags};
use dipc_wire::{Errno, Pid};

use super::undo::Adjustments;
use crate::semantics::limits::SEMVMX;
#[cfg(test)]
use crate::semantics::sabotage::{self, Sabotage};

/// One semaphore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Semaphore {
    /// 0 to [`SEMVMX`].
    value: i32,
    /// Who last touched it (`sempid`).
    pid: Option<Pid>,
}

/// The semaphores of a set.
#[derive(Clone, Debug)]
pub(super) struct Values {
    semaphores: Box<[Semaphore]>,
    otime: i64,
}

/// What came of an array of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    /// All of it happened.
    Done,
    /// Nothing happened: this operation of the array must wait.
    Blocks(usize),
    /// Nothing happened, and never will.
    Fails(Errno),
}

/// Why a single operation cannot happen.
enum Obstacle {
    Blocks,
    OutOfRange,
}

impl Values {
    /// All 0, touched by nobody (behaviour 18).
    pub(super) fn new(nsems: usize) -> Self {
        Values {
            semaphores: vec![Semaphore::default(); nsems].into(),
            otime: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.semaphores.len()
    }

    pub(super) fn value(&self, num: u16) -> i32 {
        self.semaphores[usize::from(num)].value
    }

    pub(super) fn pid(&self, num: u16) -> Option<Pid> {
        self.semaphores[usize::from(num)].pid
    }

    pub(super) fn otime(&self) -> i64 {
        self.otime
    }

    /// All values, in order.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u16> + '_ {
        self.semaphores
            .iter()
            .map(|semaphore| semaphore.value as u16)
    }

    /// Applies `ops` in their order, all or none (behaviours 27, 29, 35), and
    /// takes what has `SEM_UNDO` into `adjustments`. Every operation must name
    /// a semaphore of the set.
    pub(super) fn attempt(
        &mut self,
        ops: &[SemOp],
        pid: Pid,
        adjustments: &mut Adjustments,
        now: i64,
    ) -> Attempt {
        for (index, &op) in ops.iter().enumerate() {
            let Err(obstacle) = self.step(op, adjustments) else {
                continue;
            };
            for &done in ops[..index].iter().rev() {
                self.step_back(done, adjustments);
            }
            return match obstacle {
                Obstacle::OutOfRange => Attempt::Fails(Errno::ERANGE),
                // IPC_NOWAIT is per operation: the one that blocks counts
                // (behaviour 30).
                Obstacle::Blocks if u32::from(op.flags) & flags::NOWAIT != 0 => {
                    Attempt::Fails(Errno::EAGAIN)
                }
                Obstacle::Blocks => Attempt::Blocks(index),
            };
        }
        for op in ops {
            self.semaphores[usize::from(op.num)].pid = Some(pid);
        }
        self.otime = now;
        Attempt::Done
    }

    fn step(&mut self, op: SemOp, adjustments: &mut Adjustments) -> Result<(), Obstacle> {
        let semaphore = &mut self.semaphores[usize::from(op.num)];
        if op.op == 0 {
            return if semaphore.value == 0 {
                Ok(())
            } else {
                Err(Obstacle::Blocks)
            };
        }
        let value = semaphore.value + i32::from(op.op);
        if value < 0 {
            return Err(Obstacle::Blocks);
        }
        if value > SEMVMX {
            return Err(Obstacle::OutOfRange);
        }
        if undoes(op) && !adjustments.add(op.num, -i32::from(op.op)) {
            return Err(Obstacle::OutOfRange);
        }
        semaphore.value = value;
        Ok(())
    }

    fn step_back(&mut self, op: SemOp, adjustments: &mut Adjustments) {
        self.semaphores[usize::from(op.num)].value -= i32::from(op.op);
        if op.op != 0 && undoes(op) {
            // It returns to what it was before, which was in range.
            adjustments.add(op.num, i32::from(op.op));
        }
    }

    /// SETVAL of one semaphore.
    pub(super) fn set(&mut self, num: u16, value: u16, pid: Pid) {
        self.semaphores[usize::from(num)] = Semaphore {
            value: i32::from(value),
            pid: Some(pid),
        };
    }

    /// Adds to a value on behalf of a process that has ended, held between 0
    /// and `SEMVMX` (behaviours 49, 50).
    pub(super) fn adjust(&mut self, num: u16, by: i32, pid: Pid) {
        let semaphore = &mut self.semaphores[usize::from(num)];
        #[cfg(test)]
        let below = sabotage::is(Sabotage::UndoNotClamped).then_some(semaphore.value + by);
        semaphore.value = (semaphore.value + by).clamp(0, SEMVMX);
        semaphore.pid = Some(pid);
        #[cfg(test)]
        if let Some(below) = below.filter(|&value| value < 0) {
            semaphore.value = below;
        }
    }

    /// An operation succeeded, or was undone, now.
    pub(super) fn touch(&mut self, now: i64) {
        self.otime = now;
    }
}

/// Whether the operation has `SEM_UNDO`.
pub(super) fn undoes(op: SemOp) -> bool {
    u32::from(op.flags) & flags::UNDO != 0
}
