//! The names of things.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A node's short number in its cluster, 1 to 255, given by the referee and
/// kept as long as the referee remembers the node's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct NodeId(u8);

impl NodeId {
    /// The only node of a cluster of one.
    pub const SOLO: NodeId = NodeId(1);

    /// `None` for 0, which numbers no node.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(NodeId(number))
        }
    }

    /// 1 to 255.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for NodeId {
    type Error = &'static str;
    fn try_from(number: u8) -> Result<Self, Self::Error> {
        NodeId::new(number).ok_or("node number 0")
    }
}

impl From<NodeId> for u8 {
    fn from(node: NodeId) -> u8 {
        node.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One life of a node. A node that was declared dead comes back only with a
/// higher one; what an earlier one said changes nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A process of the cluster: the node it runs on and its process id there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Pid {
    /// Where the process runs.
    pub node: NodeId,
    /// Its process id as that node's daemon sees it.
    pub pid: u32,
}

impl Pid {
    /// Linux never gives a process id of more than 22 bits (`PID_MAX_LIMIT`).
    const PID_BITS: u32 = 22;

    /// What a program on `viewer` finds in a pid field (`GETPID`, `shm_lpid`, …).
    ///
    /// A process of the viewer's node has its plain pid. A foreign one carries
    /// its node's number above the largest pid that Linux gives: it names the
    /// process for a reader, and `kill` of it fails with ESRCH instead of
    /// hitting a stranger.
    pub const fn seen_from(self, viewer: NodeId) -> i32 {
        if self.node.0 == viewer.0 {
            self.pid as i32
        } else {
            (((self.node.0 as u32) << Self::PID_BITS) | (self.pid & ((1 << Self::PID_BITS) - 1)))
                as i32
        }
    }
}

/// The three mechanisms. Their keys are separate name spaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A set of semaphores.
    Sem,
    /// A message queue.
    Msg,
    /// A shared memory segment.
    Shm,
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Kind; 3] = [Kind::Sem, Kind::Msg, Kind::Shm];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Sem => "sem",
            Kind::Msg => "msg",
            Kind::Shm => "shm",
        })
    }
}

/// The id of a distributed object, the same on every node of the cluster.
///
/// It is what a program gets from `semget`, `msgget` or `shmget`:
///
/// ```text
/// bit  31 │ 30 │ 29 ─ 22 │ 21 ─ 0
///       0 │  1 │  home   │ serial
/// ```
///
/// Bit 30 tells it from a kernel id: those reach so high only after a slot was
/// used more than 32 767 times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct ObjectId(i32);

impl ObjectId {
    const MARK: i32 = 1 << 30;
    const SERIAL_BITS: u32 = 22;
    /// How many serials a home has.
    pub const SERIALS: u32 = 1 << Self::SERIAL_BITS;

    /// The id of the object that `home` made as its `serial`th; the serial is
    /// taken modulo [`Self::SERIALS`].
    pub const fn new(home: NodeId, serial: u32) -> Self {
        ObjectId(
            Self::MARK | ((home.0 as i32) << Self::SERIAL_BITS) | (serial % Self::SERIALS) as i32,
        )
    }

    /// `None` when `raw` cannot be the id of a distributed object.
    pub const fn from_raw(raw: i32) -> Option<Self> {
        if raw < 0 || raw & Self::MARK == 0 || (raw >> Self::SERIAL_BITS) & 0xff == 0 {
            None
        } else {
            Some(ObjectId(raw))
        }
    }

    /// What the program sees.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The node whose daemon holds the object.
    pub const fn home(self) -> NodeId {
        NodeId(((self.0 >> Self::SERIAL_BITS) & 0xff) as u8)
    }

    /// Which of its home's objects this is.
    pub const fn serial(self) -> u32 {
        (self.0 as u32) % Self::SERIALS
    }
}

impl TryFrom<i32> for ObjectId {
    type Error = &'static str;
    fn try_from(raw: i32) -> Result<Self, Self::Error> {
        ObjectId::from_raw(raw).ok_or("not the id of a distributed object")
    }
}

impl From<ObjectId> for i32 {
    fn from(id: ObjectId) -> i32 {
        id.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{}", self.home(), self.serial())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn an_id_carries_home_and_serial_and_survives_the_trip_through_a_c_int() {
        for (home, serial) in [(1, 0), (7, 123_456), (255, ObjectId::SERIALS - 1)] {
            let id = ObjectId::new(node(home), serial);
            assert!(id.raw() >= 1 << 30);
            assert_eq!((id.home(), id.serial()), (node(home), serial));
            assert_eq!(ObjectId::from_raw(id.raw()), Some(id));
        }
    }

    #[test]
    fn ids_that_are_not_ours_are_told_apart() {
        for raw in [-1, 0, 32_768, (1 << 30) - 1, 1 << 30] {
            assert_eq!(ObjectId::from_raw(raw), None, "{raw}");
        }
    }

    #[test]
    fn a_foreign_pid_is_above_every_pid_that_linux_gives() {
        let pid = Pid {
            node: node(2),
            pid: 4_194_304 - 1,
        };
        assert_eq!(pid.seen_from(node(2)), 4_194_303);
        assert!(pid.seen_from(node(1)) > 4_194_304);
        let last = Pid {
            node: node(255),
            pid: 1,
        };
        assert!(last.seen_from(node(1)) > 0);
    }
}
