//! The connection to one life of one peer.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use dipc_door::door::speaks_tls;
use dipc_door::{Channel, Refusal};
use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{Encoded, FrameBuffer, FrameError};
use dipc_wire::peer::{Caller, Hello, MAGIC, Message, VERSIONS, common_version};
use dipc_wire::referee::Membership;
use dipc_wire::{Incarnation, NodeId};
use parking_lot::Mutex;
use thiserror::Error;

use super::answer::Asker;
use super::counters::Counters;
use super::outbox::Closed;
use super::outgoing::Outgoing;

/// More unread bytes than this, and a peer is given up.
pub(crate) const BACKLOG: usize = 256 << 20;

/// Who waits for an answer of this peer.
pub(crate) enum Pending {
    /// A System V call.
    Call(Asker),
    /// A question about the node itself; the answer's payload goes there.
    Rows(Sender<Vec<u8>>),
}

/// A live connection. Its loss is the death of this life of the peer.
pub(crate) struct Link {
    /// The peer.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    outgoing: Outgoing,
    tags: AtomicU64,
    /// `None` once the link is lost: who asks then is told at once.
    pending: Mutex<Option<HashMap<u64, Pending>>>,
    counters: Arc<Counters>,
    /// Whether anything was heard since the last look.
    heard: AtomicBool,
    /// For how many looks in a row nothing was.
    silent: AtomicU32,
}

/// Why two nodes do not talk.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it is no dipcd")]
    Stranger,
    #[error("it belongs to another cluster; give both nodes the same referee")]
    OtherCluster,
    #[error("it speaks versions {0} to {1} of the protocol, this node {2} to {3}; upgrade the older one", theirs.0, theirs.1, VERSIONS.0, VERSIONS.1)]
    Version { theirs: (u16, u16) },
    #[error("it takes this node for another one, or for an earlier life of it")]
    Mistaken,
    #[error("the referee does not name it as a member")]
    NotAMember,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl HandshakeError {
    /// In one word, for counting.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            HandshakeError::Io(error) if error.kind() == ErrorKind::TimedOut => "slow",
            HandshakeError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => "truncated",
            HandshakeError::Io(_) => "broken",
            HandshakeError::Frame(_) | HandshakeError::Stranger => "stranger",
            HandshakeError::OtherCluster => "cluster",
            HandshakeError::Version { .. } => "version",
            HandshakeError::Mistaken => "mistaken",
            HandshakeError::NotAMember => "no-member",
            HandshakeError::Refused(refusal) => refusal.reason(),
        }
    }
}

/// Says who we are, and to whom.
pub(crate) fn say_hello(
    channel: &Channel,
    me: Membership,
    to: NodeId,
    to_incarnation: Incarnation,
) -> Result<(), HandshakeError> {
    let hello = Hello {
        magic: MAGIC,
        versions: VERSIONS,
        cluster: me.cluster,
        node: me.node,
        incarnation: me.incarnation,
        to,
        to_incarnation,
    };
    channel.send_blocking([Encoded::new(&hello, 0)?.as_ref(), &[]])?;
    Ok(())
}

/// Hears who the other is; what it sent behind stays in the buffer.
pub(crate) fn hear_hello(
    channel: &mut Channel,
    buffer: &mut FrameBuffer,
    me: Membership,
) -> Result<Hello, HandshakeError> {
    loop {
        let frame = buffer.next_frame().map_err(|error| {
            if speaks_tls(&error) {
                Refusal::Encrypted.into()
            } else {
                HandshakeError::from(error)
            }
        })?;
        if let Some(frame) = frame {
            let hello: Hello = frame.message().map_err(|_| HandshakeError::Stranger)?;
            if hello.magic != MAGIC {
                return Err(HandshakeError::Stranger);
            }
            if common_version(hello.versions, VERSIONS).is_none() {
                return Err(HandshakeError::Version {
                    theirs: hello.versions,
                });
            }
            if hello.cluster != me.cluster {
                return Err(HandshakeError::OtherCluster);
            }
            if (hello.to, hello.to_incarnation) != (me.node, me.incarnation) {
                return Err(HandshakeError::Mistaken);
            }
            return Ok(hello);
        }
        match channel.read(buffer.space())? {
            0 => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            count => buffer.filled(count),
        }
    }
}

