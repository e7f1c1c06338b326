//! Who is a member: numbers, names, lives and links.
//!
//! ```text
//!             join                      link closed
//!  (nobody) ───────▶ linked, settled ───────────────▶ lost, until now + T
//!                        ▲                              │        │
//!                        │ Settled       come back      │        │ T is over
//!                    linked, settling ◀─────────────────┘        ▼
//!                                                           over, for ever
//! ```
//!
//! Settling takes no longer than T either. A life that is over never comes back. `told` is what makes a lost link
//! harmless: each member's list of those that it believes present is compared
//! with the truth when it has settled, and the difference is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dipc_wire::referee::ToNode;
use dipc_wire::{Incarnation, Kind, NodeId, ObjectId, peer};

use crate::keys::Key;
use crate::output::{Cause, LinkId, Output, Refusal};

/// The longest `host:port`: a DNS name of 253 bytes, a colon, five digits.
pub(crate) const MAX_ADDRESS: usize = 253 + 1 + 5;
/// Lives above this are not believed: a node that claimed the last number there
/// is would leave none for those who join after it.
const LAST_CREDIBLE: Incarnation = Incarnation(1 << 63);

/// A member: one that is not gone, even if its link is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) incarnation: Incarnation,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) link: Link,
    /// Since it came back, until it settled.
    pub(crate) settling: Option<Settling>,
    /// Whom it believes present, in which life.
    pub(crate) told: BTreeMap<NodeId, Incarnation>,
}

/// What a member that came back has said so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Settling {
    /// The keys that it owns.
    pub(crate) owned: BTreeSet<Key>,
    /// The objects that it has, with and without a key.
    pub(crate) held: BTreeSet<(Kind, ObjectId)>,
    /// When it must have said everything: others wait for it.
    pub(crate) until: Duration,
}

/// How a member is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Link {
    Up(LinkId),
    /// It may come back before this time.
    Lost(Duration),
}

impl Member {
    /// When it is dead, and why, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<(Duration, Cause)> {
        let lost = match self.link {
            Link::Up(_) => None,
            Link::Lost(until) => Some((until, Cause::LinkLost)),
        };
        let settling = self.settling.as_ref().map(|s| (s.until, Cause::Unsettled));
        lost.into_iter()
            .chain(settling)
            .min_by_key(|(until, _)| *until)
    }
}

impl Link {
    pub(crate) fn up(self) -> Option<LinkId> {
        match self {
            Link::Up(link) => Some(link),
            Link::Lost(_) => None,
        }
    }
}

/// What is known of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Present,
    /// A member told of it, and it has not come back to this referee yet.
    Awaited,
    Over,
    Unknown,
}

/// What is remembered of a number, whoever has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Number {
    /// `None` when only the number was heard of, from another node.
    name: Option<String>,
    /// The highest life that is over.
    over: Option<Incarnation>,
}

/// All members, and all numbers ever given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Members {
    present: BTreeMap<NodeId, Member>,
    awaited: BTreeMap<NodeId, Incarnation>,
    numbers: BTreeMap<NodeId, Number>,
    /// No life up to here is given again.
    last: Incarnation,
}

