//! System calls, made without libc's wrappers where those are cancellation
//! points: a cancelled thread would be unwound through Rust frames, which must
//! not happen. It also keeps other preloaded libraries out of our socket: under
//! fakeroot, `fstat` sends a message and waits for its answer, and so would call
//! us in the middle of every call, for ever.

use core::mem::MaybeUninit;

use libc::{c_int, c_long};

use crate::raw;

/// A system call's result, or its `errno`.
pub(crate) type Result<T> = core::result::Result<T, c_int>;

/// The calling thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: the pointer is to this thread's errno, always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets it.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno }
}

/// -1 and errno to a result.
pub(crate) fn checked(result: c_long) -> Result<usize> {
    if result < 0 {
        Err(errno())
    } else {
        Ok(result as usize)
    }
}

/// `write`, whose failure nobody can be told.
pub(crate) fn write(fd: c_int, bytes: &[u8]) {
    // SAFETY: the kernel reads `bytes`, which lives through the call.
    unsafe { raw::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
}

/// `close`. The number is free afterwards, whatever the result.
pub(crate) fn close(fd: c_int) {
    // SAFETY: callers close descriptors of their own only (see `Descriptor`).
    unsafe { raw::syscall(libc::SYS_close, fd) };
}

/// `fstat`: device and inode.
pub(crate) fn identity(fd: c_int) -> Result<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes a whole `stat`, which is libc's on 64-bit
    // processors, when it returns 0.
    unsafe {
        checked(raw::syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()))?;
        let stat = stat.assume_init();
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// `fcntl(F_DUPFD_CLOEXEC)`: a copy whose number is `lowest` or more.
pub(crate) fn duplicate(fd: c_int, lowest: c_int) -> Result<c_int> {
    // SAFETY: no memory is passed.
    let copy = unsafe { raw::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest) };
    checked(copy).map(|fd| fd as c_int)
}

/// The process's own id as the kernel says it now.
pub(crate) fn getpid() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::syscall(libc::SYS_getpid) as i32 }
}

/// The longest name of a program or thread, with its zero (prctl(2)).
pub(crate) const COMM: usize = 16;

/// The calling thread's name; at load, the program's, as in `/proc/PID/comm`.
pub(crate) fn name(room: &mut [u8; COMM]) -> &[u8] {
    // SAFETY: the kernel writes at most COMM bytes, with a zero at the end.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, room.as_mut_ptr()) };
    let len = room.iter().position(|byte| *byte == 0).unwrap_or(0);
    if result == 0 { &room[..len] } else { &[] }
}

/// The calling thread's id.
pub(crate) fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw::syscall(libc::SYS_gettid) as i32 }
}

/// The calling thread's effective user.
pub(crate) fn geteuid() -> u32 {
    // SAFETY: no arguments.
    unsafe { raw::syscall(libc::SYS_geteuid) as u32 }
}

/// The calling thread's effective group.
pub(crate) fn getegid() -> u32 {
    // SAFETY: no arguments.
    unsafe { raw::syscall(libc::SYS_getegid) as u32 }
}

/// The page size.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf of a constant; async-signal-safe in glibc for this one.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// `mmap`
///
/// # Safety
/// With `MAP_FIXED`, nothing else may use what lies in the range.
pub(crate) unsafe fn map(
    addr: usize,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
) -> Result<usize> {
    // SAFETY: the caller's.
    unsafe { map_from(addr, len, prot, flags, fd, 0) }
}

/// `mmap` of a file from `offset` on. Like the calls below it is made without
/// libc's function, which is hooked.
///
/// # Safety
/// With `MAP_FIXED`, nothing else may use what lies in the range.
pub(crate) unsafe fn map_from(
    addr: usize,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: usize,
) -> Result<usize> {
    // SAFETY: the caller answers for MAP_FIXED; without it no memory in use is touched.
    checked(unsafe { raw::syscall(libc::SYS_mmap, addr, len, prot, flags, fd, offset) })
}

/// `munmap`
///
/// # Safety
/// Nothing may use what lies in the range.
pub(crate) unsafe fn unmap(addr: usize, len: usize) {
    // SAFETY: the caller's.
    unsafe { raw::syscall(libc::SYS_munmap, addr, len) };
}

/// `mprotect`
///
/// # Safety
/// The range is a mapping of ours, or the program wants it so.
pub(crate) unsafe fn protect(addr: usize, len: usize, prot: c_int) -> Result<()> {
    // SAFETY: the caller's.
    checked(unsafe { raw::syscall(libc::SYS_mprotect, addr, len, prot) }).map(drop)
}

/// `madvise`
///
/// # Safety
/// The advice changes no bytes that are in use, or the program wants it so.
pub(crate) unsafe fn advise(addr: usize, len: usize, advice: c_int) -> Result<()> {
    // SAFETY: the caller's.
    checked(unsafe { raw::syscall(libc::SYS_madvise, addr, len, advice) }).map(drop)
}
