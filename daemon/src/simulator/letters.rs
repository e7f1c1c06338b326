//! What travels: the protocols' own types, with what their frames carry.

use dipc_wire::call::SemOp;
use dipc_wire::peer::Message;
use dipc_wire::referee::{Membership, ToNode, ToReferee};
use dipc_wire::{Incarnation, NodeId};

/// The payload of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Payload {
    Nothing,
    /// Of a `semop`.
    Ops(Vec<SemOp>),
    /// Of a message, made for this run only once: whoever has it has that message.
    Text(Vec<u8>),
    /// A granule's bytes, for which the number of the write stands that made them.
    Written(u64),
    /// Of GETALL.
    Values(Vec<u16>),
}

/// A life of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LifeId {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
}

impl From<Membership> for LifeId {
    fn from(member: Membership) -> LifeId {
        LifeId {
            node: member.node,
            incarnation: member.incarnation,
        }
    }
}

/// One frame.
#[derive(Clone, Debug)]
pub(super) enum Letter {
    /// Peers greet.
    Hello { from: LifeId, to: LifeId },
    /// What peers say then.
    Peer(Message<'static>, Payload),
    /// A node's first word to a referee.
    Join(Option<Membership>),
    /// The referee's first word.
    Welcome(Membership),
    /// It does not want the node; `true`: later it may.
    Refused(bool),
    /// A node's later ones.
    ToReferee(ToReferee),
    /// The referee's later ones, but [`ToNode::Member`].
    ToNode(ToNode<'static>),
    /// [`ToNode::Member`] with the host for its address.
    Member {
        life: LifeId,
        host: usize,
        you_connect: bool,
    },
}
