//! Nodes that come and go.
//!
//! A link that breaks is the death of its peer's life: nothing is sent again,
//! and nobody waits for it to come back. The referee hears of it and tells the
//! others. Death comes by two ways, a broken link or the referee's word;
//! whichever is first does the work ([`Node::ended`]).

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dipc_door::Channel;
use dipc_wire::frame::FrameBuffer;
use dipc_wire::peer::{Hello, Message};
use dipc_wire::referee::ToNode;
use dipc_wire::{Errno, Incarnation, NodeId};

use super::Node;
use super::answer::Asker;
use super::link::{BACKLOG, HandshakeError, Link, Pending, hear_hello, say_hello, tune};
use super::names::{Joined, Known, Referee, join};
use super::outgoing::Outgoing;
use super::peers::Member;

/// How long to wait before a referee that does not answer is asked again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// How often in a time-out a node says that it lives.
pub(super) const PINGS: u32 = 4;

/// What a node waits for before it serves programs.
pub(super) type Ready = crossbeam::channel::Sender<Result<(), String>>;

impl Node {
    /// Starts the thread that talks to the referee, over its deaths. `ready`
    /// hears once whether all present members are connected.
    pub(super) fn follow(
        self: &Arc<Self>,
        referee: Arc<Referee>,
        mut joined: Joined,
        ready: Ready,
    ) -> std::io::Result<()> {
        let node = self.clone();
        thread::Builder::new()
            .name("referee".into())
            .spawn(move || {
                loop {
                    let known = || Known {
                        keys: node.home.keys(),
                        weights: node.home.weights(),
                        members: node.peers.lives(),
                    };
                    let why = referee.serve(joined, known, |message| node.told(&message, &ready));
                    tracing::warn!(referee = referee.address, %why, "the referee is gone");
                    joined = node.rejoin(&referee);
                    node.home.keep_to(joined.limits);
                    tracing::info!(referee = referee.address, "the referee is back");
                }
            })?;
        Ok(())
    }

    fn rejoin(&self, referee: &Referee) -> Joined {
        loop {
            let patience = self.timeout * 2;
            match join(
                &self.door,
                &referee.address,
                &self.name,
                &self.address,
                Some(self.me),
                patience,
            ) {
                Ok(joined) if joined.me == self.me => return joined,
                Ok(_) => self.die("the referee takes it for another node"),
                Err(error) if error.is_the_referees() => self.die(&error.to_string()),
                Err(error) => tracing::debug!(%error, "the referee does not answer"),
            }
            thread::sleep(AGAIN);
        }
    }

    fn told(self: &Arc<Self>, message: &ToNode<'_>, ready: &Ready) {
        match *message {
            ToNode::Member {
                node,
                incarnation,
                name,
                address,
                you_connect,
            } => {
                tracing::info!(%node, %incarnation, name, address, "a member");
                let member = Member {
                    incarnation,
                    name: name.into(),
                };
                self.peers.welcome(node, member);
                if you_connect
                    && self.peers.link(node).is_none()
                    && let Err(error) = self.connect(node, incarnation, name, address)
                {
                    let problem = format!(
                        "cannot connect to member {name} at {address}: {error}. Check that this \
                         host reaches that address, or end that node"
                    );
                    tracing::error!("{problem}");
                    // A newcomer that cannot reach a member is the one to go.
                    let _ = ready.send(Err(problem));
                }
            }
            ToNode::Gone { node, incarnation } => self.ended(node, incarnation),
            ToNode::Fenced => self.die("the cluster has declared it dead"),
            ToNode::Complete => drop(ready.send(Ok(()))),
            ToNode::Found { .. }
            | ToNode::Absent { .. }
            | ToNode::Create { .. }
            | ToNode::Full { .. }
            | ToNode::Flush { .. }
            | ToNode::Ping => {}
        }
    }

    fn connect(
        self: &Arc<Self>,
        to: NodeId,
        incarnation: Incarnation,
        name: &str,
        address: &str,
    ) -> Result<(), HandshakeError> {
        let address = address
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| std::io::Error::other("the address has no host"))?;
        self.door.may_use(address.ip())?;
        self.door.admits(name, address.ip())?;
        let stream = TcpStream::connect_timeout(&address, self.timeout)?;
        tune(&stream, self.timeout)?;
        let mut channel = self.door.call(stream, self.timeout)?;
        say_hello(&channel, self.me, to, incarnation)?;
        let mut buffer = FrameBuffer::new();
        let hello = hear_hello(&mut channel, &mut buffer, self.me)?;
        if (hello.node, hello.incarnation) != (to, incarnation) {
            return Err(HandshakeError::Mistaken);
        }
        self.begin_link(channel, buffer, &hello, |_| Ok(()))
    }

    pub(super) fn begin_link(
        self: &Arc<Self>,
        mut channel: Channel,
        buffer: FrameBuffer,
        hello: &Hello,
        last: impl FnOnce(&Channel) -> Result<(), HandshakeError>,
    ) -> Result<(), HandshakeError> {
        // From here on, silence is found by those who ping.
        channel.settle(None)?;
        let outgoing = Outgoing::of(&channel, BACKLOG)?;
        let link = Link::new(outgoing, hello, self.counters.clone());
        self.peers
            .connect(&link, || last(&channel))?
            .ok_or(HandshakeError::NotAMember)?;
        self.hear(link.clone(), channel, buffer).map_err(|error| {
            self.link_lost(&link, "there is no thread to hear it");
            error.into()
        })
    }

    /// A link broke: its peer's life is over.
    pub(super) fn link_lost(&self, link: &Link, why: &str) {
        tracing::warn!(node = %link.node, incarnation = %link.incarnation, why, "a link is lost");
        self.names.peer_lost(link.node, link.incarnation);
        self.ended(link.node, link.incarnation);
    }

    /// A life is over. What it had here ends, and what of ours was there is
    /// lost; who waits for it is told.
    fn ended(&self, node: NodeId, incarnation: Incarnation) {
        // Whoever comes second waits for the first: the node's next life may
        // follow at once, and must not lose what it has here to the old one's end.
        let _one_by_one = self.ending.lock();
        let Some(link) = self.peers.end(node, incarnation) else {
            return;
        };
        tracing::info!(%node, %incarnation, "a member is gone");
        let pending = link.map(|link| link.lose()).unwrap_or_default();
        for asker in pending.into_iter().filter_map(|pending| match pending {
            Pending::Call(asker @ (Asker::Client(_) | Asker::Peer { .. })) => Some(asker),
            // A thread that waits finds its channel closed.
            Pending::Call(Asker::Thread(_)) | Pending::Rows(_) => None,
        }) {
            // The object is lost with its home, as if it had been removed.
            asker.fail(Errno::EIDRM);
        }
        for destroyed in self.home.forget_node(node) {
            self.destroy(destroyed);
        }
        self.memory_of_dead(node, incarnation);
    }

    /// Others must hear that this node lives, even when it has nothing to say.
    pub(super) fn ping(&self) {
        self.names.ping();
        for link in self.peers.links() {
            let _ = link.send(&Message::Ping, &[]);
            link.look(PINGS);
        }
    }
}
