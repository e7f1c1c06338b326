//! Who sends a request: its process, and the effective user and group that the
//! calling thread has at this moment.
//!
//! They go with each packet (`SCM_CREDENTIALS`, unix(7)), and the kernel checks
//! them before the daemon sees them. Nothing of it is remembered: user and group
//! belong to the thread, and a program may change them between any two calls.
//!
//! The process is the one that this library was loaded or forked in. A `vfork`
//! child shares its parent's memory, and so takes itself for its parent. The
//! kernel refuses that (EPERM), and then the child has a connection for the one
//! call, of its own ([`crate::exchange::begin`]). Only with CAP_SYS_ADMIN, which
//! may speak for others, it passes for its parent.
//!
//! In a user namespace without a number for its user (unshare(1) without
//! `--map-user`) a process cannot say who it is, and the kernel says it: the real
//! user and group.

use crate::sys;

/// A thread of process `pid`, as it is now.
pub(crate) fn now(pid: i32) -> libc::ucred {
    libc::ucred {
        pid,
        uid: sys::geteuid(),
        gid: sys::getegid(),
    }
}
