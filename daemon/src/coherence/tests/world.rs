//! Nodes with memory, threads and links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId};

use super::checks::Failure;
use crate::coherence::{Action, Config, Protocol};

/// How the world cheats, to show that the checks notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sabotage {
    /// Invalidated is sent while threads can still read.
    AckBeforeDrop,
    /// The home takes an invalidation for answered as soon as it is sent.
    InvalidationNotAwaited,
    /// A downgrade leaves the owner's threads able to write.
    DowngradeWithoutProtect,
    /// One invalidation is never sent, and nobody notices.
    ReaderForgotten,
    /// A grant that answers an earlier request is taken for the present one.
    TicketIgnored,
    /// Messages of one link overtake each other.
    LinkNotInOrder,
    /// The directory never learns that a copy has come.
    InstalledDropped,
}

/// What a node's memory has of a granule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) value: u64,
    pub(super) access: Access,
}

/// A thread tries one access after another.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Thread {
    pub(super) wants: Option<(u64, Access)>,
    pub(super) waits: bool,
}

pub(super) struct Node {
    pub(super) protocol: Protocol,
    incarnation: Incarnation,
    pub(super) memory: BTreeMap<u64, Cell>,
    pub(super) poisoned: BTreeSet<u64>,
    pub(super) segment_poisoned: bool,
    pub(super) threads: [Thread; 3],
    pub(super) alarms: BTreeSet<(u64, u64)>,
    /// What [`Action::Copy`] put aside.
    aside: Option<(u64, u64)>,
    /// Drops that sabotage holds back.
    pub(super) late_drops: Vec<u64>,
}

type Letter = (Message, Option<u64>);

pub(super) struct World {
    pub(super) home: NodeId,
    pub(super) granules: u64,
    pub(super) quantum: u64,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) now: u64,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Letter>>,
    /// Who has yet to learn of whose death.
    pub(super) news: BTreeSet<(NodeId, NodeId)>,
    /// The last completed write of each granule.
    pub(super) written: BTreeMap<u64, u64>,
    /// Granules of which a dead node had, was sent, or had sent a copy.
    pub(super) endangered: BTreeSet<u64>,
    pub(super) lost: BTreeSet<u64>,
    writes: u64,
    births: u64,
    /// Dead incarnations that somebody has yet to learn of.
    graves: BTreeMap<NodeId, Incarnation>,
    /// What the run exercised, for the test that asks whether it did.
    pub(super) seen: BTreeMap<&'static str, u64>,
}

pub(super) fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

impl World {
    pub(super) fn new(nodes: u8, granules: u64, quantum: u64) -> Self {
        let mut world = World {
            home: node(1),
            granules,
            quantum,
            sabotage: None,
            now: 0,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            news: BTreeSet::new(),
            written: BTreeMap::new(),
            endangered: BTreeSet::new(),
            lost: BTreeSet::new(),
            writes: 0,
            births: 0,
            graves: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        (1..=nodes).for_each(|number| world.start(node(number)));
        world
    }

    /// A node starts, or starts again once everybody knows that it had died.
    pub(super) fn start(&mut self, me: NodeId) {
        self.births += 1;
        let Self {
            home,
            granules,
            quantum,
            births,
            ..
        } = *self;
        let incarnation = Incarnation(births);
        let secret = u128::from(births);
        let config = Config {
            me,
            incarnation,
            home,
            granules,
            quantum,
            secret,
        };
        let protocol = Protocol::new(config);
        let fresh = Node {
            protocol,
            incarnation,
            memory: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            segment_poisoned: false,
            threads: Default::default(),
            alarms: BTreeSet::new(),
            aside: None,
            late_drops: Vec::new(),
        };
        self.nodes
            .values_mut()
            .for_each(|node| node.protocol.node_joined(me, incarnation));
        self.nodes.insert(me, fresh);
    }

    /// A node stops. Its letters are under way until the receivers know.
    pub(super) fn kill(&mut self, dead: NodeId) {
        let Some(node) = self.nodes.remove(&dead) else {
            return;
        };
        self.graves.insert(dead, node.incarnation);
        self.endangered.extend(node.memory.keys());
        if dead == self.home {
            self.endangered.extend(0..self.granules);
        }
        for (&(from, to), letters) in &self.links {
            if from == dead || to == dead {
                self.endangered
                    .extend(letters.iter().map(|(message, _)| message.granule()));
            }
        }
        self.links.retain(|&(_, to), _| to != dead);
        self.news.retain(|&(learner, _)| learner != dead);
        self.news
            .extend(self.nodes.keys().map(|&learner| (learner, dead)));
    }

    pub(super) fn learn(&mut self, learner: NodeId, dead: NodeId) -> Result<(), Failure> {
        self.news.remove(&(learner, dead));
        self.links.remove(&(dead, learner));
        let incarnation = self.graves[&dead];
        self.call(learner, None, |protocol, now, actions| {
            protocol.node_died(dead, incarnation, now, actions);
            Ok(())
        })
    }

    /// A thread gets something to do.
    pub(super) fn want(&mut self, at: NodeId, thread: usize, granule: u64, access: Access) {
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        node.threads[thread] = Thread {
            wants: Some((granule, access)),
            waits: false,
        };
    }

    /// A thread that does not wait tries its access: it succeeds or faults.
    pub(super) fn attempt(&mut self, at: NodeId, thread: usize) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(&at) else {
            return Ok(());
        };
        let Some((granule, access)) = node.threads[thread].wants else {
            return Ok(());
        };
        let poisoned = node.segment_poisoned || node.poisoned.contains(&granule);
        match node.memory.get_mut(&granule) {
            Some(cell) if cell.access >= access => {
                if access == Access::Write {
                    self.writes += 1;
                    cell.value = self.writes;
                    self.written.insert(granule, self.writes);
                }
                *self.seen.entry("accesses").or_default() += 1;
                node.threads[thread] = Thread::default();
                self.check()
            }
            None if poisoned => {
                node.threads[thread] = Thread::default();
                Ok(())
            }
            _ => {
                node.threads[thread].waits = true;
                self.call(at, None, |protocol, now, actions| {
                    protocol.fault(granule, access, now, actions);
                    Ok(())
                })
            }
        }
    }

