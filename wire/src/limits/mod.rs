//! The limits of a cluster, and which errno says that one is reached.
//!
//! They are the kernel's, by name, meaning and default. Those of one object or
//! one call are looked at by the node that makes the call; those of the number
//! of objects are of the whole cluster, which the referee counts. So referee and
//! nodes have the same ten numbers: the referee's, which it tells with its
//! welcome. `docs/limits.md` has the table for people.

mod text;

use serde::{Deserialize, Serialize};

pub use text::{BadLimit, MOST_OBJECTS};

use crate::{Errno, Kind};

/// Bytes of a page, the unit of [`Limits::shmall`].
pub const PAGE: u64 = 4096;

/// The ten limits, named as the kernel names them (behaviours 16, 24).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a segment.
    pub shmmax: u64,
    /// Pages of all segments together.
    pub shmall: u64,
    /// Segments.
    pub shmmni: u64,
    /// Semaphores of a set.
    pub semmsl: u64,
    /// Semaphores of all sets together.
    pub semmns: u64,
    /// Operations of a `semop`.
    pub semopm: u64,
    /// Sets.
    pub semmni: u64,
    /// Bytes of a message.
    pub msgmax: u64,
    /// Bytes a new queue holds; more needs CAP_SYS_RESOURCE.
    pub msgmnb: u64,
    /// Queues.
    pub msgmni: u64,
}

impl Limits {
    /// The defaults of a 64-bit Linux, from `<linux/sem.h>`, `<linux/msg.h>`
    /// and `<linux/shm.h>`.
    pub const LINUX: Limits = Limits {
        shmmax: u64::MAX - (1 << 24),
        shmall: u64::MAX - (1 << 24),
        shmmni: 4096,
        semmsl: 32_000,
        semmns: 1_024_000_000,
        semopm: 500,
        semmni: 32_000,
        msgmax: 8192,
        msgmnb: 16_384,
        msgmni: 32_000,
    };

    /// How many objects of `kind` there may be.
    pub const fn objects(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Sem => self.semmni,
            Kind::Msg => self.msgmni,
            Kind::Shm => self.shmmni,
        }
    }

    /// How much all objects of `kind` may weigh; see [`weight`].
    pub const fn total(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Sem => self.semmns,
            Kind::Msg => 0,
            Kind::Shm => self.shmall,
        }
    }

    /// What `*get` refuses before it looks for the key: EINVAL when more
    /// semaphores are asked for than any set may have (behaviour 10). A
    /// negative `nsems` that was widened to 64 bits is such a number.
    pub const fn check_get(&self, kind: Kind, size: u64) -> Result<(), Errno> {
        match kind {
            Kind::Sem if size > self.semmsl => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    /// What `*get` refuses when it must create: EINVAL for a set of none, or a
    /// segment of none or too many bytes (behaviours 8, 10, 16). That there are
    /// too many objects is looked at only afterwards.
    pub const fn check_create(&self, kind: Kind, size: u64) -> Result<(), Errno> {
        match kind {
            Kind::Sem if size == 0 || size > self.semmsl => Err(Errno::EINVAL),
            Kind::Shm if size == 0 || size > self.shmmax => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    /// What `semop` refuses before it looks for the set: EINVAL for no
    /// operations, E2BIG for too many (behaviour 23).
    pub const fn check_nsops(&self, nsops: usize) -> Result<(), Errno> {
        if nsops == 0 {
            Err(Errno::EINVAL)
        } else if nsops as u64 > self.semopm {
            Err(Errno::E2BIG)
        } else {
            Ok(())
        }
    }

    /// What `msgsnd` refuses before it looks for the queue: EINVAL for a text
    /// that is too long or a type that is not positive (behaviour 69).
    pub const fn check_message(&self, mtype: i64, len: usize) -> Result<(), Errno> {
        if len as u64 > self.msgmax || mtype < 1 {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::LINUX
    }
}

/// What an object of this size adds to the total of its kind: semaphores, pages
/// of memory, and nothing for a queue.
pub const fn weight(kind: Kind, size: u64) -> u64 {
    match kind {
        Kind::Sem => size,
        Kind::Msg => 0,
        Kind::Shm => size.div_ceil(PAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: Limits = Limits::LINUX;

    #[test]
    fn nsops_of_0_is_einval_and_of_501_e2big_behaviour_23() {
        assert_eq!(L.check_nsops(0), Err(Errno::EINVAL));
        assert_eq!(L.check_nsops(500), Ok(()));
        assert_eq!(L.check_nsops(501), Err(Errno::E2BIG));
    }

    #[test]
    fn sizes_that_creation_refuses_behaviours_8_10() {
        for size in [0, u64::MAX] {
            assert_eq!(L.check_create(Kind::Shm, size), Err(Errno::EINVAL));
        }
        assert_eq!(L.check_create(Kind::Sem, 0), Err(Errno::EINVAL));
        assert_eq!(L.check_create(Kind::Sem, 32_000), Ok(()));
        assert_eq!(L.check_create(Kind::Msg, 0), Ok(()));
    }

    #[test]
    fn a_lookup_refuses_too_many_and_negative_semaphores_but_not_0_behaviour_10() {
        assert_eq!(L.check_get(Kind::Sem, 32_001), Err(Errno::EINVAL));
        assert_eq!(L.check_get(Kind::Sem, -1i64 as u64), Err(Errno::EINVAL));
        assert_eq!(
            L.check_get(Kind::Sem, u64::from(-1i32 as u32)),
            Err(Errno::EINVAL)
        );
        assert_eq!(L.check_get(Kind::Sem, 0), Ok(()));
        assert_eq!(L.check_get(Kind::Shm, u64::MAX), Ok(()));
    }

    #[test]
    fn messages_that_are_refused_before_the_queue_is_looked_up_behaviour_69() {
        assert_eq!(L.check_message(0, 1), Err(Errno::EINVAL));
        assert_eq!(L.check_message(-1, 1), Err(Errno::EINVAL));
        assert_eq!(L.check_message(1, 8193), Err(Errno::EINVAL));
        assert_eq!(L.check_message(i64::MAX, 8192), Ok(()));
    }

    #[test]
    fn a_segment_weighs_its_pages() {
        assert_eq!(weight(Kind::Shm, 1), 1);
        assert_eq!(weight(Kind::Shm, 4097), 2);
        assert_eq!(weight(Kind::Shm, u64::MAX), 1 << 52);
    }
}
