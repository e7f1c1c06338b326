//! Processes of other programs: told apart from strangers that got the same
//! number later, waited for, and ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::sys::process::{pidfd_open, pidfd_signal};

/// A process for ever: its number, and when it started, in clock ticks since
/// boot, as in `/proc/PID/stat`. Numbers are used again, both together are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its start.
    pub(crate) started: u64,
}

/// A process that was alive when it was opened.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: u32,
    fd: OwnedFd,
}

impl Identity {
    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Identity {
            pid,
            started: start_time(&stat)?,
        })
    }

    /// This process, unless it has ended: then its number may be a stranger's,
    /// who is left alone.
    pub(crate) fn open(self) -> Option<Handle> {
        let fd = pidfd_open(self.pid).ok()?;
        // Only now: whoever has the number at this moment is whom `fd` names,
        // or has ended.
        (Identity::of(self.pid) == Some(self)).then_some(Handle { pid: self.pid, fd })
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(self) -> bool {
        self.open()
            .is_some_and(|handle| !handle.wait(Some(Instant::now())))
    }
}

impl Handle {
    /// Sends a signal; a process that has ended meanwhile does not mind.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_signal(self.fd.as_fd(), signal as i32) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Waits for its end until `deadline`; whether it has ended.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let ended = first_readable(&[self.fd.as_fd()], deadline).is_some();
        if ended {
            // If it is a child of ours, only this takes it off the list of processes.
            let _ = waitpid(Pid::from_raw(self.pid as i32), Some(WaitPidFlag::WNOHANG));
        }
        ended
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The first of `fds` that can be read, or is at its end; `None` when `deadline`
/// comes before. `None` as deadline waits for ever.
pub(crate) fn first_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Option<usize> {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    loop {
        let timeout = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // Rounded up: a wait that ends early would be taken for the deadline.
            Some(left) => (left + Duration::from_micros(999))
                .try_into()
                .unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            Err(_) => return None,
            Ok(0) if deadline.is_some_and(|at| Instant::now() >= at) => return None,
            Ok(0) => {}
            Ok(_) => return polled.iter().position(|fd| fd.any().unwrap_or(true)),
        }
    }
}

/// The 22nd field of `/proc/PID/stat`. The second one, the program's name in
/// parentheses, may hold spaces and parentheses itself.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["cat", "a b", "a) S 1 (b", ")"] {
            assert_eq!(
                start_time(&format!("12 ({name}) {rest}")),
                Some(4711),
                "{name}"
            );
        }
        assert_eq!(start_time("12 (cat) S 1"), None);
    }

    #[test]
    fn a_stranger_with_the_same_number_is_not_opened() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        let earlier = Identity {
            started: own.started - 1,
            ..own
        };
        assert!(earlier.open().is_none());
        assert!(!earlier.is_alive());
    }

    #[test]
    fn a_process_is_signalled_waited_for_and_known_to_be_dead() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let handle = identity.open().unwrap();
        assert!(!handle.wait(Some(Instant::now())));
        handle.signal(Signal::SIGTERM).unwrap();
        assert!(handle.wait(None));
        assert!(!identity.is_alive());
        handle.signal(Signal::SIGTERM).unwrap();
        assert!(
            child.wait().is_err(),
            "waiting for its end has taken it off the list"
        );
    }
}
