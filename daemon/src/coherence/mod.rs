//! The coherence protocol: a segment that several nodes share looks like memory.
//!
//! At any time a granule has one writer or many readers, and a read returns the
//! last completed write, wherever that was made. [`Protocol`] sees to it: one
//! for each segment and node, a pure state machine that turns faults, messages,
//! time and deaths into [`Action`]s. It has two halves:
//!
//! | half | where | knows |
//! |---|---|---|
//! | [`Cache`] | every node that uses the segment, and the home | what is here, what was asked for |
//! | [`Directory`] | the home | who has a copy, whose copy counts, who waits |
//!
//! The home's own cache is one like all others: the two halves talk through the
//! same messages, which never leave the call that caused them.
//!
//! # A granule
//!
//! In the directory: where its content is, and who has a copy.
//!
//! | [`Origin`] | copies | next read | next write |
//! |---|---|---|---|
//! | `Zero` | any number, of zeros | granted as zero | others invalidated, granted as zero |
//! | `Owned(n)` | n's, which may be writable if it is the only one, and read copies | n sends a copy, keeps one | others invalidated, n sends its copy and drops it |
//! | `Lost` | none | `Lost` | `Lost` |
//!
//! In a cache: absent, readable or writable, and beside that perhaps a request
//! under way ([`Pending`]) and an order kept for the quantum ([`Order`]).
//!
//! # Transactions
//!
//! One at a time for each granule; requests queue at the directory in the order
//! of their arrival. R reads, W writes, O owns, X and Y have read copies.
//!
//! ```text
//! read                      O              home              R
//!                           │               │◀───Request─────│
//!                           │◀───Forward────│                │
//!   write-protect and keep  │───────────Grant, Data─────────▶│
//!                           │               │◀──Installed────│
//!
//! write, W has a copy      O, X            home              W
//!                           │               │◀───Request─────│
//!                           │◀──Invalidate──│                │
//!                     drop  │──Invalidated─▶│                │
//!                           │               │──Grant, Keep──▶│
//!
//! write, W has none    O    X              home              W
//!                      │    │               │◀───Request─────│
//!                      │    │◀──Invalidate──│                │
//!                      │    │──Invalidated─▶│                │
//!                      │◀──────Forward──────│                │
//!                drop  │──────────────Grant, Data───────────▶│
//!                      │    │               │◀──Installed────│
//! ```
//!
//! Where the home owns the granule, its cache sends the grant, and no Installed
//! is needed: grant and whatever the home says later use the same link. A write
//! by a node without a copy invalidates first and forwards afterwards. Both at
//! once would save half a round trip when there are readers besides the owner,
//! but then the writer would have data that it may not use yet, and each death
//! in between another case.
//!
//! # Why it is coherent
//!
//! - A copy that may be written is granted when every other copy is gone, or is
//!   the very copy that is sent and was dropped before it was sent. No copy is
//!   granted until the transaction that made the last one has ended.
//! - A node answers Invalidate when its threads can no longer read.
//! - Links are FIFO, so the home's word about a copy reaches a node after the
//!   home's grant. A grant from another node is on another link: the
//!   transaction stays open until the requester has Installed it.
//! - No order to a living node stays unanswered when its transaction ends. An
//!   owner that has evicted answers Forward with Void; an order to invalidate is
//!   answered even if nothing is there; an order whose requester died is taken
//!   back with Cancel, which is answered.
//! - A grant shows the ticket of the request that it answers. One that comes
//!   after the requester gave it up (Chase, Missing), or to a later incarnation,
//!   is not taken, and the directory does not count on it.
//! - An order to send a copy names the requester's incarnation. Who knows that
//!   it is dead keeps the copy, even if the node is back.
//!
//! # Eviction
//!
//! When the last process of a node detaches, its cache drops all and says so:
//! an owner with the bytes, which the home's cache adopts. What is under way
//! stays until it comes, so nothing is asked for twice.
//!
//! # Death
//!
//! | who died | then |
//! |---|---|
//! | a reader | it counts no more; its answers are not awaited |
//! | the owner, others have copies | one of them owns the granule now, the home if it can (Own) |
//! | the owner, the others were told to drop theirs | the orders are cancelled; whoever still has a copy owns the granule |
//! | the owner, told to send its copy | the requester says whether it came (Chase) |
//! | a requester | the orders given for it are cancelled; copies not given up yet live on |
//! | whoever had the only copy | the granule is lost: SIGBUS for those who touch it, on any node |
//! | the home | the segment is lost ([`Action::PoisonAll`]) |
//!
//! Pages that nobody was ever allowed to write are zero and cannot be lost.
//!
//! # Quantum
//!
//! A cache obeys an order that takes something from its threads no sooner than
//! [`Config::quantum`] after a thread was given it, so that each fault leads to
//! some progress. Orders that take nothing are obeyed at once.
//!
//! # Trust
//!
//! A message that its sender could not have sent changes nothing and is a
//! [`Violation`]. What remains to an authenticated peer that lies: as an owner,
//! it can send any bytes (it may write the granule), or none; as a requester, it
//! can say Installed too early and then, as the owner, hand out bytes of its own
//! while the former owner has not obeyed yet.

