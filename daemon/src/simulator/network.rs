//! Connections between hosts, and what becomes of them.
//!
//! A connection has two ends and is a queue in each direction: what is sent
//! arrives in order, after a time that is drawn, unless the receiving end is
//! closed by then. A cut stops one direction between two hosts. What is sent
//! meanwhile waits, as TCP's retransmission does, and goes on when the cut heals.
//!
//! ```text
//!   cut ─────────── ¾ T ──────────────── T ─────▶
//!    │ healed: late, │ each end has fenced │ each end has
//!    │ nothing lost  │ what it got there   │ given the other up
//! ```
//!
//! Ends do not ping here. That nothing was heard for a time is known from the
//! cut, so a cluster at rest has no events.

use std::collections::{BTreeMap, VecDeque};

use super::letters::Letter;
use crate::dice::Dice;

/// Microseconds. The time-out of the cluster.
pub(super) const T: u64 = 1_000_000;

/// A connection, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LinkNo(pub(super) u64);

/// One side of a connection: 0 opened it, 1 accepted it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct End {
    pub(super) link: LinkNo,
    pub(super) side: usize,
}

impl End {
    pub(super) fn other(self) -> End {
        End {
            side: 1 - self.side,
            ..self
        }
    }
}

/// What happens at an end.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // nearly all are letters
pub(super) enum Arrival {
    /// The other side sent this.
    Letter(Letter),
    /// The other side has closed the connection.
    Closed,
}

struct Direction {
    /// Nothing sent later arrives earlier.
    floor: u64,
    /// Sent into a cut.
    held: VecDeque<Arrival>,
}

struct Link {
    hosts: [usize; 2],
    open: [bool; 2],
    /// By the receiving side.
    towards: [Direction; 2],
}

/// All connections and cuts.
pub(super) struct Network {
    links: BTreeMap<LinkNo, Link>,
    last: u64,
    /// From which host to which nothing gets through.
    cuts: BTreeMap<(usize, usize), u64>,
    /// The slowest that a message of a pair is, in microseconds.
    slow: BTreeMap<(usize, usize), u64>,
    /// Messages overtake each other: a broken variant.
    pub(super) unordered: bool,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(super) fn new(slow: BTreeMap<(usize, usize), u64>) -> Self {
        Network {
            links: BTreeMap::new(),
            last: 0,
            cuts: BTreeMap::new(),
            slow,
            unordered: false,
        }
    }

    /// A connection whose opening is under way; what is sent waits for that.
    pub(super) fn open(&mut self, from: usize, to: usize) -> LinkNo {
        self.last += 1;
        let direction = || Direction {
            floor: 0,
            held: VecDeque::new(),
        };
        let link = Link {
            hosts: [from, to],
            open: [true; 2],
            towards: [direction(), direction()],
        };
        self.links.insert(LinkNo(self.last), link);
        LinkNo(self.last)
    }

    pub(super) fn is_open(&self, end: End) -> bool {
        self.links.get(&end.link).is_some_and(|l| l.open[end.side])
    }

    /// The host at an end.
    pub(super) fn host(&self, end: End) -> Option<usize> {
        self.links.get(&end.link).map(|l| l.hosts[end.side])
    }

    /// Open ends at a host.
    pub(super) fn ends_at(&self, host: usize) -> Vec<End> {
        let sides = self.links.iter().flat_map(|(&link, it)| {
            [0, 1].map(|side| (End { link, side }, it.open[side] && it.hosts[side] == host))
        });
        sides.filter(|(_, is)| *is).map(|(end, _)| end).collect()
    }

    /// Open ends of connections between two hosts.
    pub(super) fn ends_between(&self, a: usize, b: usize) -> Vec<End> {
        let mut ends = self.ends_at(a);
        ends.retain(|&end| self.host(end.other()) == Some(b));
        let others: Vec<End> = ends.iter().map(|end| end.other()).collect();
        ends.extend(others.into_iter().filter(|&end| self.is_open(end)));
        ends
    }

    /// Sends from an end. Returns when it arrives, unless that is open.
    pub(super) fn send(
        &mut self,
        from: End,
        arrival: Arrival,
        now: u64,
        dice: &mut Dice,
    ) -> Option<(u64, Arrival)> {
        let link = self.links.get_mut(&from.link)?;
        if !link.open[from.side] {
            return None;
        }
        let (a, b) = (link.hosts[from.side], link.hosts[1 - from.side]);
        let towards = &mut link.towards[1 - from.side];
        if self.cuts.contains_key(&(a, b)) || !towards.held.is_empty() {
            towards.held.push_back(arrival);
            return None;
        }
        let slowest = self.slow.get(&pair(a, b)).copied().unwrap_or(600);
        let at = now + 40 + dice.roll(slowest);
        if self.unordered && matches!(arrival, Arrival::Letter(Letter::Peer(..))) {
            return Some((at, arrival));
        }
        towards.floor = towards.floor.max(at);
        Some((towards.floor, arrival))
    }

    /// Nothing more is sent from this end, and nothing taken.
    pub(super) fn close(&mut self, end: End) {
        if let Some(link) = self.links.get_mut(&end.link) {
            link.open[end.side] = false;
            if link.open == [false; 2] && link.towards.iter().all(|d| d.held.is_empty()) {
                self.links.remove(&end.link);
            }
        }
    }

    /// Nothing gets from `a` to `b`. `stamp` names the cut.
    pub(super) fn cut(&mut self, a: usize, b: usize, stamp: u64) {
        self.cuts.entry((a, b)).or_insert(stamp);
    }

    /// Whether this cut has not healed yet, in one direction at least.
    pub(super) fn still_cut(&self, a: usize, b: usize, stamp: u64) -> bool {
        let is = |key| self.cuts.get(&key) == Some(&stamp);
        is((a, b)) || is((b, a))
    }

    /// Messages get from `a` to `b` again. Returns what has waited, in order,
    /// with the end that gets it and when.
    pub(super) fn heal(
        &mut self,
        a: usize,
        b: usize,
        now: u64,
        dice: &mut Dice,
    ) -> Vec<(u64, End, Arrival)> {
        if self.cuts.remove(&(a, b)).is_none() {
            return Vec::new();
        }
        let mut late = Vec::new();
        for (&no, link) in &mut self.links {
            for side in [0, 1] {
                if (link.hosts[1 - side], link.hosts[side]) != (a, b) {
                    continue;
                }
                let towards = &mut link.towards[side];
                let at = towards.floor.max(now + 40 + dice.roll(600));
                towards.floor = at;
                let end = End { link: no, side };
                late.extend(towards.held.drain(..).map(|arrival| (at, end, arrival)));
            }
        }
        self.links.retain(|_, link| {
            link.open != [false; 2] || link.towards.iter().any(|d| !d.held.is_empty())
        });
        late
    }

    /// The directions that are cut now.
    pub(super) fn all_cuts(&self) -> Vec<(usize, usize)> {
        self.cuts.keys().copied().collect()
    }
}
