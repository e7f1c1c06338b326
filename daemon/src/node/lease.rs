//! How long a node may use what it has from another: leases.
//!
//! A node that is cut off, or stopped, keeps pages that its programs can read, and
//! processes that hold semaphores. The others go on without it at some time; by
//! then its programs must not reach any of that any more. Nobody can tell it so.
//! So what it has, it has on a lease, which it renews, and gives up in time when
//! it cannot.
//!
//! Two nodes ping each other, and answer pings. Each ping has a number, and each
//! says which was heard last. Of the pings that B has acknowledged, let *s* be
//! when A sent the latest: B heard it later than *s*, and waits for T, the
//! time-out, from then on.
//!
//! ```text
//! A sends ping 7   B hears it                                            B goes on
//!      s               h                                                   h + T
//!  ────┼───────────────┼───────────────────────────┬──────────┬──────────────┼──▶
//!      │◀──────────── 5/8 T ──────────────────────▶│          │              │
//!      │◀──────────── 6/8 T ─────────────────────────────────▶│◀─ at least ─▶│
//!   nothing later is acknowledged        A's dipcd gives the       T/4
//!                                        link up: what it had  A's keeper kills
//!                                        from B is SIGBUS      dipcd and fences
//! ```
//!
//! Both do both. B also gives up at its own 5/8 T, as A does; but what A had from
//! it B touches only at *h* + T, or when A's end of the connection is closed, if
//! that is earlier: A closes it when it has fenced, and if A's dipcd cannot, its
//! keeper does (see [`crate::keeper`]). When the referee says that A is gone while
//! B still hears it, B stops acknowledging, closes its end, and waits alike. See
//! `ending` for the two halves of an end.
//!
//! **What is assumed:** not that clocks agree, only that one does not run a quarter
//! faster than another; and that a keeper gets a processor, and takes away all
//! pages, within T/4 of its alarm. The clock goes on while the machine is suspended
//! ([`crate::clock`]). A virtual machine that is stopped together with its clock
//! breaks the assumption: its programs may read old values for the moment between
//! its return and the keeper's or dipcd's next turn. So may those of a suspended
//! machine, until the keeper's alarm is served.
//!
//! The referee has no part in it: while it is away, leases are renewed as ever.

use std::collections::VecDeque;
use std::time::Duration;

use thiserror::Error;

/// What follows from the cluster's time-out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    /// How long a node waits, since it has last heard a peer, before it goes on
    /// without it: T.
    pub(crate) timeout: Duration,
}

impl Terms {
    /// How often a node says that it lives.
    pub(crate) fn beat(self) -> Duration {
        self.timeout / 8
    }

    /// How long after a ping that was acknowledged a link is good.
    fn good_for(self) -> Duration {
        self.timeout * 5 / 8
    }

    /// How long after it the keeper fences if dipcd has done nothing.
    fn fenced_after(self) -> Duration {
        self.timeout * 6 / 8
    }
}

/// A sign of life, and what it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ping {
    /// Its number; 0 of one that only answers, and is not answered.
    pub(crate) number: u64,
    /// The highest number that its sender has heard.
    pub(crate) heard: u64,
}

/// The peer acknowledges what was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("it acknowledges ping {0}, which was never sent")]
pub(crate) struct NeverSent(u64);

/// What two nodes know of each other's life. Times are of the node's own clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    terms: Terms,
    sent: u64,
    /// Pings that were not acknowledged, and when they were sent.
    open: VecDeque<(u64, Duration)>,
    /// When the latest was sent that was.
    since: Duration,
    heard: u64,
    /// When the latest ping of the peer was heard.
    heard_at: Duration,
}

impl Lease {
    /// Of a link that is made `now`; the peer has acknowledged what was said at
    /// `since`.
    pub(crate) fn new(terms: Terms, since: Duration, now: Duration) -> Self {
        Lease {
            terms,
            sent: 0,
            open: VecDeque::new(),
            since,
            heard: 0,
            heard_at: now,
        }
    }

    /// The next sign of life, to be sent not before `now`.
    pub(crate) fn ping(&mut self, now: Duration) -> Ping {
        self.sent += 1;
        self.open.push_back((self.sent, now));
        Ping {
            number: self.sent,
            heard: self.heard,
        }
    }