impl Members {
    pub(crate) fn new(last: Incarnation) -> Self {
        Members {
            present: BTreeMap::new(),
            awaited: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: last.min(LAST_CREDIBLE),
        }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Member> {
        self.present.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.present.get_mut(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.present.iter().map(|(node, member)| (*node, member))
    }

    pub(crate) fn len(&self) -> usize {
        self.present.len()
    }

    /// Whose link this is. There are at most 255 members: a scan costs less
    /// than a second map that must agree with the first.
    pub(crate) fn at(&self, link: LinkId) -> Option<NodeId> {
        self.iter()
            .find(|(_, m)| m.link == Link::Up(link))
            .map(|(node, _)| node)
    }

    pub(crate) fn named(&self, name: &str) -> Option<NodeId> {
        let found = self
            .numbers
            .iter()
            .find(|(_, n)| n.name.as_deref() == Some(name));
        found.map(|(node, _)| *node)
    }

    pub(crate) fn life(&self, node: NodeId, incarnation: Incarnation) -> Life {
        let present = self.present.get(&node).map(|m| m.incarnation);
        let awaited = self.awaited.get(&node).copied();
        let over = self.numbers.get(&node).and_then(|n| n.over);
        if present == Some(incarnation) {
            Life::Present
        } else if awaited == Some(incarnation) {
            Life::Awaited
        } else if [present, awaited, over]
            .into_iter()
            .flatten()
            .any(|i| i >= incarnation)
        {
            Life::Over
        } else {
            Life::Unknown
        }
    }

    /// The number that `name` has, or gets now.
    pub(crate) fn number(&mut self, name: &str) -> Result<NodeId, Refusal> {
        if let Some(node) = self.named(name) {
            return Ok(node);
        }
        let free = |unused: &dyn Fn(NodeId) -> bool| {
            (1..=u8::MAX)
                .filter_map(NodeId::new)
                .find(|node| unused(*node))
        };
        // A number that was only heard of belonged to a node that may still
        // run somewhere: it is given again only when no other is left.
        let node = free(&|node| !self.numbers.contains_key(&node))
            .or_else(|| {
                free(&|node| {
                    self.numbers.get(&node).is_some_and(|n| n.name.is_none())
                        && !self.awaited.contains_key(&node)
                })
            })
            .ok_or(Refusal::Full)?;
        self.numbers.entry(node).or_default().name = Some(name.to_owned());
        Ok(node)
    }

    /// A life above all that were ever heard of.
    pub(crate) fn next_life(&mut self) -> Result<Incarnation, Refusal> {
        self.last = Incarnation(self.last.0.checked_add(1).ok_or(Refusal::Exhausted)?);
        Ok(self.last)
    }

    /// Whether a life that somebody told of can be; then no later one is below it.
    pub(crate) fn believe(&mut self, incarnation: Incarnation) -> bool {
        if incarnation > LAST_CREDIBLE {
            return false;
        }
        self.last = self.last.max(incarnation);
        true
    }

    /// Adds a member. The caller has seen to it that no other life of its
    /// number is present.
    pub(crate) fn insert(&mut self, node: NodeId, member: Member) {
        self.awaited.remove(&node);
        self.numbers.entry(node).or_default().name = Some(member.name.clone());
        self.present.insert(node, member);
    }

    pub(crate) fn has_other_name(&self, node: NodeId, name: &str) -> bool {
        self.numbers
            .get(&node)
            .and_then(|n| n.name.as_deref())
            .is_some_and(|other| other != name)
    }

    pub(crate) fn expect(&mut self, node: NodeId, incarnation: Incarnation) {
        self.numbers.entry(node).or_default();
        self.awaited.insert(node, incarnation);
    }

    pub(crate) fn awaited_life(&self, node: NodeId) -> Option<Incarnation> {
        self.awaited.get(&node).copied()
    }

    pub(crate) fn awaited(&self) -> Vec<(NodeId, Incarnation)> {
        self.awaited
            .iter()
            .map(|(node, incarnation)| (*node, *incarnation))
            .collect()
    }

    /// This life is over. Returns the member if it was present.
    pub(crate) fn end(&mut self, node: NodeId, incarnation: Incarnation) -> Option<Member> {
        let number = self.numbers.entry(node).or_default();
        number.over = number.over.max(Some(incarnation));
        if self.awaited.get(&node) == Some(&incarnation) {
            self.awaited.remove(&node);
        }
        if self.present.get(&node)?.incarnation != incarnation {
            return None;
        }
        self.present.remove(&node)
    }

    pub(crate) fn send(&self, out: &mut dyn Output, node: NodeId, message: ToNode<'_>) {
        if let Some(link) = self.present.get(&node).and_then(|m| m.link.up()) {
            out.send(link, message);
        }
    }

    /// Tells all that a life is over.
    pub(crate) fn tell_gone(
        &mut self,
        out: &mut dyn Output,
        node: NodeId,
        incarnation: Incarnation,
    ) {
        for member in self.present.values_mut() {
            if let Some(link) = member.link.up() {
                out.send(link, ToNode::Gone { node, incarnation });
                if member.told.get(&node) == Some(&incarnation) {
                    member.told.remove(&node);
                }
            }
        }
    }

    /// Tells `to` of all others, and them of it, where they do not know yet.
    pub(crate) fn introduce(&mut self, out: &mut dyn Output, node: NodeId) {
        let others: Vec<NodeId> = self
            .present
            .keys()
            .copied()
            .filter(|n| *n != node)
            .collect();
        for other in others {
            self.introduce_to(out, node, other);
            self.introduce_to(out, other, node);
        }
    }

    fn introduce_to(&mut self, out: &mut dyn Output, to: NodeId, node: NodeId) {
        let (Some(receiver), Some(member)) = (self.present.get(&to), self.present.get(&node))
        else {
            return;
        };
        let Member {
            incarnation,
            name,
            address,
            ..
        } = member;
        let incarnation = *incarnation;
        let known = receiver.told.get(&node) == Some(&incarnation);
        let (Some(link), None, false) = (receiver.link.up(), &receiver.settling, known) else {
            return;
        };
        let you_connect = receiver.incarnation > incarnation;
        out.send(
            link,
            ToNode::Member {
                node,
                incarnation,
                name,
                address,
                you_connect,
            },
        );
        if let Some(receiver) = self.present.get_mut(&to) {
            receiver.told.insert(node, incarnation);
        }
    }

    /// Compares what a member that came back believes with the truth.
    pub(crate) fn settle(&mut self, out: &mut dyn Output, node: NodeId) {
        let Some(member) = self.present.get(&node) else {
            return;
        };
        let gone: Vec<(NodeId, Incarnation)> = (member.told.iter())
            .map(|(node, incarnation)| (*node, *incarnation))
            .filter(|(n, i)| !matches!(self.life(*n, *i), Life::Present | Life::Awaited))
            .collect();
        for (gone, incarnation) in gone {
            self.send(
                out,
                node,
                ToNode::Gone {
                    node: gone,
                    incarnation,
                },
            );
            self.present.get_mut(&node).map(|m| m.told.remove(&gone));
        }
        self.introduce(out, node);
    }
}

/// Whether a name can be shown to people and sent to all.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=peer::MAX_NAME).contains(&name.len());
    (fits && !name.chars().any(char::is_control))
        .then_some(())
        .ok_or(Refusal::Name)
}

/// Whether an address is `host:port`. Whether it can be reached is for peers to find.
pub(crate) fn check_address(address: &str) -> Result<(), Refusal> {
    let parts = address
        .rsplit_once(':')
        .filter(|_| address.len() <= MAX_ADDRESS);
    let (host, port) = parts.ok_or(Refusal::Address)?;
    let fine = !host.is_empty()
        && !host.contains(|c: char| c.is_control() || c.is_whitespace())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    fine.then_some(()).ok_or(Refusal::Address)
}
