//! Finding and making objects of this home.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dipc_wire::call::Call;
use dipc_wire::sharing::Sharing;
use dipc_wire::{Errno, Kind, ObjectId};
use parking_lot::Mutex;

use super::{Caller, Home, Objects, Slot, now};
use crate::kernel;
use crate::semantics::limits::weight;
use crate::semantics::{Limits, Permissions, Queue, Segment, SemSet};

/// What a `*get` asks for: the parts of [`Call::Get`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) kind: Kind,
    pub(crate) key: i32,
    pub(crate) size: u64,
    pub(crate) flags: u32,
}

impl Lookup {
    /// As it is asked of another home.
    pub(crate) const fn call(self) -> Call {
        let Lookup {
            kind,
            key,
            size,
            flags,
        } = self;
        Call::Get {
            kind,
            key,
            size,
            flags,
        }
    }
}

impl Home {
    /// The object of this key, if its home is here and the caller may have its
    /// id; `None` when the key is not here.
    pub(crate) fn find(&self, caller: &Caller, lookup: Lookup) -> Option<Result<ObjectId, Errno>> {
        let Lookup {
            kind,
            key,
            size,
            flags,
        } = lookup;
        let who = &caller.credentials;
        match kind {
            Kind::Sem => found(&self.sems, key, |set| set.check_get(who, size, flags)),
            Kind::Msg => found(&self.msgs, key, |queue| queue.check_get(who, flags)),
            Kind::Shm => found(&self.shms, key, |segment| {
                segment.check_get(who, size, flags)
            }),
        }
    }

    /// Makes an object for a key that is ours to use; a segment is shared as
    /// `sharing` says. EEXIST when another thread of this node was faster.
    pub(crate) fn create(
        &self,
        caller: &Caller,
        lookup: Lookup,
        sharing: Sharing,
    ) -> Result<ObjectId, Errno> {
        let Lookup {
            kind,
            key,
            size,
            flags,
        } = lookup;
        let limits = self.limits();
        limits.check_create(kind, size)?;
        let permissions = |id| Permissions::new(id, key, &caller.credentials, flags);
        let weight = weight(kind, size);
        let made = match kind {
            Kind::Sem => insert(&self.sems, kind, &limits, key, weight, |id| {
                SemSet::new(permissions(id), size as u16, now())
            }),
            Kind::Msg => insert(&self.msgs, kind, &limits, key, weight, |id| {
                Queue::new(permissions(id), &limits, now())
            }),
            Kind::Shm => insert(&self.shms, kind, &limits, key, weight, |id| {
                let granule = sharing.granule.of_segment(size);
                let quantum = sharing.quantum;
                Segment::new(permissions(id), size, granule, quantum, caller.pid, now())
            }),
        };
        match made {
            Ok(_) => self.full.store(false, Ordering::Relaxed),
            Err(Errno::ENOSPC) => self.say_full(kind),
            Err(_) => {}
        }
        made
    }

    /// For people, once until there is room again: the program only learns ENOSPC.
    pub(crate) fn say_full(&self, kind: Kind) {
        if self.full.swap(true, Ordering::Relaxed) {
            return;
        }
        let limits = self.limits();
        let (objects, total) = (limits.objects(kind), limits.total(kind));
        tracing::warn!(
            %kind, objects, total,
            "an object was refused: the cluster has as many as it may, or their sizes together \
             are at their limit. `dipc ls` shows them, `dipc rm` removes those left behind; \
             docs/limits.md says how limits are raised"
        );
    }
}

fn found<T>(
    objects: &Objects<T>,
    key: i32,
    check: impl FnOnce(&T) -> Result<(), Errno>,
) -> Option<Result<ObjectId, Errno>> {
    let (id, slot) = {
        let objects = objects.read();
        let (id, slot) = objects.find(key)?;
        (id, slot.clone())
    };
    let object = slot.lock();
    Some(check(object.as_ref()?).map(|()| id))
}

/// Registers what `make` makes, under an id that the kernel does not use: a
/// program has only the id to say which of the two it means (behaviour 130).
fn insert<T>(
    objects: &Objects<T>,
    kind: Kind,
    limits: &Limits,
    key: i32,
    weight: u64,
    make: impl Fn(ObjectId) -> T,
) -> Result<ObjectId, Errno> {
    let slot = |id| -> Slot<T> { Arc::new(Mutex::new(Some(make(id)))) };
    let mut objects = objects.write();
    loop {
        let id = objects.insert(limits, key, weight, slot)?;
        if !kernel::has_object(kind, id.raw()) {
            return Ok(id);
        }
        objects.remove(id);
    }
}
