//! C structures and constants as glibc has them, where the `libc` crate lacks
//! them, and the wire's statistics in their shape.

use dipc_wire::call::{MsgStat, Perm, SemStat, ShmStat};
use dipc_wire::{NodeId, Pid};
use libc::{c_int, c_ulong};

use crate::user_memory::Plain;

#[cfg(not(all(
    target_endian = "little",
    target_pointer_width = "64",
    target_os = "linux"
)))]
compile_error!(
    "libdipc.so sends struct sembuf and semctl's arrays as they lie in memory, and reads \
     union semun from a register: both hold on 64-bit little-endian Linux only"
);

/// `semctl`'s commands, `<bits/sem.h>`.
pub(crate) mod sem {
    use super::c_int;
    pub(crate) const GETPID: c_int = 11;
    pub(crate) const GETVAL: c_int = 12;
    pub(crate) const GETALL: c_int = 13;
    pub(crate) const GETNCNT: c_int = 14;
    pub(crate) const GETZCNT: c_int = 15;
    pub(crate) const SETVAL: c_int = 16;
    pub(crate) const SETALL: c_int = 17;
}

/// `msgctl`'s commands, `<bits/msq.h>`.
pub(crate) const MSG_STAT_ANY: c_int = 13;
/// `shmctl`'s commands, `<bits/shm.h>`.
pub(crate) const SHM_LOCK: c_int = 11;
/// `shmctl`'s commands, `<bits/shm.h>`.
pub(crate) const SHM_UNLOCK: c_int = 12;
/// `shmctl`'s commands, `<bits/shm.h>`.
pub(crate) const SHM_STAT: c_int = 13;
/// `shmctl`'s commands, `<bits/shm.h>`.
pub(crate) const SHM_INFO: c_int = 14;
/// `shmctl`'s commands, `<bits/shm.h>`.
pub(crate) const SHM_STAT_ANY: c_int = 15;

/// `union semun`, of which a caller passes one member by value: what came in the
/// fourth argument's register. Meaningless for commands that define no argument.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Semun(c_ulong);

impl Semun {
    /// What the fourth argument's register held.
    pub(crate) fn from_register(register: c_ulong) -> Self {
        Semun(register)
    }

    /// `int val`
    pub(crate) fn value(self) -> c_int {
        self.0 as c_int
    }

    /// `struct semid_ds *buf`
    pub(crate) fn buffer(self) -> *mut libc::semid_ds {
        self.0 as *mut libc::semid_ds
    }

    /// `struct seminfo *__buf`
    pub(crate) fn info(self) -> *mut libc::seminfo {
        self.0 as *mut libc::seminfo
    }

    /// `unsigned short *array`
    pub(crate) fn array(self) -> *mut u16 {
        self.0 as *mut u16
    }
}

const _: () = {
    assert!(size_of::<libc::sembuf>() == dipc_wire::call::SemOp::BYTES);
    assert!(size_of::<libc::ipc_perm>() == 48);
    assert!(size_of::<libc::msqid_ds>() == 120);
    assert!(size_of::<libc::shmid_ds>() == 112);
    #[cfg(target_arch = "x86_64")]
    assert!(size_of::<libc::semid_ds>() == 104);
    assert!(size_of::<Semun>() == 8);
};

// SAFETY: integers and reserved words, no pointers.
unsafe impl Plain for libc::semid_ds {}
// SAFETY: as above.
unsafe impl Plain for libc::msqid_ds {}
// SAFETY: as above.
unsafe impl Plain for libc::shmid_ds {}

/// A value whose reserved words are zero, as the kernel leaves them.
fn blank<T: Plain>() -> T {
    // SAFETY: all-zero bytes are a `Plain` value.
    unsafe { core::mem::zeroed() }
}

fn perm(perm: &Perm<'_>) -> libc::ipc_perm {
    // SAFETY: integers and reserved words, for which zero is a value.
    let mut out: libc::ipc_perm = unsafe { core::mem::zeroed() };
    out.__key = perm.key;
    (out.uid, out.gid) = (perm.uid, perm.gid);
    (out.cuid, out.cgid) = (perm.cuid, perm.cgid);
    out.mode = perm.mode as _;
    out.__seq = perm.seq;
    out
}

/// What a pid field shows: see [`Pid::seen_from`].
pub(crate) fn pid(pid: Option<Pid>, viewer: NodeId) -> libc::pid_t {
    pid.map_or(0, |pid| pid.seen_from(viewer))
}

/// `IPC_STAT` of a set.
pub(crate) fn semid_ds(stat: &SemStat<'_>) -> libc::semid_ds {
    let mut out: libc::semid_ds = blank();
    out.sem_perm = perm(&stat.perm);
    out.sem_otime = stat.otime;
    out.sem_ctime = stat.ctime;
    out.sem_nsems = c_ulong::from(stat.nsems);
    out
}

/// `IPC_STAT` of a queue.
pub(crate) fn msqid_ds(stat: &MsgStat<'_>, viewer: NodeId) -> libc::msqid_ds {
    let mut out: libc::msqid_ds = blank();
    out.msg_perm = perm(&stat.perm);
    out.msg_stime = stat.stime;
    out.msg_rtime = stat.rtime;
    out.msg_ctime = stat.ctime;
    out.__msg_cbytes = stat.cbytes;
    out.msg_qnum = stat.qnum;
    out.msg_qbytes = stat.qbytes;
    out.msg_lspid = pid(stat.lspid, viewer);
    out.msg_lrpid = pid(stat.lrpid, viewer);
    out
}

/// `IPC_STAT` of a segment.
pub(crate) fn shmid_ds(stat: &ShmStat<'_>, viewer: NodeId) -> libc::shmid_ds {
    let mut out: libc::shmid_ds = blank();
    out.shm_perm = perm(&stat.perm);
    out.shm_segsz = stat.size as usize;
    out.shm_atime = stat.atime;
    out.shm_dtime = stat.dtime;
    out.shm_ctime = stat.ctime;
    out.shm_cpid = pid(stat.cpid, viewer);
    out.shm_lpid = pid(stat.lpid, viewer);
    out.shm_nattch = stat.nattch;
    out
}
