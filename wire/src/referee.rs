//! `dipcd` ↔ `dipc-referee`, over TCP.
//!
//! A node says [`Join`], then what it has ([`ToReferee::Owns`],
//! [`ToReferee::Holds`]), then [`ToReferee::Settled`]. The referee says [`Answer`], then [`ToNode`]
//! messages. Afterwards both sides speak when they have something to say, and
//! ping when they have not: at least every quarter of the time-out.
//!
//! What a node that lost its referee has to know:
//!
//! - It keeps trying to come back, with its [`Membership`], at least every
//!   quarter of the time-out. After a whole one its life is over.
//! - A question dies with the connection it was asked on: it is asked again on
//!   the next. So does a [`ToNode::Create`]: an object that was made in time is
//!   among the `Owns`, and what is not there when `Settled` is said may no more
//!   be made without asking again.
//! - `Refused` to one that shows its membership is what [`ToNode::Fenced`] is.
//! - It says `Settled` within a time-out of its welcome, or its life is over.
//! - A newcomer's answer can take two time-outs: a referee that has just
//!   started first hears the members of before.

use serde::{Deserialize, Serialize};

use crate::{Incarnation, Kind, Limits, NodeId, ObjectId};

/// The lowest and the highest version that this build speaks. In version 1 the
/// welcome had no limits, and a question no weight.
pub const VERSIONS: (u16, u16) = (2, 2);
/// Tells a node's connection from a stranger's: "refe" in ASCII.
pub const MAGIC: u32 = 0x7265_6665;

/// A membership that was given earlier: a node that lost its referee shows it
/// to the next one, and stays who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster's random number.
    pub cluster: u64,
    /// The node's number.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// A node's first message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Join<'a> {
    /// [`MAGIC`]
    pub magic: u32,
    /// [`VERSIONS`] of the sender.
    pub versions: (u16, u16),
    /// The node's name, unique in the cluster, at most
    /// [`crate::peer::MAX_NAME`] bytes.
    pub name: &'a str,
    /// Where its peers reach it: `address:port`.
    pub address: &'a str,
    /// Who it was, if it was a member before.
    pub member: Option<Membership>,
}

/// The referee's first message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer<'a> {
    /// The node is a member. The others follow as [`ToNode::Member`].
    Welcome {
        /// The version both will speak.
        version: u16,
        /// Who the node is now.
        member: Membership,
        /// After how long without a sign of life a node is dead, in
        /// milliseconds. One number for the whole cluster.
        timeout_ms: u32,
        /// The cluster's limits.
        limits: Limits,
    },
    /// It is not; `reason` is for people.
    Refused {
        /// What is wrong and what to do.
        reason: &'a str,
        /// Whether trying again later can help.
        retry: bool,
    },
}

/// What a node says to its referee.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ToReferee {
    /// This key's home is here, and has been: said after [`Join`].
    Owns {
        /// The key's name space.
        kind: Kind,
        /// The key.
        key: i32,
        /// The object.
        id: ObjectId,
    },
    /// These members are known to me, dead or alive: said after [`Join`] so
    /// that a referee that restarted knows whom to wait for.
    Knows {
        /// Another node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// All of `Owns` and `Knows` is said.
    Settled,
    /// Where is this key? Answered by [`ToNode::Found`] or [`ToNode::Absent`];
    /// with `create`, by [`ToNode::Found`], [`ToNode::Create`] or [`ToNode::Full`].
    Resolve {
        /// Names the answer.
        tag: u64,
        /// The key's name space.
        kind: Kind,
        /// The key. `IPC_PRIVATE` is nobody's, and makes sense with `create`
        /// only.
        key: i32,
        /// The asker would create it, as an object of this
        /// [weight](crate::limits::weight).
        create: Option<u64>,
        /// The object that an earlier answer named, whose home says that it is
        /// gone: wait until the referee has heard so too.
        not: Option<ObjectId>,
    },
    /// After [`ToNode::Create`]: done, this is it.
    Created {
        /// Of the question.
        tag: u64,
        /// The new object.
        id: ObjectId,
    },
    /// After [`ToNode::Create`]: it failed; let somebody else.
    Abandoned {
        /// Of the question.
        tag: u64,
    },
    /// The object is gone and its key is free.
    Released {
        /// The key's name space.
        kind: Kind,
        /// The key.
        key: i32,
        /// Which object had it.
        id: ObjectId,
    },
    /// My connection to that peer broke, after both had said
    /// [`crate::peer::Hello`] on it. Costs that peer its life. A newcomer that
    /// cannot reach a member says [`ToReferee::Leave`] instead.
    PeerLost {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// I end in an orderly way.
    Leave,
    /// I live.
    Ping,
    /// This object is here, with or without a key, and counts against the
    /// cluster's limits: said after [`Join`].
    Holds {
        /// What it is.
        kind: Kind,
        /// The object.
        id: ObjectId,
        /// Its [weight](crate::limits::weight).
        weight: u64,
    },
    /// The object is gone, and counts no more. A segment that was removed goes
    /// only with its last attachment.
    Freed {
        /// What it was.
        kind: Kind,
        /// The object.
        id: ObjectId,
    },
    /// The answer to [`ToNode::Flush`].
    Flushed {
        /// Its number.
        round: u64,
    },
}

/// What the referee says to a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToNode<'a> {
    /// A member of the cluster; never the receiver itself. A node that came
    /// back hears after `Settled` of those that it did not say it `Knows`.
    Member {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Its name.
        name: &'a str,
        /// Where it listens for its peers.
        address: &'a str,
        /// Who opens the connection of the two: the one that joined later,
        /// which is the one with the higher incarnation.
        you_connect: bool,
    },
    /// A member is no more: it left, or is declared dead. For ever, in that life.
    /// May be said twice.
    Gone {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// The key has this object; its home is in the id.
    Found {
        /// Of the question.
        tag: u64,
        /// The object.
        id: ObjectId,
    },
    /// Nobody has the key.
    Absent {
        /// Of the question.
        tag: u64,
    },
    /// Nobody has the key, and the asker is the one to create it. Nobody else
    /// gets an answer about it before [`ToReferee::Created`] or
    /// [`ToReferee::Abandoned`].
    Create {
        /// Of the question.
        tag: u64,
    },
    /// You were declared dead in this life and must end it.
    Fenced,
    /// I live.
    Ping,
    /// The answer to [`ToReferee::Settled`]: every present member has been told.
    Complete,
    /// Nobody has the key, but with the object that the asker would create the
    /// cluster would be over a limit.
    Full {
        /// Of the question.
        tag: u64,
    },
    /// Say [`ToReferee::Flushed`], behind all that you have said: I am about to
    /// refuse somebody for want of room, and you may have made some.
    Flush {
        /// Names the answer.
        round: u64,
    },
}
