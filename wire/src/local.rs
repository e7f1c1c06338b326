//! Program ↔ `dipcd`, over a Unix socket of type `SOCK_SEQPACKET`.
//!
//! Every thread that calls has a connection of its own, and asks one thing at a
//! time: a [`Request`] is answered by exactly one [`Response`]. The exception is
//! [`Request::Withdraw`], which has no answer of its own: it asks for the answer
//! that is already due, at once.
//!
//! Why packets: on a stream socket the kernel wakes a thread that waits for its
//! answer also when its *request* is read, for nothing; that cost a third of a
//! `semop`. How frames are cut into packets:
//!
//! - a frame of at most [`ONE_PACKET`] bytes is one packet;
//! - of a longer one, prefix and header are the first packet, and the payload
//!   follows in packets of at most [`PACKET`] bytes.
//!
//! So whoever awaits an answer without payload needs room for its header only,
//! and bulk bytes can be received where they belong.
//!
//! Who asks is what the kernel says of each packet (`SO_PASSCRED`, unix(7)): the
//! first packet of a request says it in full, with the effective user and group
//! (`SCM_CREDENTIALS`). One without is the real user's. A packet of another
//! process than the one that connected is ignored.
//!
//! Both sides are of one version, which the first exchange ([`Hello`],
//! [`HelloReply`]) checks. Those two never change.

use serde::{Deserialize, Serialize};

use crate::call::{Call, Reply};
use crate::census::Census;
use crate::sharing::Wish;
use crate::{Kind, Limits, NodeId, ObjectId};

/// The version of everything in this module but the hello. Version 1 had no
/// request behind [`Request::Status`], and no response behind [`Response::Rows`];
/// version 2 no request behind [`Request::Limits`].
pub const VERSION: u16 = 3;
/// The longest frame that is sent as one packet: a message of the kernel's
/// default `msgmax`, with its header.
pub const ONE_PACKET: usize = 9 << 10;
/// The longest packet. Whoever receives one needs room for it, for each of its
/// connections.
pub const PACKET: usize = 16 << 10;
/// Tells a dipc connection from a stranger's: "dipc" in ASCII.
pub const MAGIC: u32 = 0x6469_7063;

/// Where a machine's `dipcd` listens, and where programs look for it first,
/// unless `DIPC_SOCKET` names another path.
pub const SYSTEM_SOCKET: &str = "/run/dipc/dipcd.sock";
/// Where programs look next: a user's own `dipcd`, below `$XDG_RUNTIME_DIR`.
pub const USER_SOCKET: &str = "dipc/dipcd.sock";

/// The first message of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]
    pub magic: u32,
    /// [`VERSION`] of the sender.
    pub version: u16,
}

impl Hello {
    /// What this version says.
    pub const fn ours() -> Self {
        Hello {
            magic: MAGIC,
            version: VERSION,
        }
    }
}

/// Its answer. When `accepted` is false the connection is closed behind it: a
/// daemon of the sender's version then has no room for it, now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloReply {
    /// The daemon's version.
    pub version: u16,
    /// Whether it serves the sender.
    pub accepted: bool,
    /// The daemon's node; meaningful when accepted.
    pub node: NodeId,
}

