//! The System V calls as values.
//!
//! A [`Call`] is what a program asked, whoever carries it: the shim sends it to
//! its daemon, and the daemon sends it on to the object's home when that is
//! another node. Variable parts (operations, messages, arrays of values) travel
//! as the frame's payload; each variant says which.

use serde::{Deserialize, Serialize};

use crate::{Errno, Kind, ObjectId, Pid};

/// Flag bits of the `*get`, `*op` and `*at` calls. They have the same value on
/// every Linux architecture, so they travel as they are.
pub mod flags {
    /// `IPC_CREAT`
    pub const CREAT: u32 = 0o1000;
    /// `IPC_EXCL`
    pub const EXCL: u32 = 0o2000;
    /// `IPC_NOWAIT`
    pub const NOWAIT: u32 = 0o4000;
    /// `IPC_DIPC`: this object is distributed.
    pub const DIPC: u32 = 0o10000;
    /// `IPC_OWN` of the original DIPC: accepted and without effect.
    pub const OWN: u32 = 0o20000;
    /// `SEM_UNDO`
    pub const UNDO: u32 = 0x1000;
    /// `MSG_NOERROR`
    pub const NOERROR: u32 = 0o10000;
    /// `MSG_EXCEPT`
    pub const EXCEPT: u32 = 0o20000;
    /// `MSG_COPY`
    pub const COPY: u32 = 0o40000;
    /// `SHM_RDONLY`
    pub const RDONLY: u32 = 0o10000;
    /// `SHM_RND`
    pub const RND: u32 = 0o20000;
    /// `SHM_REMAP`
    pub const REMAP: u32 = 0o40000;
    /// `SHM_EXEC`
    pub const EXEC: u32 = 0o100000;
    /// `SHM_DEST`, a mode bit: destroy when the last attachment goes.
    pub const DEST: u16 = 0o1000;
    /// `SHM_LOCKED`, a mode bit.
    pub const LOCKED: u16 = 0o2000;
}

/// `IPC_PRIVATE`
pub const PRIVATE: i32 = 0;

/// One System V call on distributed objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Call {
    /// `semget`, `msgget`, `shmget`. `size` is the number of semaphores or of
    /// bytes, and 0 for queues. Answered by [`Reply::Id`].
    Get {
        /// Which of the three.
        kind: Kind,
        /// The key; [`PRIVATE`] always creates.
        key: i32,
        /// `nsems` as the caller gave it, or the segment's size in bytes.
        size: u64,
        /// The caller's flags, permission bits included.
        flags: u32,
    },
    /// `semop`, `semtimedop`. Payload: the operations, [`SemOp::BYTES`] each.
    /// Answered by [`Reply::Done`].
    SemOp {
        /// The set.
        id: ObjectId,
        /// How long to wait, in nanoseconds; `None` for ever.
        timeout: Option<u64>,
    },
    /// One of `semctl`'s commands on values.
    Sem {
        /// The set.
        id: ObjectId,
        /// What to do with it.
        command: SemCommand,
    },
    /// `msgsnd`. Payload: the text. Answered by [`Reply::Done`].
    MsgSnd {
        /// The queue.
        id: ObjectId,
        /// The message's type.
        mtype: i64,
        /// `IPC_NOWAIT`.
        flags: u32,
    },
    /// `msgrcv`. Answered by [`Reply::Message`].
    MsgRcv {
        /// The queue.
        id: ObjectId,
        /// Which message: see msgrcv(2).
        mtype: i64,
        /// Room for how many bytes of text.
        size: u64,
        /// `IPC_NOWAIT`, `MSG_NOERROR`, `MSG_EXCEPT`, `MSG_COPY`.
        flags: u32,
    },
    /// `IPC_STAT` and, with `any`, the `*_STAT_ANY` that needs no permission.
    /// Answered by [`Reply::Sem`], [`Reply::Msg`] or [`Reply::Shm`].
    Stat {
        /// What `id` is taken for: an id of another kind is EINVAL.
        kind: Kind,
        /// The object.
        id: ObjectId,
        /// Without looking at read permission.
        any: bool,
    },
    /// `IPC_SET`. Answered by [`Reply::Done`]. Payload: none from a program;
    /// between nodes the new owner's and group's names, `owner NUL group`, which
    /// count instead of the numbers.
    Set {
        /// What `id` is taken for.
        kind: Kind,
        /// The object.
        id: ObjectId,
        /// The new owner, a user id of the caller's node.
        uid: u32,
        /// The new group, of the caller's node.
        gid: u32,
        /// The new mode; the low nine bits count.
        mode: u16,
        /// `msg_qbytes`, for queues only.
        qbytes: Option<u64>,
    },
    /// `IPC_RMID`. Answered by [`Reply::Done`].
    Remove {
        /// What `id` is taken for.
        kind: Kind,
        /// The object.
        id: ObjectId,
    },
    /// `SHM_LOCK`, `SHM_UNLOCK`. Answered by [`Reply::Done`].
    Lock {
        /// The segment.
        id: ObjectId,
        /// `SHM_LOCK` or `SHM_UNLOCK`.
        lock: bool,
    },
    /// The home's part of `shmat`: count one more attachment. Answered by
    /// [`Reply::Attached`]. Followed by [`Mapped`](crate::peer::Message::Mapped)
    /// or [`Call::Abandon`].
    Attach {
        /// The segment.
        id: ObjectId,
        /// `SHM_RDONLY`, `SHM_EXEC`.
        flags: u32,
    },
    /// The home's part of `shmdt`. Answered by [`Reply::Done`].
    Detach {
        /// The segment.
        id: ObjectId,
        /// How many attachments are gone.
        count: u32,
    },
    /// A process with attachments forked: count its child's. Answered by
    /// [`Reply::Done`].
    Inherit {
        /// The segment.
        id: ObjectId,
        /// How many more attachments there are.
        count: u32,
    },
    /// `mremap` that moves: count one more mapping of an attachment, as
    /// [`Call::Attach`] does, but without a look at permission: the process has it
    /// already. Answered by [`Reply::Done`].
    Remap {
        /// The segment.
        id: ObjectId,
    },
    /// What [`Call::Attach`] or [`Call::Remap`] counted has failed: nothing of it
    /// is left. Answered by [`Reply::Done`].
    Abandon {
        /// The segment.
        id: ObjectId,
    },
}

