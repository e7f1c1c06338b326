//! Descriptors, of which each program takes some and nobody has enough for ever.
//!
//! | for each | descriptors |
//! |---|---|
//! | thread of a program that calls | 2: its connection, read and written apart |
//! | process | 1: its end is told by a pidfd |
//! | address space that maps a segment | 2: its userfaultfd, and what ends its thread |
//! | segment in use | 1: its memory; and 1 for each process that may only read it |
//!
//! When few are left, newcomers are turned away with ENOMEM, so that those who
//! are in can go on. The kernel gives the lowest number that is free: the number
//! of a new descriptor says how many are in use.
//!
//! Three never wait for one: a program that connects, and would wait for its answer;
//! a node that does; and a fork, for which its parent waits, and whoever protects its
//! pages. For each there is a [`Spare`].

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::{Condvar, Mutex};

use crate::kernel::is_shortage;

/// How many are kept from newcomers: a share of the limit, within these bounds.
const SHARE: u64 = 8;
const LEAST_KEPT: u64 = 32;
const MOST_KEPT: u64 = 1024;
/// How long nobody is accepted when not even the spare descriptor was to be had,
/// and does not come back.
const SHORTAGE: Duration = Duration::from_millis(100);

/// The descriptors of this process.
pub(crate) struct Descriptors {
    /// The number from which on there are none.
    limit: u64,
    /// Whether it was said that they are short.
    said: AtomicBool,
    /// Whether it was said that nobody can be accepted.
    said_closed: AtomicBool,
    /// For a program that connects.
    pub(crate) for_newcomer: Spare,
    /// For a node that connects.
    pub(crate) for_peer: Spare,
    /// For the event of a fork.
    pub(crate) for_birth: Spare,
}

/// Raises the soft limit to the hard one, setrlimit(2). Before the keeper is
/// started, which needs one for each address space and segment.
pub(crate) fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // The soft limit stays what it was, and is respected.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

impl Descriptors {
    /// Of this process, as it is limited now.
    pub(crate) fn new() -> Self {
        Self::limited(getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft))
    }

    /// The number from which on there are none.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn limited(limit: u64) -> Self {
        Descriptors {
            limit,
            said: AtomicBool::new(false),
            said_closed: AtomicBool::new(false),
            for_newcomer: Spare::new(),
            for_peer: Spare::new(),
            for_birth: Spare::new(),
        }
    }

    /// Whether a descriptor that was made just now leaves enough for those who
    /// are in. If not, people are told, once until there is ample room again.
    ///
    /// Not one from accept(2), which takes a number before it waits.
    pub(crate) fn admit(&self, new: impl AsFd) -> bool {
        self.leaves(new, self.kept())
    }

    /// The same for the userfaultfd of a forked child. Its process is in already,
    /// and so may take half of what is kept from newcomers.
    pub(crate) fn admit_birth(&self, child: impl AsFd) -> bool {
        self.leaves(child, self.kept() / 2)
    }

    /// Waits for the next connection, by `accept`. Where there is no descriptor for
    /// it, it comes by the spare one: whoever connects would wait for its answer,
    /// also when that is a refusal.
    pub(crate) fn accept<T>(&self, spare: &Spare, accept: impl Fn() -> io::Result<T>) -> T {
        loop {
            let accepted = accept().or_else(|error| {
                if !is_shortage(&error) {
                    return Err(error);
                }
                self.say_short();
                spare.lend(&accept)
            });
            spare.refill();
            match accepted {
                Ok(connection) => {
                    self.said_closed.store(false, Ordering::Relaxed);
                    return connection;
                }
                // It has gone again before its turn came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Others are being turned away by it; or the machine has no file or
                // memory for anybody. Who connects waits until it has.
                Err(error) => {
                    self.say_closed(&error);
                    spare.await_return(SHORTAGE);
                }
            }
        }
    }

    fn kept(&self) -> u64 {
        (self.limit / SHARE).clamp(LEAST_KEPT, MOST_KEPT)
    }

    fn leaves(&self, new: impl AsFd, kept: u64) -> bool {
        let number = u64::try_from(new.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
        let fits = number < self.limit.saturating_sub(kept);
        if !fits {
            self.say_short();
        } else if number < self.limit.saturating_sub(2 * self.kept()) {
            self.said.store(false, Ordering::Relaxed);
        }
        fits
    }

    /// For people: the program only learns ENOMEM.
    pub(crate) fn say_short(&self) {
        if self.said.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            limit = self.limit,
            "a program is turned away: too few of this daemon's descriptors are left (a process \
             that uses shared memory takes 5). End programs, or raise the hard limit on open \
             files (ulimit -Hn, LimitNOFILE= in a systemd unit) and restart dipcd"
        );
    }
}

