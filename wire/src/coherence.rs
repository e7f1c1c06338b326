//! What the directory of a segment and its caches say to each other.
//!
//! The directory is at the segment's home; every node that uses the segment has
//! a cache, the home too. Messages between two nodes arrive in the order they
//! were sent; messages of different pairs may overtake each other. The rules
//! that use these messages are the daemon's `coherence` module.
//!
//! Each request carries a *ticket*, a number that the requester will not use
//! again and that nobody can guess. The directory passes it to the owner, the
//! owner puts it into its grant, and the requester takes no grant without it:
//! so a grant from a node that was not told to send one counts for nothing, nor
//! does one that comes after the requester was told to wait for it no longer,
//! nor one that was meant for an earlier incarnation.

use serde::{Deserialize, Serialize};

use crate::{Incarnation, NodeId};

/// What a thread tried, and so what its node must be allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Access {
    /// One of many copies, none of which may be written.
    Read,
    /// The only copy.
    Write,
}

/// What a granted granule holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Content {
    /// What the receiver has already: its read copy becomes writable.
    Keep,
    /// Zeros: nobody has written it yet.
    Zero,
    /// The frame's payload.
    Data,
}

/// One message about one granule, numbered from 0 at the segment's start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Cache → directory: a thread here waits for this.
    Request {
        /// Which granule.
        granule: u64,
        /// What for.
        access: Access,
        /// What the grant must show.
        ticket: u64,
        /// In which life the requester is: nobody sends a copy to a later one.
        incarnation: Incarnation,
    },
    /// Directory → cache, or owner → cache at the directory's bidding: you may.
    Grant {
        /// Which granule.
        granule: u64,
        /// What for.
        access: Access,
        /// Where its bytes are.
        content: Content,
        /// The request's.
        ticket: u64,
    },
    /// Directory → owner: send your copy to that node. For reading, keep a read
    /// copy; for writing, give yours up.
    Forward {
        /// Which granule.
        granule: u64,
        /// To whom.
        to: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What for.
        access: Access,
        /// The request's.
        ticket: u64,
    },
    /// Cache → directory: the copy that another node was to send me has come.
    Installed {
        /// Which granule.
        granule: u64,
    },
    /// Directory → cache: give up your copy and say so.
    Invalidate {
        /// Which granule.
        granule: u64,
    },
    /// Cache → directory: no thread of this node can read my copy any more.
    Invalidated {
        /// Which granule.
        granule: u64,
    },
    /// Cache → directory: I have dropped this granule of my own accord. An
    /// owner sends its bytes along, a mere reader sends [`Content::Keep`].
    Evict {
        /// Which granule.
        granule: u64,
        /// The owner's bytes.
        content: Content,
    },
    /// Directory → cache: the node that was to send you this granule is dead.
    /// Has it come?
    Chase {
        /// Which granule.
        granule: u64,
        /// The request's.
        ticket: u64,
    },
    /// Cache → directory, answering [`Message::Chase`]: it never came, and I
    /// shall not take it any more. If it has come, its [`Message::Installed`] is
    /// the answer.
    Missing {
        /// Which granule.
        granule: u64,
        /// The request's from now on.
        ticket: u64,
    },
    /// Directory → cache: its only copy went down with a node.
    Lost {
        /// Which granule.
        granule: u64,
    },
    /// Directory → cache: the owner is gone, and your copy is now the one that
    /// counts: evict it with its bytes.
    Own {
        /// Which granule.
        granule: u64,
    },
    /// Cache → directory: you told me to [`Message::Forward`] what I had evicted.
    Void {
        /// Which granule.
        granule: u64,
    },
    /// Directory → cache: forget my last order ([`Message::Forward`] or
    /// [`Message::Invalidate`]) about this granule if it is not obeyed yet.
    Cancel {
        /// Which granule.
        granule: u64,
    },
    /// Cache → directory, answering [`Message::Cancel`].
    Cancelled {
        /// Which granule.
        granule: u64,
        /// A copy is still here.
        held: bool,
    },
}

impl Message {
    /// Whether the granule's bytes are the frame's payload.
    pub const fn carries_data(&self) -> bool {
        matches!(
            self,
            Message::Grant {
                content: Content::Data,
                ..
            } | Message::Evict {
                content: Content::Data,
                ..
            }
        )
    }

    /// Which granule it is about.
    pub const fn granule(&self) -> u64 {
        match *self {
            Message::Request { granule, .. }
            | Message::Grant { granule, .. }
            | Message::Forward { granule, .. }
            | Message::Installed { granule }
            | Message::Invalidate { granule }
            | Message::Invalidated { granule }
            | Message::Evict { granule, .. }
            | Message::Chase { granule, .. }
            | Message::Missing { granule, .. }
            | Message::Lost { granule }
            | Message::Own { granule }
            | Message::Void { granule }
            | Message::Cancel { granule }
            | Message::Cancelled { granule, .. } => granule,
        }
    }
}
