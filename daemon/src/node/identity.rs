//! Who asks: what the kernel says of a local program's thread at the moment of
//! its call, and how that is said to another node.
//!
//! | what | when it is known | from where |
//! |---|---|---|
//! | process, effective user and group | with each packet | `SCM_CREDENTIALS`, which the kernel has checked |
//! | supplementary groups | when a verdict depends on them | `/proc/PID/task/TID/status` |
//! | capabilities | when a verdict depends on them, and when root calls another node | capget(2) |
//!
//! The thread waits for its answer meanwhile, so what is found then is what it
//! called with. Nothing of it is kept for the next call.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use dipc_wire::peer::{Caller, Capabilities};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::process::Process;
use crate::kernel::{self, UserNamespace};
use crate::semantics::Witness;

/// The effective user and group of whom a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The thread at the other end of a connection.
pub(crate) struct Thread {
    process: Arc<Process>,
    /// As it says itself. Nothing is to be gained by naming another thread of
    /// the process, since all of them share their memory.
    tid: AtomicU32,
    /// `/proc/PID/task/TID`, opened when it is first needed. It stays that
    /// thread's, and is empty when that has ended: its number may be another's
    /// then, but no other's rights are taken for its own.
    folder: OnceLock<OwnedFd>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} of {}", self.tid(), self.process.pid)
    }
}

impl Thread {
    /// The first thread of a process.
    pub(crate) fn first(process: Arc<Process>) -> Self {
        Thread {
            tid: AtomicU32::new(process.pid),
            process,
            folder: OnceLock::new(),
        }
    }

    /// It is another one, it says. Too late once its folder was needed.
    pub(crate) fn is(&self, tid: u32) {
        if self.folder.get().is_none() {
            self.tid.store(tid, Ordering::Relaxed);
        }
    }

    fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// `None` when the thread has ended, or the process has no such thread.
    fn folder(&self) -> Option<&OwnedFd> {
        if let Some(folder) = self.folder.get() {
            return Some(folder);
        }
        let path = format!("/proc/{}/task/{}", self.process.pid, self.tid());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = open(path.as_str(), flags, Mode::empty()).ok()?;
        // Then the process has had its number for all that time.
        (!self.process.has_ended()).then(|| self.folder.get_or_init(|| opened))
    }

    fn status(&self) -> Option<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(self.folder()?, "status", flags, Mode::empty()).ok()?;
        let mut text = String::with_capacity(2048);
        File::from(file).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

impl Witness for Thread {
    fn groups(&self) -> Vec<u32> {
        let status = self.status().unwrap_or_default();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        let numbers = groups.unwrap_or_default().split_whitespace();
        numbers.filter_map(|gid| gid.parse().ok()).collect()
    }

    /// None of a thread in another user namespace: anybody can make one, and has
    /// all capabilities in it. Nor of one that this daemon may not look into.
    fn capabilities(&self) -> Capabilities {
        let Some(folder) = self.folder() else {
            return Capabilities::NONE;
        };
        let found = kernel::capabilities(self.tid());
        // Asked afterwards: it also says that the number was still the thread's.
        if found != Capabilities::NONE && kernel::user_namespace(folder) == our_namespace() {
            found
        } else {
            Capabilities::NONE
        }
    }
}

/// The daemon's own user namespace, which it never leaves.
fn our_namespace() -> Option<UserNamespace> {
    static OURS: OnceLock<Option<UserNamespace>> = OnceLock::new();
    *OURS.get_or_init(|| kernel::user_namespace(fs::File::open("/proc/self").ok()?.as_fd()))
}

/// Who calls, as another node is told it.
pub(crate) struct Abroad {
    pub(crate) pid: u32,
    pub(crate) login: Arc<str>,
    pub(crate) capabilities: Capabilities,
}

impl Abroad {
    /// A process for which nothing is asked that needs a right.
    pub(crate) fn process(pid: u32) -> Self {
        Abroad {
            pid,
            login: "".into(),
            capabilities: Capabilities::NONE,
        }
    }

    /// As it travels.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            pid: self.pid,
            login: &self.login,
            capabilities: self.capabilities,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::super::testing::this_process;
    use super::*;

    /// A thread of this process that names itself, and waits in `work`.
    fn with_thread(tid: impl FnOnce(u32) -> u32, look: impl FnOnce(&Thread)) {
        let (tell, told) = channel();
        let (release, released) = channel::<()>();
        let other = thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw() as u32).unwrap();
            let _ = released.recv();
        });
        let seen = Thread::first(this_process());
        seen.is(tid(told.recv().unwrap()));
        look(&seen);
        drop(release);
        other.join().unwrap();
    }

    fn own_groups() -> Vec<u32> {
        let groups = nix::unistd::getgroups().unwrap();
        let mut groups: Vec<u32> = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        groups.sort_unstable();
        groups
    }

    #[test]
    fn a_threads_rights_are_those_that_it_sees_itself() {
        with_thread(
            |tid| tid,
            |thread| {
                let mut seen = thread.groups();
                seen.sort_unstable();
                assert_eq!(seen, own_groups());
                let own = kernel::capabilities(0);
                assert_eq!(thread.capabilities(), own);
            },
        );
    }

    #[test]
    fn a_thread_of_another_process_is_not_believed() {
        with_thread(
            |_| 1,
            |thread| {
                assert_eq!(thread.groups(), []);
                assert_eq!(thread.capabilities(), Capabilities::NONE);
            },
        );
    }

    #[test]
    fn a_thread_that_has_ended_has_no_rights() {
        let mut ended = None;
        with_thread(
            |tid| tid,
            |thread| {
                assert!(thread.folder().is_some());
                let again = Thread::first(thread.process.clone());
                again.is(thread.tid());
                assert!(again.folder().is_some());
                ended = Some(again);
            },
        );
        let ended = ended.unwrap();
        assert_eq!(ended.groups(), []);
        assert_eq!(ended.capabilities(), Capabilities::NONE);
    }
}
