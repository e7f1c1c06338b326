//! Peers that connect to this node, and who is refused.
//!
//! A connection first says who it is: by its key, if this node has one, and by
//! its [`Hello`]. Until then it holds a place in the [`Lobby`] and nothing else.
//! Then the referee must know that life, and the allow file its name at the
//! address that it comes from.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use dipc_door::door::EMPTY_FRAME;
use dipc_door::{Channel, Guest, Lobby, Refusal, Tally};
use dipc_wire::frame::FrameBuffer;
use dipc_wire::peer::Hello;
use parking_lot::Mutex;

use super::Node;
use super::link::{HandshakeError, hear_hello, say_hello, tune};

/// Connections that have not said yet who they are.
const PLACES: usize = 64;

/// Who was refused so far.
pub(crate) struct Refused {
    tally: Mutex<Tally>,
    began: Instant,
}

impl Refused {
    pub(crate) fn new() -> Self {
        Refused {
            tally: Mutex::default(),
            began: Instant::now(),
        }
    }

    fn note(&self, address: SocketAddr, error: &HandshakeError) {
        let reason = error.reason();
        let line = self.tally.lock().note(reason, self.began.elapsed());
        if let Some(line) = line {
            tracing::warn!(
                %address, %error, reason, count = line.count, unsaid = line.unsaid,
                "a connection is refused"
            );
        }
    }

    /// Each reason there was, and how often.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let tally = self.tally.lock();
        let counts = tally.counts();
        counts.map(|(why, count)| (why.into(), count)).collect()
    }
}

impl Node {
    /// Starts the thread that lets peers in.
    pub(super) fn admit(self: &Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        let node = self.clone();
        let lobby = Lobby::new(PLACES);
        thread::Builder::new().name("peers".into()).spawn(move || {
            loop {
                let spare = &node.descriptors.for_peer;
                let (stream, address) = node.descriptors.accept(spare, || listener.accept());
                node.receive(&lobby, stream, address);
            }
        })?;
        Ok(())
    }

    fn receive(self: &Arc<Self>, lobby: &Arc<Lobby>, stream: TcpStream, address: SocketAddr) {
        let stream = Arc::new(stream);
        let guest = lobby.enter(&stream);
        let node = self.clone();
        let spawned = thread::Builder::new().spawn(move || {
            if let Err(error) = node.let_in(stream, address, guest) {
                node.refused.note(address, &error);
            }
            node.descriptors.for_peer.refill();
        });
        if let Err(error) = spawned {
            // It hears the end of its connection, and is the one to go.
            tracing::error!(%address, %error, "a node is refused: no thread for it");
        }
    }

    fn let_in(
        self: &Arc<Self>,
        stream: Arc<TcpStream>,
        address: SocketAddr,
        guest: Guest,
    ) -> Result<(), HandshakeError> {
        let (channel, hello) = self.identify(stream).map_err(|error| {
            if guest.was_turned_out() {
                Refusal::Crowded.into()
            } else {
                error
            }
        })?;
        drop(guest);
        // The referee's word may come later than the newcomer.
        let name = self
            .peers
            .await_member(hello.node, hello.incarnation, self.timeout)
            .ok_or(HandshakeError::NotAMember)?;
        self.door.admits(&name, address.ip())?;
        // The newcomer waits for our hello, so nothing follows its own yet.
        let rest = FrameBuffer::new();
        let since = self.clock.now();
        self.begin_link(channel, rest, &hello, since, |channel| {
            say_hello(channel, self.me, hello.node, hello.incarnation)
        })
    }

    fn identify(&self, stream: Arc<TcpStream>) -> Result<(Channel, Hello), HandshakeError> {
        tune(&stream, self.timeout)?;
        let mut channel = self.door.answer(stream, self.timeout)?;
        // Who is not known yet has nothing long to say.
        let mut buffer = FrameBuffer::limited(0);
        let hello = hear_hello(&mut channel, &mut buffer, self.me);
        if let Err(HandshakeError::Refused(Refusal::Encrypted)) = &hello {
            // It would take silence for a fault of the network.
            let _ = channel.send_blocking([&EMPTY_FRAME, &[]]);
        }
        Ok((channel, hello?))
    }
}
