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
use super::touches::Touches;
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
    touches: Touches,
    dtime: i64,
    ctime: i64,
    cpid: Pid,
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
            touches: Touches::default(),
            dtime: 0,
            ctime: now,
            cpid: creator,
        }
    }

    /// Whether `shmget` may hand out this segment's id (behaviours 2 to 7).
    pub fn check_get(&self, who: &Credentials, size: u64, flags: u32) -> Result<(), Errno> {
        self.permissions.check_get(who, flags, size <= self.size)
    }

    /// `shmat`: EACCES without read permission, or without write permission
    /// unless `SHM_RDONLY` (behaviour 91). A segment that is to be destroyed
    /// can still be attached (96). [`mapped`](Self::mapped) or
    /// [`abandon`](Self::abandon) follows.
    pub fn attach(&mut self, caller: Caller<'_>, flags: u32, now: i64) -> Result<Attached, Errno> {
        let mut wanted = Access::READ;
        if flags & flags::RDONLY == 0 {
            wanted = wanted.and(Access::WRITE);
        }
        if flags & flags::EXEC != 0 {
            wanted = wanted.and(Access::EXECUTE);
        }
        self.permissions.check(caller.credentials, wanted)?;
        self.begin(caller.pid, now);
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

    /// `mremap` begins a second mapping of what the process has attached. The kernel
    /// looks at no permission then. It ends as [`attach`](Self::attach) does.
    pub fn remap(&mut self, pid: Pid, now: i64) {
        self.begin(pid, now);
    }

    /// What the process has begun to attach is mapped.
    pub fn mapped(&mut self, pid: Pid) {
        self.touches.finish(pid);
    }

    /// What the process has begun to attach is not mapped, since its place is taken
    /// or there is no memory: as on Linux, times and pid are those of before (99).
    /// No more is taken than its node has.
    pub fn abandon(&mut self, pid: Pid) -> Fate {
        self.touches.abandon(pid);
        self.uncount(pid.node, 1);
        self.fate()
    }

    /// `fork` gave a child of `parent` `count` attachments of its own (behaviour
    /// 102). As on Linux it is the parent that touched the segment last, now.
    pub fn inherit(&mut self, parent: Pid, count: u32, now: i64) {
        if count > 0 {
            self.count(parent.node, u64::from(count));
            self.touches.attach(parent, now);
        }
    }

    /// `shmdt`, exec or exit ended `count` attachments of this process
    /// (behaviours 99, 103). No more are taken than its node has.
    pub fn detach(&mut self, pid: Pid, count: u32, now: i64) -> Fate {
        if self.uncount(pid.node, count) {
            self.touches.detach(pid);
            self.dtime = now;
        }
        self.fate()
    }

    /// The node is dead, and all its attachments with it. Nobody in particular
    /// has detached them.
    pub fn forget_node(&mut self, node: NodeId, now: i64) -> Fate {
        if self.attachments.remove(&node).is_some() {
            self.dtime = now;
        }
        self.touches.finish_all(|pid| pid.node == node);
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

    /// Bytes of a unit of coherence.
    pub fn granule(&self) -> u64 {
        self.granule
    }

    /// Nanoseconds for which a node keeps a granule.
    pub fn quantum(&self) -> u64 {
        self.quantum
    }

    /// IPC_STAT, and SHM_STAT_ANY if `any`: EACCES.
    pub fn stat(&self, caller: Caller<'_>, any: bool) -> Result<ShmStat<'static>, Errno> {
        if !any {
            self.permissions.check(caller.credentials, Access::READ)?;
        }
        Ok(ShmStat {
            perm: self.permissions.stat(),
            size: self.size,
            atime: self.touches.atime(),
            dtime: self.dtime,
            ctime: self.ctime,
            cpid: Some(self.cpid),
            lpid: self.touches.lpid(),
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

    fn begin(&mut self, pid: Pid, now: i64) {
        self.count(pid.node, 1);
        self.touches.begin(pid, now);
    }

    fn count(&mut self, node: NodeId, count: u64) {
        let attached = self.attachments.entry(node).or_default();
        *attached = attached.saturating_add(count);
    }

    /// False when the node had none.
    fn uncount(&mut self, node: NodeId, count: u32) -> bool {
        let Some(attached) = self.attachments.get_mut(&node) else {
            return false;
        };
        *attached = attached.saturating_sub(u64::from(count));
        if *attached == 0 {
            self.attachments.remove(&node);
        }
        true
    }

    fn fate(&self) -> Fate {
        if self.permissions.marked(flags::DEST) && self.attachments.is_empty() {
            Fate::Destroyed
        } else {
            Fate::Kept
        }
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::peer::Capabilities;

    use super::super::testing::{NOW, able, caller, node, permissions, pid, pid_on, root, user};
    use super::*;

    fn segment(mode: u32) -> Segment {
        Segment::new(permissions(mode), 4097, 4096, 200_000, pid(1), NOW)
    }

    fn stat(segment: &Segment) -> ShmStat<'static> {
        segment.stat(caller(pid(1), &root()), false).unwrap()
    }

    #[test]
    fn a_new_segment_was_touched_by_nobody_behaviours_9_17() {
        let stat = stat(&segment(0o600));
        assert_eq!(
            (stat.size, stat.granule, stat.quantum),
            (4097, 4096, 200_000)
        );
        assert_eq!(
            (stat.atime, stat.dtime, stat.ctime, stat.nattch),
            (0, 0, NOW, 0)
        );
        assert_eq!((stat.cpid, stat.lpid), (Some(pid(1)), None));
    }

    #[test]
    fn a_larger_segment_than_there_is_is_einval_and_a_smaller_one_fits_behaviour_3() {
        let segment = segment(0o600);
        assert_eq!(segment.check_get(&user(1000), 4098, 0), Err(Errno::EINVAL));
        for size in [0, 1, 4097] {
            assert_eq!(segment.check_get(&user(1000), size, 0), Ok(()));
        }
    }

    #[test]
    fn reading_needs_read_and_writing_needs_both_behaviour_91() {
        let cases = [
            (0o004, Err(Errno::EACCES), Ok(false)),
            (0o002, Err(Errno::EACCES), Err(Errno::EACCES)),
            (0o006, Ok(true), Ok(true)),
        ];
        for (mode, read_write, read_only) in cases {
            let attach = |flags| {
                let who = user(2000);
                let attached = segment(mode).attach(caller(pid(2), &who), flags, NOW);
                attached.map(|attached| attached.may_write)
            };
            assert_eq!(
                (attach(0), attach(flags::RDONLY)),
                (read_write, read_only),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn shm_exec_needs_the_execute_bit_as_on_linux() {
        let who = user(1000);
        let attach = |mode| segment(mode).attach(caller(pid(1), &who), flags::EXEC, NOW);
        assert_eq!(attach(0o600), Err(Errno::EACCES));
        assert!(attach(0o700).is_ok());
    }

    #[test]
    fn attach_and_detach_tell_who_and_when_behaviours_97_99() {
        let (mut segment, who) = (segment(0o600), user(1000));
        for count in 1..=2 {
            segment.attach(caller(pid(2), &who), 0, NOW + 1).unwrap();
            assert_eq!(stat(&segment).nattch, count);
        }
        assert_eq!(
            (stat(&segment).atime, stat(&segment).lpid),
            (NOW + 1, Some(pid(2)))
        );
        assert_eq!(segment.detach(pid(3), 1, NOW + 2), Fate::Kept);
        let stat = stat(&segment);
        assert_eq!(
            (stat.nattch, stat.dtime, stat.lpid),
            (1, NOW + 2, Some(pid(3)))
        );
        assert_eq!((stat.atime, stat.ctime), (NOW + 1, NOW));
    }

    #[test]
    fn an_attach_that_fails_leaves_nothing_behaviour_99() {
        let (mut segment, who) = (segment(0o600), user(1000));
        let before = stat(&segment);
        segment.attach(caller(pid(2), &who), 0, NOW + 1).unwrap();
        assert_eq!(segment.abandon(pid(2)), Fate::Kept);
        assert_eq!(stat(&segment), before);
        segment.attach(caller(pid(2), &who), 0, NOW + 1).unwrap();
        segment.mapped(pid(2));
        let before = stat(&segment);
        assert_eq!((before.nattch, before.atime), (1, NOW + 1));
        segment.remap(pid(3), NOW + 2);
        assert_eq!(segment.abandon(pid(3)), Fate::Kept);
        assert_eq!(stat(&segment), before);
    }

    #[test]
    fn an_attach_that_fails_is_the_last_of_a_removed_segment_behaviour_112() {
        let (mut segment, who) = (segment(0o600), user(1000));
        let me = caller(pid(2), &who);
        segment.attach(me, 0, NOW).unwrap();
        assert_eq!(segment.remove(me), Ok(Fate::Kept));
        assert_eq!(segment.abandon(pid(2)), Fate::Destroyed);
    }

    #[test]
    fn a_fork_counts_the_childs_attachments_as_the_parents_doing_behaviour_102() {
        let (mut segment, who) = (segment(0o600), user(1000));
        segment.attach(caller(pid(2), &who), 0, NOW).unwrap();
        segment.inherit(pid(2), 1, NOW + 5);
        let stat = stat(&segment);
        assert_eq!(
            (stat.nattch, stat.lpid, stat.atime),
            (2, Some(pid(2)), NOW + 5)
        );
    }

    #[test]
    fn a_segment_in_use_is_destroyed_at_its_last_detach_behaviours_96_112() {
        let (mut segment, who) = (segment(0o600), user(1000));
        let me = caller(pid(2), &who);
        segment.attach(me, 0, NOW).unwrap();
        assert_eq!(segment.remove(me), Ok(Fate::Kept));
        let after = stat(&segment);
        assert_eq!((after.perm.mode, after.perm.key), (0o600 | flags::DEST, 0));
        assert_eq!(segment.remove(me), Ok(Fate::Kept));
        segment
            .set(
                me,
                Setting {
                    uid: 1000,
                    gid: 1000,
                    mode: 0o660,
                },
                NOW + 1,
            )
            .unwrap();
        assert_eq!(stat(&segment).perm.mode, 0o660 | flags::DEST);
        segment.attach(me, 0, NOW).unwrap();
        assert_eq!(segment.detach(pid(2), 1, NOW), Fate::Kept);
        assert_eq!(segment.detach(pid(2), 1, NOW), Fate::Destroyed);
    }

    #[test]
    fn a_segment_that_nobody_uses_is_destroyed_at_once_and_survives_otherwise_behaviour_116() {
        let (mut segment, who) = (segment(0o600), user(1000));
        let me = caller(pid(2), &who);
        segment.attach(me, 0, NOW).unwrap();
        assert_eq!(segment.detach(pid(2), 1, NOW), Fate::Kept);
        assert_eq!(segment.remove(me), Ok(Fate::Destroyed));
    }

    #[test]
    fn a_dead_nodes_attachments_are_gone_and_only_those() {
        let (mut segment, who) = (segment(0o600), user(1000));
        segment.attach(caller(pid_on(2, 9), &who), 0, NOW).unwrap();
        segment.inherit(pid_on(2, 9), 3, NOW);
        segment.attach(caller(pid_on(3, 9), &who), 0, NOW).unwrap();
        assert_eq!(segment.remove(caller(pid(1), &who)), Ok(Fate::Kept));
        assert_eq!(segment.forget_node(node(2), NOW), Fate::Kept);
        assert_eq!(segment.nattch(), 1);
        assert_eq!(segment.forget_node(node(3), NOW), Fate::Destroyed);
    }

    #[test]
    fn a_node_cannot_detach_what_others_have_attached() {
        let (mut segment, who) = (segment(0o600), user(1000));
        segment.attach(caller(pid_on(2, 9), &who), 0, NOW).unwrap();
        segment.attach(caller(pid_on(3, 9), &who), 0, NOW).unwrap();
        assert_eq!(segment.detach(pid_on(3, 9), u32::MAX, NOW), Fate::Kept);
        assert_eq!(segment.detach(pid_on(3, 9), 1, NOW), Fate::Kept);
        assert_eq!(segment.nattch(), 1);
    }

    #[test]
    fn strangers_may_neither_set_remove_nor_lock_behaviour_113() {
        let (mut segment, who) = (segment(0o666), user(2000));
        let stranger = caller(pid(2), &who);
        let setting = Setting {
            uid: 2000,
            gid: 2000,
            mode: 0,
        };
        assert_eq!(segment.set(stranger, setting, NOW), Err(Errno::EPERM));
        assert_eq!(segment.remove(stranger), Err(Errno::EPERM));
        assert_eq!(segment.lock(stranger, true), Err(Errno::EPERM));
        assert_eq!(
            segment.stat(stranger, false).map(|stat| stat.perm.mode),
            Ok(0o666)
        );
    }

    #[test]
    fn an_unreadable_segment_is_shown_by_stat_any_only_behaviour_117() {
        let (segment, who) = (segment(0o600), user(2000));
        assert_eq!(
            segment.stat(caller(pid(2), &who), false),
            Err(Errno::EACCES)
        );
        assert!(segment.stat(caller(pid(2), &who), true).is_ok());
    }

    #[test]
    fn lock_and_unlock_toggle_a_mode_bit_behaviour_115() {
        let ipc_lock = Capabilities {
            ipc_lock: true,
            ..Capabilities::default()
        };
        let who = able(2000, ipc_lock);
        let mut segment = segment(0o600);
        for locker in [&user(1000), &who] {
            segment.lock(caller(pid(2), locker), true).unwrap();
            assert_eq!(stat(&segment).perm.mode, 0o600 | flags::LOCKED);
            segment.lock(caller(pid(2), locker), false).unwrap();
            assert_eq!(stat(&segment).perm.mode, 0o600);
        }
    }
}