impl Descriptors {
    /// For people, once until somebody is accepted again.
    fn say_closed(&self, error: &io::Error) {
        if self.said_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            %error,
            "a connection cannot be accepted now: it waits until one can. If this machine is \
             out of files or memory, end programs"
        );
    }
}

/// A descriptor that is kept to be closed, when another is needed and there is
/// none.
pub(crate) struct Spare {
    /// `None` until it can be had again.
    kept: Mutex<Option<OwnedFd>>,
    returned: Condvar,
}

impl Spare {
    fn new() -> Self {
        Spare {
            kept: Mutex::new(nothing().ok()),
            returned: Condvar::new(),
        }
    }

    /// Runs `act`, which has found no descriptor, with one to be had. It may
    /// wait: meanwhile another can be [kept](Self::keep).
    pub(crate) fn lend<R>(&self, act: impl FnOnce() -> R) -> R {
        drop(self.kept.lock().take());
        let result = act();
        self.refill();
        result
    }

    /// Closes a descriptor that is of no use, but keeps its number, so that
    /// nobody else gets it in between.
    pub(crate) fn keep(&self, mut useless: OwnedFd) {
        let mut spare = self.kept.lock();
        if spare.is_none() && nix::unistd::dup2(io::stderr(), &mut useless).is_ok() {
            *spare = Some(useless);
            self.returned.notify_one();
        }
    }

    /// Gets it back, if it could not be got at once.
    pub(crate) fn refill(&self) {
        let mut spare = self.kept.lock();
        if spare.is_none() {
            *spare = nothing().ok();
        }
    }

    /// Waits until it is [kept](Self::keep) again, or until `patience` is over:
    /// then another may have been closed.
    pub(crate) fn await_return(&self, patience: Duration) {
        let mut spare = self.kept.lock();
        if spare.is_none() {
            self.returned.wait_for(&mut spare, patience);
        }
    }
}

/// A descriptor that is of no use but to be closed.
fn nothing() -> io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_turned_away_while_some_are_left() {
        let new = nothing().unwrap();
        let number = u64::try_from(new.as_raw_fd()).unwrap();
        assert!(Descriptors::limited(number + LEAST_KEPT + 1).admit(&new));
        assert!(!Descriptors::limited(number + LEAST_KEPT).admit(&new));
        assert!(!Descriptors::limited(0).admit(&new));
        assert!(Descriptors::limited(u64::MAX).admit(&new));
    }

    #[test]
    fn a_forked_child_may_take_of_what_is_kept_from_newcomers() {
        let new = nothing().unwrap();
        let number = u64::try_from(new.as_raw_fd()).unwrap();
        let descriptors = Descriptors::limited(number + LEAST_KEPT / 2 + 1);
        assert!(!descriptors.admit(&new));
        assert!(descriptors.admit_birth(&new));
    }

    #[test]
    fn a_spare_is_closed_while_it_is_lent_and_kept_again() {
        let spare = Spare::new();
        assert!(spare.kept.lock().is_some());
        assert!(spare.lend(|| spare.kept.lock().is_none()));
        assert!(spare.kept.lock().is_some());
        *spare.kept.lock() = None;
        spare.refill();
        assert!(spare.kept.lock().is_some());
    }

    #[test]
    fn what_is_kept_is_closed_and_its_number_is_not() {
        let spare = Spare::new();
        *spare.kept.lock() = None;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        spare.keep(ours.into());
        assert_eq!(spare.kept.lock().as_ref().unwrap().as_raw_fd(), number);
        assert_eq!(io::Read::read(&mut &theirs, &mut [0]).unwrap(), 0);
        spare.await_return(Duration::MAX);
    }
}
