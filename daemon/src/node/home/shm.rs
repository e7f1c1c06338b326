//! Segment records: who may attach, how many have, and when it ends.

use dipc_wire::{Errno, ObjectId, Pid};

use super::{Caller, Home, Shape, now, with};
use crate::semantics::{Attached, Fate, Segment};

/// What IPC_RMID of a segment has led to.
pub(crate) struct Removed {
    /// The key that is free now.
    pub(crate) key: Option<i32>,
    /// Nobody has it attached, so it is gone.
    pub(crate) destroyed: bool,
}

impl Home {
    /// The home's part of `shmat`.
    pub(crate) fn attach(
        &self,
        caller: &Caller,
        id: ObjectId,
        flags: u32,
    ) -> Result<Attached, Errno> {
        with(&self.shms, id, |segment| {
            segment.attach(caller.borrow(), flags, now())
        })
    }

    /// The home's part of `mremap`.
    pub(crate) fn remap(&self, pid: Pid, id: ObjectId) -> Result<(), Errno> {
        with(&self.shms, id, |segment| {
            segment.remap(pid, now());
            Ok(())
        })
    }

    /// What was begun by [`attach`](Self::attach) or [`remap`](Self::remap) is mapped.
    pub(crate) fn mapped(&self, pid: Pid, id: ObjectId) -> Result<(), Errno> {
        with(&self.shms, id, |segment| {
            segment.mapped(pid);
            Ok(())
        })
    }

    /// What was begun has failed. True when the segment has ended with it.
    pub(crate) fn abandon(&self, pid: Pid, id: ObjectId) -> Result<bool, Errno> {
        let fate = with(&self.shms, id, |segment| Ok(segment.abandon(pid)))?;
        Ok(self.settle_fate(id, fate))
    }

    /// A fork has made `count` more attachments.
    pub(crate) fn inherit(&self, parent: Pid, id: ObjectId, count: u32) -> Result<(), Errno> {
        with(&self.shms, id, |segment| {
            segment.inherit(parent, count, now());
            Ok(())
        })
    }

    /// Attachments have ended. True when the segment has ended with them.
    pub(crate) fn detach(&self, pid: Pid, id: ObjectId, count: u32) -> Result<bool, Errno> {
        let fate = with(&self.shms, id, |segment| {
            Ok(segment.detach(pid, count, now()))
        })?;
        Ok(self.settle_fate(id, fate))
    }

    /// IPC_RMID.
    pub(crate) fn remove_segment(&self, caller: &Caller, id: ObjectId) -> Result<Removed, Errno> {
        let fate = with(&self.shms, id, |segment| segment.remove(caller.borrow()))?;
        let key = self.shms.write().release_key(id);
        Ok(Removed {
            key,
            destroyed: self.settle_fate(id, fate),
        })
    }

    /// SHM_LOCK, SHM_UNLOCK.
    pub(crate) fn lock(&self, caller: &Caller, id: ObjectId, lock: bool) -> Result<(), Errno> {
        with(&self.shms, id, |segment| {
            segment.lock(caller.borrow(), lock)
        })
    }

    /// Size, granule and quantum of a segment of this home.
    pub(crate) fn shape(&self, id: ObjectId) -> Option<Shape> {
        let shape = |segment: &mut Segment| {
            Ok(Shape {
                size: segment.size(),
                granule: segment.granule(),
                quantum: segment.quantum(),
            })
        };
        with(&self.shms, id, shape).ok()
    }

    /// Takes a destroyed segment from the registry.
    fn settle_fate(&self, id: ObjectId, fate: Fate) -> bool {
        if fate == Fate::Kept {
            return false;
        }
        let slot = self.shms.write().remove(id);
        slot.is_some_and(|slot| slot.lock().take().is_some())
    }

    /// The attachments of a dead node have ended. Returns the segments that
    /// ended with them.
    pub(super) fn detach_node(&self, node: dipc_wire::NodeId) -> Vec<ObjectId> {
        let slots: Vec<_> = self
            .shms
            .read()
            .iter()
            .map(|(id, slot)| (id, slot.clone()))
            .collect();
        slots
            .into_iter()
            .filter(|(id, slot)| {
                let fate = slot.lock().as_mut().map(|s| s.forget_node(node, now()));
                fate.is_some_and(|fate| self.settle_fate(*id, fate))
            })
            .map(|(id, _)| id)
            .collect()
    }
}
