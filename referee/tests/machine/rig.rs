//! A machine with a transcript: what it says becomes lines of text.

use std::time::Duration;

use dipc_referee::naming::{Naming, Settings};
use dipc_referee::output::{Event, LinkId, Output};
use dipc_wire::call::PRIVATE;
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, ToReferee, VERSIONS};
use dipc_wire::{Incarnation, Kind, Limits, NodeId, ObjectId};

pub(crate) const T: Duration = Duration::from_secs(5);
pub(crate) const CLUSTER: u64 = 0xc1;

/// What the machine said, link by link, as `link: message`.
#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) lines: Vec<String>,
    pub(crate) events: Vec<String>,
    pub(crate) welcomes: Vec<(LinkId, Membership)>,
    pub(crate) complete: Vec<LinkId>,
}

impl Output for Transcript {
    fn answer(&mut self, link: LinkId, answer: Answer<'_>) {
        self.lines.push(match answer {
            Answer::Welcome { member, .. } => {
                self.welcomes.push((link, member));
                format!(
                    "{link}: Welcome {} life {}",
                    member.node, member.incarnation
                )
            }
            Answer::Refused { reason, retry } => format!("{link}: Refused {retry} {reason}"),
        });
    }

    fn send(&mut self, link: LinkId, message: ToNode<'_>) {
        let line = match message {
            ToNode::Member {
                node,
                incarnation,
                name,
                you_connect,
                ..
            } => {
                let who = if you_connect {
                    "you connect"
                } else {
                    "it connects"
                };
                format!("{link}: Member {node} life {incarnation} {name}, {who}")
            }
            ToNode::Gone { node, incarnation } => format!("{link}: Gone {node} life {incarnation}"),
            ToNode::Found { tag, id } => format!("{link}: Found {tag} {id:?}"),
            ToNode::Absent { tag } => format!("{link}: Absent {tag}"),
            ToNode::Create { tag } => format!("{link}: Create {tag}"),
            ToNode::Full { tag } => format!("{link}: Full {tag}"),
            ToNode::Flush { round } => format!("{link}: Flush {round}"),
            ToNode::Fenced => format!("{link}: Fenced"),
            ToNode::Ping => format!("{link}: Ping"),
            // Follows every `Settled`, after all that this has led to.
            ToNode::Complete => return self.complete.push(link),
        };
        self.lines.push(line);
    }

    fn close(&mut self, link: LinkId) {
        self.lines.push(format!("{link}: closed"));
    }

    fn note(&mut self, event: Event<'_>) {
        self.events.push(format!("{event:?}"));
    }
}

/// A machine, its clock and its transcript.
pub(crate) struct Rig {
    pub(crate) naming: Naming,
    pub(crate) now: Duration,
    pub(crate) said: Transcript,
}

impl Rig {
    /// The first referee of a cluster; lives are 101, 102, …
    pub(crate) fn new_cluster() -> Rig {
        Rig::start(true, Limits::LINUX)
    }

    /// One that may have been another's successor.
    pub(crate) fn restarted() -> Rig {
        Rig::start(false, Limits::LINUX)
    }

    /// The same with limits of its own.
    pub(crate) fn restarted_with(limits: Limits) -> Rig {
        Rig::start(false, limits)
    }

    fn start(new_cluster: bool, limits: Limits) -> Rig {
        let settings = Settings {
            timeout: T,
            cluster: CLUSTER,
            incarnations_above: 100,
            new_cluster,
            limits,
        };
        let naming = Naming::new(settings, Duration::ZERO);
        Rig {
            naming,
            now: Duration::ZERO,
            said: Transcript::default(),
        }
    }

    pub(crate) fn join_as(&mut self, link: u64, join: Join<'_>) {
        self.naming
            .join(LinkId(link), join, self.now, &mut self.said);
    }

    pub(crate) fn join(&mut self, link: u64, name: &str) {
        self.join_as(link, newcomer(name));
    }

    pub(crate) fn rejoin(
        &mut self,
        link: u64,
        name: &str,
        cluster: u64,
        node: u8,
        incarnation: u64,
    ) {
        let member = Membership {
            cluster,
            node: n(node),
            incarnation: Incarnation(incarnation),
        };
        self.join_as(
            link,
            Join {
                member: Some(member),
                ..newcomer(name)
            },
        );
    }

    pub(crate) fn say(&mut self, link: u64, message: ToReferee) {
        self.naming
            .message(LinkId(link), message, self.now, &mut self.said);
    }

