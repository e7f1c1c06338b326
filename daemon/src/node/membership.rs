//! Nodes that come and go.
//!
//! How nodes come in, and what the referee says of them. How they go is
//! [`super::ending`]'s.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dipc_door::Channel;
use dipc_wire::frame::FrameBuffer;
use dipc_wire::peer::Hello;
use dipc_wire::referee::ToNode;
use dipc_wire::{Incarnation, NodeId};

use super::Node;
use super::lease::Lease;
use super::link::{BACKLOG, HandshakeError, Link, hear_hello, say_hello, tune};
use super::names::{Joined, Known, Referee, join};
use super::outgoing::Outgoing;
use super::peers::Member;

/// How long to wait before a referee that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(100);

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
                        lost: node.peers.ended().into_iter().collect(),
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
            ToNode::Gone { node, incarnation } => self.gone(node, incarnation),
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
        // It may have to wait until nothing is left there of our former life.
        let mut channel = self.door.call(stream, self.timeout * 2)?;
        let since = self.clock.now();
        say_hello(&channel, self.me, to, incarnation)?;
        let mut buffer = FrameBuffer::new();
        let hello = hear_hello(&mut channel, &mut buffer, self.me)?;
        if (hello.node, hello.incarnation) != (to, incarnation) {
            return Err(HandshakeError::Mistaken);
        }
        self.begin_link(channel, buffer, &hello, since, |_| Ok(()))
    }

    pub(super) fn begin_link(
        self: &Arc<Self>,
        mut channel: Channel,
        buffer: FrameBuffer,
        hello: &Hello,
        since: Duration,
        last: impl FnOnce(&Channel) -> Result<(), HandshakeError>,
    ) -> Result<(), HandshakeError> {
        // From here on, silence is found by those who ping.
        channel.settle(None)?;
        let outgoing = Outgoing::of_link(&channel, BACKLOG)?;
        let lease = Lease::new(self.terms(), since, self.clock.now());
        let link = Link::new(outgoing, hello, self.counters.clone(), lease);
        // What comes over it is the peer's until the keeper or we have given it up.
        let held = || {
            self.keeper.link(link.incarnation, link.socket());
            last(&channel)
        };
        let connected = self.peers.connect(&link, held);
        if !matches!(connected, Ok(Some(()))) {
            self.keeper.end_link(link.incarnation);
            // The keeper has its copy until it hears that.
            link.end();
        }
        connected?.ok_or(HandshakeError::NotAMember)?;
        self.renew();
        self.hear(link.clone(), channel, buffer).map_err(|error| {
            self.link_lost(&link, "there is no thread to hear it");
            error.into()
        })
    }
}
