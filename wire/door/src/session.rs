//! An encrypted connection: any thread seals, one opens.
//!
//! TLS is one state for both directions, so it lies behind one lock. The lock is
//! held while bytes are encrypted and handed to a sender that does not wait, or
//! decrypted; never while somebody waits for the network. So records leave in
//! the order in which they were numbered, and a reader that sleeps holds up
//! nobody.

use std::io::{self, IoSlice, Read, Write};

use parking_lot::Mutex;
use rustls::Connection;

use crate::refusal::Refusal;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Session(Mutex<State>);

#[derive(Debug)]
struct State {
    tls: Connection,
    /// What was encrypted last; kept for its room.
    sealed: Vec<u8>,
}

/// What became of encrypted bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    /// So many were taken.
    pub(crate) taken: usize,
    /// And came to so many plain ones.
    pub(crate) bytes: usize,
    /// The other side has said that nothing follows.
    pub(crate) ended: bool,
}

impl Session {
    pub(crate) fn new(mut tls: Connection) -> Self {
        // What is queued is handed on at once, so it needs no bound of its own.
        tls.set_buffer_limit(None);
        Session(Mutex::new(State {
            tls,
            sealed: Vec::new(),
        }))
    }

    /// Encrypts the parts as one piece and hands the result to `send`, which must
    /// not wait for the receiver. An error: the connection has failed before.
    pub fn seal<R>(&self, parts: [&[u8]; 2], send: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        let State { tls, sealed } = &mut *self.0.lock();
        sealed.clear();
        write_all(&mut tls.writer(), parts)?;
        while tls.wants_write() {
            tls.write_tls(sealed)?;
        }
        Ok(send(sealed))
    }

    /// Decrypts what it can of `sealed` into `room`.
    pub(crate) fn open(&self, mut sealed: &[u8], room: &mut [u8]) -> io::Result<Opened> {
        let tls = &mut self.0.lock().tls;
        let all = sealed.len();
        let mut bytes = 0;
        let ended = loop {
            match tls.reader().read(&mut room[bytes..]) {
                Ok(0) if bytes < room.len() => break true,
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if bytes == room.len() || sealed.is_empty() {
                break false;
            }
            // Nothing is read behind the other side's farewell.
            if tls.read_tls(&mut sealed)? == 0 {
                break true;
            }
            tls.process_new_packets().map_err(Refusal::from)?;
        };
        Ok(Opened {
            taken: all - sealed.len(),
            bytes,
            ended,
        })
    }
}

/// In as few records as there can be: header and payload share one.
fn write_all(writer: &mut impl Write, mut parts: [&[u8]; 2]) -> io::Result<()> {
    while !(parts[0].is_empty() && parts[1].is_empty()) {
        let written = writer.write_vectored(&parts.map(IoSlice::new))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let first = written.min(parts[0].len());
        parts = [&parts[0][first..], &parts[1][written - first..]];
    }
    Ok(())
}
