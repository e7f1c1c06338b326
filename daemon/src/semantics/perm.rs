//! Who may do what to an object. The only permission rules of the daemon.

use dipc_wire::call::{Perm, flags};
use dipc_wire::{Errno, ObjectId};

use super::Credentials;
use super::credentials::NOBODY;

/// `S_IRWXUGO`: the mode bits that a caller may choose (behaviour 14).
const MODE: u16 = 0o777;

/// What a caller wants to do, as one class's three mode bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u16);

impl Access {
    /// Look at it.
    pub const READ: Access = Access(4);
    /// Change it ("alter" for semaphores).
    pub const WRITE: Access = Access(2);
    /// Run code in it: `SHM_EXEC` asks for this. Linux looks at the bit though
    /// the manual calls it meaningless.
    pub const EXECUTE: Access = Access(1);

    /// Both.
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// What the permission bits in the flags of a `*get` ask for, in whichever
    /// class they are given; none ask for nothing (behaviours 6, 7).
    const fn of_flags(flags: u32) -> Access {
        Access(((flags >> 6 | flags >> 3 | flags) & 7) as u16)
    }
}

/// What `IPC_SET` may change (behaviour 66).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The new owner.
    pub uid: u32,
    /// The new group.
    pub gid: u32,
    /// The new mode; the low nine bits count.
    pub mode: u16,
}

/// The permission record of an object (`struct ipc_perm`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permissions {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u16,
    seq: u16,
}

impl Permissions {
    /// Those of an object that `creator` makes with these `*get` flags
    /// (behaviours 14, 15).
    pub fn new(id: ObjectId, key: i32, creator: &Credentials, flags: u32) -> Self {
        Permissions {
            key,
            uid: creator.uid,
            gid: creator.gid,
            cuid: creator.uid,
            cgid: creator.gid,
            mode: flags as u16 & MODE,
            // Only its being different from one use of an index to the next
            // has a meaning for programs.
            seq: id.serial() as u16,
        }
    }

