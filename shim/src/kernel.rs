//! What the kernel itself says of its own objects, where its answer is a part of
//! ours. Not through libc's functions: those are hooked.

use core::ffi::c_void;

use dipc_wire::Kind;
use libc::{c_int, c_long};

use crate::raw;
use crate::sys::{self, checked};

/// `IPC_INFO` and `*_INFO`: `buffer` is filled, and the highest index returned.
///
/// # Safety
/// `buffer` has room for what the command writes.
pub(crate) unsafe fn info(
    kind: Kind,
    id: c_int,
    command: c_int,
    buffer: *mut c_void,
) -> sys::Result<c_int> {
    let (id, command) = (c_long::from(id), c_long::from(command));
    // SAFETY: the kernel writes one structure to `buffer`, which has room for it.
    let result = checked(unsafe {
        match kind {
            Kind::Sem => raw::syscall(libc::SYS_semctl, id, 0 as c_long, command, buffer),
            Kind::Msg => raw::syscall(libc::SYS_msgctl, id, command, buffer),
            Kind::Shm => raw::syscall(libc::SYS_shmctl, id, command, buffer),
        }
    });
    result.map(|highest| highest as c_int)
}

/// Looks a key up, as `*get` without `IPC_CREAT` does.
pub(crate) fn find(kind: Kind, key: i32, size: u64, flags: c_int) -> sys::Result<c_int> {
    let (key, flags) = (c_long::from(key), c_long::from(flags));
    // SAFETY: no memory is passed.
    let result = checked(unsafe {
        match kind {
            Kind::Sem => raw::syscall(libc::SYS_semget, key, size as c_long, flags),
            Kind::Msg => raw::syscall(libc::SYS_msgget, key, flags),
            Kind::Shm => raw::syscall(libc::SYS_shmget, key, size as c_long, flags),
        }
    });
    result.map(|id| id as c_int)
}
