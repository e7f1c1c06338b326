//! A small cluster in one thread: the real machines, their memory, the links
//! between them, and threads that touch granules.
//!
//! Whoever drives it decides what happens next: [`crate::coherence::tests`] rolls
//! dice for long runs of many nodes, [`crate::coherence::model`] goes through
//! all there is for a few. After every step [`checks`] says whether memory is
//! still coherent, and [`sabotage`] can make the world cheat, so that the checks
//! can be seen to notice.
//!
//! # What is taken for granted
//!
//! The rules that the daemon keeps around the machine, and no others:
//!
//! - Letters of one link arrive in order; those of different links overtake each
//!   other.
//! - A node that others call dead has stopped. They learn of it in any order, and
//!   each may hear letters of the dead until it does, and none after.
//! - A node comes back when everybody knows that it had died: the referee names
//!   it to a member after it has said Gone, and it serves programs when it is
//!   connected to all.
//! - A node whose last process ends gives up the copies that it does not own
//!   without their bytes, even if the owner has died and the home's word that its
//!   copy counts now is under way: that takes such a page along.
//! - A home that comes back has forgotten the segment: there is nothing more to
//!   say about it.
//!
//! # Bytes
//!
//! Whether a copy is the last completed write is all that matters of it, so that
//! is all there is: a write makes every other copy, here, elsewhere and under
//! way, [`Bytes::Old`]. This keeps the number of states finite.

pub(super) mod checks;
mod execute;
mod node;
pub(super) mod sabotage;

pub(super) use execute::{KINDS, kind};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dipc_wire::coherence::{Access, Message};
use dipc_wire::{Incarnation, NodeId};

use super::{Action, Config, Protocol};
use checks::Failure;
use node::Node;
use sabotage::Sabotage;

/// Whether a copy is what was written last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bytes {
    /// It is, or is zero as long as nobody has written.
    Latest,
    /// Somebody has written since.
    Old,
}

/// A message under way, with the copy that it carries; zeros are one too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Letter {
    pub(super) message: Message,
    pub(super) bytes: Option<Bytes>,
}

/// What became of a granule in the course of the run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) struct Past {
    /// Somebody was allowed to write it.
    pub(super) writable: bool,
    /// Somebody has written it.
    pub(super) written: bool,
    /// A node died that had a copy, was being sent one, or had sent one.
    pub(super) endangered: bool,
    /// And no living node has, or has sent, a copy of what was written last.
    pub(super) gone: bool,
}

/// What can happen without anybody wanting anything new.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    /// The next letter of a link arrives.
    Deliver { from: NodeId, to: NodeId },
    /// A node hears of another's death.
    Learn { learner: NodeId, dead: NodeId },
    /// A thread that was let go on tries its access again.
    Retry {
        at: NodeId,
        granule: u64,
        access: Access,
    },
    /// The time that a machine asked to be called at has come.
    Alarm { at: NodeId, granule: u64, time: u64 },
    /// Sabotage lets go of a page at last.
    LateDrop { at: NodeId, granule: u64 },
}

/// What never changes in a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rules {
    pub(super) home: NodeId,
    pub(super) granules: u64,
    /// In the unit of [`World::now`].
    pub(super) quantum: u64,
    pub(super) sabotage: Option<Sabotage>,
}

/// The cluster. Nodes are shared between a state and the next, which differ in
/// one of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) now: u64,
    pub(super) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Letter>>,
    /// Who has yet to learn of whose death.
    pub(super) news: BTreeSet<(NodeId, NodeId)>,
    pub(super) granules: Vec<Past>,
    /// How many letters were put on links.
    pub(super) posted: u64,
    /// The last life of each node that has died.
    graves: BTreeMap<NodeId, Incarnation>,
}

pub(super) fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

impl World {
    /// Nodes 1 and up; node 1 is the home.
    pub(super) fn new(nodes: u8, granules: u64, quantum: u64, sabotage: Option<Sabotage>) -> Self {
        let rules = Rules {
            home: node(1),
            granules,
            quantum,
            sabotage,
        };
        let mut world = World {
            rules,
            now: 0,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            news: BTreeSet::new(),
            granules: vec![Past::default(); granules as usize],
            posted: 0,
            graves: BTreeMap::new(),
        };
        (1..=nodes).for_each(|number| world.start(node(number)));
        world
    }

    /// Whether a node that has died can be back now and use the segment.
    pub(super) fn can_start(&self, me: NodeId) -> bool {
        let home_lives = self.nodes.contains_key(&self.rules.home);
        home_lives && !self.nodes.contains_key(&me) && self.news.is_empty()
    }

