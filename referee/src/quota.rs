//! How many objects the cluster has, and whether one more would be too many.
//!
//! ```text
//!            reserve            redeem               free
//!   (none) ──────────▶ reserved ──────▶ an object ──────────▶ (none)
//!                          │                ▲
//!                          │ cancel         │ hold: a node that came back
//!                          ▼                │ says what it has
//!                       (none) ─────────────┘
//! ```
//!
//! Objects and reservations count alike, so that two nodes can never be granted
//! the last place. Each object is known by its id: what a node says of one twice,
//! or after the referee has heard of it otherwise, changes nothing. What a node
//! *has* counts even above a limit: after a restart with lower limits, as after
//! a lowered sysctl, what exists stays, and nothing is added.
//!
//! # No refusal for want of what has just been freed
//!
//! A program on node 1 removes an object and tells one on node 2, which creates
//! another. Node 1's `Freed` was sent before, but on another connection, and may
//! be read after node 2's question. So nobody is refused before every node that
//! has something has answered a `Flush` that was sent after the question came:
//! its answer is behind all that it said before. One round of these serves all
//! questions that wait when it begins. Who has lost its link, or loses it in the
//! round, is not waited for: what it last said counts until it comes back or is
//! dead.

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::limits::MOST_OBJECTS;
use dipc_wire::{Kind, Limits, NodeId, ObjectId};

use crate::keys::Key;
use crate::output::Cause;

/// Objects with their home on one node: as many of each kind as any limit
/// allows. Bounds what the referee keeps for a hostile one.
const MAX_OBJECTS: usize = Kind::ALL.len() * MOST_OBJECTS as usize;

/// What one object or reservation adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Amount {
    pub(crate) kind: Kind,
    /// See [`dipc_wire::limits::weight`].
    pub(crate) weight: u64,
}

/// What one kind adds up to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Total {
    /// Objects and reservations.
    pub objects: u64,
    /// What they weigh together. As many weights as objects are possible, each
    /// of 64 bits.
    pub weight: u128,
}

/// What one node has.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Share {
    objects: BTreeMap<(Kind, ObjectId), u64>,
    /// By the tag of the question.
    reserved: BTreeMap<u64, Amount>,
    /// Granted on a link that is lost: whether they became objects is not known
    /// before the node has settled or died.
    uncertain: Vec<Amount>,
}

impl Share {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.reserved.is_empty() && self.uncertain.is_empty()
    }
}

/// A question that waits for room: who asked, and where it stands in line.
pub(crate) type Doubt = (NodeId, u64, Key);

/// Nodes that are asked to say all that they have to say.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Round {
    number: u64,
    awaited: BTreeSet<NodeId>,
    serves: Vec<Doubt>,
}

/// The count, and who waits for room.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Quota {
    limits: Limits,
    totals: BTreeMap<Kind, Total>,
    shares: BTreeMap<NodeId, Share>,
    round: Option<Round>,
    /// Came too late for the round that is under way.
    next: Vec<Doubt>,
    rounds: u64,
}

