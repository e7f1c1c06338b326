//! One connection's sending side: never waits for the node at its other end.
//!
//! What the socket takes at once is sent at once, by the thread that has it to
//! say. What it does not take goes to a backlog, and a thread that exists only
//! as long as there is one writes it. A node that takes nothing for the
//! time-out, or that lets too much pile up, is given up.

use std::io::Write;
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use dipc_door::Session;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use parking_lot::Mutex;

/// The most that waits for one node. Names of 255 members and the answers to
/// many thousand questions are far less.
const MAX_BACKLOG: usize = 4 << 20;
/// Enough for a thread that copies bytes or takes frames apart, in a debug build.
pub(crate) const STACK: usize = 256 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Arc<TcpStream>,
    pub(crate) peer: SocketAddr,
    /// Set when the connection is encrypted, before anything is sent on it.
    session: OnceLock<Arc<Session>>,
    sending: Mutex<Sending>,
}

#[derive(Debug, Default)]
struct Sending {
    backlog: Vec<u8>,
    /// A thread writes: nobody else may, or bytes would change places.
    writing: bool,
    fate: Fate,
}

/// Whether and why a link takes no more messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fate {
    /// It does take them.
    #[default]
    Open,
    /// All is said; the backlog still goes out.
    Ended,
    /// The node does not read.
    GivenUp,
}

impl Link {
    /// Prepares an accepted connection. After `timeout` without a byte, a read
    /// or a write on it fails.
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Link {
            stream: Arc::new(stream),
            peer,
            session: OnceLock::new(),
            sending: Mutex::default(),
        })
    }

    pub(crate) fn fate(&self) -> Fate {
        self.sending.lock().fate
    }

    /// The handshake is done: from here on what is sent is encrypted.
    pub(crate) fn encrypt(&self, session: Arc<Session>) {
        // There is one handshake a connection.
        let _ = self.session.set(session);
    }

    /// Sends a whole frame, now or when the node takes it.
    pub(crate) fn send(self: &Arc<Self>, frame: &[u8]) {
        let Some(session) = self.session.get() else {
            return self.send_bytes(frame);
        };
        // Sent under the session's lock: records go out as they are numbered.
        if session
            .seal([frame, &[]], |sealed| self.send_bytes(sealed))
            .is_err()
        {
            self.give_up(&mut self.sending.lock());
        }
    }

    fn send_bytes(self: &Arc<Self>, bytes: &[u8]) {
        let mut sending = self.sending.lock();
        if sending.fate != Fate::Open {
            return;
        }
        let sent = if sending.writing {
            Ok(0)
        } else {
            self.send_now(bytes)
        };
        let Ok(rest) = sent.map(|sent| &bytes[sent..]) else {
            return self.give_up(&mut sending);
        };
        if rest.is_empty() {
            return;
        }
        if sending.backlog.len() + rest.len() > MAX_BACKLOG {
            return self.give_up(&mut sending);
        }
        sending.backlog.extend_from_slice(rest);
        if !mem::replace(&mut sending.writing, true) {
            let link = Arc::clone(self);
            let writer = thread::Builder::new()
                .name("backlog".into())
                .stack_size(STACK);
            if writer.spawn(move || link.write_backlog()).is_err() {
                self.give_up(&mut sending);
            }
        }
    }

    /// Nothing more will be sent: the node reads the end of the stream behind
    /// the last message.
    pub(crate) fn end(&self) {
        let mut sending = self.sending.lock();
        if sending.fate == Fate::Open {
            sending.fate = Fate::Ended;
            if !sending.writing {
                self.shut_down(Shutdown::Write);
            }
        }
    }

    /// Wakes every thread that waits for this connection, for ever.
    pub(crate) fn break_off(&self) {
        self.shut_down(Shutdown::Both);
    }

    fn send_now(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_raw_fd(), bytes, flags) {
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => Ok(0),
            sent => sent,
        }
    }

    fn write_backlog(&self) {
        let mut bytes = Vec::new();
        loop {
            {
                let mut sending = self.sending.lock();
                bytes.clear();
                mem::swap(&mut bytes, &mut sending.backlog);
                if bytes.is_empty() {
                    sending.writing = false;
                    if sending.fate == Fate::Ended {
                        self.shut_down(Shutdown::Write);
                    }
                    return;
                }
            }
            if (&*self.stream).write_all(&bytes).is_err() {
                return self.give_up(&mut self.sending.lock());
            }
        }
    }

    /// The reading thread wakes, finds the fate, and says so to the machine.
    fn give_up(&self, sending: &mut Sending) {
        sending.fate = Fate::GivenUp;
        sending.backlog = Vec::new();
        self.break_off();
    }

    fn shut_down(&self, how: Shutdown) {
        // Fails only when the connection is already broken.
        let _ = self.stream.shutdown(how);
    }
}