    /// A node starts, for the first time or in its next life.
    pub(super) fn start(&mut self, me: NodeId) {
        let incarnation = Incarnation(self.graves.get(&me).map_or(1, |last| last.0 + 1));
        let protocol = Protocol::new(Config {
            me,
            incarnation,
            home: self.rules.home,
            granules: self.rules.granules,
            quantum: self.rules.quantum,
            secret: u128::from(incarnation.0) << 8 | u128::from(me.get()),
        });
        self.nodes
            .insert(me, Arc::new(Node::new(protocol, incarnation)));
    }

    /// A node stops. Its letters are under way until the receivers know.
    pub(super) fn kill(&mut self, dead: NodeId) {
        let Some(node) = self.nodes.remove(&dead) else {
            return;
        };
        self.graves.insert(dead, node.incarnation);
        let mut endangered: BTreeSet<u64> = node.memory.keys().copied().collect();
        let links = self.links.iter();
        let own = links.filter(|&(&(from, to), _)| from == dead || to == dead);
        endangered.extend(own.flat_map(|(_, l)| l.iter().map(|l| l.message.granule())));
        endangered
            .into_iter()
            .for_each(|granule| self.past(granule).endangered = true);
        self.links.retain(|&(_, to), _| to != dead);
        self.news.retain(|&(learner, _)| learner != dead);
        self.news
            .extend(self.nodes.keys().map(|&learner| (learner, dead)));
        self.look_for_copies();
    }

    /// A thread begins to want something; it tries at once.
    pub(super) fn want(&mut self, at: NodeId, granule: u64, access: Access) -> Result<(), Failure> {
        let Some(node) = self.node_mut(at) else {
            return Ok(());
        };
        node.wants.insert((granule, access), true);
        self.retry(at, granule, access)
    }

    /// The processes of a node end.
    pub(super) fn detach(&mut self, at: NodeId) -> Result<(), Failure> {
        let Some(node) = self.node_mut(at) else {
            return Ok(());
        };
        node.wants.clear();
        self.call(at, |protocol, now, actions| {
            protocol.evict_all(now, actions);
            Ok(())
        })
    }

    /// All that can happen now, whatever the time.
    pub(super) fn events(&self) -> Vec<Event> {
        let links = self.links.keys();
        let mut events: Vec<Event> = links
            .map(|&(from, to)| Event::Deliver { from, to })
            .collect();
        let news = self.news.iter();
        events.extend(news.map(|&(learner, dead)| Event::Learn { learner, dead }));
        for (&at, node) in &self.nodes {
            let ready = node.wants.iter().filter(|&(_, &ready)| ready);
            events.extend(ready.map(|(&(granule, access), _)| Event::Retry {
                at,
                granule,
                access,
            }));
            let alarms = node.alarms.iter();
            events.extend(alarms.map(|&(time, granule)| Event::Alarm { at, granule, time }));
            let late = node.late_drops.iter();
            events.extend(late.map(|&granule| Event::LateDrop { at, granule }));
        }
        events
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Deliver { from, to } => self.deliver(from, to),
            Event::Learn { learner, dead } => self.learn(learner, dead),
            Event::Retry {
                at,
                granule,
                access,
            } => self.retry(at, granule, access),
            Event::Alarm { at, granule, time } => self.alarm(at, granule, time),
            Event::LateDrop { at, granule } => {
                if let Some(node) = self.node_mut(at) {
                    node.late_drops.remove(&granule);
                    node.memory.remove(&granule);
                }
                Ok(())
            }
        }
    }

    /// The letter that a link delivers next.
    pub(super) fn next_letter(&self, from: NodeId, to: NodeId) -> Option<&Letter> {
        let letters = self.links.get(&(from, to))?;
        let swapped = self.cheats(Sabotage::LinkNotInOrder) && letters.len() > 1;
        letters.get(usize::from(swapped))
    }

    fn past(&mut self, granule: u64) -> &mut Past {
        &mut self.granules[granule as usize]
    }

    fn node_mut(&mut self, at: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&at).map(Arc::make_mut)
    }

    /// The life in which a node is, or was last.
    fn life(&self, of: NodeId) -> Option<Incarnation> {
        let living = self.nodes.get(&of).map(|node| node.incarnation);
        living.or_else(|| self.graves.get(&of).copied())
    }
}

/// The events.
impl World {
    fn deliver(&mut self, from: NodeId, to: NodeId) -> Result<(), Failure> {
        let Some(Letter { message, bytes }) = self.next_letter(from, to).cloned() else {
            return Ok(());
        };
        let message = self.mangled(to, message);
        if let Some(letters) = self.links.get_mut(&(from, to)) {
            let swapped = self.rules.sabotage == Some(Sabotage::LinkNotInOrder);
            letters.remove(usize::from(swapped && letters.len() > 1));
            if letters.is_empty() {
                self.links.remove(&(from, to));
            }
        }
        let life = self.life(from);
        self.call_with(to, bytes, |protocol, now, actions| {
            // As the daemon does: a live link is the life of now.
            if let Some(life) = life {
                protocol.node_joined(from, life);
            }
            protocol
                .receive(from, message, now, actions)
                .map_err(|violation| Failure::Accused {
                    from,
                    by: to,
                    violation,
                })
        })
    }

