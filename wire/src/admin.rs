//! What `dipc ls` and `dipc status` are told. These rows are for people and
//! scripts: they are built seldom, so they own their text.

use serde::{Deserialize, Serialize};

use crate::{Incarnation, Kind, NodeId, ObjectId, Pid};

/// One object of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its key, 0 for a private one.
    pub key: i32,
    /// Its id.
    pub id: ObjectId,
    /// The login of its owner.
    pub owner: String,
    /// Its permission bits, with `SHM_DEST` and `SHM_LOCKED`.
    pub mode: u16,
    /// The node that is its home.
    pub home: String,
    /// What there is of its kind.
    pub detail: Detail,
}

/// What an object of each kind has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Detail {
    /// A set.
    Sem {
        /// How many semaphores.
        nsems: u32,
        /// Last operation, seconds since the epoch.
        otime: i64,
    },
    /// A queue.
    Msg {
        /// Bytes in it.
        bytes: u64,
        /// Messages in it.
        messages: u64,
        /// Last sender.
        lspid: Option<Pid>,
        /// Last receiver.
        lrpid: Option<Pid>,
    },
    /// A segment.
    Shm {
        /// Its size in bytes.
        size: u64,
        /// Attachments in the cluster.
        nattch: u64,
        /// Its creator.
        cpid: Option<Pid>,
        /// Who attached or detached last.
        lpid: Option<Pid>,
        /// The unit of coherence in bytes.
        granule: u64,
        /// The time quantum in nanoseconds.
        quantum: u64,
    },
}

/// One node, as it describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where its peers reach it; empty in a cluster of one.
    pub address: String,
    /// Its socket for programs.
    pub socket: String,
    /// The version of its software.
    pub version: String,
    /// `dipcd`'s process id.
    pub pid: u32,
    /// Its keeper's process id.
    pub keeper: u32,
    /// The referee's address, if one is configured, and whether it answers.
    pub referee: Option<(String, bool)>,
    /// The peers it is connected to.
    pub peers: Vec<NodeId>,
    /// The programs it serves.
    pub processes: Vec<Process>,
    /// What it has done so far.
    pub counters: Counters,
    /// Connections to its port for peers that it refused: why, in a word, and
    /// how often.
    pub refused: Vec<(String, u64)>,
}

/// A program that uses distributed objects.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its login.
    pub login: String,
    /// Its name, as in `/proc/PID/comm`.
    pub command: String,
    /// Its attachments.
    pub attachments: u32,
    /// Its calls that wait.
    pub waiting: u32,
}

/// Numbers that only rise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Calls of local programs.
    pub calls: u64,
    /// Of these, calls that went to another node.
    pub remote_calls: u64,
    /// Page faults that asked to read.
    pub read_faults: u64,
    /// Page faults that asked to write.
    pub write_faults: u64,
    /// Granules that came from other nodes.
    pub granules_in: u64,
    /// Granules that went to other nodes.
    pub granules_out: u64,
    /// Frames sent to peers.
    pub messages_out: u64,
    /// Frames received from peers.
    pub messages_in: u64,
    /// Bytes sent to peers.
    pub bytes_out: u64,
}
