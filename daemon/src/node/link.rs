//! The connection to one life of one peer.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use super::lease::{Lease, NeverSent, Ping, Terms};
use super::outbox::Closed;
use super::outgoing::Outgoing;
use crate::kernel;

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
    lease: Mutex<Lease>,
    /// Whether all that came over it is given up.
    given_up: AtomicBool,
    /// The messages of queues that it was given, and their bytes, less those that
    /// it gave back.
    given: Mutex<(u64, u64)>,
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
/// does not take what it is sent. What does not come through is sent again often:
/// with TCP's own doubling pauses a link that heals in time could be given up before
/// the next attempt.
pub(crate) fn tune(stream: &TcpStream, timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(timeout))?;
    // The first six attempts, where there is little to send.
    socket.set_tcp_thin_linear_timeouts(true)?;
    kernel::send_again_within(stream, Terms { timeout }.beat())
}

impl Link {
    pub(crate) fn new(
        outgoing: Outgoing,
        hello: &Hello,
        counters: Arc<Counters>,
        lease: Lease,
    ) -> Arc<Self> {
        Arc::new(Link {
            node: hello.node,
            incarnation: hello.incarnation,
            outgoing,
            tags: AtomicU64::new(1),
            pending: Mutex::new(Some(HashMap::new())),
            counters,
            lease: Mutex::new(lease),
            given_up: AtomicBool::new(false),
            given: Mutex::default(),
        })
    }

    /// Sends one message. An error means that the link is lost: its reader is
    /// about to say so.
    pub(crate) fn send(&self, message: &Message<'_>, payload: &[u8]) -> Result<(), Closed> {
        self.send_by(message, payload, Outgoing::send)
    }

    /// The same for a payload that has left this node's memory with it: however
    /// much of it is queued, the peer is not to blame.
    pub(crate) fn send_moved(&self, message: &Message<'_>, payload: &[u8]) -> Result<(), Closed> {
        self.send_by(message, payload, Outgoing::send_moved)
    }

    fn send_by(
        &self,
        message: &Message<'_>,
        payload: &[u8],
        send: impl FnOnce(&Outgoing, [&[u8]; 2]) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let header = Encoded::new(message, payload.len()).map_err(|error| {
            tracing::error!(%error, ?message, "a message that cannot be sent");
            Closed
        })?;
        let header = header.as_ref();
        self.counters.sent(header.len() + payload.len());
        send(&self.outgoing, [header, payload])
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

    /// What is not answered yet is for `asker` from now on; who waited for it hears
    /// that nothing comes.
    pub(crate) fn redirect(&self, tag: u64, asker: Asker) {
        if let Some(pending) = self
            .pending
            .lock()
            .as_mut()
            .and_then(|all| all.get_mut(&tag))
        {
            *pending = Pending::Call(asker);
        }
    }

    /// Something has come from the peer.
    pub(crate) fn received(&self) {
        self.counters.received();
    }

    /// A message of a queue goes to a program of the peer.
    pub(crate) fn gives(&self, bytes: usize) {
        let (messages, total) = &mut *self.given.lock();
        (*messages, *total) = (*messages + 1, *total + bytes as u64);
    }

    /// The peer's program died before it had its message. A peer that gives back
    /// what it was never given would fill queues past their bounds.
    pub(crate) fn given_back(&self, bytes: usize) -> Result<(), String> {
        let (messages, total) = &mut *self.given.lock();
        match (messages.checked_sub(1), total.checked_sub(bytes as u64)) {
            (Some(one_less), Some(fewer)) => {
                (*messages, *total) = (one_less, fewer);
                Ok(())
            }
            _ => Err(format!(
                "it gives back a message of {bytes} bytes that it was not given"
            )),
        }
    }

    /// The connection itself, for the keeper.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.outgoing.socket()
    }

    /// Says that this node lives.
    pub(crate) fn ping(&self, now: Duration) {
        // The lock is not held while it is sent: what is sent later than noted
        // shortens the lease only.
        let ping = self.lease.lock().ping(now);
        self.say(ping);
    }

    fn say(&self, Ping { number, heard }: Ping) {
        // A link that is broken is found by the next look at it.
        let _ = self.send(&Message::Ping { number, heard }, &[]);
    }

    /// The peer says that it lives.
    pub(crate) fn pinged(&self, ping: Ping, now: Duration) -> Result<(), NeverSent> {
        let answer = self.lease.lock().hear(ping, now)?;
        if let Some(answer) = answer {
            self.say(answer);
        }
        Ok(())
    }

    /// Why it must be given up, if it must.
    pub(crate) fn is_over(&self, now: Duration) -> Option<&'static str> {
        if self.outgoing.is_closed() {
            Some("what it is sent cannot be sent, or is not taken")
        } else if self.lease.lock().is_over(now) {
            Some("it has acknowledged nothing for most of the time-out")
        } else {
            None
        }
    }

    /// When the keeper fences if this node does nothing; `None` when nothing that
    /// came over it is left.
    pub(crate) fn fence_at(&self) -> Option<Duration> {
        let given_up = self.given_up.load(Ordering::Acquire);
        (!given_up).then(|| self.lease.lock().fence_at())
    }

    /// From when on the peer has fenced in any case. Of a link that is lost, on
    /// which nothing is acknowledged any more.
    pub(crate) fn peer_has_fenced_at(&self) -> Duration {
        self.lease.lock().peer_has_fenced_at()
    }

    /// Whether this life of the peer is over.
    pub(crate) fn is_lost(&self) -> bool {
        self.pending.lock().is_none()
    }

    /// The link is lost: nothing more is sent, not even an acknowledgement. Returns
    /// all who wait for an answer.
    pub(crate) fn lose(&self) -> Vec<Pending> {
        self.outgoing.close();
        self.pending
            .lock()
            .take()
            .map(|all| all.into_values().collect())
            .unwrap_or_default()
    }

    /// What this node had from the peer is given up: the peer may go on.
    pub(crate) fn announce(&self) {
        self.given_up.store(true, Ordering::Release);
        self.outgoing.announce();
    }

    /// The peer's life is over; whoever reads from it is woken.
    pub(crate) fn end(&self) {
        self.outgoing.end();
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
