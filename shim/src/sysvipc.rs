//! `/proc/sysvipc/{shm,sem,msg}`: the kernel's list with the cluster's behind it
//! (behaviour 120).
//!
//! The program has opened the kernel's file already; so a path that cannot be
//! read, or a process without descriptors, has had the kernel's own error. Then
//! a file that holds both lists takes the descriptor's place:
//!
//! ```text
//!   fd ─▶ /proc/sysvipc/sem    the kernel's lines ─┐
//!                                                  ├─▶ memfd ─ dup3 ─▶ fd
//!   dipcd ─ Lines ─▶ a file    the cluster's lines ┘
//! ```
//!
//! It is a picture of the moment of `open`, at position 0, and cannot be
//! written. Whatever fails on the way leaves the kernel's file where it is.

use dipc_wire::Kind;
use dipc_wire::local::{Request, Response};
use libc::{c_int, c_long};

use crate::exchange::{self, Patience, SMALL};
use crate::socket::MAX_DESCRIPTORS;
use crate::sys::{self, checked};
use crate::user_memory::UserBytes;
use crate::{raw, settings};

/// The files.
pub(crate) const PATHS: [(&[u8], Kind); 3] = [
    (b"/proc/sysvipc/sem\0", Kind::Sem),
    (b"/proc/sysvipc/msg\0", Kind::Msg),
    (b"/proc/sysvipc/shm\0", Kind::Shm),
];

/// How much is copied at a time. A page is what the kernel gives of such a file.
const CHUNK: usize = 4096;

/// A descriptor that is closed at the end.
struct Open(c_int);

impl Drop for Open {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// `fd` is the kernel's file of this kind, just opened: puts the file with both
/// lists in its place, if there is anything to add.
pub(crate) fn merge(fd: c_int, kind: Kind) {
    if is_to_read(fd)
        && is_in_proc(fd)
        && let Some(lines) = lines(kind)
        && replace(fd, &lines).is_err()
    {
        // Some of it may have been read: back to the beginning.
        // SAFETY: no memory is passed.
        unsafe { libc::lseek(fd, 0, libc::SEEK_SET) };
    }
}

/// Whether it was opened to be read, and for nothing else.
fn is_to_read(fd: c_int) -> bool {
    // SAFETY: F_GETFL takes no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & (libc::O_ACCMODE | libc::O_PATH) == libc::O_RDONLY
}

/// Whether it is the kernel's file, and not one that somebody has put in a root
/// directory of his own.
fn is_in_proc(fd: c_int) -> bool {
    // SAFETY: any bytes are a statfs.
    let mut system: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one statfs, which lives through the call.
    let result = unsafe { libc::fstatfs(fd, &raw mut system) };
    result == 0 && system.f_type == libc::PROC_SUPER_MAGIC
}

/// The cluster's lines; `None` if there are none, or nobody to ask.
fn lines(kind: Kind) -> Option<Open> {
    let sweep = settings::get().sweep;
    let request = Request::Lines { kind, sweep };
    let mut session = exchange::begin(&request, UserBytes::NONE).ok()?;
    let (mut room, mut descriptors) = ([0; SMALL], [None; MAX_DESCRIPTORS]);
    let answer = session.answer_with(Patience::Steady, &mut room, Some(&mut descriptors));
    let [lines, other] = descriptors.map(|fd| fd.map(Open));
    drop(other);
    match answer.ok()?.response {
        Response::Lines { .. } => lines,
        _ => None,
    }
}

fn replace(fd: c_int, lines: &Open) -> sys::Result<()> {
    let both = Open(memfd()?);
    copy(fd, both.0)?;
    // The daemon's descriptor stands where it stopped writing.
    // SAFETY: no memory is passed.
    checked(unsafe { libc::lseek(lines.0, 0, libc::SEEK_SET) })?;
    copy(lines.0, both.0)?;
    let merged = Open(reopen(both.0, fd)?);
    // SAFETY: F_GETFD takes no memory.
    let on_exec = checked(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    let flags = if on_exec as c_int & libc::FD_CLOEXEC == 0 {
        0
    } else {
        libc::O_CLOEXEC
    };
    // SAFETY: no memory is passed; nobody else knows of `fd` yet.
    checked(unsafe { libc::dup3(merged.0, fd, flags) }.into()).map(drop)
}

fn memfd() -> sys::Result<c_int> {
    // SAFETY: the name is a C string that lives through the call.
    let fd = unsafe { libc::memfd_create(c"sysvipc".as_ptr(), libc::MFD_CLOEXEC) };
    checked(fd.into()).map(|fd| fd as c_int)
}

/// The same file once more, at its beginning, to be read only, and blocking or
/// not as `like` is.
fn reopen(file: c_int, like: c_int) -> sys::Result<c_int> {
    const PATH: &[u8] = b"/proc/self/fd/";
    let mut path = [0u8; PATH.len() + 11];
    path[..PATH.len()].copy_from_slice(PATH);
    let (mut digits, mut rest) = (1, file / 10);
    while rest > 0 {
        (digits, rest) = (digits + 1, rest / 10);
    }
    let mut number = file;
    for place in path[PATH.len()..PATH.len() + digits].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    // SAFETY: F_GETFL takes no memory.
    let blocking = unsafe { libc::fcntl(like, libc::F_GETFL) } & libc::O_NONBLOCK;
    // SAFETY: the path is a C string that lives through the call.
    let fd = checked(unsafe {
        raw::syscall(
            libc::SYS_openat,
            c_long::from(libc::AT_FDCWD),
            path.as_ptr(),
            c_long::from(libc::O_RDONLY | libc::O_CLOEXEC | blocking),
        )
    })?;
    Ok(fd as c_int)
}

/// All that is left of `from`.
fn copy(from: c_int, to: c_int) -> sys::Result<()> {
    let mut chunk = [0u8; CHUNK];
    loop {
        // SAFETY: the kernel writes at most CHUNK bytes to a buffer of ours.
        let got =
            checked(unsafe { raw::syscall(libc::SYS_read, from, chunk.as_mut_ptr(), chunk.len()) });
        let mut left = match got {
            Ok(0) => return Ok(()),
            Ok(count) => &chunk[..count],
            Err(libc::EINTR) => continue,
            Err(errno) => return Err(errno),
        };
        while !left.is_empty() {
            // SAFETY: the kernel reads bytes of ours.
            let put =
                checked(unsafe { raw::syscall(libc::SYS_write, to, left.as_ptr(), left.len()) })?;
            left = &left[put..];
        }
    }
}
