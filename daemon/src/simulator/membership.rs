//! Nodes that come and go: `node/membership.rs` and `node/peers.rs`.
//!
//! | rule | stands for |
//! |---|---|
//! | the later one connects; it is let in when the referee has named it | `told`, `let_in`, `Peers::is_member` |
//! | a broken link is the death of that peer's life, and the referee hears of it | `link_lost` |
//! | what dies with a life: its calls and ours, its adjustments, its pages | `ended` |
//! | a node without an answer for ¾ T gives up what it has of that peer's, and after T acts as its survivor | the lease |
//! | a peer of whose death the referee tells has T to fence itself | the same |
//! | a loss that no referee was there for is told to the next | `Referee::introduce` |

use std::collections::BTreeMap;

use dipc_wire::call::Reply;
use dipc_wire::referee::ToReferee;
use dipc_wire::{Errno, Incarnation, NodeId};

use super::desk::{Desk, Event, Task};
use super::letters::{Letter, LifeId, Payload};
use super::network::{Arrival, End, T};
use super::node::{Life, Peer, Pending};
use super::variants::Variant;

/// Links that are not there yet, or no more.
#[derive(Default)]
pub(super) struct Handshakes {
    /// The one connection that the referee's thread is making.
    pub(super) connecting: Option<(End, LifeId)>,
    /// Connected, and not named by the referee yet.
    waiting: Vec<(End, LifeId)>,
    /// Closed, but their peers are not dead yet: they may have pages of ours.
    pub(super) fenced: BTreeMap<NodeId, Incarnation>,
    /// Who was at an end that is closed here.
    pub(super) given_up: BTreeMap<End, LifeId>,
}

impl Life {
    pub(super) fn is_over(&self, life: LifeId) -> bool {
        self.ended
            .get(&life.node)
            .is_some_and(|&last| life.incarnation <= last)
    }

    /// The referee names a member.
    pub(super) fn introduced(
        &mut self,
        life: LifeId,
        host: usize,
        you_connect: bool,
        desk: &mut Desk<'_>,
    ) {
        if !self.is_over(life) {
            self.members.insert(life.node, life.incarnation);
        }
        self.let_in_the_awaited(desk);
        if you_connect && !self.peers.contains_key(&life.node) {
            let link = desk.shared.network.open(desk.host, host);
            let end = End { link, side: 0 };
            self.handshakes.connecting = Some((end, life));
            let hello = Letter::Hello {
                from: self.id,
                to: life,
            };
            desk.send(end, hello);
            desk.later(T, Task::Patience(end));
        }
    }

    /// A peer says hello: it has connected, or answers ours.
    pub(super) fn greeted(&mut self, end: End, from: LifeId, to: LifeId, desk: &mut Desk<'_>) {
        if self.handshakes.connecting == Some((end, from)) && to == self.id {
            self.handshakes.connecting = None;
            return self.begin_link(end, from, desk);
        }
        if to != self.id || self.is_over(from) || end.side == 0 {
            return desk.shared.close(end);
        }
        if self.is_awaited(from, desk) {
            return self.let_in(end, from, desk);
        }
        // The referee's word may come later than the newcomer, and so may the end
        // of its last life here.
        self.handshakes.waiting.push((end, from));
        desk.later(T, Task::Patience(end));
    }

    /// The referee has named this life, and what an earlier one had here is gone.
    fn is_awaited(&self, life: LifeId, desk: &Desk<'_>) -> bool {
        let clear = !self.handshakes.fenced.contains_key(&life.node)
            && !self.peers.contains_key(&life.node);
        let early = desk.is(Variant::NextLifeLetInEarly);
        self.members.get(&life.node) == Some(&life.incarnation) && (clear || early)
    }

    /// Lets in whoever has waited for what has just happened.
    fn let_in_the_awaited(&mut self, desk: &mut Desk<'_>) {
        let waiting = std::mem::take(&mut self.handshakes.waiting);
        for (end, life) in waiting {
            match self.is_awaited(life, desk) {
                true => self.let_in(end, life, desk),
                false => self.handshakes.waiting.push((end, life)),
            }
        }
    }