/// No Nagle delay, and no wait beyond the time-out for a peer that is silent or
/// does not take what it is sent.
pub(crate) fn tune(stream: &TcpStream, timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}

impl Link {
    pub(crate) fn new(outgoing: Outgoing, hello: &Hello, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Link {
            node: hello.node,
            incarnation: hello.incarnation,
            outgoing,
            tags: AtomicU64::new(1),
            pending: Mutex::new(Some(HashMap::new())),
            counters,
            heard: AtomicBool::new(true),
            silent: AtomicU32::new(0),
        })
    }

    /// Sends one message. An error means that the link is lost: its reader is
    /// about to say so.
    pub(crate) fn send(&self, message: &Message<'_>, payload: &[u8]) -> Result<(), Closed> {
        let header = Encoded::new(message, payload.len()).map_err(|error| {
            tracing::error!(%error, ?message, "a message that cannot be sent");
            Closed
        })?;
        let header = header.as_ref();
        self.counters.sent(header.len() + payload.len());
        self.outgoing.send([header, payload])
    }

    /// Sends a call whose answer goes to `asker`. Returns the call's tag, or
    /// the asker when the link is lost.
    pub(crate) fn ask(
        &self,
        caller: Caller<'_>,
        call: Call,
        payload: &[u8],
        asker: Asker,
    ) -> Result<u64, Asker> {
        let tag = match self.enter(Pending::Call(asker)) {
            Ok(tag) => tag,
            Err(Pending::Call(asker)) => return Err(asker),
            Err(Pending::Rows(_)) => unreachable!("we entered a call"),
        };
        match self.send(&Message::Call { tag, caller, call }, payload) {
            Ok(()) => Ok(tag),
            // The reader answers it if it finds it first.
            Err(Closed) => match self.take(tag) {
                Some(Pending::Call(asker)) => Err(asker),
                _ => Ok(tag),
            },
        }
    }

    /// Asks the node about itself.
    pub(crate) fn ask_rows(
        &self,
        question: impl FnOnce(u64) -> Message<'static>,
        answer: Sender<Vec<u8>>,
    ) {
        if let Ok(tag) = self.enter(Pending::Rows(answer))
            && self.send(&question(tag), &[]).is_err()
        {
            self.take(tag);
        }
    }

    fn enter(&self, pending: Pending) -> Result<u64, Pending> {
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        match self.pending.lock().as_mut() {
            Some(all) => {
                all.insert(tag, pending);
                Ok(tag)
            }
            None => Err(pending),
        }
    }

    /// Who waits for this answer.
    pub(crate) fn take(&self, tag: u64) -> Option<Pending> {
        self.pending.lock().as_mut()?.remove(&tag)
    }

    /// Something has come from the peer.
    pub(crate) fn received(&self) {
        self.counters.received();
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Looks whether anything has come since the last look; ends the connection
    /// when nothing had for `looks` looks in a row. (A time-out of the socket
    /// would cost every read a timer.)
    pub(crate) fn look(&self, looks: u32) {
        if self.heard.swap(false, Ordering::Relaxed) {
            self.silent.store(0, Ordering::Relaxed);
        } else if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= looks {
            tracing::warn!(node = %self.node, "nothing was heard of a peer for the time-out");
            self.outgoing.close();
        }
    }

    /// Whether this life of the peer is over.
    pub(crate) fn is_lost(&self) -> bool {
        self.pending.lock().is_none()
    }

    /// The link is lost: closes it and returns all who wait for an answer.
    pub(crate) fn lose(&self) -> Vec<Pending> {
        self.outgoing.close();
        self.pending
            .lock()
            .take()
            .map(|all| all.into_values().collect())
            .unwrap_or_default()
    }

    /// The node's answer to a call of its own.
    pub(crate) fn ask_and_wait(
        &self,
        caller: Caller<'_>,
        call: Call,
        payload: &[u8],
    ) -> Option<Reply<'static>> {
        let (sender, receiver) = crossbeam::channel::bounded(1);
        self.ask(caller, call, payload, Asker::Thread(sender))
            .ok()?;
        // The peer's death ends this wait: its pending calls are dropped.
        receiver.recv().ok()
    }
}
