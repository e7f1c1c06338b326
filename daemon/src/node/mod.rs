//! The node: threads, sockets and clocks around the pure machines.
//!
//! | file | what it does |
//! |---|---|
//! | [`start`] | puts a node together, and takes it down |
//! | [`client`], [`reader`] | one connection of a local program, and what it brings |
//! | [`calls`] | where a call goes: to this home or another |
//! | [`home`] | the objects whose home is this node |
//! | [`attach`] | `shmat`, `fork` and the end of local programs |
//! | [`counting`], [`errand`] | what a segment's home is told of attachments, and who waits for it |
//! | [`changes`] | `shmdt`, `munmap`, `mprotect`, `madvise` and `mremap` of attachments |
//! | [`segments`] | the segments in use here: faults and coherence messages |
//! | [`pieces`] | granules too large for one frame |
//! | [`watching`], [`reserve`] | who reads the faults, and who does so where threads are short |
//! | [`peers`], [`link`], [`inbound`] | the other nodes, the way to one, what they say |
//! | [`names`] | the referee's client |
//! | [`membership`], [`threshold`] | nodes that come, and who is let in |
//! | [`ending`] | nodes that go |
//! | [`lease`], [`heartbeat`] | how long a node may use what others have lent it |
//! | [`guard`] | replaces a keeper that was killed |
//! | [`census`], [`sysvipc`], [`listed`] | what `ipcs` is told, and what `ipcrm -a` may not remove |
//! | [`process`], [`identity`], [`users`] | who the programs are: here, now, and elsewhere |
//! | [`outbox`], [`outgoing`], [`timer`], [`counters`], [`answer`], [`descriptors`] | tools |
//!
//! Threads block in one place each: a client's or peer's thread in reading its
//! socket, a space's in its userfaultfd. Whoever has something to send sends it
//! itself (see [`outbox`]), so a remote `semop` wakes four threads and no more.

mod admin;
mod answer;
mod attach;
mod calls;
mod census;
mod changes;
mod client;
mod counters;
mod counting;
mod descriptors;
mod ending;
mod errand;
mod guard;
mod heartbeat;
mod home;
mod identity;
mod inbound;
mod lease;
mod link;
mod listed;
mod membership;
mod names;
mod outbox;
mod outgoing;
mod peers;
mod pieces;
mod process;
mod reader;
mod reserve;
mod segments;
mod start;
mod sysvipc;
#[cfg(test)]
mod testing;
mod threshold;
mod timer;
mod users;
mod watching;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dipc_door::Door;
use dipc_wire::referee::Membership;
use dipc_wire::sharing::MAX_QUANTUM;
use dipc_wire::{Incarnation, Limits, NodeId, ObjectId, Pid};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::memory::Spaces;
use crate::semantics::Ticket;
use counters::Counters;
use descriptors::Descriptors;
use heartbeat::Promise;
use home::Home;
use names::Names;
use peers::Peers;
use process::Processes;
use reserve::Reserve;
use segments::Segments;
use threshold::Refused;
use timer::Timer;

pub use start::{StartError, run};

/// The longest quantum that a cluster with this time-out allows, in nanoseconds. An
/// order waits for one, and where it goes from node to node for a few: what waits
/// for the order must not look dead.
pub(crate) fn longest_quantum(timeout: Duration) -> u64 {
    let quarter = u64::try_from(timeout.as_nanos() / 4).unwrap_or(MAX_QUANTUM);
    quarter.min(MAX_QUANTUM)
}

/// What a node must know of a segment to use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Bytes, as asked for.
    pub(crate) size: u64,
    /// Unit of coherence in bytes.
    pub(crate) granule: u64,
    /// Nanoseconds for which a node keeps one.
    pub(crate) quantum: u64,
}

/// What happens at a time set before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// `semtimedop` has waited long enough.
    TimeOut(Ticket),
    /// A granule's time quantum is over.
    Expire { segment: ObjectId, granule: u64 },
    /// A peer whose life has ended has given up all that it had from here.
    Over {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// The memory of a process that has ended may be gone, after so long.
    Reap { pid: u32, wait: Duration },
}

/// One node.
pub(crate) struct Node {
    pub(crate) me: Membership,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) socket: String,
    pub(crate) timeout: Duration,
    /// Zero of the coherence machines' clock.
    pub(crate) began: Instant,
    pub(crate) home: Home,
    pub(crate) peers: Peers,
    /// Who comes in.
    pub(crate) door: Door,
    /// Who did not.
    pub(crate) refused: Refused,
    /// Held while half of a life's end is worked off.
    pub(crate) ending: Mutex<()>,
    /// By which leases run.
    pub(crate) clock: Clock,
    pub(crate) promise: Promise,
    pub(crate) names: Names,
    pub(crate) processes: Arc<Processes>,
    pub(crate) spaces: Spaces,
    pub(crate) segments: Segments,
    pub(crate) timer: Arc<Timer<Task>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) keeper: Keeper,
    pub(crate) descriptors: Descriptors,
    pub(crate) reserve: Arc<Reserve>,
    /// What each user has of them.
    pub(crate) seats: Arc<client::Seats>,
    /// Whether it was said that a user has too many.
    pub(crate) crowded: AtomicBool,
    pub(crate) late: segments::Late,
    pub(crate) faults: attach::FaultService,
    pub(crate) bequests: attach::Bequests,
    /// Held until the attachments of a space that has ended are counted off:
    /// another thread that finds nothing left of it may say so then.
    pub(crate) reaping: Mutex<()>,
}

impl Node {
    /// A process of this node, as the cluster names it.
    pub(crate) fn pid(&self, pid: u32) -> Pid {
        Pid {
            node: self.me.node,
            pid,
        }
    }

    /// The cluster's limits, as they are now.
    pub(crate) fn limits(&self) -> Limits {
        self.home.limits()
    }

    /// The coherence machines' clock, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Ends this node at once, as if it had been killed: the keeper sees to the
    /// programs, the referee to the others. For when going on would be wrong.
    pub(crate) fn die(&self, why: &str) -> ! {
        tracing::error!("this node ends: {why}. Its programs get errors; restart dipcd");
        std::process::exit(1)
    }
}