    fn let_in(&mut self, end: End, life: LifeId, desk: &mut Desk<'_>) {
        if self.is_over(life) || self.peers.contains_key(&life.node) {
            return desk.shared.close(end);
        }
        let hello = Letter::Hello {
            from: self.id,
            to: life,
        };
        desk.send(end, hello);
        self.begin_link(end, life, desk);
    }

    fn begin_link(&mut self, end: End, life: LifeId, desk: &mut Desk<'_>) {
        if self.is_over(life)
            || self.peers.contains_key(&life.node)
            || !desk.shared.network.is_open(end)
        {
            return desk.shared.close(end);
        }
        let peer = Peer {
            end,
            incarnation: life.incarnation,
            pending: BTreeMap::new(),
            tags: 0,
        };
        self.peers.insert(life.node, peer);
    }

    /// A connection that is being made has taken too long.
    pub(super) fn lost_patience(&mut self, end: End, desk: &mut Desk<'_>) {
        let before = self.handshakes.waiting.len();
        self.handshakes.waiting.retain(|(it, _)| *it != end);
        if self.handshakes.waiting.len() < before {
            desk.shared.close(end);
        }
        if self.handshakes.connecting.is_some_and(|(it, _)| it == end) || self.names.is_joining(end)
        {
            desk.shared.close(end);
            self.closed(end, desk);
        }
    }

    /// An end is closed, by the other side or by the system.
    pub(super) fn closed(&mut self, end: End, desk: &mut Desk<'_>) {
        desk.shared.network.close(end);
        self.handshakes.waiting.retain(|(it, _)| *it != end);
        if self.names.lost(end) {
            return self.later_rejoin(desk);
        }
        if self.handshakes.connecting.is_some_and(|(it, _)| it == end) {
            self.handshakes.connecting = None;
            if !self.ready {
                // A newcomer that cannot reach a member is the one to go.
                if !desk.is(Variant::NewcomerGoesWithoutWord) {
                    self.names.say(ToReferee::Leave, desk);
                }
                self.die("it cannot reach a member", desk);
            }
            return;
        }
        let peer = self.peers.iter().find(|(_, peer)| peer.end == end);
        if let Some((&node, peer)) = peer {
            let incarnation = peer.incarnation;
            self.lost(LifeId { node, incarnation }, desk);
            self.end_of(node, incarnation, desk);
        }
    }

    /// Nothing was heard, or nothing acknowledged, for ¾ T: for T at the link to
    /// the referee.
    pub(super) fn silent(&mut self, end: End, desk: &mut Desk<'_>) {
        if self.names.end == Some(end)
            || self.names.is_joining(end)
            || self.handshakes.connecting.is_some_and(|(it, _)| it == end)
        {
            desk.shared.close(end);
            self.closed(end, desk);
            return self.flush(desk);
        }
        let peer = self.peers.iter().find(|(_, peer)| peer.end == end);
        let Some((&node, peer)) = peer else { return };
        let life = LifeId {
            node,
            incarnation: peer.incarnation,
        };
        if desk.is(Variant::CutOffNotFenced) {
            let wait = desk.while_up_to(T);
            return desk.later(wait, Task::EndPeer(node, life.incarnation));
        }
        self.fence(life, desk);
        let wait = T / 4 + desk.while_up_to(T / 8);
        desk.later(wait, Task::EndPeer(node, life.incarnation));
        self.flush(desk);
    }

    /// Nobody here may go on with what that peer's life has lent.
    fn fence(&mut self, life: LifeId, desk: &mut Desk<'_>) {
        self.handshakes.fenced.insert(life.node, life.incarnation);
        self.segments.node_died(
            life.node,
            life.incarnation,
            |id| id.home() == life.node,
            desk,
        );
        self.lost(life, desk);
    }

