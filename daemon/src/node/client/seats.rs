//! What one user may take of this daemon: so many connections, and so much memory
//! for requests that have not arrived in full. Whoever has more is turned away, and
//! the other users' programs are not.
//!
//! A connection costs a thread and two descriptors. 1 000 processes of 8 threads
//! each are within the bound; where the daemon may have few descriptors, a user gets
//! a quarter of what they suffice for. The daemon's own user and root have no bound
//! but that: they can end the daemon anyway.
//!
//! Beyond the bound some more connections are kept for as long as it takes to
//! refuse them, so that their programs hear why.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections of one user.
const MOST: u64 = 8192;
/// Descriptors that the connections of one user may take: this share of the limit.
const SHARE: u64 = 4;
/// Connections of one user beyond that, which are being refused.
const REFUSED: u64 = 64;
/// Bytes of one user's requests that have not arrived in full: 16 of the longest.
const UNFINISHED: usize = 16 * dipc_wire::frame::MAX_PAYLOAD;

/// Who takes how much.
pub(crate) struct Seats {
    most: u64,
    own: u32,
    users: Mutex<HashMap<u32, Taken>>,
}

#[derive(Default)]
struct Taken {
    connections: u64,
    bytes: usize,
}

/// One connection's seat, given back when it is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
    bytes: usize,
    /// There is no room for the connection: it is to be refused.
    pub(super) refused: bool,
}

impl Seats {
    /// For a daemon of user `own` that may have `descriptors`.
    pub(crate) fn new(descriptors: u64, own: u32) -> Arc<Self> {
        Arc::new(Seats {
            most: MOST.min(descriptors / SHARE / 2),
            own,
            users: Mutex::default(),
        })
    }

    /// A seat for one more connection of a user; `None`: not even to refuse it.
    pub(in crate::node) fn take(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut users = self.users.lock();
        let taken = users.entry(uid).or_default();
        let bounded = uid != 0 && uid != self.own;
        if bounded && taken.connections >= self.most + REFUSED {
            return None;
        }
        taken.connections += 1;
        Some(Seat {
            seats: self.clone(),
            uid,
            bytes: 0,
            refused: bounded && taken.connections > self.most,
        })
    }
}

impl Seat {
    /// So many bytes of a request are here that goes on; 0: there is none. False
    /// when that is more than its user is given.
    pub(in crate::node) fn holds(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        let mut users = self.seats.users.lock();
        let Some(taken) = users.get_mut(&self.uid) else {
            return false;
        };
        taken.bytes = taken.bytes - self.bytes + bytes;
        self.bytes = bytes;
        taken.bytes <= UNFINISHED
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut users = self.seats.users.lock();
        if let Some(taken) = users.get_mut(&self.uid) {
            taken.connections -= 1;
            taken.bytes -= self.bytes;
            if taken.connections == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an ordinary user who runs no daemon.
    const EVE: u32 = 52_000;

    fn take(seats: &Arc<Seats>, uid: u32, count: u64) -> Vec<Seat> {
        (0..count).map_while(|_| seats.take(uid)).collect()
    }

    #[test]
    fn a_user_who_has_all_places_is_refused_and_another_is_not() {
        let seats = Seats::new(u64::MAX, 1);
        let eves = take(&seats, EVE, u64::MAX);
        let served = eves.iter().filter(|seat| !seat.refused).count();
        assert_eq!((served as u64, eves.len() as u64), (MOST, MOST + REFUSED));
        assert!(!seats.take(EVE + 1).unwrap().refused);
        drop(eves);
        assert!(!seats.take(EVE).unwrap().refused);
        assert!(seats.users.lock().is_empty());
    }

    #[test]
    fn one_user_gets_a_quarter_of_few_descriptors() {
        let seats = Seats::new(1024, 1);
        let eves = take(&seats, EVE, 1024);
        assert_eq!(eves.iter().filter(|seat| !seat.refused).count(), 128);
    }

    #[test]
    fn root_and_the_daemons_own_user_have_no_bound() {
        let seats = Seats::new(80, EVE);
        for uid in [0, EVE] {
            assert!(take(&seats, uid, 2000).iter().all(|seat| !seat.refused));
        }
    }

    #[test]
    fn half_sent_requests_of_one_user_are_bounded_together() {
        let seats = Seats::new(u64::MAX, 1);
        let mut eves = take(&seats, EVE, 2);
        assert!(eves[0].holds(UNFINISHED - 1));
        assert!(eves[1].holds(1));
        assert!(!eves[1].holds(2));
        assert!(seats.take(EVE + 1).unwrap().holds(UNFINISHED));
        assert!(eves[1].holds(0));
        eves.remove(0);
        assert!(eves[0].holds(UNFINISHED));
    }
}
