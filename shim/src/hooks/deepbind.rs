//! `dlopen(3)` and `dlmopen(3)`, without `RTLD_DEEPBIND` (behaviour 125).
//!
//! A plug-in that is loaded with that flag looks for `semop` in its own
//! libraries first, and so finds libc's past every preloaded library. PHP loads
//! its extensions so. The flag is cleared, unless `DIPC_DEEPBIND=keep`.
//!
//! libc tells by the return address on whose behalf a library is loaded: whose
//! `DT_RUNPATH` and `$ORIGIN` count, and in which namespace it ends up. So both
//! functions change one register and jump.
//!
//! A namespace other than the program's own has a libc of its own, which no
//! preloaded library can stand before; the flag means nothing there.

use core::arch::naked_asm;
use core::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use libc::{c_char, c_int, c_long};

/// The flags that are passed on.
static PASSED: AtomicI32 = AtomicI32::new(!libc::RTLD_DEEPBIND);
/// libc's functions; null before [`look_up`].
static REAL_DLOPEN: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static REAL_DLMOPEN: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Called at load, or by a `dlopen` of another library's constructor before that.
pub(super) extern "C" fn look_up() {
    let find = |name: &core::ffi::CStr| {
        // SAFETY: a symbol's name; the next library that has it is libc at the latest.
        unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
    };
    REAL_DLMOPEN.store(find(c"dlmopen"), Ordering::Relaxed);
    REAL_DLOPEN.store(find(c"dlopen"), Ordering::Relaxed);
}

/// Called at load, with what the environment says.
pub(crate) fn prepare(keep: bool) {
    if keep {
        PASSED.store(-1, Ordering::Relaxed);
    }
}

/// What takes flags away, and then a jump to the real function with all arguments
/// as they came: it sees the program as its caller.
macro_rules! pass_on {
    ($real:ident, $($flags:literal),+) => {
        naked_asm!(
            $($flags,)+
            "cmp qword ptr [rip + {real}], 0",
            "jne 2f",
            // Three words and the return address: aligned.
            "push rdi",
            "push rsi",
            "push rdx",
            "call {look_up}",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "2:",
            "jmp qword ptr [rip + {real}]",
            passed = sym PASSED,
            real = sym $real,
            look_up = sym look_up,
        )
    };
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
    pass_on!(REAL_DLOPEN, "and esi, [rip + {passed}]")
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlmopen(namespace: c_long, file: *const c_char, flags: c_int) -> *mut c_void {
    pass_on!(
        REAL_DLMOPEN,
        // LM_ID_BASE, <dlfcn.h>: the program's own namespace.
        "test rdi, rdi",
        "jnz 3f",
        "and edx, [rip + {passed}]",
        "3:"
    )
}
