//! What the machine has to say, and to whom: the only way out of it.

use std::fmt;

use dipc_wire::referee::{Answer, ToNode};
use dipc_wire::{Incarnation, NodeId, ObjectId};
use thiserror::Error;

use crate::keys::Key;

/// A connection to the referee. Numbered by whoever accepts them, and never
/// given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Takes what the machine says. Nothing here may wait: the machine speaks while
/// it holds still.
pub trait Output {
    /// The one answer to a join.
    fn answer(&mut self, link: LinkId, answer: Answer<'_>);
    /// A message to the member at the end of `link`.
    fn send(&mut self, link: LinkId, message: ToNode<'_>);
    /// Nothing more is said on `link`, and nothing from it is heard.
    fn close(&mut self, link: LinkId);
    /// For the log.
    fn note(&mut self, event: Event<'_>);
}

/// Why a join is refused, for people: what is wrong, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// Wrong [`dipc_wire::referee::MAGIC`].
    #[error(
        "this is a dipc referee, and what came is no join of a node: start dipcd with --referee and this address"
    )]
    NotANode,
    /// No common version.
    #[error("this referee speaks versions {} to {} of the protocol, the node {} to {}: install the same release of dipc on both hosts", .ours.0, .ours.1, .theirs.0, .theirs.1)]
    Version {
        /// What this build speaks, lowest and highest.
        ours: (u16, u16),
        /// What the node speaks.
        theirs: (u16, u16),
    },
    /// The name is empty, too long or not printable.
    #[error(
        "a node's name has 1 to {} bytes and no control characters: start dipcd with another --name",
        dipc_wire::peer::MAX_NAME
    )]
    Name,
    /// The address is not `host:port`.
    #[error(
        "the node's address is no host:port of at most {} bytes: start dipcd with --listen and the address where its peers reach it",
        crate::membership::MAX_ADDRESS
    )]
    Address,
    /// A member of another cluster.
    #[error(
        "the node is a member of cluster {theirs:016x} and this referee serves {ours:016x}: start dipcd anew to join this one, or give it the referee of its own"
    )]
    Cluster {
        /// The referee's.
        ours: u64,
        /// The node's.
        theirs: u64,
    },
    /// All numbers are given.
    #[error(
        "all 255 node numbers are given to names, present or gone: use a name that was here before, or restart the referee to make it forget those that are gone"
    )]
    Full,
    /// The life was declared dead, or a later one has begun.
    #[error(
        "node {node} was declared dead in life {incarnation}, and its objects are lost: start dipcd anew"
    )]
    Over {
        /// The number that it showed.
        node: NodeId,
        /// The life that it showed.
        incarnation: Incarnation,
    },
    /// The number or the name that it shows belongs to another node.
    #[error(
        "the node says that it is number {node}, which this referee knows by another name: start dipcd anew, with a name that no other node has"
    )]
    NotYours {
        /// The number that it showed.
        node: NodeId,
    },
    /// A life no referee gives.
    #[error("no referee gave life {0}: start dipcd anew")]
    Incredible(Incarnation),
    /// No life is left to give.
    #[error(
        "no incarnation is left to give: end all nodes and start the referee with --new-cluster"
    )]
    Exhausted,
    /// A living member has the name.
    #[error(
        "{name:?} is the name of node {node}, which is alive: start dipcd with another --name, or end that node first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The member.
        node: NodeId,
    },
    /// The door says no: to its name and address, or because it encrypts.
    #[error("{0}")]
    Door(String),
    /// Too many connections.
    #[error(
        "this referee has too many open connections: try again later, and look in its log for who opens them"
    )]
    Crowded,
}

impl Refusal {
    /// Whether it passes with time; otherwise something has to be changed first.
    pub fn retry(&self) -> bool {
        matches!(self, Refusal::Crowded)
    }
}

/// What ended a member's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Cause {
    /// It said so.
    #[error("it left")]
    Left,
    /// Its link closed, and it did not come back in time.
    #[error("its link closed and it did not come back within the time-out")]
    LinkLost,
    /// Nothing came from it, or it took nothing, for the time-out.
    #[error("it gave no sign of life for the time-out")]
    Silent,
    /// A peer's connection to it broke.
    #[error("node {0} lost its connection to it")]
    ReportedBy(NodeId),
    /// A new life has begun under its name or number.
    #[error("a later life of the node has come")]
    Replaced,
    /// It was a member of the referee before this one.
    #[error("it did not come back to the restarted referee")]
    NotBack,
    /// It came back, and kept others waiting for what it owns.
    #[error("it came back and did not say within the time-out all that it owns")]
    Unsettled,
    /// It says that it owns a key which another owns.
    #[error("it owns {key} as {mine} and another node owns it as {held:?}")]
    Conflict {
        /// The key.
        key: Key,
        /// Its object.
        mine: ObjectId,
        /// The object of the one that stays; `None` while that is being created.
        held: Option<ObjectId>,
    },
    /// It does what no node does.
    #[error("it broke the protocol: {0}")]
    Violation(&'static str),
}

/// What happened, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A new life has begun.
    Joined {
        /// Its number.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// Its name.
        name: &'a str,
        /// Where its peers reach it.
        address: &'a str,
    },
    /// A member is back on a new link.
    Rejoined {
        /// Its number.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// Its name.
        name: &'a str,
    },
    /// A newcomer waits for the end of the recovery.
    Held {
        /// Its name.
        name: &'a str,
    },
    /// A join was refused.
    Refused {
        /// On which link.
        link: LinkId,
        /// The name it gave.
        name: &'a str,
        /// Why.
        refusal: &'a Refusal,
    },
    /// A member's link closed; it has the time-out to come back.
    LinkLost {
        /// Its number.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A life is over.
    Gone {
        /// Its number.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// Why.
        cause: Cause,
        /// Whether its link was healthy, so that it was told.
        fenced: bool,
    },
    /// A message that makes no sense had no effect.
    Ignored {
        /// Who sent it.
        node: NodeId,
        /// What was wrong.
        what: &'static str,
    },
    /// The members of before are here, or given up: questions are answered.
    Recovered {
        /// The cluster's number.
        cluster: u64,
        /// How many members there are.
        members: usize,
    },
}
