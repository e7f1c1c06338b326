//! How a detour ends, and which error number a failure becomes: the one table.
//!
//! A detour is what a hook tries before the real function. It ends in one of
//! three ways: with a value; with [`Escape::Bypass`], *the real function shall
//! do it*; or with [`Escape::Errno`]. [`crate::hooks`] matches these once.
//!
//! What goes wrong between program and daemon is a [`Trouble`]. What a program
//! finds in `errno` then depends on the call's [`Family`]:
//!
//! | trouble                                | `*get`                       | blocking, `shmat` | others by id |
//! |----------------------------------------|------------------------------|-------------------|--------------|
//! | no daemon, and none was ever used      | local; ENOSYS if `DIPC_REQUIRE` | the kernel's   | the kernel's |
//! | daemon gone before the call began      | ETIMEDOUT                    | EINVAL            | EINVAL       |
//! | daemon gone with the call under way    | ETIMEDOUT                    | EIDRM             | ETIMEDOUT    |
//! | forked off by a signal handler in a call | ETIMEDOUT                  | EINTR             | ETIMEDOUT    |
//! | the user may not use the socket        | EACCES                       | EACCES            | EACCES       |
//! | daemon of another version              | ENOSYS                       | ENOSYS            | ENOSYS       |
//! | no descriptor or memory for the socket, here or in the daemon | ENOMEM | ENOMEM  | ENOMEM       |
//! | the caller's bytes cannot be read      | –                            | EFAULT            | EFAULT       |
//!
//! ENOSYS is what a kernel without System V IPC answers. ETIMEDOUT says that
//! the outcome is unknown: it may have happened. EIDRM and EINVAL are what the
//! kernel says of an object that was removed. That EINVAL comes from the kernel
//! itself: any call by id that the daemon does not know is handed on, since an
//! id that looks like ours can be the kernel's after long use.

use dipc_wire::Errno;
use libc::c_int;

/// How a detour ended.
pub(crate) type Detour<T> = Result<T, Escape>;

/// Why a detour has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Escape {
    /// Not ours: the real function shall do it.
    Bypass,
    /// The call failed with this `errno`.
    Errno(c_int),
}

impl From<Errno> for Escape {
    fn from(errno: Errno) -> Self {
        Escape::Errno(errno.raw())
    }
}

/// Calls that fail alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// `semget`, `msgget`, `shmget`
    Get,
    /// `semop`, `semtimedop`, `msgsnd`, `msgrcv`, `shmat`
    Operation,
    /// `semctl`, `msgctl`, `shmctl`, `shmdt`
    Control,
}

/// What can go wrong between a program and its daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Nobody serves the socket, and this process never used a daemon.
    Absent,
    /// Nobody serves the socket any more. The request was not sent.
    Gone,
    /// The connection broke when the request was sent already, or the answer
    /// makes no sense.
    Lost,
    /// A signal handler forked during the call, and this is the child: the
    /// answer is its parent's.
    Forked,
    /// The connection is another process's, whose memory this one shares. The
    /// request was not sent.
    NotOurs,
    /// The socket's permissions keep the user out.
    Denied,
    /// The daemon is of another version, or no dipcd.
    OtherVersion,
    /// The process, or its daemon, has no descriptor or memory left for a connection.
    Exhausted,
    /// The caller's pointer is bad. The request was not sent.
    BadPointer,
}

/// The table above.
pub(crate) fn escape(trouble: Trouble, family: Family) -> Escape {
    let errno = match (trouble, family) {
        (Trouble::Absent, Family::Get) if crate::settings::get().require => {
            crate::notice::required_daemon_is_missing();
            Errno::ENOSYS
        }
        (Trouble::Absent, _) => return Escape::Bypass,
        (Trouble::Gone | Trouble::Lost, Family::Get) => Errno::ETIMEDOUT,
        (Trouble::Gone, _) => return Escape::Bypass,
        (Trouble::Lost, Family::Operation) => Errno::EIDRM,
        (Trouble::Lost, Family::Control) => Errno::ETIMEDOUT,
        (Trouble::Forked, Family::Operation) => Errno::EINTR,
        (Trouble::Forked, _) => Errno::ETIMEDOUT,
        (Trouble::NotOurs | Trouble::Denied, _) => Errno::EACCES,
        (Trouble::OtherVersion, _) => Errno::ENOSYS,
        (Trouble::Exhausted, _) => Errno::ENOMEM,
        (Trouble::BadPointer, _) => Errno::EFAULT,
    };
    errno.into()
}

/// What a failed reply to a call by id becomes. EINVAL may mean that the daemon
/// does not know the id, so the kernel is asked too.
pub(crate) fn refused_by_id(errno: Errno) -> Escape {
    if errno == Errno::EINVAL {
        Escape::Bypass
    } else {
        errno.into()
    }
}
