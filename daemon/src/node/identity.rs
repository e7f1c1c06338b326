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
    /// As it says itself, in its own pid namespace; 0 for the first thread.
    /// Nothing is to be gained by naming another thread of the process, since all
    /// of them share their memory.
    said: AtomicU32,
    found: OnceLock<Task>,
}

/// Where the kernel shows a thread.
struct Task {
    /// Its number in the daemon's pid namespace.
    tid: u32,
    /// `/proc/PID/task/TID`. It stays that thread's, and is empty when that has
    /// ended: its number may be another's then, but no other's rights are taken
    /// for its own.
    folder: OwnedFd,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.said.load(Ordering::Relaxed);
        write!(f, "thread {said} of {}", self.process.pid)
    }
}

impl Thread {
    /// The first thread of a process.
    pub(crate) fn first(process: Arc<Process>) -> Self {
        Thread {
            said: AtomicU32::new(0),
            process,
            found: OnceLock::new(),
        }
    }

    /// It is another one, it says. Too late once it was looked for.
    pub(crate) fn is(&self, tid: u32) {
        self.said.store(tid, Ordering::Relaxed);
    }

    /// `None` when the thread has ended, or the process has no such thread.
    fn task(&self) -> Option<&Task> {
        if let Some(task) = self.found.get() {
            return Some(task);
        }
        let task = match self.said.load(Ordering::Relaxed) {
            0 => Task::open(&self.process, self.process.pid),
            said => self.look_for(said),
        }?;
        // Then the process has had its number for all that time.
        (!self.process.has_ended()).then(|| self.found.get_or_init(|| task))
    }

    /// The thread that has this number for itself: it may live in a pid namespace
    /// below ours, where numbers differ (pid_namespaces(7)).
    fn look_for(&self, said: u32) -> Option<Task> {
        let is_it = |task: &Task| task.own_number() == Some(said);
        let same = Task::open(&self.process, said).filter(is_it);
        same.or_else(|| {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid)).ok()?;
            let numbers = tasks
                .flatten()
                .filter_map(|task| task.file_name().to_str()?.parse().ok());
            let mut tasks = numbers.filter_map(|tid| Task::open(&self.process, tid));
            tasks.find(is_it)
        })
    }
}

impl Task {
    fn open(process: &Process, tid: u32) -> Option<Self> {
        let path = format!("/proc/{}/task/{tid}", process.pid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(path.as_str(), flags, Mode::empty()).ok()?;
        Some(Task { tid, folder })
    }

    /// The numbers of a line of its `status`, proc(5); none when it has ended.
    fn status(&self, name: &str) -> Vec<u32> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut text = String::with_capacity(2048);
        let read = openat(&self.folder, "status", flags, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).read_to_string(&mut text));
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let numbers = line.filter(|_| read.is_ok()).unwrap_or_default();
        let numbers = numbers.split_whitespace();
        numbers.filter_map(|number| number.parse().ok()).collect()
    }

    /// What `gettid` says in the thread.
    fn own_number(&self) -> Option<u32> {
        self.status("NSpid:").last().copied()
    }
}

impl Witness for Thread {
    fn groups(&self) -> Vec<u32> {
        let task = self.task();
        task.map(|task| task.status("Groups:")).unwrap_or_default()
    }

    /// None of a thread in another user namespace: anybody can make one, and has
    /// all capabilities in it. Nor of one that this daemon may not look into.
    fn capabilities(&self) -> Capabilities {
        let Some(task) = self.task() else {
            return Capabilities::NONE;
        };
        let found = kernel::capabilities(task.tid);
        // Asked afterwards: it also says that the number was still the thread's.
        if found != Capabilities::NONE && kernel::user_namespace(&task.folder) == our_namespace() {
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
                assert!(thread.groups().is_empty());
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
                let again = Thread::first(thread.process.clone());
                again.is(thread.said.load(Ordering::Relaxed));
                assert!(again.task().is_some());
                ended = Some(again);
            },
        );
        let ended = ended.unwrap();
        assert!(ended.groups().is_empty());
        assert_eq!(ended.capabilities(), Capabilities::NONE);
    }
}
