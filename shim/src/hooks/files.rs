//! The functions that open files, for the three of `/proc/sysvipc`.
//!
//! Every program calls these, some before any constructor has run and some in
//! signal handlers. So the real function comes first, with the caller's own
//! arguments, and whatever it returns is returned. Only when it has opened a
//! file is the path compared, up to the first byte that differs; and only for
//! one of three paths is anything done ([`crate::sysvipc`]).
//!
//! They are written by hand, not by redhook: `open` is a cancellation point, and
//! a cancelled thread is unwound through our frame. That is defined for a frame
//! of "C-unwind" that has nothing to drop, as these are.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dipc_wire::Kind;
use libc::{FILE, c_char, c_int, mode_t};

use crate::{sys, sysvipc};

/// A real function, found at load or at its first call, whichever is earlier.
struct Real(AtomicPtr<c_void>);

impl Real {
    const fn new() -> Self {
        Real(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Where the function of this name is; null if the C library has none.
    fn find(&self, name: &core::ffi::CStr) -> *mut c_void {
        let known = self.0.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        self.0.store(found, Ordering::Relaxed);
        found
    }
}

/// What a program gets from a C library that lacks the function.
fn missing<T>(failed: T) -> T {
    sys::set_errno(libc::ENOSYS);
    failed
}

/// The functions that return a descriptor. `mode` is variadic in C: as with
/// `semctl`, it comes in the register of a named argument, and where the caller
/// passed none, what the register holds is passed on and never looked at.
macro_rules! opens {
    ($($name:ident($($argument:ident: $type:ty),*) of $path:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
                type Function = unsafe extern "C-unwind" fn($($type),*) -> c_int;
                let real = real::$name();
                if real.is_null() {
                    return missing(-1);
                }
                // SAFETY: the real function of this name, which has this type,
                // with the caller's own arguments.
                let fd = unsafe { core::mem::transmute::<*mut c_void, Function>(real)($($argument),*) };
                if fd >= 0 {
                    // SAFETY: the kernel has read the path to its end just now.
                    unsafe { opened(fd, $path) };
                }
                fd
            }
        )*
    };
}

/// The functions that return a stream.
macro_rules! streams {
    ($($name:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C-unwind" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
                type Function =
                    unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut FILE;
                let real = real::$name();
                if real.is_null() {
                    return missing(core::ptr::null_mut());
                }
                // SAFETY: the real function of this name, which has this type,
                // with the caller's own arguments.
                let stream = unsafe { core::mem::transmute::<*mut c_void, Function>(real)(path, mode) };
                if !stream.is_null() {
                    // SAFETY: a stream just opened, of which nothing was read;
                    // the kernel has read the path to its end.
                    unsafe { opened(libc::fileno(stream), path) };
                }
                stream
            }
        )*
    };
}

/// A place for each real function, and a way to look them all up.
macro_rules! reals {
    ($($name:ident)*) => {
        mod real {
            use super::{Real, c_void};

            $(pub(super) fn $name() -> *mut c_void {
                static REAL: Real = Real::new();
                const NAME: &core::ffi::CStr =
                    match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name without zeros"),
                    };
                REAL.find(NAME)
            })*
        }

        /// Looks all real functions up: not for a signal handler.
        pub(crate) fn look_up_all() {
            $(real::$name();)*
        }
    };
}

reals! { open open64 __open_2 __open64_2 openat openat64 __openat_2 __openat64_2 fopen fopen64 }

opens! {
    open(path: *const c_char, flags: c_int, mode: mode_t) of path;
    open64(path: *const c_char, flags: c_int, mode: mode_t) of path;
    __open_2(path: *const c_char, flags: c_int) of path;
    __open64_2(path: *const c_char, flags: c_int) of path;
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) of path;
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) of path;
    __openat_2(folder: c_int, path: *const c_char, flags: c_int) of path;
    __openat64_2(folder: c_int, path: *const c_char, flags: c_int) of path;
}

streams! {
    fopen;
    fopen64;
}

/// `path` was opened as `fd`. `errno` stays as it is: it may be a success's.
///
/// # Safety
/// `path` is a C string.
unsafe fn opened(fd: c_int, path: *const c_char) {
    // SAFETY: the caller's.
    if let Some(kind) = unsafe { kind_of(path) } {
        let errno = sys::errno();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sysvipc::merge(fd, kind))) {
            // To drop it could panic again.
            core::mem::forget(panic);
        }
        sys::set_errno(errno);
    }
}

/// Which of the three files it is.
///
/// # Safety
/// `path` is a C string.
unsafe fn kind_of(path: *const c_char) -> Option<Kind> {
    let is = |wanted: &[u8]| {
        let mut bytes = wanted.iter().enumerate();
        // SAFETY: a byte is read only if all before it were equal to the path's, so
        // none behind its final zero.
        bytes.all(|(at, byte)| unsafe { path.add(at).read() } as u8 == *byte)
    };
    let mut files = sysvipc::PATHS.iter();
    files.find(|(file, _)| is(file)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_paths_are_ours_and_no_others() {
        // SAFETY: C strings.
        let kind = |path: &core::ffi::CStr| unsafe { kind_of(path.as_ptr()) };
        assert_eq!(kind(c"/proc/sysvipc/sem"), Some(Kind::Sem));
        assert_eq!(kind(c"/proc/sysvipc/msg"), Some(Kind::Msg));
        assert_eq!(kind(c"/proc/sysvipc/shm"), Some(Kind::Shm));
        for other in [
            c"",
            c"/",
            c"/proc/sysvipc/",
            c"/proc/sysvipc/se",
            c"/proc/sysvipc/sem/",
            c"proc/sysvipc/sem",
            c"//proc/sysvipc/sem",
        ] {
            assert_eq!(kind(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_bad_path_is_the_kernels_to_judge() {
        for bad in [0usize, 8, usize::MAX - 7] {
            sys::set_errno(0);
            // SAFETY: the kernel checks the address.
            let fd = unsafe { open(bad as *const c_char, libc::O_RDONLY, 0) };
            assert_eq!((fd, sys::errno()), (-1, libc::EFAULT));
        }
    }

    #[test]
    fn success_leaves_errno_alone_and_mode_reaches_the_kernel() {
        sys::set_errno(77);
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        // SAFETY: C strings, and a descriptor that is closed here only.
        let mode = unsafe {
            let fd = open(c"/tmp".as_ptr(), flags, 0o640);
            assert!(fd >= 0, "O_TMPFILE in /tmp");
            let mut stat: libc::stat = core::mem::zeroed();
            assert_eq!(libc::fstat(fd, &raw mut stat), 0);
            libc::close(fd);
            stat.st_mode & 0o777
        };
        assert_eq!((mode & !0o640, sys::errno()), (0, 77));
        assert_ne!(mode, 0);
    }
}