impl Call {
    /// The object it is about; none for a look-up by key.
    pub const fn object(&self) -> Option<ObjectId> {
        match *self {
            Call::Get { .. } => None,
            Call::SemOp { id, .. }
            | Call::Sem { id, .. }
            | Call::MsgSnd { id, .. }
            | Call::MsgRcv { id, .. }
            | Call::Stat { id, .. }
            | Call::Set { id, .. }
            | Call::Remove { id, .. }
            | Call::Lock { id, .. }
            | Call::Attach { id, .. }
            | Call::Detach { id, .. }
            | Call::Inherit { id, .. }
            | Call::Remap { id }
            | Call::Abandon { id } => Some(id),
        }
    }

    /// Whether only a daemon may make it: it accounts for attachments, which a
    /// program's daemon counts itself.
    pub const fn is_between_nodes(&self) -> bool {
        matches!(
            self,
            Call::Attach { .. }
                | Call::Detach { .. }
                | Call::Inherit { .. }
                | Call::Remap { .. }
                | Call::Abandon { .. }
        )
    }
}

/// `semctl`'s commands that read or write values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SemCommand {
    /// `GETVAL` → [`Reply::Value`]
    GetValue(i32),
    /// `GETPID` → [`Reply::Process`]
    GetPid(i32),
    /// `GETNCNT` → [`Reply::Value`]
    GetNcnt(i32),
    /// `GETZCNT` → [`Reply::Value`]
    GetZcnt(i32),
    /// `GETALL` → [`Reply::Values`]
    GetAll,
    /// `SETVAL`: which semaphore, what value. → [`Reply::Done`]
    SetValue(i32, i32),
    /// `SETALL`. Payload: the values, two little-endian bytes each. → [`Reply::Done`]
    SetAll,
}

