//! The structures of `IPC_INFO` and `*_INFO`: what the kernel wrote there, and
//! the cluster's part added to it (behaviours 118, 119).
//!
//! Numbers of objects are sums. Limits are one or the other: those of the
//! cluster in a program that has no local objects (`DIPC_KEYS=all`), else the
//! kernel's.

use dipc_wire::Kind;
use dipc_wire::Limits;
use dipc_wire::census::{Census, Totals};
use libc::{c_int, c_ulong};

use crate::user_memory::Plain;

/// `IPC_INFO`, `<bits/ipcctl.h>`
pub(crate) const IPC_INFO: c_int = 3;

/// `struct shminfo`, `<bits/shm.h>`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct ShmLimits {
    shmmax: c_ulong,
    shmmin: c_ulong,
    shmmni: c_ulong,
    shmseg: c_ulong,
    shmall: c_ulong,
    reserved: [c_ulong; 4],
}

/// `struct shm_info`, `<bits/shm.h>`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct ShmUse {
    used_ids: c_int,
    shm_tot: c_ulong,
    shm_rss: c_ulong,
    shm_swp: c_ulong,
    swap_attempts: c_ulong,
    swap_successes: c_ulong,
}

const _: () = {
    assert!(size_of::<ShmLimits>() == 72);
    assert!(size_of::<ShmUse>() == 48);
    assert!(size_of::<libc::seminfo>() == 40);
    assert!(size_of::<libc::msginfo>() == 32);
};

// SAFETY: integers.
unsafe impl Plain for ShmLimits {}
// SAFETY: integers, and padding that is zero from the start.
unsafe impl Plain for ShmUse {}
// SAFETY: integers.
unsafe impl Plain for libc::seminfo {}
// SAFETY: integers, and padding at the end that is zero from the start.
unsafe impl Plain for libc::msginfo {}

/// A structure that an `*_INFO` command fills.
pub(crate) trait Info: Plain {
    /// Of which kind.
    const KIND: Kind;
    /// Adds the cluster's objects to the kernel's; `counts` when the command
    /// tells how much there is, and not `IPC_INFO`.
    fn add(&mut self, census: &Census, counts: bool);
    /// Replaces the kernel's limits.
    fn limit(&mut self, limits: &Limits);
}

/// A sum as it fits an `int`.
fn sum(kernels: c_int, clusters: u64) -> c_int {
    kernels.saturating_add(int(clusters))
}

fn int(number: u64) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}

impl Info for libc::seminfo {
    const KIND: Kind = Kind::Sem;

    fn add(&mut self, census: &Census, counts: bool) {
        if let (Totals::Sem { semaphores }, true) = (census.totals, counts) {
            self.semusz = sum(self.semusz, census.objects.into());
            self.semaem = sum(self.semaem, semaphores);
        }
    }

    fn limit(&mut self, limits: &Limits) {
        self.semmni = int(limits.semmni);
        self.semmns = int(limits.semmns);
        self.semmsl = int(limits.semmsl);
        self.semopm = int(limits.semopm);
    }
}

impl Info for libc::msginfo {
    const KIND: Kind = Kind::Msg;

    fn add(&mut self, census: &Census, counts: bool) {
        if let (Totals::Msg { messages, bytes }, true) = (census.totals, counts) {
            self.msgpool = sum(self.msgpool, census.objects.into());
            self.msgmap = sum(self.msgmap, messages);
            self.msgtql = sum(self.msgtql, bytes);
        }
    }

    fn limit(&mut self, limits: &Limits) {
        self.msgmni = int(limits.msgmni);
        self.msgmax = int(limits.msgmax);
        self.msgmnb = int(limits.msgmnb);
    }
}

impl Info for ShmUse {
    const KIND: Kind = Kind::Shm;

    fn add(&mut self, census: &Census, _: bool) {
        if let Totals::Shm { pages, resident } = census.totals {
            self.used_ids = sum(self.used_ids, census.objects.into());
            self.shm_tot = self.shm_tot.saturating_add(pages);
            self.shm_rss = self.shm_rss.saturating_add(resident);
        }
    }

    fn limit(&mut self, _: &Limits) {}
}

impl Info for ShmLimits {
    const KIND: Kind = Kind::Shm;

    fn add(&mut self, _: &Census, _: bool) {}

    fn limit(&mut self, limits: &Limits) {
        self.shmmni = limits.shmmni;
        // Linux has no limit of its own for one process (behaviour 119).
        self.shmseg = limits.shmmni;
        self.shmmax = limits.shmmax;
        self.shmall = limits.shmall;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels<T: Info>() -> T {
        // SAFETY: integers.
        unsafe { core::mem::zeroed() }
    }

    fn census(totals: Totals) -> Census {
        let limits = Limits::LINUX;
        Census {
            objects: 3,
            totals,
            limits,
        }
    }

    #[test]
    fn counts_are_sums_and_stay_within_an_int() {
        let mut info: libc::seminfo = kernels();
        (info.semusz, info.semaem) = (2, 5);
        let totals = Totals::Sem {
            semaphores: u64::MAX,
        };
        info.add(&census(totals), true);
        assert_eq!((info.semusz, info.semaem), (5, c_int::MAX));
    }

    #[test]
    fn ipc_info_counts_nothing() {
        let mut info: libc::msginfo = kernels();
        let totals = Totals::Msg {
            messages: 1,
            bytes: 2,
        };
        info.add(&census(totals), false);
        assert_eq!((info.msgpool, info.msgmap, info.msgtql), (0, 0, 0));
        info.add(&census(totals), true);
        assert_eq!((info.msgpool, info.msgmap, info.msgtql), (3, 1, 2));
    }

    #[test]
    fn shmseg_is_shmmni_behaviour_119() {
        let mut info: ShmLimits = kernels();
        info.limit(&Limits {
            shmmni: 77,
            ..Limits::LINUX
        });
        assert_eq!((info.shmmni, info.shmseg), (77, 77));
    }
}
