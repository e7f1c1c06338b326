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
use crate::kernel;
use crate::semantics::Capabilities;

/// One process.
pub(crate) struct Process {
    /// Its id on this node.
    pub(crate) pid: u32,
    /// Its user, when it was first seen.
    pub(crate) uid: u32,
    pidfd: OwnedFd,
    /// Calls that wait, for `dipc status`.
    pub(crate) waiting: AtomicU32,
    /// Its connections: a forked child may hold them open when it has ended.
    clients: Mutex<Vec<Weak<Client>>>,
    /// The homes that may hold SEM_UNDO adjustments of it.
    undo: Mutex<BTreeSet<NodeId>>,
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

    fn has_ended(&self) -> bool {
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
        let mut table = self.table.lock();
        while table.ending.contains(&pid) {
            self.settled.wait(&mut table);
        }
        if let Some(known) = table.living.get(&pid) {
            if !known.has_ended() {
                return Ok(known.clone());
            }
            let last = table.living.remove(&pid);
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
        });
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, pid.into());
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
                        ended(&process);
                        processes.table.lock().ending.remove(&process.pid);
                        processes.settled.notify_all();
                    }
                }
            }
        })?;
        Ok(())
    }

    /// One that has ended; its end is to be worked off.
    fn take(&self, pid: u32) -> Option<Arc<Process>> {
        let mut table = self.table.lock();
        // The pid may have a new owner already: its end is another event.
        table
            .living
            .get(&pid)
            .filter(|process| process.has_ended())?;
        table.ending.insert(pid);
        table.living.remove(&pid)
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

/// What the kernel says of a process's rights beyond its user and group: its
/// supplementary groups and effective capabilities, from `/proc/PID/status`
/// (proc(5), capabilities(7)). A process that has just ended has none.
pub(crate) fn effective_rights(pid: u32) -> (Vec<u32>, Capabilities) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let groups = field("Groups:").unwrap_or_default();
    let bits = field("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let has = |number: u32| bits.unwrap_or(0) >> number & 1 == 1;
    let capabilities = Capabilities {
        ipc_lock: has(14),
        ipc_owner: has(15),
        sys_admin: has(21),
        sys_resource: has(24),
    };
    (
        groups
            .split_whitespace()
            .filter_map(|gid| gid.parse().ok())
            .collect(),
        capabilities,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_this_process_are_those_it_sees_itself() {
        let mut groups: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .map(nix::unistd::Gid::as_raw)
            .collect();
        let (mut seen, _) = effective_rights(std::process::id());
        groups.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, groups);
    }

    #[test]
    fn a_process_that_has_ended_has_no_rights() {
        assert_eq!(
            effective_rights(u32::MAX),
            (Vec::new(), Capabilities::default())
        );
    }
}
