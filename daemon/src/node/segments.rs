//! The segments in use on this node: page faults and coherence messages go in,
//! memory is changed and messages go out.
//!
//! One lock a segment is held from an event until all of its actions are done,
//! messages sent: so what is sent for a segment leaves in the order in which it
//! was decided, which the protocol relies on. Sending never waits.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use dipc_wire::coherence::{Content, Message};
use dipc_wire::peer;
use dipc_wire::referee::Membership;
use dipc_wire::{Incarnation, NodeId, ObjectId};
use parking_lot::{Mutex, RwLock};

use super::link::Link;
use super::pieces::{Pieces, cut};
use super::{Node, Shape, Task};
use crate::coherence::{Action, Config, Protocol};
use crate::memory::spaces::{Births, Fault, News, View};
use crate::memory::uffd::Uffd;
use crate::memory::{Mapping, Passing, SegmentMemory, Space, access_of, poison_page};

/// All segments that this node uses or is home of, as far as they were touched.
#[derive(Default)]
pub(crate) struct Segments {
    table: RwLock<HashMap<ObjectId, Arc<Segment>>>,
}

/// One segment on this node.
pub(crate) struct Segment {
    id: ObjectId,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    protocol: Protocol,
    pub(crate) memory: SegmentMemory,
    pieces: Pieces,
}

/// Events that were read in passing, for a thread that holds no lock.
pub(crate) struct Late {
    sender: Sender<News>,
    receiver: Receiver<News>,
}

impl Late {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Late { sender, receiver }
    }
}

impl Births for Node {
    fn born(&self, child: &Space, mappings: &[Mapping]) {
        self.keeper.space(child.id, child.uffd.as_fd());
        for mapping in mappings {
            self.keeper.map(child.id, mapping.range);
        }
        self.forked(child, mappings);
    }

    fn spare(&self, read: &mut dyn FnMut()) {
        self.descriptors.say_short();
        self.descriptors.for_birth.lend(read);
    }

    fn admits(&self, child: BorrowedFd<'_>) -> bool {
        self.descriptors.admit_birth(child)
    }

    fn stillborn(&self, child: Uffd) {
        // Before the child can run and report itself.
        self.faults.stillbirths.store(true, Ordering::Release);
        self.descriptors.for_birth.keep(child.into());
    }
}

impl Passing for Node {
    fn pass(&self, news: News) {
        // The receiver lives as long as the sender.
        let _ = self.late.sender.send(news);
    }
}

/// A number nobody can guess.
fn secret() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

impl Segments {
    pub(crate) fn get(&self, id: ObjectId) -> Option<Arc<Segment>> {
        self.table.read().get(&id).cloned()
    }

    /// How many bytes of a segment are in this node's memory.
    pub(crate) fn resident(&self, id: ObjectId) -> u64 {
        self.get(id)
            .map_or(0, |segment| segment.state.lock().memory.resident())
    }

    fn all(&self) -> Vec<Arc<Segment>> {
        self.table.read().values().cloned().collect()
    }

    /// Runs `each` over all memory that the segments have here, while theirs cannot
    /// change.
    pub(super) fn each_view(&self, mut each: impl FnMut(ObjectId, View, u64, BorrowedFd<'_>)) {
        for segment in self.all() {
            let state = segment.state.lock();
            for view in state.memory.views() {
                if let Some(memfd) = state.memory.memory_of(view) {
                    each(segment.id, view, state.memory.mapped_len(), memfd);
                }
            }
        }
    }

    /// The segment, new to this node or not.
    pub(crate) fn enter(
        &self,
        me: Membership,
        id: ObjectId,
        shape: Shape,
    ) -> io::Result<Arc<Segment>> {
        if let Some(segment) = self.get(id) {
            return Ok(segment);
        }
        let config = Config {
            me: me.node,
            incarnation: me.incarnation,
            home: id.home(),
            granules: shape.size.div_ceil(shape.granule),
            quantum: shape.quantum,
            secret: secret()?,
        };
        let state = State {
            protocol: Protocol::new(config),
            memory: SegmentMemory::new(id, shape.size, shape.granule),
            pieces: Pieces::default(),
        };
        let segment = Arc::new(Segment {
            id,
            state: Mutex::new(state),
        });
        Ok(self.table.write().entry(id).or_insert(segment).clone())
    }

    fn remove(&self, id: ObjectId) -> Option<Arc<Segment>> {
        self.table.write().remove(&id)
    }
}

impl Node {
    /// Starts the thread for what was read in passing.
    pub(crate) fn watch_late(self: &Arc<Self>) -> io::Result<()> {
        let node = self.clone();
        thread::Builder::new().name("late".into()).spawn(move || {
            while let Ok(news) = node.late.receiver.recv() {
                node.news(news);
            }
        })?;
        Ok(())
    }

