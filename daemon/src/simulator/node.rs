//! One life of a node: its parts, and what comes to it.

use std::collections::BTreeMap;

use dipc_wire::call::Reply;
use dipc_wire::peer::{Caller, Capabilities, Message};
use dipc_wire::referee::{Membership, ToNode};
use dipc_wire::{Errno, Incarnation, NodeId, Pid};

use super::desk::{Desk, Task};
use super::home::{Answer, Asker, Home};
use super::letters::{Letter, LifeId, Payload};
use super::membership::Handshakes;
use super::memory::Segments;
use super::names::Names;
use super::network::{Arrival, End};
use super::processes::Process;
use super::variants::Variant;

/// Who waits for a peer's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pending {
    /// A process, for its call.
    Call(u32),
    /// A process that looks for a key.
    Get(u32),
    /// A process that attaches.
    Attach(u32),
    /// Nobody: the answer tells nothing.
    Nobody,
}

/// The link to a life of a peer.
pub(super) struct Peer {
    pub(super) end: End,
    pub(super) incarnation: Incarnation,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) tags: u64,
}

/// What objects made here are like, and how programs behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Microseconds for which a node keeps a granule.
    pub(super) quantum: u64,
    /// Keys of each kind.
    pub(super) keys: u64,
    /// Microseconds for which a program thinks at most.
    pub(super) think: u64,
}

/// A life of a node.
pub(super) struct Life {
    pub(super) me: Membership,
    pub(super) id: LifeId,
    pub(super) habits: Habits,
    pub(super) home: Home,
    pub(super) segments: Segments,
    pub(super) names: Names,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    pub(super) ended: BTreeMap<NodeId, Incarnation>,
    pub(super) handshakes: Handshakes,
    pub(super) processes: BTreeMap<u32, Process>,
    /// Programs are served.
    pub(super) ready: bool,
}

impl Life {
    /// A life begins with the referee's welcome.
    pub(super) fn new(me: Membership, referee: End, habits: Habits) -> Self {
        let id = LifeId::from(me);
        Life {
            me,
            id,
            habits,
            home: Home::new(id),
            segments: Segments::new(id, habits.quantum),
            names: Names::new(referee),
            peers: BTreeMap::new(),
            members: BTreeMap::new(),
            ended: BTreeMap::new(),
            handshakes: Handshakes::default(),
            processes: BTreeMap::new(),
            ready: false,
        }
    }

    pub(super) fn pid(&self, pid: u32) -> Pid {
        Pid {
            node: self.id.node,
            pid,
        }
    }

    /// Something reaches an end of this node.
    pub(super) fn arrive(&mut self, end: End, arrival: Arrival, desk: &mut Desk<'_>) {
        match arrival {
            Arrival::Closed => self.closed(end, desk),
            Arrival::Letter(Letter::Peer(message, payload)) => {
                let peer = self.peers.iter().find(|(_, peer)| peer.end == end);
                match peer.map(|(&node, peer)| (node, peer.incarnation)) {
                    Some((node, incarnation)) => {
                        self.heard(LifeId { node, incarnation }, message, payload, desk);
                    }
                    None => self.heard_from_the_dead(end, message, payload, desk),
                }
            }
            Arrival::Letter(Letter::Hello { from, to }) => self.greeted(end, from, to, desk),
            Arrival::Letter(Letter::Member { .. } | Letter::ToNode(_))
                if self.names.end != Some(end) => {}
            Arrival::Letter(letter @ (Letter::Member { .. } | Letter::ToNode(_))) => {
                self.names.inbox.push_back(letter);
            }
            Arrival::Letter(Letter::Welcome(me)) => self.back_at_referee(end, me, desk),
            Arrival::Letter(Letter::Refused(retry)) => self.refused(end, retry, desk),
            Arrival::Letter(Letter::Join(_) | Letter::ToReferee(_)) => {
                desk.fail("a node was taken for the referee");
            }
        }
        self.flush(desk);
    }

    /// A broken variant listens to links that it has given up.
    fn heard_from_the_dead(
        &mut self,
        end: End,
        message: Message<'static>,
        payload: Payload,
        desk: &mut Desk<'_>,
    ) {
        let speaker = self.handshakes.given_up.get(&end).copied();
        if let (true, Some(from)) = (desk.is(Variant::HeardAfterDeath), speaker) {
            self.heard(from, message, payload, desk);
        }
    }

    /// The referee's words, one at a time: its thread connects to new members
    /// itself, and hears nothing meanwhile (`node/membership.rs`, `told`).
    fn hear_referee(&mut self, desk: &mut Desk<'_>) {
        while self.handshakes.connecting.is_none()
            && let Some(letter) = self.names.inbox.pop_front()
        {
            match letter {
                Letter::Member {
                    life,
                    host,
                    you_connect,
                } => self.introduced(life, host, you_connect, desk),
                Letter::ToNode(ToNode::Gone { node, incarnation }) => {
                    self.gone(node, incarnation, desk)
                }
                Letter::ToNode(ToNode::Fenced) => {
                    self.die("the cluster has declared it dead", desk)
                }
                Letter::ToNode(ToNode::Complete) => self.ready = true,
                Letter::ToNode(message) => self.about_keys(message, desk),
                _ => {}
            }
        }
    }

    /// This node ends at once.
    pub(super) fn die(&mut self, why: &'static str, desk: &mut Desk<'_>) {
        desk.shared.dying.push((desk.host, why));
    }