    /// EACCES unless `who` may do all of `wanted`.
    ///
    /// The first class that fits is final: an owner whom the owner bits deny
    /// is denied, whatever the others say (behaviours 121, 122). Groups and
    /// capabilities are asked for only where they decide.
    pub fn check(&self, who: &Credentials, wanted: Access) -> Result<(), Errno> {
        if self.class_grants(who, wanted) || who.capabilities().ipc_owner {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn class_grants(&self, who: &Credentials, wanted: Access) -> bool {
        let grants = |class: u16| wanted.0 & !(self.mode >> class) & 7 == 0;
        let (owner, group, others) = (grants(6), grants(3), grants(0));
        if self.owned_by(who) {
            owner
        } else if group != others && who.in_one_of([self.gid, self.cgid]) {
            group
        } else {
            others
        }
    }

    /// EPERM unless `who` is owner, creator or has CAP_SYS_ADMIN: the rule of
    /// IPC_SET and IPC_RMID, whatever the mode (behaviours 65, 113, 123).
    pub fn check_owner(&self, who: &Credentials) -> Result<(), Errno> {
        if self.owned_by(who) || who.capabilities().sys_admin {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// EPERM unless `who` is owner, creator or has CAP_IPC_LOCK: the rule of
    /// SHM_LOCK and SHM_UNLOCK (behaviours 113, 122).
    pub fn check_lock(&self, who: &Credentials) -> Result<(), Errno> {
        if self.owned_by(who) || who.capabilities().ipc_lock {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Whether `*get` may hand out the id of this existing object: EEXIST,
    /// then EINVAL when it is smaller than asked for, then EACCES (behaviours
    /// 2 to 7).
    pub fn check_get(
        &self,
        who: &Credentials,
        flags: u32,
        large_enough: bool,
    ) -> Result<(), Errno> {
        const EXCLUSIVE: u32 = flags::CREAT | flags::EXCL;
        if flags & EXCLUSIVE == EXCLUSIVE {
            Err(Errno::EEXIST)
        } else if !large_enough {
            Err(Errno::EINVAL)
        } else {
            self.check(who, Access::of_flags(flags))
        }
    }

    /// The part of IPC_SET that all kinds share, after the owner was checked:
    /// EINVAL for an id that names nobody, else owner, group and the low nine
    /// bits of the mode are new (behaviour 66).
    pub fn set(&mut self, new: Setting) -> Result<(), Errno> {
        if new.uid == NOBODY || new.gid == NOBODY {
            return Err(Errno::EINVAL);
        }
        self.uid = new.uid;
        self.gid = new.gid;
        self.mode = (self.mode & !MODE) | (new.mode & MODE);
        Ok(())
    }

    /// The object has no key any more (behaviour 21).
    pub(super) fn release_key(&mut self) {
        self.key = dipc_wire::call::PRIVATE;
    }

    /// Sets or clears a bit of the mode that is the kernel's own:
    /// `SHM_DEST`, `SHM_LOCKED`.
    pub(super) fn mark(&mut self, bit: u16, on: bool) {
        debug_assert_eq!(bit & MODE, 0);
        self.mode = if on {
            self.mode | bit
        } else {
            self.mode & !bit
        };
    }

    /// Whether such a bit is set.
    pub(super) fn marked(&self, bit: u16) -> bool {
        self.mode & bit != 0
    }

    /// As IPC_STAT tells it, with numbers for names.
    pub fn stat(&self) -> Perm<'static> {
        Perm {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode,
            seq: self.seq,
            ..Perm::default()
        }
    }

    fn owned_by(&self, who: &Credentials) -> bool {
        who.uid == self.uid || who.uid == self.cuid
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dipc_wire::peer::Capabilities;

    use super::super::testing::{able, member, permissions, root, user};
    use super::super::{Rights, Witness};
    use super::*;

    const RW: Access = Access(6);

    /// A user in group 3000 that counts how often it was looked at.
    #[derive(Debug, Default)]
    struct Watched {
        groups: AtomicUsize,
        capabilities: AtomicUsize,
    }

    impl Witness for Watched {
        fn groups(&self) -> Vec<u32> {
            self.groups.fetch_add(1, Ordering::Relaxed);
            vec![5, 3000]
        }

        fn capabilities(&self) -> Capabilities {
            self.capabilities.fetch_add(1, Ordering::Relaxed);
            Capabilities::NONE
        }
    }

    #[test]
    fn groups_and_capabilities_are_looked_at_only_where_they_decide() {
        // mode, user, wanted, verdict, looks at groups and at capabilities
        let (yes, no) = (Ok(()), Err(Errno::EACCES));
        let table = [
            (0o600, 1000, RW, yes, (0, 0)),
            (0o066, 1000, RW, no, (0, 1)),
            (0o666, 2000, RW, yes, (0, 0)),
            (0o600, 2000, RW, no, (0, 1)),
            (0o644, 2000, Access::READ, yes, (0, 0)),
            (0o644, 2000, Access::WRITE, no, (0, 1)),
            (0o660, 2000, RW, yes, (1, 0)),
            (0o606, 2000, RW, no, (1, 1)),
            (0o600, 2000, Access(0), yes, (0, 0)),
        ];
        for (mode, uid, wanted, verdict, looks) in table {
            let mut object = permissions(mode);
            let gid = 3000;
            let mode = mode as u16;
            object
                .set(Setting {
                    uid: 1000,
                    gid,
                    mode,
                })
                .unwrap();
            let watched = Arc::new(Watched::default());
            let who = Credentials {
                rights: Rights::Now(watched.clone()),
                ..user(uid)
            };
            assert_eq!(object.check(&who, wanted), verdict, "{mode:o} {uid}");
            let looked = (
                watched.groups.load(Ordering::Relaxed),
                watched.capabilities.load(Ordering::Relaxed),
            );
            assert_eq!(looked, looks, "{mode:o} {uid}");
        }
    }

    #[test]
    fn nobody_is_one_of_the_others_whatever_an_object_says() {
        let mut object = permissions(0o770);
        let (uid, gid) = (65534, 65534);
        object
            .set(Setting {
                uid,
                gid,
                mode: 0o770,
            })
            .unwrap();
        let nobody = user(NOBODY);
        assert_eq!(object.check(&nobody, Access::READ), Err(Errno::EACCES));
        assert_eq!(object.check_owner(&nobody), Err(Errno::EPERM));
        assert_eq!(object.check(&user(65534), RW), Ok(()));
    }

    #[test]
    fn the_owners_class_is_final_even_when_others_may_behaviour_121() {
        let object = permissions(0o066);
        assert_eq!(object.check(&user(1000), Access::READ), Err(Errno::EACCES));
        assert_eq!(object.check(&user(2000), RW), Ok(()));
    }

    #[test]
    fn the_group_class_counts_the_creators_group_and_supplementary_ones_behaviour_121() {
        let mut object = permissions(0o604);
        object
            .set(Setting {
                uid: 1000,
                gid: 3000,
                mode: 0o604,
            })
            .unwrap();
        let second = member(2000, &[5, 3000]);
        let creators = Credentials {
            gid: 1000,
            ..user(2000)
        };
        for member in [&second, &creators, &user(3000)] {
            assert_eq!(
                object.check(member, Access::READ),
                Err(Errno::EACCES),
                "{member:?}"
            );
        }
        assert_eq!(object.check(&user(2000), Access::READ), Ok(()));
        object
            .set(Setting {
                uid: 1000,
                gid: 3000,
                mode: 0o060,
            })
            .unwrap();
        assert_eq!(object.check(&second, RW), Ok(()));
    }

    #[test]
    fn the_creator_keeps_the_owners_rights_after_giving_the_object_away_behaviour_121() {
        let mut object = permissions(0o600);
        object
            .set(Setting {
                uid: 2000,
                gid: 2000,
                mode: 0o600,
            })
            .unwrap();
        for owner in [user(1000), user(2000)] {
            assert_eq!(object.check(&owner, RW), Ok(()));
            assert_eq!(object.check_owner(&owner), Ok(()));
        }
        assert_eq!(object.check(&user(3000), Access::READ), Err(Errno::EACCES));
        assert_eq!(object.check_owner(&user(3000)), Err(Errno::EPERM));
    }

    #[test]
    fn each_capability_passes_its_own_check_and_no_other_behaviour_122() {
        let object = permissions(0o000);
        let none = Capabilities::NONE;
        let ipc_owner = able(
            2000,
            Capabilities {
                ipc_owner: true,
                ..none
            },
        );
        let sys_admin = able(
            2000,
            Capabilities {
                sys_admin: true,
                ..none
            },
        );
        let ipc_lock = able(
            2000,
            Capabilities {
                ipc_lock: true,
                ..none
            },
        );
        let verdicts = |who| {
            let may = object.check(who, RW).is_ok();
            (
                may,
                object.check_owner(who).is_ok(),
                object.check_lock(who).is_ok(),
            )
        };
        assert_eq!(verdicts(&ipc_owner), (true, false, false));
        assert_eq!(verdicts(&sys_admin), (false, true, false));
        assert_eq!(verdicts(&ipc_lock), (false, false, true));
        assert_eq!(verdicts(&root()), (true, true, true));
    }

    #[test]
    fn the_owner_of_a_mode_000_object_may_still_set_and_remove_it_behaviour_123() {
        let object = permissions(0o000);
        assert_eq!(object.check(&user(1000), Access::READ), Err(Errno::EACCES));
        assert_eq!(object.check_owner(&user(1000)), Ok(()));
    }

    #[test]
    fn get_says_eexist_before_einval_before_eacces_behaviours_2_5() {
        let object = permissions(0o600);
        let stranger = user(2000);
        let all = 0o666 | flags::CREAT | flags::EXCL;
        assert_eq!(object.check_get(&stranger, all, false), Err(Errno::EEXIST));
        assert_eq!(
            object.check_get(&stranger, 0o666 | flags::CREAT, false),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            object.check_get(&stranger, 0o666 | flags::CREAT, true),
            Err(Errno::EACCES)
        );
        assert_eq!(object.check_get(&user(1000), 0o666, true), Ok(()));
        assert_eq!(
            object.check_get(&user(1000), 0o666 | flags::EXCL, true),
            Ok(())
        );
    }

    #[test]
    fn get_with_no_permission_bits_asks_for_nothing_behaviours_6_7() {
        let object = permissions(0o600);
        assert_eq!(object.check_get(&user(2000), 0, true), Ok(()));
        assert_eq!(
            object.check_get(&user(2000), flags::DIPC | flags::OWN, true),
            Ok(())
        );
        for class in [0o400, 0o040, 0o004] {
            assert_eq!(
                object.check_get(&user(2000), class, true),
                Err(Errno::EACCES)
            );
            assert_eq!(object.check_get(&user(1000), class, true), Ok(()));
        }
    }

    #[test]
    fn only_the_low_nine_bits_become_the_mode_behaviours_14_15() {
        let perm = permissions(0o660 | flags::CREAT | flags::EXCL | flags::DIPC).stat();
        assert_eq!((perm.key, perm.mode, perm.seq), (0x1234, 0o660, 7));
        assert_eq!(
            (perm.uid, perm.gid, perm.cuid, perm.cgid),
            (1000, 1000, 1000, 1000)
        );
    }

    #[test]
    fn set_keeps_the_kernels_bits_and_refuses_nobody_behaviour_66() {
        let mut object = permissions(0o600);
        object.mark(flags::DEST, true);
        object
            .set(Setting {
                uid: 5,
                gid: 6,
                mode: 0o7640,
            })
            .unwrap();
        let perm = object.stat();
        assert_eq!((perm.uid, perm.gid, perm.mode), (5, 6, 0o640 | flags::DEST));
        assert_eq!((perm.cuid, perm.cgid), (1000, 1000));
        for (uid, gid) in [(u32::MAX, 5), (5, u32::MAX)] {
            assert_eq!(
                object.set(Setting { uid, gid, mode: 0 }),
                Err(Errno::EINVAL)
            );
        }
        assert_eq!(object.stat(), perm);
    }
}
