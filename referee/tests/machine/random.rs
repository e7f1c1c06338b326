//! Random schedules of a small cluster: nodes that ask, create, release, lose
//! their links, die and come back, and a referee that is restarted. Messages
//! travel in order on a link and take any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use dipc_referee::naming::{Naming, Settings};
use dipc_referee::output::{Event, LinkId, Output};
use dipc_wire::call::PRIVATE;
use dipc_wire::frame::{Encoded, PREFIX, decode};
use dipc_wire::referee::{Answer, Join, Membership, ToNode, ToReferee};
use dipc_wire::{Incarnation, Kind, Limits, NodeId, ObjectId};
use proptest::prelude::*;

use crate::rig::{CLUSTER, T, newcomer};

mod checks;
mod model;

const NODES: usize = 4;
const KEYS: RangeInclusive<i32> = 1..=3;
/// So low that many creations have no room.
const LIMITS: Limits = Limits {
    shmmni: 3,
    shmall: 7,
    ..Limits::LINUX
};
const NAMES: [&str; NODES] = ["a", "b", "c", "d"];

/// On its way to a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Mail {
    Answer(Vec<u8>),
    Message(Vec<u8>),
    Closed,
}

/// What the machine said, and whom it believes present.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
struct Post {
    mail: Vec<(LinkId, Mail)>,
    present: BTreeSet<(NodeId, Incarnation)>,
    /// Whom it has declared dead.
    over: BTreeSet<(NodeId, Incarnation)>,
}

impl Output for Post {
    fn answer(&mut self, link: LinkId, answer: Answer<'_>) {
        let bytes = Encoded::new(&answer, 0).unwrap().as_ref()[PREFIX..].to_vec();
        self.mail.push((link, Mail::Answer(bytes)));
    }

    fn send(&mut self, link: LinkId, message: ToNode<'_>) {
        let bytes = Encoded::new(&message, 0).unwrap().as_ref()[PREFIX..].to_vec();
        self.mail.push((link, Mail::Message(bytes)));
    }

    fn close(&mut self, link: LinkId) {
        self.mail.push((link, Mail::Closed));
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Joined {
                node, incarnation, ..
            }
            | Event::Rejoined {
                node, incarnation, ..
            } => {
                let life = (node, incarnation);
                assert!(
                    !self.over.contains(&life),
                    "a dead life of node {node} is admitted"
                );
                self.present.insert(life);
                let lives = self.present.iter().filter(|(n, _)| *n == node).count();
                assert_eq!(lives, 1, "two lives of node {node} are present");
            }
            Event::Gone {
                node, incarnation, ..
            } => {
                self.present.remove(&(node, incarnation));
                self.over.insert((node, incarnation));
            }
            _ => {}
        }
    }
}

/// A node as its author should write it.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
struct Node {
    me: Option<Membership>,
    link: Option<LinkId>,
    asked: BTreeMap<u64, (i32, Option<u64>)>,
    grants: BTreeMap<u64, (i32, u64)>,
    owned: BTreeMap<i32, ObjectId>,
    /// All that it has, with and without a key, and what that weighs.
    objects: BTreeMap<ObjectId, u64>,
    refused: usize,
    found: BTreeMap<i32, ObjectId>,
    known: BTreeMap<NodeId, Incarnation>,
    inbox: VecDeque<Mail>,
    outbox: VecDeque<ToReferee>,
}

impl Node {
    /// What was asked and granted on a link ends with it.
    fn lose_link(&mut self) -> Option<LinkId> {
        self.asked.clear();
        self.grants.clear();
        self.inbox.clear();
        self.outbox.clear();
        self.link.take()
    }

    /// What it has or may make: how many, and how heavy.
    fn share(&self) -> (u64, u64) {
        let granted = self.grants.values().map(|(_, weight)| weight);
        let weights: Vec<u64> = self.objects.values().chain(granted).copied().collect();
        (weights.len() as u64, weights.iter().sum())
    }

