//! Calls on mappings of any kind: of attachments, they are ours to follow.
//!
//! Every program makes them all the time for memory of its own. For that they
//! cost two loads.

use libc::{c_int, c_void, off_t, pid_t, size_t};
use redhook::{hook, real};

use super::hooked;
use crate::{changes, fork, relocate};

pub(super) fn look_up_all() {
    let _ = (real!(munmap), real!(mprotect), real!(madvise));
    let _ = (real!(mremap), real!(mmap), real!(mmap64));
}

hook! {
    unsafe fn munmap(addr: *mut c_void, len: size_t) -> c_int => on_munmap {
        hooked(-1, || changes::unmap(addr.addr(), len), or_real!(munmap(addr, len)))
    }
}

hook! {
    unsafe fn mprotect(addr: *mut c_void, len: size_t, prot: c_int) -> c_int => on_mprotect {
        hooked(
            -1,
            || changes::protect(addr.addr(), len, prot),
            or_real!(mprotect(addr, len, prot)),
        )
    }
}

hook! {
    unsafe fn madvise(addr: *mut c_void, len: size_t, advice: c_int) -> c_int => on_madvise {
        hooked(
            -1,
            || changes::advise(addr.addr(), len, advice),
            or_real!(madvise(addr, len, advice)),
        )
    }
}

// Variadic in C, like semctl: the fifth argument is looked at with MREMAP_FIXED
// only.
hook! {
    unsafe fn mremap(
        old: *mut c_void,
        old_len: size_t,
        len: size_t,
        flags: c_int,
        to: *mut c_void
    ) -> *mut c_void => on_mremap {
        hooked(
            libc::MAP_FAILED,
            || {
                let addr = relocate::remap(old.addr(), old_len, len, flags, to.addr())?;
                Ok(addr as *mut c_void)
            },
            || {
                // SAFETY: the real function, with the caller's own arguments.
                let moved = unsafe { real!(mremap)(old, old_len, len, flags, to) };
                if flags & libc::MREMAP_FIXED != 0 {
                    note_replaced(moved, len);
                }
                moved
            },
        )
    }
}

macro_rules! mmap_hook {
    ($name:ident, $on:ident) => {
        hook! {
            unsafe fn $name(
                addr: *mut c_void,
                len: size_t,
                prot: c_int,
                flags: c_int,
                fd: c_int,
                offset: off_t
            ) -> *mut c_void => $on {
                // SAFETY: the real function, with the caller's own arguments.
                let mapped = unsafe { real!($name)(addr, len, prot, flags, fd, offset) };
                if flags & libc::MAP_FIXED != 0 {
                    note_replaced(mapped, len);
                }
                mapped
            }
        }
    };
}
mmap_hook!(mmap, on_mmap);
mmap_hook!(mmap64, on_mmap64);

/// The real function has mapped something over what lay there.
fn note_replaced(mapped: *mut c_void, len: usize) {
    if mapped != libc::MAP_FAILED {
        hooked(
            (),
            || {
                changes::replaced(mapped.addr(), len);
                Ok(())
            },
            || (),
        );
    }
}

/// `_Fork` (glibc 2.34), which runs no `pthread_atfork` handlers. Looked up when
/// it is called: older libraries have none, and then nobody can call it.
#[unsafe(no_mangle)]
unsafe extern "C" fn _Fork() -> pid_t {
    fork::forking(|| {
        // SAFETY: the name is a C string; what it names takes no arguments.
        unsafe {
            let real = libc::dlsym(libc::RTLD_NEXT, c"_Fork".as_ptr());
            match core::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn() -> pid_t>>(real)
            {
                Some(real) => real(),
                None => libc::fork(),
            }
        }
    })
}
