//! What the end of a process, or of a whole node, does to the objects here.

use dipc_wire::{NodeId, ObjectId, Pid};

use super::{Home, Objects, Slot, now, with};

fn slots<T>(objects: &Objects<T>) -> Vec<Slot<T>> {
    objects
        .read()
        .iter()
        .map(|(_, slot)| slot.clone())
        .collect()
}

impl Home {
    /// A process has ended: what it did with SEM_UNDO is given back
    /// (behaviours 49 to 51).
    pub(crate) fn exit(&self, pid: Pid) {
        let sets = self.undo.lock().remove(&pid).unwrap_or_default();
        let mut wakes = Vec::new();
        for id in sets {
            // A set that was removed has forgotten its adjustments.
            let _ = with(&self.sems, id, |set| {
                set.exit(pid, now(), &mut wakes);
                Ok(())
            });
        }
        self.wake(wakes);
    }

    /// A node cannot be answered any more: nobody of it waits, so that nothing is
    /// given to whoever will not hear of it.
    pub(crate) fn drop_waits(&self, node: NodeId) {
        self.waiters.forget_node(node);
        for slot in slots(&self.sems) {
            if let Some(set) = slot.lock().as_mut() {
                set.forget_waiters(node);
            }
        }
        for slot in slots(&self.msgs) {
            if let Some(queue) = slot.lock().as_mut() {
                queue.forget_node(node);
            }
        }
    }

    /// A node is dead: its processes have ended, nobody of it waits, and its
    /// attachments are gone (behaviour 59). Returns the segments that ended.
    pub(crate) fn forget_node(&self, node: NodeId) -> Vec<ObjectId> {
        self.drop_waits(node);
        self.undo.lock().retain(|pid, _| pid.node != node);
        let mut wakes = Vec::new();
        for slot in slots(&self.sems) {
            if let Some(set) = slot.lock().as_mut() {
                set.forget_node(node, now(), &mut wakes);
            }
        }
        self.wake(wakes);
        self.detach_node(node)
    }
}