    fn welcomed(&self) -> bool {
        self.link.is_some() && self.me.is_some()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    naming: Naming,
    now: Duration,
    post: Post,
    nodes: Vec<Node>,
    /// Links that their node has given up and the referee not yet.
    half_open: Vec<LinkId>,
    last_link: u64,
    last_tag: u64,
    last_serial: u32,
    restarts: u64,
    lives: BTreeSet<Incarnation>,
    numbers: BTreeMap<usize, NodeId>,
    sabotage: Option<Sabotage>,
}

/// A rule that is broken, to show that it would be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Sabotage {
    /// A node that comes back does not say which keys it owns.
    OwnsNotSaid,
    /// The referee never hears that a node's link is closed: what was granted
    /// to it outlives its death.
    DeathNotHeard,
    /// Who is gone is not said to the others.
    GoneNotSaid,
}

impl World {
    fn new() -> World {
        World::of(NODES, None)
    }

    /// With so many nodes.
    fn of(nodes: usize, sabotage: Option<Sabotage>) -> World {
        World {
            sabotage,
            naming: referee(0, Duration::ZERO),
            now: Duration::ZERO,
            post: Post::default(),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            half_open: Vec::new(),
            last_link: 0,
            last_tag: 0,
            last_serial: 0,
            restarts: 0,
            lives: BTreeSet::new(),
            numbers: BTreeMap::new(),
        }
    }

    fn step(&mut self, action: u8, i: usize, key: i32) {
        match action {
            0..=9 => self.connect(i),
            10..=24 => self.ask(i, key, Some(key as u64)),
            25..=29 => self.ask(i, key, None),
            30..=47 => _ = self.deliver(i),
            48..=65 => _ = self.process(i),
            66..=75 => self.redeem(i, true),
            76..=77 => self.redeem(i, false),
            78..=81 => self.release(i, key),
            82..=85 => self.drop_link(i, true),
            86..=87 => self.drop_link(i, false),
            88 => self.report_lost(i),
            89 => self.leave(i),
            90 => self.crash(i),
            91..=93 => self.pass(T / 3),
            94 => self.restart(),
            95 => self.fall_silent(i),
            98..=103 => self.ask(i, PRIVATE, Some(key as u64)),
            104..=109 => self.free(i),
            _ => self.notice_half_open(),
        }
        self.sort_mail();
        self.check();
    }

    fn connect(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        if node.link.is_some() {
            return;
        }
        self.last_link += 1;
        let link = LinkId(self.last_link);
        node.link = Some(link);
        if node.me.is_some() {
            let says = self.sabotage != Some(Sabotage::OwnsNotSaid);
            let owns = node.owned.iter().filter(|_| says);
            node.outbox.extend(owns.map(|(key, id)| ToReferee::Owns {
                kind: Kind::Shm,
                key: *key,
                id: *id,
            }));
            let holds = node.objects.iter();
            node.outbox
                .extend(holds.map(|(id, weight)| ToReferee::Holds {
                    kind: Kind::Shm,
                    id: *id,
                    weight: *weight,
                }));
            let knows = node.known.iter();
            node.outbox
                .extend(knows.map(|(node, life)| ToReferee::Knows {
                    node: *node,
                    incarnation: *life,
                }));
        }
        node.outbox.push_back(ToReferee::Settled);
        let join = Join {
            member: node.me,
            ..newcomer(NAMES[i])
        };
        self.naming.join(link, join, self.now, &mut self.post);
    }

    fn ask(&mut self, i: usize, key: i32, create: Option<u64>) {
        if !self.nodes[i].welcomed() {
            return;
        }
        let not = self.nodes[i]
            .found
            .get(&key)
            .copied()
            .filter(|id| !self.exists(key, *id));
        self.last_tag += 1;
        let tag = self.last_tag;
        let node = &mut self.nodes[i];
        node.asked.insert(tag, (key, create));
        node.outbox.push_back(ToReferee::Resolve {
            tag,
            kind: Kind::Shm,
            key,
            create,
            not,
        });
    }

    fn exists(&self, key: i32, id: ObjectId) -> bool {
        self.nodes
            .iter()
            .any(|node| node.owned.get(&key) == Some(&id))
    }

