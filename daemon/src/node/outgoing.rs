//! The sending half of a connection to another machine, encrypted or not.

use std::net::TcpStream;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use dipc_door::{Channel, Session};

use super::outbox::{Closed, Cut, Outbox};

/// Sends without ever waiting for the receiver, as an [`Outbox`] does. A plain
/// connection is nothing else.
pub(crate) struct Outgoing {
    outbox: Arc<Outbox>,
    session: Option<Arc<Session>>,
}

impl Outgoing {
    /// To the referee: of a channel whose handshake is done. A receiver that leaves
    /// more than `limit` bytes unread is given up.
    pub(crate) fn to_referee(channel: &Channel, limit: usize) -> std::io::Result<Self> {
        Ok(Outgoing {
            outbox: Outbox::new(duplicate(channel.stream())?, Cut::Nowhere, limit),
            session: channel.session(),
        })
    }

    /// The same to a peer, which is to hear of the end as [`Outbox::of_link`] says.
    pub(crate) fn of_link(channel: &Channel, limit: usize) -> std::io::Result<Self> {
        Ok(Outgoing {
            outbox: Outbox::of_link(duplicate(channel.stream())?, limit),
            session: channel.session(),
        })
    }

    /// Sends the parts as one piece: nothing of another thread comes between.
    pub(crate) fn send(&self, parts: [&[u8]; 2]) -> Result<(), Closed> {
        self.send_by(parts, Outbox::send)
    }

    /// The same for what is freed elsewhere as it is queued here, see
    /// [`Outbox::send_moved`].
    pub(crate) fn send_moved(&self, parts: [&[u8]; 2]) -> Result<(), Closed> {
        self.send_by(parts, Outbox::send_moved)
    }

    fn send_by(
        &self,
        parts: [&[u8]; 2],
        send: impl FnOnce(&Arc<Outbox>, [&[u8]; 2]) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let Some(session) = &self.session else {
            return send(&self.outbox, parts);
        };
        // Sent under the session's lock: records go out as they are numbered.
        let sent = session.seal(parts, |sealed| send(&self.outbox, [sealed, &[]]));
        sent.unwrap_or_else(|error| {
            tracing::warn!(%error, "a connection is closed: it cannot encrypt");
            self.close();
            Err(Closed)
        })
    }

    /// The connection itself, below what encrypts it.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.outbox.socket()
    }

    /// Whether nothing is sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Nothing more is sent. The referee hears of it, and who reads from it wakes
    /// up; a peer and its reader do not.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }

    /// Tells the receiver that nothing more comes: by the stream's end alone, with
    /// or without TLS. The keeper ends it in no other way, and cannot seal a farewell.
    pub(crate) fn announce(&self) {
        self.outbox.announce();
    }

    /// Ends the connection in both directions: its reader wakes up.
    pub(crate) fn end(&self) {
        self.outbox.end();
    }
}

fn duplicate(stream: &TcpStream) -> std::io::Result<OwnedFd> {
    Ok(OwnedFd::from(stream.try_clone()?))
}

#[cfg(test)]
impl Outgoing {
    /// A link of a test, which is not encrypted.
    pub(super) fn plain_link(stream: &TcpStream, limit: usize) -> std::io::Result<Self> {
        Ok(Self::plain(Outbox::of_link(duplicate(stream)?, limit)))
    }

    /// Whatever sends there.
    pub(super) fn plain(outbox: Arc<Outbox>) -> Self {
        let session = None;
        Outgoing { outbox, session }
    }
}
