//! How many may be on the threshold at once.
//!
//! Whoever has not said yet who he is costs a thread and a descriptor, for the
//! time-out at most. There are so many places for them; when all are taken, who
//! came first is turned out. So strangers who connect and say nothing hold up
//! nobody: an honest node needs milliseconds, they would have to fill all places
//! anew in that time.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// The threshold of one listener.
#[derive(Debug)]
pub struct Lobby {
    places: usize,
    inside: Mutex<Inside>,
    somebody_left: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    /// Who came first is first.
    guests: VecDeque<Entry>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    stream: Arc<TcpStream>,
    turned_out: bool,
}

/// A place that is taken; free when this is dropped.
#[derive(Debug)]
pub struct Guest {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    /// With so many places, at least one.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Lobby {
            places: places.max(1),
            inside: Mutex::default(),
            somebody_left: Condvar::new(),
        })
    }

    /// Takes a place. Where there is none, the connection of the one who has been
    /// there longest is broken off, and his place is waited for: his thread finds
    /// that out where it reads.
    pub fn enter(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Guest {
        let mut inside = self.inside.lock();
        while inside.guests.len() >= self.places {
            if inside.guests.iter().all(|guest| !guest.turned_out) {
                inside.turn_out_the_first();
            }
            self.somebody_left.wait(&mut inside);
        }
        inside.last += 1;
        let number = inside.last;
        inside.guests.push_back(Entry {
            number,
            stream: stream.clone(),
            turned_out: false,
        });
        Guest {
            lobby: self.clone(),
            number,
        }
    }
}

impl Inside {
    fn turn_out_the_first(&mut self) {
        if let Some(first) = self.guests.front_mut() {
            first.turned_out = true;
            // An error means that it has ended already.
            let _ = first.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Guest {
    /// Whether the end of the connection was ours, to make room.
    pub fn was_turned_out(&self) -> bool {
        let inside = self.lobby.inside.lock();
        let mut all = inside.guests.iter();
        all.any(|guest| guest.number == self.number && guest.turned_out)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inside = self.lobby.inside.lock();
        inside.guests.retain(|guest| guest.number != self.number);
        self.lobby.somebody_left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn who_came_first_is_turned_out_when_all_places_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lobby = Lobby::new(2);
        let mut waiting = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..5 {
            waiting.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let stream = Arc::new(listener.accept().unwrap().0);
            let guest = lobby.enter(&stream);
            threads.push(thread::spawn(move || {
                let ended = (&*stream).read(&mut [0]).unwrap();
                (ended, guest.was_turned_out())
            }));
        }
        let last = threads.split_off(3);
        for first in threads {
            assert_eq!(first.join().unwrap(), (0, true));
        }
        assert_eq!(lobby.inside.lock().guests.len(), 2);
        drop(waiting);
        for thread in last {
            assert_eq!(thread.join().unwrap(), (0, false));
        }
        assert!(lobby.inside.lock().guests.is_empty());
    }
}