    fn learn(&mut self, learner: NodeId, dead: NodeId) -> Result<(), Failure> {
        self.news.remove(&(learner, dead));
        let Some(incarnation) = self.graves.get(&dead).copied() else {
            return Ok(());
        };
        self.call(learner, |protocol, now, actions| {
            protocol.node_died(dead, incarnation, now, actions);
            Ok(())
        })?;
        if self.cheats(Sabotage::LettersOfTheDeadHeard) {
            return Ok(());
        }
        let stragglers = self.links.remove(&(dead, learner)).unwrap_or_default();
        let Some(node) = self.nodes.get(&learner) else {
            return Ok(());
        };
        for Letter { message, .. } in stragglers {
            let (mut actions, mut after) = (Vec::new(), node.protocol.clone());
            let heard = after.receive(dead, message, self.now, &mut actions);
            if heard.is_err() || !actions.is_empty() || after != node.protocol {
                return Err(Failure::DeadHeard { dead, learner });
            }
        }
        Ok(())
    }

    /// The access succeeds or faults.
    fn retry(&mut self, at: NodeId, granule: u64, access: Access) -> Result<(), Failure> {
        let Some(node) = self.node_mut(at) else {
            return Ok(());
        };
        let want = (granule, access);
        if node.can(granule, access) {
            node.wants.remove(&want);
            if access == Access::Write {
                self.write(at, granule);
            }
            self.check()
        } else if node.is_poisoned(granule) {
            node.wants.remove(&want);
            Ok(())
        } else {
            node.wants.insert(want, false);
            self.call(at, |protocol, now, actions| {
                protocol.fault(granule, access, now, actions);
                Ok(())
            })
        }
    }

    /// A completed write: no other copy is the latest any more.
    fn write(&mut self, writer: NodeId, granule: u64) {
        self.past(granule).written = true;
        let holders = |node: &Arc<Node>| node.memory.contains_key(&granule);
        for (&id, node) in self.nodes.iter_mut().filter(|(_, node)| holders(node)) {
            if let Some(cell) = Arc::make_mut(node).memory.get_mut(&granule) {
                cell.bytes = if id == writer {
                    Bytes::Latest
                } else {
                    Bytes::Old
                };
            }
        }
        let letters = self.links.values_mut().flatten();
        for letter in letters.filter(|letter| letter.message.granule() == granule) {
            letter.bytes = letter.bytes.map(|_| Bytes::Old);
        }
    }

    fn alarm(&mut self, at: NodeId, granule: u64, time: u64) -> Result<(), Failure> {
        let Some(node) = self.node_mut(at) else {
            return Ok(());
        };
        node.alarms.remove(&(time, granule));
        self.call(at, |protocol, now, actions| {
            protocol.expire(granule, now.max(time), actions);
            Ok(())
        })
    }

    fn call(
        &mut self,
        at: NodeId,
        call: impl FnOnce(&mut Protocol, u64, &mut Vec<Action>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.call_with(at, None, call)
    }

    /// One call of a node's machine, all that it leads to, and the checks.
    fn call_with(
        &mut self,
        at: NodeId,
        payload: Option<Bytes>,
        call: impl FnOnce(&mut Protocol, u64, &mut Vec<Action>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let now = self.now;
        let Some(node) = self.node_mut(at) else {
            return Ok(());
        };
        let mut actions = Vec::new();
        call(&mut node.protocol, now, &mut actions)?;
        self.execute_all(at, &actions, payload)?;
        self.look_for_copies();
        self.check()
    }

    /// Which granules a death has taken. One that is not there, but that no
    /// death can have taken, is found by the checks.
    fn look_for_copies(&mut self) {
        for granule in 0..self.rules.granules {
            let survives = self.survives(granule);
            let past = self.past(granule);
            past.gone = past.writable && past.endangered && !survives;
        }
    }

    /// A living node has, or has sent, what was written last.
    fn survives(&self, granule: u64) -> bool {
        let mut cells = self.nodes.values().filter_map(|n| n.memory.get(&granule));
        let links = self.links.iter();
        let living = links.filter(|&(&(from, _), _)| self.nodes.contains_key(&from));
        let mut letters = living.flat_map(|(_, letters)| letters);
        cells.any(|cell| cell.bytes == Bytes::Latest)
            || letters.any(|letter| {
                letter.message.granule() == granule && letter.bytes == Some(Bytes::Latest)
            })
    }
}
