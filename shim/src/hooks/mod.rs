//! The FFI edge: the functions that the program calls instead of libc's.
//!
//! redhook's macro makes each of them an exported C function with a way to the
//! real one. If a body unwinds, redhook runs the *real* function, which would
//! make a local object where a distributed one was asked for. So no body can:
//! [`hooked`] turns a panic into EIO.
//!
//! Here are the System V calls by name; [`indirect`] has them by number,
//! [`deepbind`] keeps plug-ins from binding past us, [`files`] opens
//! `/proc/sysvipc`, and [`mappings`] is what changes attachments from outside.

/// How to reach the real function from a hook.
macro_rules! or_real {
    ($name:ident($($argument:expr),*)) => {
        // SAFETY: the real function of this name, with the caller's own arguments.
        || unsafe { real!($name)($($argument),*) }
    };
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod deepbind;
mod files;
#[cfg(target_arch = "x86_64")]
mod indirect;
mod mappings;

use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::{
    c_int, c_long, c_ulong, c_void, key_t, msqid_ds, sembuf, shmid_ds, size_t, ssize_t, timespec,
};
use redhook::{hook, real};

use crate::abi::Semun;
use crate::outcome::{Detour, Escape};
use crate::{msg, sem, shm, sys};

/// Runs a detour and gives what the C caller gets: its value; or the real
/// function's; or `failed`, with `errno` set. A success leaves `errno` alone.
fn hooked<T>(failed: T, detour: impl FnOnce() -> Detour<T>, real: impl FnOnce() -> T) -> T {
    let errno = sys::errno();
    match catch_unwind(AssertUnwindSafe(detour)) {
        Ok(Ok(value)) => {
            sys::set_errno(errno);
            value
        }
        Ok(Err(Escape::Bypass)) => {
            sys::set_errno(errno);
            real()
        }
        Ok(Err(Escape::Errno(errno))) => {
            sys::set_errno(errno);
            failed
        }
        Err(panic) => {
            // To drop it could panic again.
            core::mem::forget(panic);
            sys::set_errno(libc::EIO);
            failed
        }
    }
}

/// Looks all real functions up. redhook does so at the first use otherwise, by
/// taking a lock: not for a signal handler.
pub(crate) fn look_up_all() {
    let _ = (
        real!(semget),
        real!(semop),
        real!(semtimedop),
        real!(semctl),
    );
    let _ = (real!(msgget), real!(msgsnd), real!(msgrcv), real!(msgctl));
    let _ = (real!(shmget), real!(shmat), real!(shmdt), real!(shmctl));
    files::look_up_all();
    mappings::look_up_all();
    #[cfg(target_arch = "x86_64")]
    {
        indirect::look_up();
        deepbind::look_up();
    }
}

hook! {
    unsafe fn semget(key: key_t, nsems: c_int, flags: c_int) -> c_int => on_semget {
        hooked(-1, || sem::get(key, nsems, flags), or_real!(semget(key, nsems, flags)))
    }
}

hook! {
    unsafe fn semop(id: c_int, operations: *mut sembuf, count: size_t) -> c_int => on_semop {
        hooked(
            -1,
            || sem::operate(id, operations, count, core::ptr::null()),
            or_real!(semop(id, operations, count)),
        )
    }
}

hook! {
    unsafe fn semtimedop(
        id: c_int,
        operations: *mut sembuf,
        count: size_t,
        timeout: *const timespec
    ) -> c_int => on_semtimedop {
        hooked(
            -1,
            || sem::operate(id, operations, count, timeout),
            or_real!(semtimedop(id, operations, count, timeout)),
        )
    }
}

// Variadic in C. On the processors this is built for, a variadic argument comes
// in the register of a fourth named one; where the caller passed none, what the
// register happens to hold is passed on and never looked at.
hook! {
    unsafe fn semctl(id: c_int, index: c_int, command: c_int, argument: c_ulong) -> c_int => on_semctl {
        hooked(
            -1,
            || sem::control(id, index, command, Semun::from_register(argument)),
            or_real!(semctl(id, index, command, argument)),
        )
    }
}

hook! {
    unsafe fn msgget(key: key_t, flags: c_int) -> c_int => on_msgget {
        hooked(-1, || msg::get(key, flags), or_real!(msgget(key, flags)))
    }
}

hook! {
    unsafe fn msgsnd(id: c_int, message: *const c_void, size: size_t, flags: c_int) -> c_int => on_msgsnd {
        hooked(
            -1,
            || msg::send(id, message, size, flags),
            or_real!(msgsnd(id, message, size, flags)),
        )
    }
}

hook! {
    unsafe fn msgrcv(
        id: c_int,
        message: *mut c_void,
        size: size_t,
        mtype: c_long,
        flags: c_int
    ) -> ssize_t => on_msgrcv {
        hooked(
            -1,
            || msg::receive(id, message, size, mtype, flags),
            or_real!(msgrcv(id, message, size, mtype, flags)),
        )
    }
}

hook! {
    unsafe fn msgctl(id: c_int, command: c_int, buffer: *mut msqid_ds) -> c_int => on_msgctl {
        hooked(-1, || msg::control(id, command, buffer), or_real!(msgctl(id, command, buffer)))
    }
}

hook! {
    unsafe fn shmget(key: key_t, size: size_t, flags: c_int) -> c_int => on_shmget {
        hooked(-1, || shm::get(key, size, flags), or_real!(shmget(key, size, flags)))
    }
}

hook! {
    unsafe fn shmat(id: c_int, addr: *const c_void, flags: c_int) -> *mut c_void => on_shmat {
        hooked(
            core::ptr::without_provenance_mut(usize::MAX),
            || shm::attach(id, addr, flags),
            or_real!(shmat(id, addr, flags)),
        )
    }
}

hook! {
    unsafe fn shmdt(addr: *const c_void) -> c_int => on_shmdt {
        hooked(-1, || shm::detach(addr), or_real!(shmdt(addr)))
    }
}

hook! {
    unsafe fn shmctl(id: c_int, command: c_int, buffer: *mut shmid_ds) -> c_int => on_shmctl {
        hooked(-1, || shm::control(id, command, buffer), or_real!(shmctl(id, command, buffer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result_and_errno(detour: impl FnOnce() -> Detour<c_int>) -> (c_int, c_int) {
        sys::set_errno(77);
        let result = hooked(-1, detour, || 5);
        (result, sys::errno())
    }

    #[test]
    fn a_detour_gives_a_value_the_real_result_or_an_errno() {
        assert_eq!(result_and_errno(|| Ok(3)), (3, 77));
        assert_eq!(result_and_errno(|| Err(Escape::Bypass)), (5, 77));
        assert_eq!(
            result_and_errno(|| Err(Escape::Errno(libc::EIDRM))),
            (-1, libc::EIDRM)
        );
    }

    #[test]
    fn a_panic_is_eio_and_never_the_real_function() {
        assert_eq!(result_and_errno(|| panic!("as a test")), (-1, libc::EIO));
    }
}
