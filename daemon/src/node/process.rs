//! The local programs: who they are, and when they end.
//!
//! A process is known from its first connection until the kernel says that it
//! has ended (a pidfd, not a closed socket: programs close descriptors as they
//! like, and keep SEM_UNDO adjustments over `exec`).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use std::thread;

use dipc_wire::NodeId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

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
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Its command's name, `?` when it has just ended.
    pub(crate) fn command(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid))
            .map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
    }
}

/// All processes of the node that use it.
pub(crate) struct Processes {
    table: Mutex<HashMap<u32, Arc<Process>>>,
    ends: Epoll,
}

impl Processes {
    pub(crate) fn new() -> io::Result<Self> {
        let ends = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Processes {
            table: Mutex::new(HashMap::new()),
            ends,
        })
    }

    /// The process that has this pid now, with a pidfd of it. When the pid was
    /// used before by one whose end nobody has noticed yet, that one is returned
    /// too.
    pub(crate) fn enter(
        &self,
        pid: u32,
        uid: u32,
        pidfd: OwnedFd,
    ) -> io::Result<(Arc<Process>, Option<Arc<Process>>)> {
        let mut table = self.table.lock();
        let mut ended = None;
        if let Some(known) = table.get(&pid) {
            if !known.has_ended() {
                return Ok((known.clone(), None));
            }
            ended = table.remove(&pid);
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
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, pid.into());
        self.ends.add(&process.pidfd, event)?;
        table.insert(pid, process.clone());
        Ok((process, ended))
    }

    /// Calls `ended` for each process that ends, for ever.
    pub(crate) fn watch(
        self: &Arc<Self>,
        ended: impl Fn(Arc<Process>) + Send + 'static,
    ) -> io::Result<()> {
        let processes = self.clone();
        thread::Builder::new().name("ends".into()).spawn(move || {
            let mut events = [EpollEvent::empty(); 64];
            loop {
                let count = match processes.ends.wait(&mut events, EpollTimeout::NONE) {
                    Ok(count) => count,
                    Err(nix::errno::Errno::EINTR) => continue,
                    Err(error) => {
                        tracing::error!(%error, "the ends of processes go unnoticed");
                        return;
                    }
                };
                for event in &events[..count] {
                    if let Some(process) = processes.take(event.data() as u32) {
                        ended(process);
                    }
                }
            }
        })?;
        Ok(())
    }

    fn take(&self, pid: u32) -> Option<Arc<Process>> {
        let mut table = self.table.lock();
        // The pid may have a new owner already: its end is another event.
        table.get(&pid).filter(|process| process.has_ended())?;
        table.remove(&pid)
    }

    /// The one that has this pid, if it is known.
    pub(crate) fn get(&self, pid: u32) -> Option<Arc<Process>> {
        self.table.lock().get(&pid).cloned()
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Arc<Process>> {
        self.table.lock().values().cloned().collect()
    }
}

impl Node {
    /// A forked child that has made no call touches memory: from now on its end is
    /// noticed, and its attachments are counted off. One that touches nothing
    /// either is found with the next end of any process.
    pub(crate) fn meet(&self, thread: u32) {
        let entered = thread_group(thread).and_then(|(pid, uid, pidfd)| {
            self.processes
                .enter(pid, uid, pidfd)
                .map_err(|error| tracing::warn!(pid, %error, "a child's end goes unnoticed"))
                .ok()
        });
        if let Some((_, Some(ended))) = entered {
            self.process_ended(&ended);
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