    /// The link is closed, its calls have failed, and the referee knows.
    fn lost(&mut self, life: LifeId, desk: &mut Desk<'_>) {
        let Some(peer) = self.peers.remove(&life.node) else {
            return;
        };
        self.handshakes.given_up.insert(peer.end, life);
        if !desk.is(Variant::HeardAfterDeath) {
            desk.shared.close(peer.end);
        } else {
            desk.shared.send(peer.end, Arrival::Closed);
        }
        let LifeId { node, incarnation } = life;
        self.names
            .say(ToReferee::PeerLost { node, incarnation }, desk);
        for pending in peer.pending.into_values() {
            match pending {
                // The object is lost with its home, as if it had been removed.
                Pending::Call(pid) => {
                    self.answered(
                        pid,
                        Reply::Failed(Errno::EIDRM),
                        Payload::Nothing,
                        true,
                        desk,
                    );
                }
                Pending::Get(pid) => self.got_from(pid, None, desk),
                Pending::Attach(pid) => self.attached(pid, None, desk),
                Pending::Nobody => {}
            }
        }
    }

    /// The referee says that a life is over. It may not know so itself.
    pub(super) fn gone(&mut self, node: NodeId, incarnation: Incarnation, desk: &mut Desk<'_>) {
        let linked = self
            .peers
            .get(&node)
            .filter(|peer| peer.incarnation <= incarnation);
        let fenced = self
            .handshakes
            .fenced
            .get(&node)
            .is_some_and(|&it| it <= incarnation);
        match linked.map(|peer| peer.end) {
            Some(end) if !desk.is(Variant::CutOffNotFenced) => {
                let at = desk.shared.now + T / 4 * 3;
                desk.shared
                    .agenda
                    .enter(at, Event::Silent(end.other(), None));
                desk.later(T, Task::EndPeer(node, incarnation));
            }
            None if fenced => {}
            _ => self.end_peer(node, incarnation, desk),
        }
    }

    /// A peer has had its time.
    pub(super) fn end_peer(&mut self, node: NodeId, incarnation: Incarnation, desk: &mut Desk<'_>) {
        // A later one was let in only when nothing was left of this.
        let later = |peer: &Peer| peer.incarnation > incarnation;
        if self.is_over(LifeId { node, incarnation }) || self.peers.get(&node).is_some_and(later) {
            return;
        }
        if self
            .peers
            .get(&node)
            .is_some_and(|peer| peer.incarnation <= incarnation)
        {
            self.fence(LifeId { node, incarnation }, desk);
        }
        self.end_of(node, incarnation, desk);
    }

    /// A life is over: what it had here ends.
    fn end_of(&mut self, node: NodeId, incarnation: Incarnation, desk: &mut Desk<'_>) {
        let life = LifeId { node, incarnation };
        if self.is_over(life) {
            return;
        }
        desk.shared.note(|| format!("{:?} ends {life:?}", self.id));
        self.ended.insert(node, incarnation);
        if self
            .handshakes
            .fenced
            .get(&node)
            .is_some_and(|&it| it <= incarnation)
        {
            self.handshakes.fenced.remove(&node);
        }
        if self.members.get(&node).is_some_and(|&it| it <= incarnation) {
            self.members.remove(&node);
        }
        let refused: Vec<(End, LifeId)> = self
            .handshakes
            .waiting
            .extract_if(.., |(_, it)| *it == life)
            .collect();
        refused
            .into_iter()
            .for_each(|(end, _)| desk.shared.close(end));
        let me = self.id;
        desk.record
            .exit_due(super::record::Record::is_of(node), |home| home == me);
        self.home.forget_node(node, desk);
        self.segments.node_died(node, incarnation, |_| true, desk);
        for id in self.segments.ids() {
            if id.home() == node && !self.is_mapped(id) {
                self.segments.forget(id, desk);
            }
        }
        self.let_in_the_awaited(desk);
    }
}
