//! `dipcd` ↔ `dipcd`, over TCP.
//!
//! One connection a pair of nodes, opened by the one that joined later. Both
//! say [`Hello`] first; what follows is [`Message`]s, in order, either way. The
//! connection is never opened anew: its loss is the death of that peer's
//! incarnation.

use serde::{Deserialize, Serialize};

use crate::call::{Call, Reply};
use crate::coherence;
use crate::{Incarnation, Kind, NodeId, ObjectId};

/// The lowest and the highest version that this build speaks. In version 1 a
/// caller had no capabilities, and nobody asked for a census; in version 2 every
/// granule was a page, and a ping acknowledged nothing.
pub const VERSIONS: (u16, u16) = (3, 3);
/// Tells a peer's connection from a stranger's: "peer" in ASCII.
pub const MAGIC: u32 = 0x7065_6572;
/// The most bytes of a granule that one frame carries: what is sent behind it, a
/// sign of life above all, must not wait long.
pub const PIECE: usize = 1 << 20;
/// The longest login, group or node name that travels, in bytes.
pub const MAX_NAME: usize = 64;

/// The highest version in both ranges, if there is one.
pub fn common_version(a: (u16, u16), b: (u16, u16)) -> Option<u16> {
    let highest = a.1.min(b.1);
    (highest >= a.0.max(b.0)).then_some(highest)
}

/// The first message in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]
    pub magic: u32,
    /// [`VERSIONS`] of the sender.
    pub versions: (u16, u16),
    /// The referee's random number for the cluster: nodes of different
    /// clusters do not talk.
    pub cluster: u64,
    /// Who speaks.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// To whom.
    pub to: NodeId,
    /// In which life the sender believes the receiver to be.
    pub to_incarnation: Incarnation,
}

/// The capabilities(7) that System V IPC looks at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// `CAP_IPC_OWNER`: passes every read and write check.
    pub ipc_owner: bool,
    /// `CAP_SYS_ADMIN`: passes every owner check.
    pub sys_admin: bool,
    /// `CAP_IPC_LOCK`: may lock any segment.
    pub ipc_lock: bool,
    /// `CAP_SYS_RESOURCE`: may raise a queue above `msgmnb`.
    pub sys_resource: bool,
}

impl Capabilities {
    /// None of them: what an ordinary user has.
    pub const NONE: Capabilities = Capabilities {
        ipc_owner: false,
        sys_admin: false,
        ipc_lock: false,
        sys_resource: false,
    };
    /// All of them: what root usually has.
    pub const ALL: Capabilities = Capabilities {
        ipc_owner: true,
        sys_admin: true,
        ipc_lock: true,
        sys_resource: true,
    };
}

/// On whose behalf a call is made, as it is at the moment of the call. The home
/// maps the login to its own user id and groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caller<'a> {
    /// The calling process, on the sender's node.
    pub pid: u32,
    /// The login of its effective user; `#UID` where the sender's node knows no
    /// login for the number.
    pub login: &'a str,
    /// What root may do; none for all others, whose capabilities count on their
    /// own node only.
    pub capabilities: Capabilities,
}

/// What nodes say to each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<'a> {
    /// A call on an object of the receiver. Payload: the call's.
    Call {
        /// Names the call in its reply, and in [`Message::Withdraw`]; the
        /// sender's choice.
        tag: u64,
        /// For whom.
        #[serde(borrow)]
        caller: Caller<'a>,
        /// What.
        call: Call,
    },
    /// The one answer to a call. Payload: the reply's.
    Reply {
        /// Of which call.
        tag: u64,
        /// What became of it.
        #[serde(borrow)]
        reply: Reply<'a>,
    },
    /// The caller no longer waits: end the call with EINTR unless it has ended.
    Withdraw {
        /// Which call.
        tag: u64,
    },
    /// A semaphore operation that blocked was granted, and its process died
    /// before it could learn of it: take the operation back. Payload: the
    /// operations.
    UndeliveredOp {
        /// The set.
        id: ObjectId,
        /// The process that died.
        pid: u32,
    },
    /// A message that was received by a process that died before it could
    /// learn of it: put it back in front. Payload: the text.
    UndeliveredMessage {
        /// The queue.
        id: ObjectId,
        /// The message's type.
        mtype: i64,
    },
    /// This process has ended: apply its SEM_UNDO adjustments.
    Exited {
        /// A process of the sender's node.
        pid: u32,
    },
    /// These attachments ended with their process, by exit or exec.
    Dropped {
        /// The segment.
        id: ObjectId,
        /// The process.
        pid: u32,
        /// How many attachments.
        count: u32,
    },
    /// One step of the coherence protocol. Payload: the granule's bytes, where
    /// the message says [`coherence::Content::Data`]. A granule of one page travels
    /// as it is; of a larger one a bit for each page, the lowest first, says whether
    /// it follows, and what does not is zeros.
    Coherence {
        /// The segment.
        id: ObjectId,
        /// The step.
        message: coherence::Message,
    },
    /// Home → caches: the segment is destroyed; drop its memory.
    Destroyed {
        /// The segment.
        id: ObjectId,
    },
    /// What objects are at the receiver? Answered by [`Message::Rows`].
    List {
        /// Names the answer.
        tag: u64,
    },
    /// How is the receiver? Answered by [`Message::Rows`].
    Status {
        /// Names the answer.
        tag: u64,
    },
    /// Payload: postcard rows of [`crate::admin`].
    Rows {
        /// Of which question.
        tag: u64,
    },
    /// I live. Sent eight times in a time-out, and as an answer.
    Ping {
        /// Counts the sender's pings from 1; 0 is the answer to one, and has none
        /// itself.
        number: u64,
        /// The highest number that the sender has heard from the receiver.
        heard: u64,
    },
    /// What objects of this kind are at the receiver? Answered by
    /// [`Message::Rows`], with a postcard `Vec<`[`crate::census::Entry`]`>` as
    /// payload.
    Census {
        /// Names the answer.
        tag: u64,
        /// Of which kind.
        kind: Kind,
    },
    /// What the process was counted for by [`Call::Attach`] or [`Call::Remap`] is
    /// mapped now, and cannot be abandoned any more.
    Mapped {
        /// The segment.
        id: ObjectId,
        /// The process.
        pid: u32,
    },
    /// The bytes of the next message about this segment that has any are more than
    /// [`PIECE`]: these go before them. Payload: the bytes, [`PIECE`] of them.
    Piece {
        /// The segment.
        id: ObjectId,
    },
}