/// One element of `semop`'s array (`struct sembuf`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SemOp {
    /// Which semaphore of the set.
    pub num: u16,
    /// What to add; 0 waits for zero.
    pub op: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`; other bits are ignored.
    pub flags: u16,
}

impl SemOp {
    /// Length of one operation in a payload.
    pub const BYTES: usize = 6;

    /// As it travels.
    pub const fn encode(self) -> [u8; Self::BYTES] {
        let (n, o, f) = (
            self.num.to_le_bytes(),
            self.op.to_le_bytes(),
            self.flags.to_le_bytes(),
        );
        [n[0], n[1], o[0], o[1], f[0], f[1]]
    }

    /// The operations of a payload; `None` when it is no whole number of them.
    pub fn decode_all(payload: &[u8]) -> Option<impl ExactSizeIterator<Item = SemOp> + '_> {
        let chunks = payload.chunks_exact(Self::BYTES);
        if !chunks.remainder().is_empty() {
            return None;
        }
        Some(chunks.map(|b| SemOp {
            num: u16::from_le_bytes([b[0], b[1]]),
            op: i16::from_le_bytes([b[2], b[3]]),
            flags: u16::from_le_bytes([b[4], b[5]]),
        }))
    }
}

/// What became of a [`Call`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// It succeeded and has nothing to tell.
    Done,
    /// It failed and changed nothing.
    Failed(Errno),
    /// The id of the object that was found or made.
    Id(ObjectId),
    /// A semaphore's value or a number of waiters.
    Value(i32),
    /// The last process to touch a semaphore; `None` if none did.
    Process(Option<Pid>),
    /// Payload: the set's values, two little-endian bytes each.
    Values,
    /// A message. Payload: its text, cut to the room if `MSG_NOERROR` allowed.
    Message {
        /// The message's type.
        mtype: i64,
    },
    /// `IPC_STAT` of a set.
    #[serde(borrow)]
    Sem(SemStat<'a>),
    /// `IPC_STAT` of a queue.
    Msg(MsgStat<'a>),
    /// `IPC_STAT` of a segment.
    Shm(ShmStat<'a>),
    /// The segment may be mapped.
    Attached {
        /// Its size in bytes, as asked for at its creation.
        size: u64,
        /// Its unit of coherence in bytes: a multiple of 4096.
        granule: u64,
        /// How long a node keeps a granule, in nanoseconds.
        quantum: u64,
        /// Whether the caller has write permission, whatever it asked for.
        may_write: bool,
    },
}

impl<'a> Reply<'a> {
    /// Which kind of object an answer to [`Call::Stat`] describes; `None` for
    /// all other replies.
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Reply::Sem(_) => Some(Kind::Sem),
            Reply::Msg(_) => Some(Kind::Msg),
            Reply::Shm(_) => Some(Kind::Shm),
            _ => None,
        }
    }

    /// The permission record in an answer to [`Call::Stat`].
    pub const fn perm(&self) -> Option<&Perm<'a>> {
        match self {
            Reply::Sem(stat) => Some(&stat.perm),
            Reply::Msg(stat) => Some(&stat.perm),
            Reply::Shm(stat) => Some(&stat.perm),
            _ => None,
        }
    }

    /// The same, to change it.
    pub const fn perm_mut(&mut self) -> Option<&mut Perm<'a>> {
        match self {
            Reply::Sem(stat) => Some(&mut stat.perm),
            Reply::Msg(stat) => Some(&mut stat.perm),
            Reply::Shm(stat) => Some(&mut stat.perm),
            _ => None,
        }
    }
}

/// `struct ipc_perm`. Numbers are of the home's node; where a name is given, it
/// is the login or group of that number there, for the asker's node to resolve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the fields of ipc_perm
pub struct Perm<'a> {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u16,
    pub seq: u16,
    pub owner: &'a str,
    pub group: &'a str,
    pub creator: &'a str,
    pub creator_group: &'a str,
}

/// `struct semid_ds`; times in seconds since the epoch by the home's clock, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the fields of semid_ds
pub struct SemStat<'a> {
    #[serde(borrow)]
    pub perm: Perm<'a>,
    pub otime: i64,
    pub ctime: i64,
    pub nsems: u32,
}

/// `struct msqid_ds`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the fields of msqid_ds
pub struct MsgStat<'a> {
    #[serde(borrow)]
    pub perm: Perm<'a>,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    pub cbytes: u64,
    pub qnum: u64,
    pub qbytes: u64,
    pub lspid: Option<Pid>,
    pub lrpid: Option<Pid>,
}

/// `struct shmid_ds`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the fields of shmid_ds
pub struct ShmStat<'a> {
    #[serde(borrow)]
    pub perm: Perm<'a>,
    pub size: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: Option<Pid>,
    pub lpid: Option<Pid>,
    pub nattch: u64,
    /// The unit of coherence in bytes.
    pub granule: u64,
    /// The time quantum in nanoseconds.
    pub quantum: u64,
}