    pub(crate) fn resolve(&mut self, link: u64, tag: u64, key: i32, create: bool) {
        self.ask(link, tag, key, create.then_some(1), None);
    }

    /// Would create a set of so many semaphores.
    pub(crate) fn resolve_weighing(&mut self, link: u64, tag: u64, key: i32, weight: u64) {
        self.ask(link, tag, key, Some(weight), None);
    }

    /// Would create a private one.
    pub(crate) fn private(&mut self, link: u64, tag: u64, weight: u64) {
        self.ask(link, tag, PRIVATE, Some(weight), None);
    }

    pub(crate) fn resolve_not(
        &mut self,
        link: u64,
        tag: u64,
        key: i32,
        create: bool,
        not: ObjectId,
    ) {
        self.ask(link, tag, key, create.then_some(1), Some(not));
    }

    fn ask(&mut self, link: u64, tag: u64, key: i32, create: Option<u64>, not: Option<ObjectId>) {
        let kind = Kind::Sem;
        self.say(
            link,
            ToReferee::Resolve {
                tag,
                kind,
                key,
                create,
                not,
            },
        );
    }

    pub(crate) fn created(&mut self, link: u64, tag: u64, id: ObjectId) {
        self.say(link, ToReferee::Created { tag, id });
    }

    pub(crate) fn released(&mut self, link: u64, key: i32, id: ObjectId) {
        self.say(
            link,
            ToReferee::Released {
                kind: Kind::Sem,
                key,
                id,
            },
        );
    }

    pub(crate) fn holds(&mut self, link: u64, id: ObjectId, weight: u64) {
        let kind = Kind::Sem;
        self.say(link, ToReferee::Holds { kind, id, weight });
    }

    pub(crate) fn freed(&mut self, link: u64, id: ObjectId) {
        let kind = Kind::Sem;
        self.say(link, ToReferee::Freed { kind, id });
    }

    pub(crate) fn flushed(&mut self, link: u64, round: u64) {
        self.say(link, ToReferee::Flushed { round });
    }

    /// Sets and semaphores that count.
    pub(crate) fn sets(&self) -> (u64, u128) {
        let total = self.naming.total(Kind::Sem);
        (total.objects, total.weight)
    }

    pub(crate) fn owns(&mut self, link: u64, key: i32, id: ObjectId) {
        self.say(
            link,
            ToReferee::Owns {
                kind: Kind::Sem,
                key,
                id,
            },
        );
    }

    pub(crate) fn knows(&mut self, link: u64, node: u8, incarnation: u64) {
        self.say(
            link,
            ToReferee::Knows {
                node: n(node),
                incarnation: Incarnation(incarnation),
            },
        );
    }

    pub(crate) fn lost(&mut self, link: u64, node: u8, incarnation: u64) {
        self.say(
            link,
            ToReferee::PeerLost {
                node: n(node),
                incarnation: Incarnation(incarnation),
            },
        );
    }

    pub(crate) fn close(&mut self, link: u64) {
        self.naming
            .link_closed(LinkId(link), self.now, &mut self.said);
    }

    pub(crate) fn silent(&mut self, link: u64) {
        self.naming.silent(LinkId(link), self.now, &mut self.said);
    }

    /// Lets time pass, from deadline to deadline.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.naming.deadline().filter(|deadline| *deadline <= end) {
            assert!(
                deadline >= self.now,
                "a deadline that has passed was not served"
            );
            self.now = deadline;
            self.naming.tick(self.now, &mut self.said);
            assert_ne!(
                self.naming.deadline(),
                Some(deadline),
                "a served deadline stays"
            );
        }
        self.now = end;
    }

    /// All that was said since the last look.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said.lines)
    }

    /// Forgets what was said.
    pub(crate) fn skip(&mut self) {
        self.said.lines.clear();
    }

    /// Two members, a = 1 life 101 on link 1 and b = 2 life 102 on link 2.
    pub(crate) fn pair() -> Rig {
        Rig::pair_with(Limits::LINUX)
    }

    /// The same with limits of its own.
    pub(crate) fn pair_with(limits: Limits) -> Rig {
        let mut rig = Rig::start(true, limits);
        rig.join(1, "a");
        rig.join(2, "b");
        rig.skip();
        rig
    }
}

pub(crate) fn n(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

pub(crate) fn id(home: u8, serial: u32) -> ObjectId {
    ObjectId::new(n(home), serial)
}

pub(crate) fn newcomer(name: &str) -> Join<'_> {
    Join {
        magic: MAGIC,
        versions: VERSIONS,
        name,
        address: "10.0.0.1:7462",
        member: None,
    }
}
