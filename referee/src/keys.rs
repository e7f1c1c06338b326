//! Which home has a key, who creates it, and who waits for that.
//!
//! ```text
//!          Resolve, create            Created
//!   free ─────────────────▶ creating ─────────▶ held
//!    ▲                         │                  │
//!    └─────────────────────────┴──────────────────┘
//!      Abandoned, void grant, death; Released, death
//! ```
//!
//! Questions about a key wait in one line. A held key answers all of them, but
//! for those that say it is gone; a free one answers from the front until one
//! would create it; one that is being created answers none.
//!
//! A creation needs room as well ([`Quota`]). The one at the front of the line
//! waits until it is certain that there is none. `IPC_PRIVATE` is a key of each
//! kind that stays free, however many create it: its line is for room only.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use dipc_wire::call::PRIVATE;
use dipc_wire::referee::ToNode;
use dipc_wire::{Kind, Limits, NodeId, ObjectId};

use crate::output::Cause;
use crate::quota::{Amount, Quota, Total};

/// Unanswered questions of one node: four times the processes that a host runs
/// at most by default (`kernel.pid_max` 32768). Bounds what the referee keeps
/// for a hostile one.
const MAX_QUESTIONS: usize = 1 << 17;
/// Keys with their home on one node: more than any limits allow in all three
/// kinds.
const MAX_KEYS: usize = 1 << 20;

/// A key in its name space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Semaphores, queues and segments with the same key are strangers.
    pub kind: Kind,
    /// The number that programs use.
    pub key: i32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:#x}", self.kind, self.key)
    }
}

/// A [`dipc_wire::referee::ToReferee::Resolve`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Question {
    pub(crate) node: NodeId,
    pub(crate) tag: u64,
    pub(crate) create: Option<u64>,
    pub(crate) not: Option<ObjectId>,
}

/// A question in its line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Waiting {
    question: Question,
    room: Room,
}

impl Waiting {
    /// Whether it is this question.
    fn is(&self, node: NodeId, tag: u64) -> bool {
        (self.question.node, self.question.tag) == (node, tag)
    }
}

/// What is known of the room for a creation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Room {
    /// It has not been looked for.
    Unknown,
    /// There seems to be none; the nodes are asked whether they have made some.
    Doubted,
    /// They have answered: if there is none now, there is none.
    Certain,
}

/// Takes an answer for a node.
pub(crate) type Post<'a> = dyn FnMut(NodeId, ToNode<'static>) + 'a;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    Free,
    Creating {
        by: NodeId,
        /// Of the question; `None` when the link on which it was asked is lost:
        /// nobody knows then whether the object was made.
        tag: Option<u64>,
    },
    Held(ObjectId),
}

