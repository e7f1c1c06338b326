//! The coherence protocol.

mod cache;
mod directory;
mod entry;
mod nodes;
mod outlet;
mod protocol;
#[cfg(test)]
mod tests;

use dipc_wire::NodeId;
use dipc_wire::coherence::{Access, Content, Message};
use thiserror::Error;

pub use cache::Cache;
pub use directory::Directory;
pub use nodes::NodeSet;
pub use protocol::Protocol;

/// What a node's part in the coherence of one segment depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
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
