//! The other members of the cluster, and the links to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dipc_wire::{Incarnation, NodeId};
use parking_lot::{Condvar, Mutex, RwLock};

use super::link::Link;

/// What is known of a member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its present life.
    pub(crate) incarnation: Incarnation,
    /// What the referee calls it.
    pub(crate) name: String,
}

/// All peers. A node is here from the moment the referee names it until its
/// life is over; it has a link from the handshake on.
#[derive(Default)]
pub(crate) struct Peers {
    known: Mutex<Known>,
    changed: Condvar,
    /// The same links again, for those who only want to send.
    links: RwLock<HashMap<NodeId, Arc<Link>>>,
}

#[derive(Default)]
struct Known {
    members: HashMap<NodeId, Member>,
    /// The last life of each node that is over, or parting.
    ended: HashMap<NodeId, Incarnation>,
    /// Those of which this node has something still (see `ending`): no next life
    /// gets a link before.
    parting: HashMap<NodeId, Arc<Link>>,
}

/// What the end of a life finds.
pub(crate) enum Parting {
    /// Its link, over which nothing more is sent.
    Linked(Arc<Link>),
    /// It has none.
    Unlinked,
    /// The same, and the life before is still parting.
    Behind,
}

impl Known {
    fn is_over(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.ended
            .get(&node)
            .is_some_and(|&last| incarnation <= last)
    }
}

impl Peers {
    /// The referee names a member.
    pub(crate) fn welcome(&self, node: NodeId, member: Member) {
        let mut known = self.known.lock();
        if !known.is_over(node, member.incarnation) {
            known.members.insert(node, member);
            self.changed.notify_all();
        }
    }

    /// Waits until the referee has named this life of a node, and nothing is left
    /// of the one before; returns its name, and `None` when it is over or does not
    /// come within `patience`.
    pub(crate) fn await_member(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        patience: Duration,
    ) -> Option<String> {
        let mut known = self.known.lock();
        let not_yet = |known: &mut Known| {
            let named = known.members.get(&node).map(|m| m.incarnation) == Some(incarnation);
            !known.is_over(node, incarnation) && (!named || known.parting.contains_key(&node))
        };
        self.changed.wait_while_for(&mut known, not_yet, patience);
        if not_yet(&mut known) || known.is_over(node, incarnation) {
            return None;
        }
        known.members.get(&node).map(|member| member.name.clone())
    }

    /// A handshake has succeeded: from the moment after `last` the link may be
    /// used. `None` when that life has ended meanwhile, or has a link already.
    ///
    /// `last` says what the peer waits for. It runs while nobody can send, so it
    /// comes first on the link; and when the peer hears it, the link is there.
    pub(crate) fn connect<E>(
        &self,
        link: &Arc<Link>,
        last: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<()>, E> {
        let known = self.known.lock();
        let mut links = self.links.write();
        if known.is_over(link.node, link.incarnation)
            || known.parting.contains_key(&link.node)
            || links.contains_key(&link.node)
        {
            return Ok(None);
        }
        last()?;
        links.insert(link.node, link.clone());
        Ok(Some(()))
    }

    /// This life of a node ends. `None` when that was known.
    pub(crate) fn part(&self, node: NodeId, incarnation: Incarnation) -> Option<Parting> {
        let mut known = self.known.lock();
        if known.is_over(node, incarnation) {
            return None;
        }
        known.ended.insert(node, incarnation);
        if known
            .members
            .get(&node)
            .is_some_and(|m| m.incarnation <= incarnation)
        {
            known.members.remove(&node);
        }
        self.changed.notify_all();
        let mut links = self.links.write();
        let ours = links
            .get(&node)
            .is_some_and(|link| link.incarnation <= incarnation);
        let link = if ours { links.remove(&node) } else { None };
        Some(match link {
            Some(link) => {
                known.parting.insert(node, link.clone());
                Parting::Linked(link)
            }
            None if known.parting.contains_key(&node) => Parting::Behind,
            None => Parting::Unlinked,
        })
    }

    /// The link to this life of a node, while that is parting.
    pub(crate) fn parting(&self, node: NodeId, incarnation: Incarnation) -> Option<Arc<Link>> {
        let known = self.known.lock();
        let link = known.parting.get(&node);
        link.filter(|link| link.incarnation == incarnation).cloned()
    }

    /// The last life of a node that is over, or parting.
    pub(crate) fn last_ended(&self, node: NodeId) -> Option<Incarnation> {
        self.known.lock().ended.get(&node).copied()
    }

    /// Nothing is left of a life that was parting: its next may come.
    pub(crate) fn parted(&self, node: NodeId) {
        self.known.lock().parting.remove(&node);
        self.changed.notify_all();
    }

    /// Runs `each` over all links, parting ones too, while none can come or go.
    pub(crate) fn each_link(&self, mut each: impl FnMut(&Link)) {
        let known = self.known.lock();
        let links = self.links.read();
        links
            .values()
            .chain(known.parting.values())
            .for_each(|link| each(link));
    }

    /// The way to a node.
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links.read().get(&node).cloned()
    }

    /// The ways to all nodes.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    /// The last life of each node that is over.
    pub(crate) fn ended(&self) -> HashMap<NodeId, Incarnation> {
        self.known.lock().ended.clone()
    }

    /// All members and their lives.
    pub(crate) fn lives(&self) -> Vec<(NodeId, Incarnation)> {
        self.known
            .lock()
            .members
            .iter()
            .map(|(node, m)| (*node, m.incarnation))
            .collect()
    }
}