impl State {
    fn home(self) -> Option<NodeId> {
        match self {
            State::Free => None,
            State::Creating { by, .. } => Some(by),
            State::Held(id) => Some(id.home()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Slot {
    state: State,
    waiting: VecDeque<Waiting>,
}

/// All keys that are held, being created, or asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Keys {
    slots: BTreeMap<Key, Slot>,
    /// By node and tag: questions that wait, and grants that are not redeemed.
    asked: BTreeMap<NodeId, BTreeMap<u64, Key>>,
    /// By home: the keys that it holds or creates.
    homes: BTreeMap<NodeId, BTreeSet<Key>>,
    /// While closed, no question is answered: some homes are not known yet.
    open: bool,
    quota: Quota,
}

impl Keys {
    pub(crate) fn new(open: bool, limits: Limits) -> Self {
        Keys {
            slots: BTreeMap::new(),
            asked: BTreeMap::new(),
            homes: BTreeMap::new(),
            open,
            quota: Quota::new(limits),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.quota.limits()
    }

    pub(crate) fn total(&self, kind: Kind) -> Total {
        self.quota.total(kind)
    }

    /// Every home is known: answers what waits.
    pub(crate) fn open(&mut self, post: &mut Post<'_>) {
        self.open = true;
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            self.decide(key, post);
        }
    }

    pub(crate) fn resolve(
        &mut self,
        key: Key,
        question: Question,
        post: &mut Post<'_>,
    ) -> Result<(), Cause> {
        let asked = self.asked.entry(question.node).or_default();
        if asked.len() >= MAX_QUESTIONS {
            return Err(Cause::Violation("too many questions at once"));
        }
        match asked.entry(question.tag) {
            Entry::Occupied(_) => return Err(Cause::Violation("two questions with one tag")),
            Entry::Vacant(tag) => tag.insert(key),
        };
        self.slot(key).waiting.push_back(Waiting {
            question,
            room: Room::Unknown,
        });
        self.decide(key, post);
        Ok(())
    }

    /// Whether there was such a grant.
    pub(crate) fn created(
        &mut self,
        node: NodeId,
        tag: u64,
        id: ObjectId,
        post: &mut Post<'_>,
    ) -> Result<bool, Cause> {
        let Some(key) = self.granted(node, tag) else {
            return Ok(false);
        };
        if id.home() != node {
            return Err(Cause::Violation("created an object of another home"));
        }
        self.answered(node, tag);
        self.quota.redeem(node, tag, id)?;
        if key.key != PRIVATE {
            self.set(key, State::Held(id));
        }
        self.decide(key, post);
        Ok(true)
    }

    /// Whether there was such a grant.
    pub(crate) fn abandoned(&mut self, node: NodeId, tag: u64, post: &mut Post<'_>) -> bool {
        let Some(key) = self.granted(node, tag) else {
            return false;
        };
        self.answered(node, tag);
        self.quota.cancel(node, tag);
        self.free(key, post);
        true
    }

    /// Whether the key had this object, at this home.
    pub(crate) fn released(
        &mut self,
        node: NodeId,
        key: Key,
        id: ObjectId,
        post: &mut Post<'_>,
    ) -> bool {
        let held = self
            .slots
            .get(&key)
            .is_some_and(|slot| slot.state == State::Held(id));
        if held && id.home() == node {
            self.free(key, post);
            return true;
        }
        false
    }

    /// `id.home()` says that it holds the key. The first who does keeps it.
    pub(crate) fn claim(
        &mut self,
        key: Key,
        id: ObjectId,
        post: &mut Post<'_>,
    ) -> Result<(), Cause> {
        let home = id.home();
        let held = match self.slots.get(&key).map(|slot| slot.state) {
            Some(State::Held(held)) if held.home() != home => Some(held),
            Some(State::Creating { by, .. }) if by != home => None,
            Some(State::Creating { tag: Some(tag), .. }) => {
                self.answered(home, tag);
                self.quota.cancel(home, tag);
                return self.take(key, id, post);
            }
            _ => return self.take(key, id, post),
        };
        Err(Cause::Conflict {
            key,
            mine: id,
            held,
        })
    }

    fn take(&mut self, key: Key, id: ObjectId, post: &mut Post<'_>) -> Result<(), Cause> {
        if self
            .homes
            .get(&id.home())
            .is_some_and(|keys| keys.len() >= MAX_KEYS)
        {
            return Err(Cause::Violation("too many keys"));
        }
        self.set(key, State::Held(id));
        self.decide(key, post);
        Ok(())
    }

    /// `id.home()` says that it has this object.
    pub(crate) fn holds(&mut self, kind: Kind, id: ObjectId, weight: u64) -> Result<(), Cause> {
        self.quota.hold(id.home(), kind, id, weight)
    }

    /// The node's object is gone. Whether it had it.
    pub(crate) fn freed(&mut self, node: NodeId, kind: Kind, id: ObjectId) -> bool {
        self.quota.free(node, kind, id)
    }

    /// The node's link is lost: it will ask again, and whether it used its
    /// grants is not known before it has settled or died.
    pub(crate) fn link_lost(&mut self, node: NodeId) {
        self.quota.link_lost(node);
        for (tag, key) in self.asked.remove(&node).unwrap_or_default() {
            let slot = self.slot(key);
            if slot.state
                == (State::Creating {
                    by: node,
                    tag: Some(tag),
                })
            {
                slot.state = State::Creating {
                    by: node,
                    tag: None,
                };
            } else {
                slot.waiting.retain(|w| !w.is(node, tag));
                self.forget_if_idle(key);
            }
        }
    }

    /// The node came back and said all that it has: what is not `owned` it
    /// holds no more, what is not `held` is gone, and the grants of its last
    /// link are void.
    pub(crate) fn settle(
        &mut self,
        node: NodeId,
        owned: &BTreeSet<Key>,
        held: &BTreeSet<(Kind, ObjectId)>,
        post: &mut Post<'_>,
    ) {
        self.quota.settle(node, held);
        let keys = self.homes.get(&node).cloned().unwrap_or_default();
        for key in keys.difference(owned).copied() {
            if !matches!(self.slot(key).state, State::Creating { tag: Some(_), .. }) {
                self.free(key, post);
            }
        }
    }

    /// The node is dead.
    pub(crate) fn bury(&mut self, node: NodeId, post: &mut Post<'_>) {
        self.link_lost(node);
        self.quota.bury(node);
        for key in self.homes.get(&node).cloned().unwrap_or_default() {
            self.free(key, post);
        }
    }

    // ---- room ----

    /// Begins a round of questions whether somebody has made room, if one is
    /// needed: its number, and who must be asked, of those that have a link.
    pub(crate) fn begin_round(
        &mut self,
        linked: impl Fn(NodeId) -> bool,
    ) -> Option<(u64, Vec<NodeId>)> {
        self.quota.begin_round(linked)
    }

    /// Whether the node was asked in this round, and has not answered before.
    pub(crate) fn flushed(&mut self, node: NodeId, round: u64) -> bool {
        self.quota.flushed(node, round)
    }

    /// If all have answered, decides what waited for that; whether they have.
    pub(crate) fn end_round(&mut self, post: &mut Post<'_>) -> bool {
        let Some(doubts) = self.quota.end_round() else {
            return false;
        };
        for (node, tag, key) in doubts {
            let line = self.slots.get_mut(&key).map(|slot| &mut slot.waiting);
            let waiting = line.and_then(|line| line.iter_mut().find(|w| w.is(node, tag)));
            if let Some(waiting) = waiting {
                waiting.room = Room::Certain;
            }
            // If it has been given up, those behind it have waited with it.
            self.decide(key, post);
        }
        true
    }

    // ---- inside ----

    /// The key that the node may create in answer to its question `tag`.
    fn granted(&self, node: NodeId, tag: u64) -> Option<Key> {
        let key = *self.asked.get(&node)?.get(&tag)?;
        if key.key == PRIVATE {
            return self.quota.has_reserved(node, tag).then_some(key);
        }
        let granted = State::Creating {
            by: node,
            tag: Some(tag),
        };
        (self.slots.get(&key)?.state == granted).then_some(key)
    }

    fn answered(&mut self, node: NodeId, tag: u64) {
        if let Some(asked) = self.asked.get_mut(&node) {
            asked.remove(&tag);
            if asked.is_empty() {
                self.asked.remove(&node);
            }
        }
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        self.slots.entry(key).or_insert_with(|| Slot {
            state: State::Free,
            waiting: VecDeque::new(),
        })
    }

    fn free(&mut self, key: Key, post: &mut Post<'_>) {
        self.set(key, State::Free);
        self.decide(key, post);
    }

    /// The only place where a key changes hands.
    fn set(&mut self, key: Key, state: State) {
        let before = std::mem::replace(&mut self.slot(key).state, state);
        if let Some(home) = before.home()
            && let Some(keys) = self.homes.get_mut(&home)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.homes.remove(&home);
            }
        }
        if let Some(home) = state.home() {
            self.homes.entry(home).or_default().insert(key);
        }
    }

    /// Answers those in the line whose turn it is.
    fn decide(&mut self, key: Key, post: &mut Post<'_>) {
        if !self.open {
            return;
        }
        match self.slot(key).state {
            State::Creating { .. } => {}
            State::Held(id) => self.answer_held(key, id, post),
            State::Free => self.answer_free(key, post),
        }
        self.forget_if_idle(key);
    }

    fn answer_held(&mut self, key: Key, id: ObjectId, post: &mut Post<'_>) {
        let line = std::mem::take(&mut self.slot(key).waiting);
        let (stay, go) = line.into_iter().partition(|w| w.question.not == Some(id));
        self.slot(key).waiting = stay;
        for Waiting { question, .. } in go as VecDeque<Waiting> {
            let Question { node, tag, .. } = question;
            self.answered(node, tag);
            post(node, ToNode::Found { tag, id });
        }
    }

    fn answer_free(&mut self, key: Key, post: &mut Post<'_>) {
        while let Some(Waiting { question, room }) = self.slot(key).waiting.front().copied() {
            let Question {
                node, tag, create, ..
            } = question;
            let granted = create.map(|weight| {
                let kind = key.kind;
                self.quota.reserve(node, tag, Amount { kind, weight })
            });
            if granted == Some(false) && room != Room::Certain {
                return self.doubt(key, question);
            }
            self.slot(key).waiting.pop_front();
            match granted {
                Some(true) => {
                    post(node, ToNode::Create { tag });
                    if key.key != PRIVATE {
                        let tag = Some(tag);
                        return self.set(key, State::Creating { by: node, tag });
                    }
                }
                Some(false) => {
                    self.answered(node, tag);
                    post(node, ToNode::Full { tag });
                }
                None => {
                    self.answered(node, tag);
                    post(node, ToNode::Absent { tag });
                }
            }
        }
    }

    /// The first in the line finds no room: the nodes are asked, once.
    fn doubt(&mut self, key: Key, question: Question) {
        let Some(first) = self.slot(key).waiting.front_mut() else {
            return;
        };
        if std::mem::replace(&mut first.room, Room::Doubted) == Room::Unknown {
            self.quota.doubt((question.node, question.tag, key));
        }
    }

    fn forget_if_idle(&mut self, key: Key) {
        let idle = |slot: &Slot| slot.state == State::Free && slot.waiting.is_empty();
        if self.slots.get(&key).is_some_and(idle) {
            self.slots.remove(&key);
        }
    }
}
