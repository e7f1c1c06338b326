//! A way between two nodes that a test can cut: bytes that come to its address go
//! on to another, and back, as long as their direction is open.
//!
//! What is cut off is kept and comes later, as after a lost packet, and so does the
//! end of a connection. Nobody at either end is told anything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To the node that is behind the relay.
    Towards,
    /// From it.
    Back,
}

/// Runs until the test process ends.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    towards: Arc<Gate>,
    back: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().expect("no panic with it") = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().expect("no panic with it");
        let open = self.changed.wait_while(closed, |closed| *closed);
        drop(open.expect("no panic with it"));
    }

    /// Carries what comes from one to the other, until it ends.
    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut bytes);
            self.pass();
            match read {
                Ok(0) | Err(_) => break,
                Ok(count) if to.write_all(&bytes[..count]).is_err() => break,
                Ok(_) => {}
            }
        }
        // One that is closed already needs no end.
        let _ = to.shutdown(Shutdown::Write);
    }
}

impl Relay {
    /// One to a node that does not listen yet; see [`Relay::target`].
    ///
    /// # Panics
    /// If there is no port for it.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (towards, back) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let relay = Relay {
            address,
            towards: towards.clone(),
            back: back.clone(),
        };
        let target = relay.target();
        thread::spawn(move || {
            for near in listener.incoming() {
                // Who finds nobody there is told by the end of its own connection.
                let pair = near.and_then(|near| Ok((near, connect(target)?)));
                let Ok((near, far)) = pair else { continue };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).expect("a connected socket");
                }
                let ends = Arc::new((near, far));
                let (there, again) = (ends.clone(), ends);
                let (towards, back) = (towards.clone(), back.clone());
                thread::spawn(move || towards.carry(&there.0, &there.1));
                thread::spawn(move || back.carry(&again.1, &again.0));
            }
        });
        relay
    }

    /// What the node tells others, by `--advertise`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where the node listens: our port at another of this machine's addresses,
    /// which nobody else takes.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 2], self.address.port()))
    }

    /// Nothing passes any more that way.
    pub fn cut(&self, way: Direction) {
        self.gate(way).set(true);
    }

    /// All passes again, also what was sent meanwhile.
    pub fn heal(&self, way: Direction) {
        self.gate(way).set(false);
    }

    fn gate(&self, way: Direction) -> &Gate {
        match way {
            Direction::Towards => &self.towards,
            Direction::Back => &self.back,
        }
    }
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    loop {
        match TcpStream::connect(target) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_in_one_direction_comes_when_it_is_healed_and_the_other_goes_on() {
        let relay = Relay::start();
        let node = TcpListener::bind(relay.target()).unwrap();
        let mut near = TcpStream::connect(relay.address()).unwrap();
        let (mut far, _) = node.accept().unwrap();
        let mut got = [0; 3];
        relay.cut(Direction::Towards);
        near.write_all(b"one").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        far.write_all(b"two").unwrap();
        near.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"two");
        far.set_nonblocking(true).unwrap();
        assert_eq!(
            far.read(&mut got).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        far.set_nonblocking(false).unwrap();
        relay.heal(Direction::Towards);
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"one");
        assert_eq!(far.read(&mut got).unwrap(), 0);
    }
}