impl Quota {
    pub(crate) fn new(limits: Limits) -> Self {
        Quota {
            limits,
            totals: BTreeMap::new(),
            shares: BTreeMap::new(),
            round: None,
            next: Vec::new(),
            rounds: 0,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn total(&self, kind: Kind) -> Total {
        self.totals.get(&kind).copied().unwrap_or_default()
    }

    // ---- the count ----

    /// Keeps room for what the node may create in answer to its question `tag`.
    /// False when there is none.
    pub(crate) fn reserve(&mut self, node: NodeId, tag: u64, amount: Amount) -> bool {
        let (total, limits) = (self.total(amount.kind), self.limits);
        let weight = total.weight + u128::from(amount.weight);
        let fits = total.objects < limits.objects(amount.kind)
            && weight <= u128::from(limits.total(amount.kind));
        if fits {
            self.add(amount);
            self.share(node).reserved.insert(tag, amount);
        }
        fits
    }

    /// Whether there is such a reservation.
    pub(crate) fn has_reserved(&self, node: NodeId, tag: u64) -> bool {
        let share = self.shares.get(&node);
        share.is_some_and(|share| share.reserved.contains_key(&tag))
    }

    /// The reservation has become this object.
    pub(crate) fn redeem(&mut self, node: NodeId, tag: u64, id: ObjectId) -> Result<(), Cause> {
        match self.unreserve(node, tag) {
            Some(Amount { kind, weight }) => self.hold(node, kind, id, weight),
            None => Ok(()),
        }
    }

    /// The reservation comes to nothing.
    pub(crate) fn cancel(&mut self, node: NodeId, tag: u64) {
        self.unreserve(node, tag);
        self.forget_if_empty(node);
    }

    /// The node says that it has this object.
    pub(crate) fn hold(
        &mut self,
        node: NodeId,
        kind: Kind,
        id: ObjectId,
        weight: u64,
    ) -> Result<(), Cause> {
        let objects = &mut self.share(node).objects;
        if objects.contains_key(&(kind, id)) {
            return Ok(());
        }
        if objects.len() >= MAX_OBJECTS {
            return Err(Cause::Violation("too many objects"));
        }
        objects.insert((kind, id), weight);
        self.add(Amount { kind, weight });
        Ok(())
    }

    /// The object is gone. Whether the node had it.
    pub(crate) fn free(&mut self, node: NodeId, kind: Kind, id: ObjectId) -> bool {
        let share = self.shares.get_mut(&node);
        let weight = share.and_then(|share| share.objects.remove(&(kind, id)));
        let Some(weight) = weight else {
            return false;
        };
        self.subtract(Amount { kind, weight });
        self.forget_if_empty(node);
        true
    }

    /// The node's link is lost: what it says next is after its return, if at all.
    pub(crate) fn link_lost(&mut self, node: NodeId) {
        if let Some(share) = self.shares.get_mut(&node) {
            let reserved = std::mem::take(&mut share.reserved);
            share.uncertain.extend(reserved.into_values());
        }
        self.does_not_answer(node);
    }

    /// The node came back and said all that it has: `held`, and nothing else.
    pub(crate) fn settle(&mut self, node: NodeId, held: &BTreeSet<(Kind, ObjectId)>) {
        let Some(share) = self.shares.get_mut(&node) else {
            return;
        };
        let mut gone = std::mem::take(&mut share.uncertain);
        share.objects.retain(|object, &mut weight| {
            let kept = held.contains(object);
            if !kept {
                let kind = object.0;
                gone.push(Amount { kind, weight });
            }
            kept
        });
        gone.into_iter().for_each(|amount| self.subtract(amount));
        self.forget_if_empty(node);
    }

    /// The node is dead.
    pub(crate) fn bury(&mut self, node: NodeId) {
        self.link_lost(node);
        self.settle(node, &BTreeSet::new());
    }

    fn share(&mut self, node: NodeId) -> &mut Share {
        self.shares.entry(node).or_default()
    }

    fn unreserve(&mut self, node: NodeId, tag: u64) -> Option<Amount> {
        let amount = self.shares.get_mut(&node)?.reserved.remove(&tag)?;
        self.subtract(amount);
        Some(amount)
    }

    fn forget_if_empty(&mut self, node: NodeId) {
        if self.shares.get(&node).is_some_and(Share::is_empty) {
            self.shares.remove(&node);
        }
    }

    fn add(&mut self, amount: Amount) {
        let total = self.totals.entry(amount.kind).or_default();
        total.objects += 1;
        total.weight += u128::from(amount.weight);
    }

    fn subtract(&mut self, amount: Amount) {
        let total = self.totals.entry(amount.kind).or_default();
        total.objects -= 1;
        total.weight -= u128::from(amount.weight);
    }

    // ---- rounds ----

    /// There is no room for this question, as far as the referee has heard.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.next.push(doubt);
    }

    /// Begins a round if one is needed and none is under way: its number, and
    /// who must be asked, of the nodes that have something and a link.
    pub(crate) fn begin_round(
        &mut self,
        linked: impl Fn(NodeId) -> bool,
    ) -> Option<(u64, Vec<NodeId>)> {
        if self.round.is_some() || self.next.is_empty() {
            return None;
        }
        self.rounds += 1;
        let having = self.shares.keys().copied();
        let awaited: BTreeSet<NodeId> = having.filter(|node| linked(*node)).collect();
        let ask = awaited.iter().copied().collect();
        self.round = Some(Round {
            number: self.rounds,
            awaited,
            serves: std::mem::take(&mut self.next),
        });
        Some((self.rounds, ask))
    }

    /// The node has said all that it had to say when the round began. Whether it
    /// was asked.
    pub(crate) fn flushed(&mut self, node: NodeId, round: u64) -> bool {
        let current = self.round.as_mut().filter(|r| r.number == round);
        current.is_some_and(|round| round.awaited.remove(&node))
    }

    /// If everybody has answered: the questions that can be decided now.
    pub(crate) fn end_round(&mut self) -> Option<Vec<Doubt>> {
        self.round
            .take_if(|round| round.awaited.is_empty())
            .map(|round| round.serves)
    }

    fn does_not_answer(&mut self, node: NodeId) {
        if let Some(round) = &mut self.round {
            round.awaited.remove(&node);
        }
    }
}
