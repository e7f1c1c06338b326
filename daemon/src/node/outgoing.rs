//! The sending half of a connection to another machine, encrypted or not.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
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
    /// Of a channel whose handshake is done. A receiver that leaves more than
    /// `limit` bytes unread is given up.
    pub(crate) fn of(channel: &Channel, limit: usize) -> std::io::Result<Self> {
        Ok(Outgoing {
            session: channel.session(),
            ..Outgoing::plain(channel.stream(), limit)?
        })
    }

    /// Of a connection that is not encrypted.
    pub(crate) fn plain(stream: &TcpStream, limit: usize) -> std::io::Result<Self> {
        let socket = OwnedFd::from(stream.try_clone()?);
        Ok(Outgoing {
            outbox: Outbox::new(socket, Cut::Nowhere, limit),
            session: None,
        })
    }

    /// Sends the parts as one piece: nothing of another thread comes between.
    pub(crate) fn send(&self, parts: [&[u8]; 2]) -> Result<(), Closed> {
        let Some(session) = &self.session else {
            return self.outbox.send(parts);
        };
        // Sent under the session's lock: records go out as they are numbered.
        let sent = session.seal(parts, |sealed| self.outbox.send([sealed, &[]]));
        sent.unwrap_or_else(|error| {
            tracing::warn!(%error, "a connection is closed: it cannot encrypt");
            self.close();
            Err(Closed)
        })
    }

    /// Ends the connection: nothing more is sent, and its reader wakes up.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }
}