mod cache;
mod deaths;
mod directory;
mod entry;
#[cfg(test)]
mod model;
mod nodes;
mod outlet;
mod protocol;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId};
use thiserror::Error;

pub use cache::{Cache, Line, Order, Pending};
pub use directory::Directory;
pub use entry::{Entry, Origin, Phase, Request, Transaction};
pub use nodes::NodeSet;
pub use protocol::Protocol;

/// What a node's part in the coherence of one segment depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Where the segment's directory is.
    pub home: NodeId,
    /// The segment's size in granules.
    pub granules: u64,
    /// Nanoseconds for which this node keeps a granule once its threads have
    /// it; 0 gives it up whenever it is asked for.
    pub quantum: u64,
    /// From this the requests' tickets are made. Draw it at random, anew for
    /// each segment and incarnation: who knows it can forge grants to this node.
    pub secret: u128,
}

/// What the machine wants done. The node executes its actions strictly in
/// order, and those of one call before those of the next call for the same
/// segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// From now on no thread of this node can write the granule.
    Protect {
        /// Which granule.
        granule: u64,
    },
    /// Copy the granule's bytes aside: they are the payload of the next
    /// [`Action::Send`], which is for the same granule and says
    /// [`Content::Data`].
    Copy {
        /// Which granule.
        granule: u64,
    },
    /// Take the granule from every mapping of this node and free it. The next
    /// access to it is a fault again.
    Drop {
        /// Which granule.
        granule: u64,
    },
    /// Send this, with the bytes of the last [`Action::Copy`] if it says
    /// [`Content::Data`]. If the node is not connected any more, do nothing:
    /// its death will be, or was, reported.
    Send {
        /// To whom; never this node.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// The granule, absent till now, comes: put in zeros or the payload of the
    /// message that was received with this very call, and then let go on the
    /// threads that waited and that `access` satisfies. There may be none, and
    /// no mapping at all.
    Install {
        /// Which granule.
        granule: u64,
        /// What threads may do with it.
        access: Access,
        /// [`Content::Zero`] or [`Content::Data`].
        content: Content,
    },
    /// The granule is here, and threads may do this with it: remove the write
    /// protection if it is [`Access::Write`], and let go on the threads that
    /// waited and that `access` satisfies.
    Permit {
        /// Which granule.
        granule: u64,
        /// What threads may do with it.
        access: Access,
    },
    /// The granule's content is lost, and it is absent here: those who wait for
    /// it, or touch it later, get SIGBUS.
    Poison {
        /// Which granule.
        granule: u64,
    },
    /// The home is dead, and the segment with it: whatever is here is dropped,
    /// and every access to any granule is SIGBUS.
    PoisonAll,
    /// Call [`Protocol::expire`] for the granule at this time.
    Arm {
        /// Which granule.
        granule: u64,
        /// In the clock of the `now` parameters.
        at: u64,
    },
}

/// A peer said what it could not have said. It changed nothing; the peer is to
/// be treated as dead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Violation {
    /// The segment is smaller.
    #[error("{0:?} is about a granule beyond the segment's end")]
    OutOfRange(Message),
    /// Only the segment's home may say that.
    #[error("{0:?} came from a node that is not the segment's home")]
    NotHome(Message),
    /// The segment's directory is elsewhere.
    #[error("{0:?} is for the segment's home, which is another node")]
    NotForMe(Message),
    /// It answers nothing, repeats itself, or names a node that it cannot name.
    #[error("{0:?} does not follow from what was said before")]
    Unexpected(Message),
}