    /// The processes of a node end.
    pub(super) fn detach(&mut self, at: NodeId) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(&at) else {
            return Ok(());
        };
        node.threads = Default::default();
        self.call(at, None, |protocol, now, actions| {
            protocol.evict_all(now, actions);
            Ok(())
        })
    }

    /// The next letter of a link arrives.
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId) -> Result<(), Failure> {
        let Some(letters) = self.links.get_mut(&(from, to)) else {
            return Ok(());
        };
        let swapped = self.sabotage == Some(Sabotage::LinkNotInOrder) && letters.len() > 1;
        let Some((mut message, payload)) = letters.remove(usize::from(swapped)) else {
            return Ok(());
        };
        if letters.is_empty() {
            self.links.remove(&(from, to));
        }
        if self.sabotage == Some(Sabotage::TicketIgnored)
            && let Message::Grant {
                granule,
                ref mut ticket,
                ..
            } = message
            && let Some(pending) = self.nodes[&to].protocol.cache().line(granule).pending
        {
            *ticket = pending.ticket;
        }
        self.call(to, payload, |protocol, now, actions| {
            protocol
                .receive(from, message, now, actions)
                .map_err(|violation| Failure::Accused {
                    from,
                    by: to,
                    violation,
                })
        })
    }

    pub(super) fn expire(&mut self, at: NodeId, granule: u64) -> Result<(), Failure> {
        self.call(at, None, |protocol, now, actions| {
            protocol.expire(granule, now, actions);
            Ok(())
        })
    }

    /// One call of a node's machine, all that it leads to, and the checks.
    pub(super) fn call(
        &mut self,
        at: NodeId,
        payload: Option<u64>,
        call: impl FnOnce(&mut Protocol, u64, &mut Vec<Action>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(&at) else {
            return Ok(());
        };
        let mut actions = Vec::new();
        call(&mut node.protocol, self.now, &mut actions)?;
        for (index, &action) in actions.iter().enumerate() {
            let acked = |g| actions[index..].iter().any(|&later| acknowledges(later, g));
            match action {
                Action::Drop { granule }
                    if self.sabotage == Some(Sabotage::AckBeforeDrop) && acked(granule) =>
                {
                    self.nodes.get_mut(&at).unwrap().late_drops.push(granule);
                }
                _ => self.execute(at, action, payload)?,
            }
        }
        self.check()
    }

    fn execute(&mut self, at: NodeId, action: Action, payload: Option<u64>) -> Result<(), Failure> {
        let impossible = Failure::Impossible { node: at, action };
        let Some(node) = self.nodes.get_mut(&at) else {
            return Ok(());
        };
        match action {
            Action::Protect { granule } => {
                let cell = node.memory.get_mut(&granule).ok_or(impossible)?;
                if self.sabotage != Some(Sabotage::DowngradeWithoutProtect) {
                    cell.access = Access::Read;
                }
            }
            Action::Copy { granule } => {
                let cell = node.memory.get(&granule).ok_or(impossible)?;
                node.aside = Some((granule, cell.value));
            }
            Action::Drop { granule } => {
                node.memory.remove(&granule).ok_or(impossible)?;
            }
            Action::Install {
                granule,
                access,
                content,
            } => {
                let value = match content {
                    Content::Zero => Some(0),
                    Content::Data => payload,
                    Content::Keep => None,
                };
                let cell = Cell {
                    value: value.ok_or(impossible)?,
                    access,
                };
                if node.memory.insert(granule, cell).is_some() {
                    return Err(Failure::Impossible { node: at, action });
                }
                node.wake(granule, access);
            }
            Action::Permit { granule, access } => {
                let cell = node.memory.get_mut(&granule).ok_or(impossible)?;
                cell.access = cell.access.max(access);
                node.wake(granule, access);
            }
            Action::Poison { granule } => {
                if node.memory.contains_key(&granule) || !self.endangered.contains(&granule) {
                    return Err(Failure::LostWrongly { granule, node: at });
                }
                node.poisoned.insert(granule);
                node.wake(granule, Access::Write);
                self.lost.insert(granule);
                *self.seen.entry("lost").or_default() += 1;
            }
            Action::PoisonAll => {
                node.memory.clear();
                node.segment_poisoned = true;
                (0..self.granules).for_each(|granule| node.wake(granule, Access::Write));
            }
            Action::Arm { granule, at } => {
                node.alarms.insert((at, granule));
            }
            Action::Send { to, message } => {
                let bytes = match message.carries_data() {
                    true => {
                        let (granule, value) = node.aside.take().ok_or(impossible)?;
                        (granule == message.granule())
                            .then_some(Some(value))
                            .ok_or(Failure::Impossible { node: at, action })?
                    }
                    false => None,
                };
                self.post(at, to, message, bytes);
            }
        }
        Ok(())
    }

    fn post(&mut self, from: NodeId, to: NodeId, message: Message, bytes: Option<u64>) {
        *self.seen.entry(kind(&message)).or_default() += 1;
        if !self.nodes.contains_key(&to) || self.news.contains(&(from, to)) {
            self.endangered.insert(message.granule());
            return;
        }
        let forged_ack = match (self.sabotage, message) {
            (Some(Sabotage::InvalidationNotAwaited), Message::Invalidated { .. })
            | (Some(Sabotage::InstalledDropped), Message::Installed { .. }) => return,
            (Some(Sabotage::InvalidationNotAwaited), Message::Invalidate { granule }) => {
                Some((Message::Invalidated { granule }, true))
            }
            (Some(Sabotage::ReaderForgotten), Message::Invalidate { granule }) => {
                Some((Message::Invalidated { granule }, false))
            }
            _ => None,
        };
        if let Some((ack, _)) = forged_ack {
            self.links
                .entry((to, from))
                .or_default()
                .push_back((ack, None));
        }
        if forged_ack.is_none_or(|(_, sent_too)| sent_too) {
            self.links
                .entry((from, to))
                .or_default()
                .push_back((message, bytes));
        }
    }
}