/// What a program asks of its daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// A System V call; its payload is the call's. `Attach`, `Detach` and
    /// `Inherit` are not accepted here: a program says [`Attach`](Self::Attach)
    /// and [`Detach`](Self::Detach). Answered by [`Response::Reply`].
    Call(Call),
    /// A signal came: the pending call shall end with EINTR, unless it has
    /// ended already. No answer of its own.
    Withdraw,
    /// `shmat`, first half. Answered by [`Response::Attached`] with descriptors,
    /// or by a failed [`Response::Reply`].
    Attach {
        /// The segment.
        id: ObjectId,
        /// `SHM_RDONLY`, `SHM_EXEC`.
        flags: u32,
        /// This process has no userfaultfd registered with this daemon yet.
        need_uffd: bool,
    },
    /// `shmat`, second half: the segment lies, inaccessible, at this address.
    /// Carries the process's userfaultfd if `need_uffd` was said. The daemon
    /// registers the range before it answers by [`Response::Reply`].
    Map {
        /// Where.
        addr: u64,
    },
    /// `shmat` failed between the halves. Answered by [`Response::Reply`].
    Abandon,
    /// A mapping is already gone, all of it: by `shmdt`, `munmap`, or another
    /// mapping in its place. Answered by [`Response::Reply`].
    Detach {
        /// Where it lay.
        addr: u64,
    },
    /// The first request of a process that was forked while its parent had
    /// attachments. Payload: [`Inherited::BYTES`] each. With a userfaultfd when
    /// the daemon has no fork events ([`Response::Attached`] told so).
    /// Answered by [`Response::Reply`].
    Forked {
        /// The parent's process id.
        parent: u32,
    },
    /// What objects are there, in the whole cluster? Answered by
    /// [`Response::Rows`], with a postcard `Vec<`[`crate::admin::Object`]`>` as payload.
    List,
    /// How is the cluster? Answered by [`Response::Rows`], with a postcard
    /// `Vec<`[`crate::admin::NodeStatus`]`>` as payload.
    Status,
    /// `*_INFO`: what has the cluster of this kind? The daemon keeps the list
    /// for this process, for [`Entry`](Self::Entry). Answered by
    /// [`Response::Census`].
    Census {
        /// Of which kind.
        kind: Kind,
        /// The process may also remove what it only knows from this list
        /// (`DIPC_SWEEP=1`); else see [`Response::OnlyListed`].
        sweep: bool,
    },
    /// `*_STAT` by index: which object is at this place of the process's list?
    /// Answered by [`Reply::Id`], or EINVAL past its end.
    Entry {
        /// Of which kind.
        kind: Kind,
        /// The place, from 0.
        place: u32,
        /// As in [`Census`](Self::Census).
        sweep: bool,
    },
    /// `/proc/sysvipc/KIND`: the lines of the cluster's objects, in the kernel's
    /// columns. Answered by [`Response::Lines`].
    Lines {
        /// Of which kind.
        kind: Kind,
        /// As in [`Census`](Self::Census).
        sweep: bool,
    },
    /// Which thread of the process asks from now on; before that, and if it is
    /// never said, it is the process's first. Its supplementary groups and
    /// capabilities are looked up when they matter. No answer.
    Thread {
        /// As `gettid` says it.
        tid: u32,
    },
    /// A part of a mapping is already gone; what is left of it are mappings of
    /// their own, as in the kernel. Answered by [`Response::Reply`].
    Unmapped {
        /// Where the part began.
        addr: u64,
        /// How many bytes.
        len: u64,
    },
    /// A part of a mapping has another protection, or `fork` treats it otherwise,
    /// than the rest: they are mappings of their own from now on, as in the
    /// kernel. Answered by [`Response::Reply`].
    Changed {
        /// Where the part begins.
        addr: u64,
        /// How many bytes.
        len: u64,
        /// Whether `fork` duplicates it (`MADV_DOFORK`, `MADV_DONTFORK`), if that
        /// has changed.
        inherited: Option<bool>,
    },
    /// `mremap`, first half: what a mapping shows from here on shall lie elsewhere
    /// too. Goes on as [`Attach`](Self::Attach) does, with [`Map`](Self::Map) or
    /// [`Abandon`](Self::Abandon); that the old place is gone is another request.
    Remap {
        /// Where it lies now, in whole pages.
        addr: u64,
        /// How many bytes to map from there on, in whole pages: more than lie there
        /// if the segment has them.
        len: u64,
        /// As in `Attach`.
        need_uffd: bool,
    },
    /// What are the cluster's limits? Answered by [`Response::Limits`]. They may
    /// change when a referee is started anew.
    Limits,
    /// `shmget` of a program that wants the segments it makes shared in its own
    /// way; one that is found stays as it is. Answered by [`Reply::Id`]. EINVAL if
    /// no segment can be shared so.
    GetSegment {
        /// The key; [`PRIVATE`](crate::call::PRIVATE) always creates.
        key: i32,
        /// The segment's size in bytes.
        size: u64,
        /// The caller's flags, permission bits included.
        flags: u32,
        /// How.
        wish: Wish,
    },
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Response<'a> {
    /// To most requests; the payload is the reply's.
    #[serde(borrow)]
    Reply(Reply<'a>),
    /// To [`Request::Attach`] and [`Request::Remap`]. Comes with the segment's memfd and, if
    /// `device`, an open `/dev/userfaultfd` behind it.
    Attached {
        /// How many bytes to map: the size rounded up to whole pages, or as many
        /// as `Remap` asked for.
        len: u64,
        /// A second descriptor, `/dev/userfaultfd`, makes a userfaultfd that
        /// also serves faults inside system calls.
        device: bool,
        /// Children report their mappings themselves ([`Request::Forked`] with
        /// a userfaultfd), because this daemon gets no fork events.
        adopt: bool,
    },
    /// Payload: postcard rows.
    Rows,
    /// To [`Request::Census`].
    Census(Census),
    /// To [`Request::Lines`]. Comes with a file of so many bytes; without one if
    /// there are none.
    Lines {
        /// How long the file is.
        len: u64,
    },
    /// To [`Call::Remove`], which is refused: this process knows the object
    /// from a list only, and has not asked for it by key nor made it. So that
    /// `ipcrm -a` does not sweep a cluster by accident.
    OnlyListed,
    /// To [`Request::Limits`].
    Limits(Limits),
}

/// One attachment that a forked child found in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inherited {
    /// The segment.
    pub id: i32,
    /// Attached with `SHM_RDONLY`.
    pub readonly: bool,
    /// Where.
    pub addr: u64,
    /// How many bytes.
    pub len: u64,
}

impl Inherited {
    /// Length of one attachment in a payload.
    pub const BYTES: usize = 24;

    /// As it travels.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.id.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::from(self.readonly).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.addr.to_le_bytes());
        bytes[16..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// The attachments of a payload; `None` when it is no whole number of them.
    pub fn decode_all(payload: &[u8]) -> Option<impl ExactSizeIterator<Item = Inherited> + '_> {
        let chunks = payload.chunks_exact(Self::BYTES);
        if !chunks.remainder().is_empty() {
            return None;
        }
        let word = |b: &[u8]| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Some(chunks.map(move |b| Inherited {
            id: word(&b[..8]) as u32 as i32,
            readonly: word(&b[..8]) >> 32 != 0,
            addr: word(&b[8..16]),
            len: word(&b[16..]),
        }))
    }
}
