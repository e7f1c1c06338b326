//! The local programs: who they are, and when they end.
//!
//! A process is known from its first connection until the kernel says that it
//! has ended (a pidfd, not a closed socket: programs close descriptors as they
//! like, and keep SEM_UNDO adjustments over `exec`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use std::thread;

use dipc_wire::NodeId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Node;
use super::client::Client;
use super::listed::Listed;
use crate::kernel;

/// One process.
pub(crate) struct Process {
    /// Its id on this node.
    pub(crate) pid: u32,
    /// Its effective user, when it was first seen.
    pub(crate) uid: u32,
    pidfd: OwnedFd,
    /// Calls that wait, for `dipc status`.
    pub(crate) waiting: AtomicU32,
    /// Its connections: a forked child may hold them open when it has ended.
    clients: Mutex<Vec<Weak<Client>>>,
    /// The homes that may hold SEM_UNDO adjustments of it.
    undo: Mutex<BTreeSet<NodeId>>,
    /// The objects it knows, and how it came to know them.
    pub(super) listed: Mutex<Listed>,
}

impl Process {
    /// The process has asked this home for an operation with SEM_UNDO.
    pub(crate) fn undoes_at(&self, home: NodeId) {
        self.undo.lock().insert(home);
    }

    /// Which homes must hear of its end.
    pub(crate) fn undo_homes(&self) -> BTreeSet<NodeId> {
        self.undo.lock().clone()
    }

    /// One more connection.
    pub(crate) fn connected(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    /// Its connections that are still there.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.clients
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Whether its number may be another's by now.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(0)
    }

    /// Waits for its end at most so many milliseconds; whether it came.
    pub(crate) fn ends_within(&self, millis: u16) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::from(millis)), Ok(1))
    }

    /// Its command's name, `?` when it has just ended.
    pub(crate) fn command(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid))
            .map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
    }
}

/// All processes of the node that use it.
///
/// A pid may be used again at once. So a process is served only when the end of
/// the one that had its pid before has been worked off: else that would undo what
/// the new one did.
pub(crate) struct Processes {
    table: Mutex<Table>,
    /// The end of some process was worked off.
    settled: Condvar,
    ends: Epoll,
}

#[derive(Default)]
struct Table {
    living: HashMap<u32, Arc<Process>>,
    /// Whose end is being worked off.
    ending: HashSet<u32>,
}

