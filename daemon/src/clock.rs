//! The clock by which leases run.
//!
//! A lease needs no agreement about what time it is, only that two clocks run
//! equally fast. So a clock that stands still while its machine is suspended will
//! not do, unless all who look at it are suspended together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel;

/// Which clock, see clock_gettime(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Clock {
    /// Counts the time for which the machine is suspended: `CLOCK_BOOTTIME`.
    Suspended,
    /// Does not: `CLOCK_MONOTONIC`. For nodes whose peers are all on this machine.
    Running,
}

impl Clock {
    fn id(self) -> libc::clockid_t {
        match self {
            Clock::Suspended => libc::CLOCK_BOOTTIME,
            Clock::Running => libc::CLOCK_MONOTONIC,
        }
    }

    /// What it shows.
    pub fn now(self) -> Duration {
        kernel::clock(self.id())
    }

    /// An alarm by this clock, which goes off at no time yet.
    pub(crate) fn alarm(self) -> std::io::Result<Alarm> {
        Ok(Alarm(kernel::timer(self.id())?))
    }
}

/// Becomes readable at the time it is set to.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// Sets it to this time of its clock, which may have passed; `None` is never.
    /// What has made it readable is forgotten.
    pub(crate) fn set(&self, at: Option<Duration>) -> std::io::Result<()> {
        kernel::set_timer(self.0.as_fd(), at)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn rings(alarm: &Alarm) -> bool {
        let mut ready = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn an_alarm_rings_at_its_time_and_not_when_it_is_taken_back() {
        for clock in [Clock::Suspended, Clock::Running] {
            let alarm = clock.alarm().unwrap();
            let now = clock.now();
            assert!(!rings(&alarm));
            alarm.set(Some(now)).unwrap();
            assert!(rings(&alarm), "a time that has passed");
            alarm.set(Some(now + Duration::from_secs(3600))).unwrap();
            assert!(!rings(&alarm));
            alarm.set(Some(Duration::ZERO)).unwrap();
            assert!(rings(&alarm), "the first moment of all");
            alarm.set(None).unwrap();
            assert!(!rings(&alarm));
            assert!(clock.now() >= now);
        }
    }
}