    pub(super) fn news(self: &Arc<Self>, news: News) {
        for child in news.children {
            if let Err(error) = self.watch(child) {
                // Its faults would wait for ever.
                self.die(&format!("a forked child cannot be served: {error}"));
            }
        }
        for fault in news.faults {
            if fault.mapping.space.is_new_acquaintance() {
                self.meet(fault.thread);
            }
            self.fault(fault);
        }
    }

    /// A thread of this node waits for a page.
    fn fault(&self, fault: Fault) {
        self.counters.fault(fault.write);
        let Some(segment) = self.segments.get(fault.mapping.segment) else {
            // Its home has destroyed it, or is dead: an error, and no wait.
            return poison_page(&fault, &self.spaces, self);
        };
        let mut state = segment.state.lock();
        let granule = state.memory.granule_at(fault.offset());
        let access = access_of(&fault);
        state.memory.wait(fault);
        let mut actions = Vec::new();
        state
            .protocol
            .fault(granule, access, self.now(), &mut actions);
        self.execute(&segment, &mut state, &actions, &[]);
    }

    /// A peer says something about a granule. An error is a violation of the
    /// protocol, for the log.
    pub(crate) fn coherence(
        &self,
        link: &Link,
        id: ObjectId,
        message: Message,
        payload: &[u8],
    ) -> Result<(), String> {
        // Destroyed meanwhile: the sender is about to hear of it.
        let Some(segment) = self.segment_spoken_of(id)? else {
            return Ok(());
        };
        let mut state = segment.state.lock();
        // The link is lost before this segment hears of the death, which takes
        // the same lock: so no word of an earlier life comes after it.
        if link.is_lost() {
            return Ok(());
        }
        let from = (link.node, link.incarnation);
        let payload = &*match message.carries_data() {
            true => {
                self.counters.granule_in();
                state.pieces.complete(from, payload)
            }
            false => payload.into(),
        };
        let sound = match message.carries_data() {
            true => state.memory.accepts(message.granule(), payload),
            false => payload.is_empty(),
        };
        if !sound {
            if state.protocol.is_at_the_homes_bidding(link.node, message) {
                let (from, bytes) = (link.node, payload.len());
                tracing::warn!(%id, %from, bytes, ?message, "the segment's home told two nodes two sizes");
                return Ok(());
            }
            return Err(format!("{message:?} came with {} bytes", payload.len()));
        }
        // A live link is the life of now: the segment may know of an earlier one's
        // death only.
        state.protocol.node_joined(link.node, link.incarnation);
        let mut actions = Vec::new();
        let heard = state
            .protocol
            .receive(link.node, message, self.now(), &mut actions);
        self.execute(&segment, &mut state, &actions, payload);
        heard.map_err(|violation| violation.to_string())
    }

    /// A peer sends a part of a granule, ahead of the message that it belongs to. An
    /// error is a violation of the protocol, for the log.
    pub(crate) fn piece(&self, link: &Link, id: ObjectId, payload: &[u8]) -> Result<(), String> {
        let Some(segment) = self.segment_spoken_of(id)? else {
            return Ok(());
        };
        let mut state = segment.state.lock();
        // As for coherence: nothing is put aside for a life that is over.
        if link.is_lost() {
            return Ok(());
        }
        let (longest, len) = (state.memory.longest_payload(), payload.len());
        let from = (link.node, link.incarnation);
        if !state.pieces.add(from, payload, longest) {
            return Err(format!("{len} bytes came that are no piece of {id:?}"));
        }
        Ok(())
    }

    /// The segment that a peer speaks of, if it is in use here or this is its home.
    fn segment_spoken_of(&self, id: ObjectId) -> Result<Option<Arc<Segment>>, String> {
        if let Some(segment) = self.segments.get(id) {
            return Ok(Some(segment));
        }
        let Some(shape) = self.home.shape(id) else {
            return Ok(None);
        };
        let entered = self.segments.enter(self.me, id, shape);
        let segment = entered.map_err(|error| error.to_string())?;
        // IPC_RMID, by another thread, takes it out of the home first and then out
        // of the table, where it may not have found it.
        if self.home.shape(id).is_none() {
            self.forget_segment(id);
            return Ok(None);
        }
        Ok(Some(segment))
    }

    /// A granule's time quantum is over.
    pub(crate) fn expire(&self, id: ObjectId, granule: u64) {
        let Some(segment) = self.segments.get(id) else {
            return;
        };
        let mut state = segment.state.lock();
        let mut actions = Vec::new();
        state.protocol.expire(granule, self.now(), &mut actions);
        self.execute(&segment, &mut state, &actions, &[]);
    }