impl Processes {
    pub(crate) fn new() -> io::Result<Self> {
        let ends = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Processes {
            table: Mutex::default(),
            settled: Condvar::new(),
            ends,
        })
    }

    /// The process that has this pid now, with a pidfd of it. When the pid was
    /// used before by one whose end nobody has noticed yet, `ended` is called for
    /// that one first.
    pub(crate) fn enter(
        &self,
        pid: u32,
        uid: u32,
        pidfd: OwnedFd,
        ended: impl FnOnce(&Process),
    ) -> io::Result<Arc<Process>> {
        let mut table = self.after_end(pid);
        if let Some(known) = table.living.get(&pid) {
            if !known.has_ended() {
                return Ok(known.clone());
            }
            let last = self.remove(&mut table, pid);
            table.ending.insert(pid);
            MutexGuard::unlocked(&mut table, || last.as_deref().map(ended));
            table.ending.remove(&pid);
            self.settled.notify_all();
        }
        let process = Arc::new(Process {
            pid,
            uid,
            pidfd,
            waiting: AtomicU32::new(0),
            clients: Mutex::default(),
            undo: Mutex::default(),
            listed: Mutex::default(),
        });
        // Stays ready until it is removed: whoever looks finds all ends.
        let event = EpollEvent::new(EpollFlags::EPOLLIN, pid.into());
        self.ends.add(&process.pidfd, event)?;
        table.living.insert(pid, process.clone());
        Ok(process)
    }

    /// Calls `ended` for each process that ends, for ever.
    pub(crate) fn watch(
        self: &Arc<Self>,
        ended: impl Fn(&Process) + Send + 'static,
    ) -> io::Result<()> {
        let processes = self.clone();
        thread::Builder::new().name("ends".into()).spawn(move || {
            if let Err(error) = processes.work_off(EpollTimeout::NONE, &ended) {
                tracing::error!(%error, "the ends of processes are noticed late");
            }
        })?;
        Ok(())
    }

    /// Returns when all that has ended before is worked off, by `ended` or by
    /// another thread. Whoever has waited for a child finds what its end does done.
    pub(crate) fn settle(&self, ended: impl Fn(&Process)) {
        if let Err(error) = self.work_off(EpollTimeout::ZERO, &ended) {
            tracing::error!(%error, "the ends of processes are noticed late");
        }
        let mut table = self.table.lock();
        while !table.ending.is_empty() {
            self.settled.wait(&mut table);
        }
    }

    /// Returns when nobody is working off the end of a process with this pid. Not
    /// for a process itself: its end needs what its connections hold.
    pub(crate) fn await_end(&self, pid: u32) {
        drop(self.after_end(pid));
    }

    fn after_end(&self, pid: u32) -> MutexGuard<'_, Table> {
        let mut table = self.table.lock();
        while table.ending.contains(&pid) {
            self.settled.wait(&mut table);
        }
        table
    }

    /// Works ends off as they come, until none comes within `patience`.
    fn work_off(&self, patience: EpollTimeout, ended: &impl Fn(&Process)) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.ends.wait(&mut events, patience) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error),
            };
            for event in &events[..count] {
                if let Some(process) = self.take(event.data() as u32) {
                    ended(&process);
                    self.table.lock().ending.remove(&process.pid);
                    self.settled.notify_all();
                }
            }
        }
    }

    /// One that has ended; its end is to be worked off.
    fn take(&self, pid: u32) -> Option<Arc<Process>> {
        let mut table = self.table.lock();
        // The pid may have a new owner already: its end is another event.
        table
            .living
            .get(&pid)
            .filter(|process| process.has_ended())?;
        let process = self.remove(&mut table, pid)?;
        table.ending.insert(pid);
        Some(process)
    }

    /// Whoever sees the event next must not be told of this process any more: it
    /// may outlive its end here, and its pidfd with it.
    fn remove(&self, table: &mut Table, pid: u32) -> Option<Arc<Process>> {
        let process = table.living.remove(&pid)?;
        if let Err(error) = self.ends.delete(&process.pidfd) {
            tracing::warn!(pid, %error, "an ended process stays in the list");
        }
        Some(process)
    }

    /// Whether there is an end that nobody has begun to work off.
    pub(crate) fn another_has_ended(&self) -> bool {
        self.table.lock().living.values().any(|it| it.has_ended())
    }

    /// The one that has this pid, if it is known.
    pub(crate) fn get(&self, pid: u32) -> Option<Arc<Process>> {
        self.table.lock().living.get(&pid).cloned()
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Arc<Process>> {
        self.table.lock().living.values().cloned().collect()
    }
}

impl Node {
    /// What has ended before is as if it had never been here.
    pub(crate) fn settle_ends(&self) {
        self.processes.settle(|process| self.process_ended(process));
    }

    /// A forked child that has made no call touches memory: from now on its end is
    /// noticed, and its attachments are counted off. One that touches nothing
    /// either is found with the next end of any process.
    pub(crate) fn meet(&self, thread: u32) {
        let Some((pid, uid, pidfd)) = thread_group(thread) else {
            return;
        };
        let entered = self
            .processes
            .enter(pid, uid, pidfd, |last| self.process_ended(last));
        if let Err(error) = entered {
            tracing::warn!(pid, %error, "a child's end goes unnoticed");
        }
    }
}

/// The process of a thread: its id, its user, and a pidfd of it. `None` when it
/// has ended, or is of another pid namespace.
fn thread_group(thread: u32) -> Option<(u32, u32, OwnedFd)> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (pid, uid) = (number("Tgid:")?, number("Uid:")?);
    Some((pid, uid, kernel::pidfd(pid)?))
}
