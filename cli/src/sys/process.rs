//! Processes: names that cannot go stale, ends that come with the parent's, and
//! the disposition of SIGPIPE that we were started with.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;

/// A descriptor that names this process for ever, and is readable when it has ended.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to the process that `pidfd` names, and to no other.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill(2) does"; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    })
    .map(drop)
}

/// The command's process gets a session of its own: no terminal reaches it.
pub(crate) fn in_own_session(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the closure calls only setsid, which is
    // async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(|| check(i64::from(libc::setsid())).map(drop)) }
}

/// The command's process is in this network namespace.
pub(crate) fn in_namespace(command: &mut Command, namespace: File) -> &mut Command {
    let enter = move || {
        // SAFETY: setns takes two integers; the closure owns the descriptor.
        check(i64::from(unsafe {
            libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET)
        }))
        .map(drop)
    };
    // SAFETY: between fork and exec the closure makes one system call and
    // allocates nothing.
    unsafe { command.pre_exec(enter) }
}

/// The command's process gets `signal` when the calling thread ends, however it ends.
pub(crate) fn ends_with_us(command: &mut Command, signal: i32) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure calls only prctl and getppid,
    // which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(move || end_with(parent, signal)) }
}

/// Asks for `signal` at the parent's end, which may already have come.
fn end_with(parent: u32, signal: i32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
    }))?;
    // SAFETY: getppid has no preconditions.
    if unsafe { libc::getppid() } as u32 != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Runs `child` in a forked process, which ends with us. For processes of one
/// thread only: they may do after a fork whatever they did before.
pub(crate) fn fork(child: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let parent = std::process::id();
    // SAFETY: the caller has one thread (`bench-worker` starts none), so no lock
    // is held by a thread that the child lacks.
    if check(i64::from(unsafe { libc::fork() }))? != 0 {
        return Ok(());
    }
    let outcome = end_with(parent, libc::SIGKILL).and_then(|()| child());
    // SAFETY: _exit ends the child without running the parent's exit handlers.
    unsafe { libc::_exit(i32::from(outcome.is_err())) }
}

/// Whether SIGPIPE was ignored when this program was started.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Rust's runtime ignores SIGPIPE before `main`; what it was before is known
/// only earlier than that.
extern "C" fn remember_sigpipe() {
    // SAFETY: a null new action only reads the present one, into `action`, which
    // is plain data for which zeros are valid.
    let ignored = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: the linker puts the pointer among those that libc calls, once, before
// main; the function neither unwinds nor depends on Rust's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER_SIGPIPE: extern "C" fn() = remember_sigpipe;

/// Gives SIGPIPE back the disposition that our parent chose, for whoever we exec.
pub(crate) fn restore_sigpipe() {
    if !SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: SIG_DFL is a valid disposition and installs no code of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}