    /// The last process of this node has detached: nothing is kept here, unless
    /// this is the segment's home.
    pub(crate) fn settle_detached(&self, id: ObjectId, view: View) {
        let Some(segment) = self.segments.get(id) else {
            return;
        };
        let mut state = segment.state.lock();
        if !self.spaces.is_mapped(id, Some(view)) && view != View::Shared {
            state.memory.end_view(view);
            self.keeper.end_memory(id, view);
        }
        if self.spaces.is_mapped(id, None) {
            return;
        }
        let mut actions = Vec::new();
        state.protocol.evict_all(self.now(), &mut actions);
        self.execute(&segment, &mut state, &actions, &[]);
        let orphaned = state.protocol.is_orphaned();
        drop(state);
        let home = id.home();
        if home != self.me.node && (orphaned || self.peers.link(home).is_none()) {
            // Nobody will say that it is destroyed.
            self.forget_segment(id);
        }
    }

    /// The segment is destroyed. Should somebody have it attached all the same,
    /// by a home's mistake, nothing of it is left to see.
    pub(crate) fn forget_segment(&self, id: ObjectId) {
        let Some(segment) = self.segments.remove(id) else {
            return;
        };
        let mut state = segment.state.lock();
        state.memory.poison_all(&self.spaces, self);
        for view in state.memory.views() {
            self.keeper.end_memory(id, view);
        }
    }

    /// Tells a segment, in the table already, of the deaths that came before it:
    /// [`Node::memory_of_dead`] has not met it. The home's counts only if it is
    /// of the life that gave the attachment.
    pub(super) fn learn_deaths(&self, segment: &Segment, home: &Link) {
        let mut state = segment.state.lock();
        let mut actions = Vec::new();
        let mut over = self.peers.ended();
        over.remove(&home.node);
        if home.is_lost() {
            over.insert(home.node, home.incarnation);
        }
        for (node, incarnation) in over {
            state
                .protocol
                .node_died(node, incarnation, self.now(), &mut actions);
        }
        self.execute(segment, &mut state, &actions, &[]);
    }

    /// What was lent by a node that is dead, or takes this one for dead: it is given
    /// up.
    pub(crate) fn memory_from_dead(&self, dead: NodeId, incarnation: Incarnation) {
        self.bury(dead, incarnation, |home| home == dead);
        for segment in self.segments.all() {
            if segment.id.home() == dead && !self.spaces.is_mapped(segment.id, None) {
                self.forget_segment(segment.id);
            }
        }
    }

    /// What a node's death does to the memory of all other homes, this one among
    /// them. It must have fenced: what it had is given to others.
    pub(crate) fn memory_of_dead(&self, dead: NodeId, incarnation: Incarnation) {
        self.bury(dead, incarnation, |home| home != dead);
    }

    fn bury(&self, dead: NodeId, incarnation: Incarnation, of: impl Fn(NodeId) -> bool) {
        for segment in self.segments.all() {
            if of(segment.id.home()) {
                let mut state = segment.state.lock();
                state.pieces.forget((dead, incarnation));
                let mut actions = Vec::new();
                state
                    .protocol
                    .node_died(dead, incarnation, self.now(), &mut actions);
                self.execute(&segment, &mut state, &actions, &[]);
            }
        }
    }

    fn execute(&self, segment: &Segment, state: &mut State, actions: &[Action], payload: &[u8]) {
        let State { memory, .. } = state;
        for action in actions {
            match *action {
                Action::Protect { granule } => memory.protect(granule, &self.spaces, self),
                Action::Copy { granule } => {
                    if let Err(error) = memory.copy(granule) {
                        self.die(&format!("shared memory cannot be read: {error}"));
                    }
                }
                Action::Drop { granule } => memory.discard(granule),
                Action::Send { to, message } => {
                    let bytes = if message.carries_data() {
                        memory.aside()
                    } else {
                        &[]
                    };
                    self.send_coherence(to, segment.id, message, bytes);
                    memory.sent();
                }
                Action::Install {
                    granule,
                    access,
                    content,
                } => {
                    let bytes = (content == Content::Data).then_some(payload);
                    memory.install(granule, access, bytes, &self.spaces, self);
                }
                Action::Permit { granule, access } => {
                    memory.permit(granule, access, &self.spaces, self);
                }
                Action::Poison { granule } => memory.poison(granule, &self.spaces, self),
                Action::PoisonAll => memory.poison_all(&self.spaces, self),
                Action::Arm { granule, at } => {
                    let at = self.began + Duration::from_nanos(at);
                    self.timer.at(
                        at,
                        Task::Expire {
                            segment: segment.id,
                            granule,
                        },
                    );
                }
            }
        }
    }