    /// A node's own time has come.
    pub(super) fn task(&mut self, task: Task, desk: &mut Desk<'_>) {
        match task {
            Task::Think(pid) => self.think(pid, desk),
            Task::Signal(pid) => self.withdraw(pid, desk),
            Task::TimeOut(ticket) => self.home.withdraw(ticket, Errno::EAGAIN, desk),
            Task::Expire(id, granule) => self.segments.expire(id, granule, desk),
            Task::GiveUp(tag) => self.give_up(tag, desk),
            Task::Make { pid, tag, epoch } => self.make(pid, tag, epoch, desk),
            Task::Rejoin => self.rejoin(desk),
            Task::Patience(end) => self.lost_patience(end, desk),
            Task::EndPeer(node, incarnation) => self.end_peer(node, incarnation, desk),
        }
        self.flush(desk);
    }

    /// Sends what the parts have put out: `node/home/waiters.rs` answers with no
    /// lock held, `node/segments.rs` sends under the segment's.
    pub(super) fn flush(&mut self, desk: &mut Desk<'_>) {
        loop {
            self.hear_referee(desk);
            for news in std::mem::take(&mut self.home.news) {
                self.names.say(news, desk);
            }
            let answers = std::mem::take(&mut self.home.answers);
            let out = std::mem::take(&mut self.segments.out);
            let woken = std::mem::take(&mut self.segments.woken);
            let destroyed = std::mem::take(&mut self.home.destroyed);
            if answers.is_empty() && out.is_empty() && woken.is_empty() && destroyed.is_empty() {
                return;
            }
            for (to, id, message, payload) in out {
                if let Some(peer) = self.peers.get(&to) {
                    desk.send(
                        peer.end,
                        Letter::Peer(Message::Coherence { id, message }, payload),
                    );
                }
            }
            for Answer {
                asker,
                reply,
                payload,
            } in answers
            {
                match asker {
                    Asker::Process(pid) => self.answered(pid, reply, payload, false, desk),
                    Asker::Peer(node, tag) => {
                        if let Some(peer) = self.peers.get(&node) {
                            desk.send(
                                peer.end,
                                Letter::Peer(Message::Reply { tag, reply }, payload),
                            );
                        }
                    }
                }
            }
            for pid in woken {
                let wait = desk.while_up_to(20);
                desk.later(wait, Task::Think(pid));
            }
            for id in destroyed {
                self.segments.forget(id, desk);
                for peer in self.peers.values() {
                    desk.send(
                        peer.end,
                        Letter::Peer(Message::Destroyed { id }, Payload::Nothing),
                    );
                }
            }
        }
    }

    /// Sends a call to another home. False when there is no link.
    pub(super) fn ask(
        &mut self,
        node: NodeId,
        pid: u32,
        call: dipc_wire::call::Call,
        payload: Payload,
        pending: Pending,
        desk: &mut Desk<'_>,
    ) -> Option<u64> {
        let peer = self.peers.get_mut(&node)?;
        peer.tags += 1;
        let tag = peer.tags;
        peer.pending.insert(tag, pending);
        let caller = Caller {
            pid,
            login: "user",
            capabilities: Capabilities::NONE,
        };
        desk.send(
            peer.end,
            Letter::Peer(Message::Call { tag, caller, call }, payload),
        );
        Some(tag)
    }

    /// `node/inbound.rs`, `heard`.
    fn heard(
        &mut self,
        from: LifeId,
        message: Message<'static>,
        payload: Payload,
        desk: &mut Desk<'_>,
    ) {
        let of = |pid: u32| Pid {
            node: from.node,
            pid,
        };
        match (message, payload) {
            (Message::Call { tag, caller, call }, payload) => {
                let asker = Asker::Peer(from.node, tag);
                let ticket = self.home.apply(of(caller.pid), call, &payload, asker, desk);
                self.set_deadline(&call, ticket, desk);
            }
            (Message::Reply { tag, reply }, payload) => {
                let peer = self.peers.get_mut(&from.node);
                if let Some(pending) = peer.and_then(|peer| peer.pending.remove(&tag)) {
                    self.replied(pending, from.node, reply, payload, desk);
                }
            }
            (Message::Withdraw { tag }, _) => {
                if let Some(ticket) = self.home.ticket_of(Asker::Peer(from.node, tag)) {
                    self.home.withdraw(ticket, Errno::EINTR, desk);
                }
            }
            (Message::UndeliveredOp { id, pid }, Payload::Ops(ops)) => {
                self.home.revert(of(pid), id, &ops, desk);
            }
            (Message::UndeliveredMessage { id, mtype }, Payload::Text(text)) => {
                self.home.put_back(id, mtype, &text, desk);
            }
            (Message::Exited { pid }, _) => self.home.exit(of(pid), desk),
            (Message::Dropped { id, pid, count }, _) => self.home.detached(of(pid), id, count),
            (Message::Mapped { id, pid }, _) => self.home.mapped(of(pid), id),
            (Message::Destroyed { id }, _) => self.segments.forget(id, desk),
            (Message::Coherence { id, message }, payload) => {
                if self.home.shms.get(id).is_some() {
                    self.segments.enter(id);
                }
                let value = match payload {
                    Payload::Written(value) => Some(value),
                    _ => None,
                };
                self.segments.receive(from, id, message, value, desk);
            }
            (message, _) => desk.fail(&format!("nobody says {message:?} so")),
        }
    }

    fn replied(
        &mut self,
        pending: Pending,
        from: NodeId,
        reply: Reply<'static>,
        payload: Payload,
        desk: &mut Desk<'_>,
    ) {
        match pending {
            Pending::Call(pid) => self.answered(pid, reply, payload, false, desk),
            Pending::Get(pid) => self.got_from(pid, Some(reply), desk),
            Pending::Attach(pid) => self.attached(pid, Some((reply, from)), desk),
            Pending::Nobody => {}
        }
    }
}