    fn redeem(&mut self, i: usize, create: bool) {
        let node = &mut self.nodes[i];
        let Some((tag, (key, weight))) = node.grants.pop_first() else {
            return;
        };
        if !create {
            return node.outbox.push_back(ToReferee::Abandoned { tag });
        }
        self.last_serial += 1;
        let id = ObjectId::new(node.me.unwrap().node, self.last_serial);
        node.objects.insert(id, weight);
        if key != PRIVATE {
            node.owned.insert(key, id);
        }
        node.outbox.push_back(ToReferee::Created { tag, id });
    }

    fn release(&mut self, i: usize, key: i32) {
        let node = &mut self.nodes[i];
        let Some(id) = node.owned.remove(&key) else {
            return;
        };
        if node.link.is_some() {
            node.outbox.push_back(ToReferee::Released {
                kind: Kind::Shm,
                key,
                id,
            });
        }
    }

    /// An object that has no key any more, or never had, goes.
    fn free(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let mut objects = node.objects.keys().copied();
        let Some(id) = objects.find(|id| node.owned.values().all(|owned| owned != id)) else {
            return;
        };
        node.objects.remove(&id);
        if node.link.is_some() {
            let kind = Kind::Shm;
            node.outbox.push_back(ToReferee::Freed { kind, id });
        }
    }

    fn drop_link(&mut self, i: usize, noticed: bool) {
        let Some(link) = self.nodes[i].lose_link() else {
            return;
        };
        if self.sabotage == Some(Sabotage::DeathNotHeard) {
            return;
        }
        if noticed {
            self.naming.link_closed(link, self.now, &mut self.post);
        } else {
            self.half_open.push(link);
        }
    }

    fn notice_half_open(&mut self) {
        if let Some(link) = self.half_open.pop() {
            self.naming.link_closed(link, self.now, &mut self.post);
        }
    }

    fn report_lost(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let Some((lost, life)) = node.known.first_key_value() else {
            return;
        };
        if node.welcomed() {
            node.outbox.push_back(ToReferee::PeerLost {
                node: *lost,
                incarnation: *life,
            });
        }
    }

    fn leave(&mut self, i: usize) {
        if let Some(link) = self.nodes[i].link {
            // Behind all that it still had to say; then its process is gone.
            while self.process(i) {}
            self.naming
                .message(link, ToReferee::Leave, self.now, &mut self.post);
        }
        self.crash(i);
    }

    fn crash(&mut self, i: usize) {
        self.drop_link(i, true);
        self.nodes[i] = Node::default();
    }