    /// The peer's sign of life has come. Returns the answer to it, if it has one.
    pub(crate) fn hear(&mut self, ping: Ping, now: Duration) -> Result<Option<Ping>, NeverSent> {
        if ping.heard > self.sent {
            return Err(NeverSent(ping.heard));
        }
        while let Some(&(number, at)) = self.open.front()
            && number <= ping.heard
        {
            self.since = at;
            self.open.pop_front();
        }
        if ping.number <= self.heard {
            return Ok(None);
        }
        (self.heard, self.heard_at) = (ping.number, now);
        Ok(Some(Ping {
            number: 0,
            heard: self.heard,
        }))
    }

    /// Whether the link must be given up.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        now >= self.since + self.terms.good_for()
    }

    /// When the keeper fences.
    pub(crate) fn fence_at(&self) -> Duration {
        self.since + self.terms.fenced_after()
    }

    /// From when on the peer has fenced, whatever has become of it, if it hears no
    /// acknowledgement any more.
    pub(crate) fn peer_has_fenced_at(&self) -> Duration {
        self.heard_at + self.terms.timeout
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        timeout: Duration::from_secs(8),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    fn lease() -> Lease {
        Lease::new(TERMS, at(0), at(0))
    }

    fn answer(heard: u64) -> Ping {
        Ping { number: 0, heard }
    }

    #[test]
    fn a_lease_runs_from_the_sending_of_the_latest_ping_that_was_acknowledged() {
        let mut lease = lease();
        lease.ping(at(1));
        lease.ping(at(2));
        lease.ping(at(3));
        assert_eq!(lease.hear(answer(2), at(4)), Ok(None));
        assert_eq!(lease.fence_at(), at(2 + 6));
        assert!(!lease.is_over(at(6)));
        assert!(lease.is_over(at(7)));
        // Said again, it renews nothing.
        assert_eq!(lease.hear(answer(2), at(6)), Ok(None));
        assert!(lease.is_over(at(7)));
        assert_eq!(lease.hear(answer(3), at(6)), Ok(None));
        assert!(!lease.is_over(at(7)));
    }

    #[test]
    fn a_ping_is_answered_and_an_answer_is_not() {
        let mut lease = lease();
        let ping = Ping {
            number: 1,
            heard: 0,
        };
        assert_eq!(lease.hear(ping, at(1)), Ok(Some(answer(1))));
        assert_eq!(lease.hear(ping, at(2)), Ok(None), "heard before");
        assert_eq!(lease.hear(answer(0), at(3)), Ok(None));
        assert_eq!(lease.peer_has_fenced_at(), at(1 + 8));
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_refused_and_renews_nothing() {
        let mut lease = lease();
        lease.ping(at(3));
        assert_eq!(lease.hear(answer(2), at(3)), Err(NeverSent(2)));
        assert!(lease.is_over(at(5)));
    }

    proptest! {
        /// Two clocks that are far apart and run alike; messages that are delayed
        /// as they like, in order, and that stop in each direction at any time.
        #[test]
        fn whoever_goes_on_does_so_after_the_other_has_fenced(
            delays in prop::collection::vec((0u64..3000, 0u64..3000), 1..60),
            cut in (0usize..60, 0usize..60),
            apart in 0u64..1_000_000,
        ) {
            let ms = Duration::from_millis;
            let mut a = Lease::new(TERMS, ms(0), ms(0));
            let mut b = Lease::new(TERMS, ms(apart), ms(apart));
            // Each second A pings; B hears that and answers, and A hears the answer.
            let (mut there, mut back) = (Vec::new(), Vec::new());
            let (mut last_there, mut last_back) = (0, 0);
            for (n, &(forth, home)) in delays.iter().enumerate() {
                let sent = 1000 * (n as u64 + 1);
                let ping = a.ping(ms(sent));
                last_there = last_there.max(sent + forth);
                last_back = last_back.max(last_there + home);
                if n < cut.0 {
                    there.push((last_there, ping));
                    if n < cut.1 {
                        back.push((last_back, ping.number));
                    }
                }
            }
            for (time, ping) in there {
                b.hear(ping, ms(apart + time)).unwrap();
            }
            for (time, heard) in back {
                a.hear(answer(heard), ms(time)).unwrap();
            }
            let margin = TERMS.timeout / 4;
            prop_assert!(a.fence_at() + ms(apart) + margin <= b.peer_has_fenced_at());
        }
    }
}
