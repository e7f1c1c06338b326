//! The reading half of a connection between two machines, encrypted or not.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::Connection;

use crate::refusal::Refusal;
use crate::session::Session;

/// Encrypted bytes that are read at once: two records at most, so that those who
/// want to send wait a few microseconds for the lock.
const ROOM: usize = 32 << 10;
/// Bytes that are read at once during a handshake. It has about 500 a side.
const HANDSHAKE: usize = 4 << 10;
/// How TLS begins: a record of a handshake, of version 3.something.
const HELLO: [u8; 2] = [22, 3];
/// How TLS says no: an alert.
const ALERT: [u8; 2] = [21, 3];
/// "Insufficient security", fatally, and a farewell (RFC 8446, 6): what a side with
/// a key says to one that does not encrypt. Two, so that it is as long as the
/// lengths that a frame begins with.
const NO: [u8; 14] = [21, 3, 3, 0, 2, 2, 71, 21, 3, 3, 0, 2, 1, 0];

/// A connection, as the one thread that reads it has it. Nobody else reads.
#[derive(Debug)]
pub struct Channel {
    stream: Arc<TcpStream>,
    session: Option<Arc<Session>>,
    /// Of `sealed`, `start..end` has come and is not opened yet.
    sealed: Vec<u8>,
    start: usize,
    end: usize,
    /// The session may have more than there was room for.
    more: bool,
    /// When what is read now must have come.
    deadline: Option<Instant>,
}

impl Channel {
    pub(crate) fn plain(stream: Arc<TcpStream>, deadline: Instant) -> Self {
        Channel {
            stream,
            session: None,
            sealed: Vec::new(),
            start: 0,
            end: 0,
            more: false,
            deadline: Some(deadline),
        }
    }

    /// Shakes hands, and is encrypted from here on.
    pub(crate) fn encrypted(
        stream: Arc<TcpStream>,
        mut tls: Connection,
        deadline: Instant,
    ) -> Result<Self, Refusal> {
        let mut channel = Channel::plain(stream, deadline);
        channel.sealed = vec![0; HANDSHAKE];
        let called = matches!(tls, Connection::Server(_));
        let mut first = true;
        loop {
            channel.flush(&mut tls)?;
            if !tls.is_handshaking() {
                break;
            }
            channel.fill(if first { HELLO.len() } else { 1 })?;
            if std::mem::take(&mut first) {
                channel.check_first_bytes(called)?;
            }
            if let Err(error) = channel.feed(&mut tls) {
                // So that the other one may know why.
                let _ = channel.flush(&mut tls);
                return Err(error);
            }
        }
        channel.sealed.resize(ROOM, 0);
        // What came behind the handshake in its last record's company.
        channel.more = true;
        channel.session = Some(Arc::new(Session::new(tls)));
        Ok(channel)
    }

    /// Whether it speaks TLS at all. To one that does not, no is said so that it
    /// understands: see [`speaks_tls`](crate::door::speaks_tls).
    fn check_first_bytes(&self, called: bool) -> Result<(), Refusal> {
        let first = &self.sealed[..HELLO.len()];
        if first == HELLO || (first == ALERT && !called) {
            return Ok(());
        }
        if called {
            let _ = (&*self.stream).write_all(&NO);
        }
        Err(Refusal::Plain)
    }

    /// Sends what TLS has to say.
    fn flush(&self, tls: &mut Connection) -> Result<(), Refusal> {
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        Ok((&*self.stream).write_all(&out)?)
    }

    /// Reads until at least so many encrypted bytes have come.
    fn fill(&mut self, least: usize) -> Result<(), Refusal> {
        (self.start, self.end) = (0, 0);
        while self.end < least {
            match receive(&self.stream, self.deadline, &mut self.sealed[self.end..]) {
                Ok(0) => return Err(Refusal::Truncated),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Refusal::Slow),
                // It has closed with something of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Refusal::Truncated);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives TLS what has come; behind the handshake's end, it is left.
    fn feed(&mut self, tls: &mut Connection) -> Result<(), Refusal> {
        while self.start < self.end && tls.is_handshaking() {
            self.start += tls.read_tls(&mut &self.sealed[self.start..self.end])?;
            tls.process_new_packets()?;
        }
        Ok(())
    }

    /// What sends on this connection must pass, if it is encrypted.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.clone()
    }

    /// The connection itself: to send on, and to break off.
    pub fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Sends and waits for each byte: for handshakes, when nobody else sends.
    pub fn send_blocking(&self, parts: [&[u8]; 2]) -> io::Result<()> {
        let mut stream = &*self.stream;
        match &self.session {
            Some(session) => session.seal(parts, |sealed| stream.write_all(sealed))?,
            None => stream
                .write_all(parts[0])
                .and_then(|()| stream.write_all(parts[1])),
        }
    }

    /// Who is there is known: from here on each read waits at most for `timeout`,
    /// and for ever without one.
    pub fn settle(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_read_timeout(timeout)
    }
}

impl Read for Channel {
    /// Plain bytes; 0 when the other side has closed, in whichever way: what a
    /// truncated connection has not brought is missed like that of a dead node.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &self.session else {
            return receive(&self.stream, self.deadline, room);
        };
        loop {
            if self.start < self.end || self.more {
                let opened = session.open(&self.sealed[self.start..self.end], room)?;
                self.start += opened.taken;
                self.more = opened.bytes == room.len();
                if opened.bytes > 0 || opened.ended {
                    return Ok(opened.bytes);
                }
            }
            (self.start, self.end) = (0, 0);
            self.end = receive(&self.stream, self.deadline, &mut self.sealed)?;
            if self.end == 0 {
                return Ok(0);
            }
        }
    }
}

/// One read(2), which ends with `TimedOut` at the deadline.
fn receive(
    mut stream: &TcpStream,
    deadline: Option<Instant>,
    room: &mut [u8],
) -> io::Result<usize> {
    let Some(deadline) = deadline else {
        return stream.read(room);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Refusal::Slow.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.read(room).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Refusal::Slow.into(),
        _ => error,
    })
}