impl Node {
    /// Threads that wait for no more than `access` try again.
    fn wake(&mut self, granule: u64, access: Access) {
        for thread in &mut self.threads {
            if thread
                .wants
                .is_some_and(|(g, wanted)| g == granule && wanted <= access)
            {
                thread.waits = false;
            }
        }
    }
}

fn acknowledges(action: Action, of: u64) -> bool {
    matches!(action, Action::Send { message: Message::Invalidated { granule }, .. } if granule == of)
}

/// The kind of a message, as far as the runs must have produced it.
fn kind(message: &Message) -> &'static str {
    match message {
        Message::Request { .. } => "request",
        Message::Grant {
            content: Content::Keep,
            ..
        } => "grant to keep",
        Message::Grant {
            content: Content::Zero,
            ..
        } => "grant of zeros",
        Message::Grant {
            content: Content::Data,
            ..
        } => "grant of data",
        Message::Forward { .. } => "forward",
        Message::Installed { .. } => "installed",
        Message::Invalidate { .. } => "invalidate",
        Message::Invalidated { .. } => "invalidated",
        Message::Evict {
            content: Content::Data,
            ..
        } => "owner's eviction",
        Message::Evict { .. } => "reader's eviction",
        Message::Chase { .. } => "chase",
        Message::Missing { .. } => "missing",
        Message::Lost { .. } => "lost",
        Message::Own { .. } => "own",
        Message::Void { .. } => "void",
        Message::Cancel { .. } => "cancel",
        Message::Cancelled { held: true, .. } => "cancelled in time",
        Message::Cancelled { held: false, .. } => "cancelled too late",
    }
}
