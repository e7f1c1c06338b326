//! How the life of a peer ends here, in two halves.
//!
//! | half | when | what |
//! |---|---|---|
//! | **parting** | a link is lost, or the referee says that the node is gone | what this node has from the peer is given up: its segments are SIGBUS here, calls that wait there end, its calls that wait here are dropped; then this end of the link is closed |
//! | **over** | the peer's end is closed too, or T has passed since it was last heard | what the peer has from this node is taken as given up: its processes are undone, its attachments counted off, its pages served to others |
//!
//! Between the two the peer may live, and its programs may read what they have:
//! so nothing that they could read is changed. [`super::lease`] says why the second
//! half comes late enough.
//!
//! The peer's end of the stream proves that it has fenced. A reset or a time-out of
//! the connection does not: whatever lies in between may have made it. So after
//! these nothing but the time counts.
//!
//! A link that is lost is never used again: the referee hears of it, tells the
//! others, and one of the two nodes must go.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use dipc_wire::{Errno, Incarnation, NodeId};

use super::answer::Asker;
use super::link::{Link, Pending};
use super::peers::Parting;
use super::{Node, Task};

impl Node {
    /// The peer has closed its end of the link: it has given up all that it had
    /// from here.
    pub(super) fn link_ended(&self, link: &Link) {
        self.link_lost(link, "the peer has closed it");
        self.over(link.node, link.incarnation);
    }

    /// A link cannot be used any more, whatever has become of the peer.
    pub(super) fn link_lost(&self, link: &Link, why: &str) {
        self.part(link.node, link.incarnation, || {
            tracing::warn!(node = %link.node, incarnation = %link.incarnation, why, "a link is lost");
            self.names.peer_lost(link.node, link.incarnation);
        });
    }

    /// The same, by a thread that has no time for it.
    pub(super) fn lose_link(self: &Arc<Self>, link: Arc<Link>, why: &'static str) {
        let (node, lost) = (self.clone(), link.clone());
        let spawned = thread::Builder::new()
            .name("parting".into())
            .spawn(move || node.link_lost(&lost, why));
        if spawned.is_err() {
            self.link_lost(&link, why);
        }
    }

    /// The referee says so. It does not know whether that node has fenced.
    pub(super) fn gone(&self, node: NodeId, incarnation: Incarnation) {
        self.part(node, incarnation, || ());
    }

    /// Reads on a link that is lost until the peer closes its end; false when that
    /// is not heard.
    pub(super) fn await_end(&self, mut stream: &TcpStream) -> bool {
        let mut nothing = [0; 4096];
        loop {
            match stream.read(&mut nothing) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// The first half, if it was not done before. `report` is run first: the peer
    /// is not to hear of it before the referee, of which the first to report stays.
    fn part(&self, node: NodeId, incarnation: Incarnation, report: impl FnOnce()) {
        // Whoever comes second waits for the first: the second half is not to
        // begin before.
        let _one_by_one = self.ending.lock();
        let Some(parting) = self.peers.part(node, incarnation) else {
            return;
        };
        report();
        tracing::info!(%node, %incarnation, "a member is gone");
        let link = match parting {
            Parting::Linked(link) => link,
            Parting::Unlinked => return self.reclaim(node, incarnation),
            // It ends with the life before, and had nothing yet.
            Parting::Behind => return,
        };
        // From here on not even an acknowledgement is sent.
        for asker in link.lose().into_iter().filter_map(|pending| match pending {
            Pending::Call(asker @ (Asker::Client(_) | Asker::Peer { .. })) => Some(asker),
            // A thread that waits finds its channel closed, and who came late is gone.
            Pending::Call(Asker::Thread(_) | Asker::Late { .. }) | Pending::Rows(_) => None,
        }) {
            // The object is lost with its home, as if it had been removed.
            asker.fail(Errno::EIDRM);
        }
        self.home.drop_waits(node);
        self.memory_from_dead(node, incarnation);
        link.announce();
        let wait = link.peer_has_fenced_at().saturating_sub(self.clock.now());
        let over = Task::Over { node, incarnation };
        self.timer.at(Instant::now() + wait, over);
        self.renew();
    }

    /// The second half: the peer has given up all that it had from here.
    pub(super) fn over(&self, node: NodeId, incarnation: Incarnation) {
        let _one_by_one = self.ending.lock();
        let Some(link) = self.peers.parting(node, incarnation) else {
            return;
        };
        self.reclaim(node, self.peers.last_ended(node).unwrap_or(incarnation));
        // The node's next life may follow at once, and finds nothing of this one.
        self.peers.parted(node);
        self.keeper.end_link(incarnation);
        link.end();
        tracing::info!(%node, %incarnation, "all that it had here is taken back");
    }

    /// Up to this life, a node has nothing here any more.
    fn reclaim(&self, node: NodeId, incarnation: Incarnation) {
        for destroyed in self.home.forget_node(node) {
            self.destroy(destroyed);
        }
        self.memory_of_dead(node, incarnation);
    }
}
