//! SEM_UNDO: what each process would have to give back if it ended now.

use std::collections::BTreeMap;

use dipc_wire::{NodeId, Pid};

use crate::semantics::limits::SEMVMX;
#[cfg(test)]
use crate::semantics::sabotage::{self, Sabotage};

/// One process's adjustments (`semadj`) of the semaphores of one set.
///
/// Sparse and sorted: most processes lock one semaphore of a set that may have
/// 32 000. An entry that is back at 0 stays, so that lock and unlock do not
/// allocate each time.
#[derive(Clone, Debug, Default)]
pub(super) struct Adjustments(Vec<(u16, i32)>);

impl Adjustments {
    /// Adds to one; false, and nothing happens, if it would leave the range of
    /// a `short` (behaviour 32).
    pub(super) fn add(&mut self, num: u16, by: i32) -> bool {
        let place = self.0.binary_search_by_key(&num, |&(num, _)| num);
        let sum = by + place.map_or(0, |at| self.0[at].1);
        if !(-SEMVMX - 1..=SEMVMX).contains(&sum) {
            return false;
        }
        match place {
            Ok(at) => self.0[at].1 = sum,
            Err(at) => self.0.insert(at, (num, sum)),
        }
        true
    }

    /// The pending adjustment of one semaphore.
    pub(super) fn get(&self, num: u16) -> i32 {
        let place = self.0.binary_search_by_key(&num, |&(num, _)| num);
        place.map_or(0, |at| self.0[at].1)
    }

    /// Those that are not 0.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u16, i32)> + '_ {
        self.0.iter().copied().filter(|&(_, by)| by != 0)
    }

    /// Whether the process never did an operation with SEM_UNDO here.
    pub(super) fn is_unused(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self, num: u16) {
        if let Ok(at) = self.0.binary_search_by_key(&num, |&(num, _)| num) {
            self.0[at].1 = 0;
        }
    }
}

/// The adjustments of all processes at one set.
#[derive(Clone, Debug, Default)]
pub(super) struct Undo(BTreeMap<Pid, Adjustments>);

impl Undo {
    /// Those of a process, if it has any.
    pub(super) fn of(&mut self, pid: Pid) -> Option<&mut Adjustments> {
        self.0.get_mut(&pid)
    }

    /// Begins the adjustments of a process.
    pub(super) fn begin(&mut self, pid: Pid, adjustments: Adjustments) {
        self.0.insert(pid, adjustments);
    }

    /// The process has ended: its adjustments, which are forgotten here.
    pub(super) fn take(&mut self, pid: Pid) -> Option<Adjustments> {
        self.0.remove(&pid)
    }

    /// The processes of a node, in the order of their numbers.
    pub(super) fn of_node(&self, node: NodeId) -> Vec<Pid> {
        let (first, last) = (
            Pid { node, pid: 0 },
            Pid {
                node,
                pid: u32::MAX,
            },
        );
        self.0.range(first..=last).map(|(&pid, _)| pid).collect()
    }

    /// SETVAL: nobody has to give back anything to this semaphore (behaviour 52).
    pub(super) fn clear(&mut self, num: u16) {
        #[cfg(test)]
        if sabotage::is(Sabotage::UndoOutlivesSetVal) {
            return;
        }
        for adjustments in self.0.values_mut() {
            adjustments.clear(num);
        }
    }

    /// SETALL: nobody has to give back anything to the set (behaviour 52).
    pub(super) fn clear_all(&mut self) {
        for adjustments in self.0.values_mut() {
            for (_, by) in &mut adjustments.0 {
                *by = 0;
            }
        }
    }
}