    fn send_coherence(&self, to: NodeId, id: ObjectId, message: Message, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.counters.granule_out();
        }
        // Without a link the node is dead, and its death is reported.
        let Some(link) = self.peers.link(to) else {
            return;
        };
        // An evicted page is freed here as it is queued.
        let evicted = matches!(message, Message::Evict { .. });
        let send = |message: &peer::Message<'_>, bytes: &[u8]| {
            let _ = if evicted {
                link.send_moved(message, bytes)
            } else {
                link.send(message, bytes)
            };
        };
        let (pieces, end) = cut(bytes);
        for piece in pieces {
            send(&peer::Message::Piece { id }, piece);
        }
        send(&peer::Message::Coherence { id, message }, end);
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::coherence::Access;
    use dipc_wire::frame::FrameBuffer;

    use super::super::testing::{link_to, solo_node};
    use super::*;

    const SHAPE: Shape = Shape {
        size: 4096,
        granule: 4096,
        quantum: 0,
    };

    fn on_fault(segment: &Segment) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut state = segment.state.lock();
        state.protocol.fault(0, Access::Read, 0, &mut actions);
        actions
    }

    #[test]
    fn a_segment_whose_home_died_while_it_was_attached_is_poisoned_not_waited_for() {
        let node = solo_node();
        let (home, _stream) = link_to(&node, 2, 7);
        // The home has answered the attach, and is dead before the segment is entered.
        node.link_ended(&home);
        let id = ObjectId::new(home.node, 1);
        let segment = node.segments.enter(node.me, id, SHAPE).unwrap();
        node.learn_deaths(&segment, &home);
        assert_eq!(on_fault(&segment), [Action::Poison { granule: 0 }]);
    }

    #[test]
    fn a_segment_whose_home_is_dead_is_forgotten_when_nobody_has_it_attached() {
        let node = solo_node();
        let (home, _stream) = link_to(&node, 2, 7);
        let [idle, used] = [1, 2].map(|serial| ObjectId::new(home.node, serial));
        node.segments.enter(node.me, idle, SHAPE).unwrap();
        node.settle_detached(idle, View::Shared);
        assert!(
            node.segments.get(idle).is_some(),
            "its home may want it back"
        );
        node.link_lost(&home, "test");
        assert!(node.segments.get(idle).is_none());
        // One whose attach was under way, and has failed now.
        node.segments.enter(node.me, used, SHAPE).unwrap();
        node.settle_detached(used, View::Shared);
        assert!(node.segments.get(used).is_none());
    }

    #[test]
    fn a_segment_whose_home_is_back_in_another_life_is_forgotten_all_the_same() {
        let node = solo_node();
        let (home, _stream) = link_to(&node, 2, 7);
        node.link_ended(&home);
        let id = ObjectId::new(home.node, 1);
        let segment = node.segments.enter(node.me, id, SHAPE).unwrap();
        node.learn_deaths(&segment, &home);
        let (_next, _stream) = link_to(&node, 2, 8);
        node.settle_detached(id, View::Shared);
        assert!(node.segments.get(id).is_none());
    }

    #[test]
    fn an_earlier_death_of_its_home_costs_a_segment_of_the_present_life_nothing() {
        let node = solo_node();
        let (earlier, _stream) = link_to(&node, 2, 7);
        node.link_ended(&earlier);
        let (home, _stream) = link_to(&node, 2, 8);
        let segment = node
            .segments
            .enter(node.me, ObjectId::new(home.node, 1), SHAPE)
            .unwrap();
        node.learn_deaths(&segment, &home);
        assert!(matches!(
            on_fault(&segment)[..],
            [Action::Send {
                message: Message::Request { .. },
                ..
            }]
        ));
    }

    #[test]
    fn the_first_request_of_a_peers_new_life_is_answered() {
        let node = solo_node();
        let id = ObjectId::new(node.me.node, 1);
        node.segments.enter(node.me, id, SHAPE).unwrap();
        let (earlier, _stream) = link_to(&node, 2, 7);
        node.link_ended(&earlier);
        let (link, mut stream) = link_to(&node, 2, 8);
        let request = Message::Request {
            granule: 0,
            access: Access::Read,
            ticket: 5,
            incarnation: link.incarnation,
        };
        node.coherence(&link, id, request, &[]).unwrap();
        link.lose();
        link.announce();
        let mut buffer = FrameBuffer::new();
        while let count @ 1.. = stream.read(buffer.space()).unwrap() {
            buffer.filled(count);
        }
        let frame = buffer.next_frame().unwrap().expect("a grant");
        assert!(matches!(
            frame.message().unwrap(),
            peer::Message::Coherence {
                message: Message::Grant { ticket: 5, .. },
                ..
            }
        ));
    }
}