    fn fall_silent(&mut self, i: usize) {
        if let Some(link) = self.nodes[i].link {
            self.naming.silent(link, self.now, &mut self.post);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.naming.tick(self.now, &mut self.post);
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.naming = referee(self.restarts, self.now);
        self.post = Post::default();
        self.half_open.clear();
        self.numbers.clear();
        for node in &mut self.nodes {
            node.lose_link();
        }
    }

    fn process(&mut self, i: usize) -> bool {
        let node = &mut self.nodes[i];
        // A node speaks when it has its answer.
        let (Some(link), true) = (node.link, node.welcomed()) else {
            return false;
        };
        let Some(message) = node.outbox.pop_front() else {
            return false;
        };
        self.naming.message(link, message, self.now, &mut self.post);
        self.sort_mail();
        true
    }

    fn sort_mail(&mut self) {
        for (link, mail) in self.post.mail.drain(..) {
            if let Some(node) = self.nodes.iter_mut().find(|node| node.link == Some(link)) {
                node.inbox.push_back(mail);
            }
        }
    }

    fn deliver(&mut self, i: usize) -> bool {
        let node = &mut self.nodes[i];
        let Some(mail) = node.inbox.pop_front() else {
            return false;
        };
        match mail {
            Mail::Closed => {
                let link = node.lose_link().unwrap();
                self.naming.link_closed(link, self.now, &mut self.post);
            }
            Mail::Answer(bytes) => self.hear_answer(i, decode(&bytes).unwrap()),
            Mail::Message(bytes) => self.hear(i, decode(&bytes).unwrap()),
        }
        true
    }

    fn hear_answer(&mut self, i: usize, answer: Answer<'_>) {
        let Answer::Welcome { member, .. } = answer else {
            return self.crash(i);
        };
        match self.nodes[i].me.replace(member) {
            Some(before) => {
                assert_eq!(
                    (before.node, before.incarnation),
                    (member.node, member.incarnation)
                );
            }
            None => assert!(
                self.lives.insert(member.incarnation),
                "a life was given twice"
            ),
        }
        assert_eq!(
            *self.numbers.entry(i).or_insert(member.node),
            member.node,
            "a new number"
        );
        let users = self
            .numbers
            .values()
            .filter(|number| **number == member.node);
        assert_eq!(users.count(), 1, "a number was given twice");
    }

    fn hear(&mut self, i: usize, message: ToNode<'_>) {
        let node = &mut self.nodes[i];
        match message {
            ToNode::Member {
                node: other,
                incarnation,
                you_connect,
                ..
            } => {
                let mine = node.me.unwrap();
                assert_eq!(you_connect, mine.incarnation > incarnation);
                assert_ne!(other, mine.node);
                node.known.insert(other, incarnation);
            }
            ToNode::Gone {
                node: other,
                incarnation,
            } => {
                if self.sabotage == Some(Sabotage::GoneNotSaid) {
                    return;
                }
                if node.known.get(&other) == Some(&incarnation) {
                    node.known.remove(&other);
                }
            }
            ToNode::Found { tag, id } => {
                let (key, _) = node.asked.remove(&tag).expect("an answer to no question");
                node.found.insert(key, id);
            }
            ToNode::Absent { tag } => {
                let (_, create) = node.asked.remove(&tag).expect("an answer to no question");
                assert_eq!(create, None, "a creator was told Absent");
            }
            ToNode::Create { tag } => {
                let (key, create) = node.asked.remove(&tag).expect("a grant to no question");
                let weight = create.expect("one that only asked was told to create");
                node.grants.insert(tag, (key, weight));
            }
            ToNode::Full { tag } => {
                let (_, create) = node.asked.remove(&tag).expect("a refusal of no question");
                assert!(create.is_some(), "one that only asked was refused");
                node.refused += 1;
            }
            ToNode::Flush { round } => node.outbox.push_back(ToReferee::Flushed { round }),
            ToNode::Fenced => self.crash(i),
            ToNode::Ping | ToNode::Complete => {}
        }
    }

    /// Everybody does what it has to do, and nothing new happens.
    fn drain(&mut self) {
        // A grant goes from one to the next, and nodes may die on the way: a few
        // rounds for each question there is.
        for _ in 0..1000 {
            let mut busy = !self.half_open.is_empty() || self.naming.deadline().is_some();
            self.notice_half_open();
            for i in 0..self.nodes.len() {
                if self.nodes[i].link.is_none() && self.nodes[i].me.is_some() {
                    self.connect(i);
                    busy = true;
                }
                self.sort_mail();
                while self.process(i) || self.deliver(i) || !self.nodes[i].grants.is_empty() {
                    self.redeem(i, true);
                    self.sort_mail();
                    self.check();
                    busy = true;
                }
            }
            if !busy {
                return;
            }
            self.pass(T / 8);
            self.sort_mail();
        }
        panic!("the cluster does not come to rest");
    }
}

fn referee(restarts: u64, now: Duration) -> Naming {
    let settings = Settings {
        timeout: T,
        cluster: CLUSTER + restarts,
        incarnations_above: restarts * 10_000,
        new_cluster: restarts == 0,
        limits: LIMITS,
    };
    Naming::new(settings, now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_gives_a_key_two_homes_too_much_room_or_a_question_no_answer(
        steps in proptest::collection::vec((0u8..110, 0..NODES, KEYS), 1..400),
    ) {
        let mut world = World::new();
        for i in 0..NODES {
            world.step(0, i, 1);
            while world.deliver(i) {}
        }
        for (action, i, key) in steps {
            world.step(action, i, key);
        }
        world.drain();
        world.check_at_rest();
        world.check_names();
        world.check_room();
    }
}
