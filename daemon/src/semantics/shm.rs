//! Segment records: shmat(2), shmdt(2), shmctl(2). What lies in the memory is
//! the coherence protocol's; here it is counted who has it attached, and
//! decided when it is destroyed.
//!
//! ```text
//!            remove, nattch > 0                 last detach
//!   alive ──────────────────────▶ SHM_DEST ─────────────────▶ destroyed
//!     │                            ▲    │
//!     │                            └────┘ attach by id, IPC_SET, remove
//!     └──────────────────────────────────────────────────────▶ destroyed
//!                remove, nattch = 0
//! ```

use std::collections::BTreeMap;

use dipc_wire::call::{ShmStat, flags};
use dipc_wire::{Errno, NodeId, Pid};

use super::perm::Access;
use super::{Caller, Credentials, Permissions, Setting};

/// A shared memory segment at its home.
#[derive(Clone, Debug)]
pub struct Segment {
    permissions: Permissions,
    size: u64,
    granule: u64,
    quantum: u64,
    /// How many attachments the processes of each node have; no zeros.
    attachments: BTreeMap<NodeId, u64>,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: Pid,
    lpid: Option<Pid>,
}

/// What `shmat` needs to map a segment. The numbers are those of
/// [`Segment::new`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Bytes, as asked for at creation.
    pub size: u64,
    /// Bytes of a unit of coherence.
    pub granule: u64,
    /// Nanoseconds for which a node keeps a granule.
    pub quantum: u64,
    /// Whether the caller has write permission, whatever it asked for.
    pub may_write: bool,
}

/// Whether a segment outlived what was done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fate {
    /// It is still there.
    Kept,
    /// It is to be taken from the registry, and its memory given back.
    Destroyed,
}

impl Segment {
    /// A segment of `size` bytes, as asked for (behaviour 9), that nobody has
    /// attached (17). `granule` in bytes and `quantum` in nanoseconds are only
    /// kept for those who ask.
    pub fn new(
        permissions: Permissions,
        size: u64,
        granule: u64,
        quantum: u64,
        creator: Pid,
        now: i64,
    ) -> Self {
        Segment {
            permissions,
            size,
            granule,
            quantum,
            attachments: BTreeMap::new(),
            atime: 0,
            dtime: 0,
            ctime: now,
            cpid: creator,
            lpid: None,
        }
    }

    /// Whether `shmget` may hand out this segment's id (behaviours 2 to 7).
    pub fn check_get(&self, who: &Credentials, size: u64, flags: u32) -> Result<(), Errno> {
        self.permissions.check_get(who, flags, size <= self.size)
    }

    /// `shmat`: EACCES without read permission, or without write permission
    /// unless `SHM_RDONLY` (behaviour 91). A segment that is to be destroyed
    /// can still be attached (96).
    pub fn attach(&mut self, caller: Caller<'_>, flags: u32, now: i64) -> Result<Attached, Errno> {
        let mut wanted = Access::READ;
        if flags & flags::RDONLY == 0 {
            wanted = wanted.and(Access::WRITE);
        }
        if flags & flags::EXEC != 0 {
            wanted = wanted.and(Access::EXECUTE);
        }
        self.permissions.check(caller.credentials, wanted)?;
        self.count(caller.pid, 1, now);
        Ok(Attached {
            size: self.size,
            granule: self.granule,
            quantum: self.quantum,
            may_write: self
                .permissions
                .check(caller.credentials, Access::WRITE)
                .is_ok(),
        })
    }

    /// `fork` gave a child of `parent` `count` attachments of its own (behaviour
    /// 102). As on Linux it is the parent that touched the segment last, now.
    pub fn inherit(&mut self, parent: Pid, count: u32, now: i64) {
        self.count(parent, u64::from(count), now);
    }

    /// `shmdt`, exec or exit ended `count` attachments of this process
    /// (behaviours 99, 103). No more are taken than its node has.
    pub fn detach(&mut self, pid: Pid, count: u32, now: i64) -> Fate {
        let Some(attached) = self.attachments.get_mut(&pid.node) else {
            return self.fate();
        };
        *attached = attached.saturating_sub(u64::from(count));
        if *attached == 0 {
            self.attachments.remove(&pid.node);
        }
        self.lpid = Some(pid);
        self.dtime = now;
        self.fate()
    }

    /// The node is dead, and all its attachments with it. Nobody in particular
    /// has detached them.
    pub fn forget_node(&mut self, node: NodeId, now: i64) -> Fate {
        if self.attachments.remove(&node).is_some() {
            self.dtime = now;
        }
        self.fate()
    }

    /// `shm_nattch`.
    pub fn nattch(&self) -> u64 {
        self.attachments
            .values()
            .fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Bytes, as asked for at creation.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// IPC_STAT, and SHM_STAT_ANY if `any`: EACCES.
    pub fn stat(&self, caller: Caller<'_>, any: bool) -> Result<ShmStat<'static>, Errno> {
        if !any {
            self.permissions.check(caller.credentials, Access::READ)?;
        }
        Ok(ShmStat {
            perm: self.permissions.stat(),
            size: self.size,
            atime: self.atime,
            dtime: self.dtime,
            ctime: self.ctime,
            cpid: Some(self.cpid),
            lpid: self.lpid,
            nattch: self.nattch(),
            granule: self.granule,
            quantum: self.quantum,
        })
    }

    /// IPC_SET: EPERM, EINVAL. `SHM_DEST` stays (behaviours 66, 112).
    pub fn set(&mut self, caller: Caller<'_>, new: Setting, now: i64) -> Result<(), Errno> {
        self.permissions.check_owner(caller.credentials)?;
        self.permissions.set(new)?;
        self.ctime = now;
        Ok(())
    }

    /// SHM_LOCK, SHM_UNLOCK: EPERM. Only the mark is kept (behaviours 113, 115).
    pub fn lock(&mut self, caller: Caller<'_>, lock: bool) -> Result<(), Errno> {
        self.permissions.check_lock(caller.credentials)?;
        self.permissions.mark(flags::LOCKED, lock);
        Ok(())
    }

    /// IPC_RMID: EPERM. An attached segment is kept until its last detach; a
    /// second removal succeeds (behaviour 112). Its key is free at once: on
    /// success call [`Registry::release_key`](super::Registry::release_key),
    /// whatever its fate (21).
    pub fn remove(&mut self, caller: Caller<'_>) -> Result<Fate, Errno> {
        self.permissions.check_owner(caller.credentials)?;
        self.permissions.mark(flags::DEST, true);
        self.permissions.release_key();
        Ok(self.fate())
    }

    fn count(&mut self, pid: Pid, count: u64, now: i64) {
        if count == 0 {
            return;
        }
        let attached = self.attachments.entry(pid.node).or_default();
        *attached = attached.saturating_add(count);
        self.atime = now;
        self.lpid = Some(pid);
    }

    fn fate(&self) -> Fate {
        if self.permissions.marked(flags::DEST) && self.attachments.is_empty() {
            Fate::Destroyed
        } else {
            Fate::Kept
        }
    }
}
