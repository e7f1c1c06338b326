//! The referee's machine, [`Naming`], and the sockets of `referee/src/server.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use dipc_referee::naming::{Naming, Settings};
use dipc_referee::output::{Event as Noted, LinkId, Output};
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, VERSIONS};

use super::desk::{Event, Shared};
use super::home::LIMITS;
use super::letters::{Letter, LifeId};
use super::network::{Arrival, End, LinkNo, T};

/// A referee that runs.
pub(super) struct Referee {
    naming: Naming,
    alarm: Option<Duration>,
    /// Who has ever been a member of this one.
    present: BTreeSet<LifeId>,
    /// It takes nobody back any more whom it does not know.
    pub(super) recovered: bool,
}

/// What it says.
#[derive(Default)]
struct Post {
    mail: Vec<(LinkId, Option<Letter>)>,
    present: BTreeSet<LifeId>,
    over: Vec<LifeId>,
    /// All members of before that there are have come back.
    recovered: bool,
}

impl Output for Post {
    fn answer(&mut self, link: LinkId, answer: Answer<'_>) {
        let letter = match answer {
            Answer::Welcome { member, .. } => Letter::Welcome(member),
            Answer::Refused { retry, .. } => Letter::Refused(retry),
        };
        self.mail.push((link, Some(letter)));
    }

    fn send(&mut self, link: LinkId, message: ToNode<'_>) {
        let letter = match message {
            ToNode::Member {
                node,
                incarnation,
                address,
                you_connect,
                ..
            } => Letter::Member {
                life: LifeId { node, incarnation },
                host: host_of(address),
                you_connect,
            },
            ToNode::Gone { node, incarnation } => {
                Letter::ToNode(ToNode::Gone { node, incarnation })
            }
            ToNode::Found { tag, id } => Letter::ToNode(ToNode::Found { tag, id }),
            ToNode::Absent { tag } => Letter::ToNode(ToNode::Absent { tag }),
            ToNode::Create { tag } => Letter::ToNode(ToNode::Create { tag }),
            ToNode::Full { tag } => Letter::ToNode(ToNode::Full { tag }),
            ToNode::Flush { round } => Letter::ToNode(ToNode::Flush { round }),
            ToNode::Fenced => Letter::ToNode(ToNode::Fenced),
            ToNode::Complete => Letter::ToNode(ToNode::Complete),
            ToNode::Ping => return,
        };
        self.mail.push((link, Some(letter)));
    }

    fn close(&mut self, link: LinkId) {
        self.mail.push((link, None));
    }

    fn note(&mut self, event: Noted<'_>) {
        match event {
            Noted::Joined {
                node, incarnation, ..
            }
            | Noted::Rejoined {
                node, incarnation, ..
            } => {
                self.present.insert(LifeId { node, incarnation });
            }
            Noted::Gone {
                node, incarnation, ..
            } => self.over.push(LifeId { node, incarnation }),
            Noted::Recovered { .. } => self.recovered = true,
            _ => {}
        }
    }
}

fn address_of(host: usize) -> String {
    format!("h{host}:1")
}

fn host_of(address: &str) -> usize {
    let digits = address.trim_start_matches('h').split(':').next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("an address that was not given")
}

impl Referee {
    /// The cluster's first one, or one that was started when it was gone.
    pub(super) fn start(number: u64, now: u64) -> Referee {
        let settings = Settings {
            timeout: Duration::from_micros(T),
            cluster: 0xc1,
            incarnations_above: number * 1_000,
            new_cluster: number == 0,
            limits: LIMITS,
        };
        Referee {
            naming: Naming::new(settings, Duration::from_micros(now)),
            alarm: None,
            present: BTreeSet::new(),
            recovered: number == 0,
        }
    }

    /// Something reaches the referee's end of a connection.
    pub(super) fn arrive(
        &mut self,
        end: End,
        arrival: Arrival,
        over: &mut BTreeSet<LifeId>,
        shared: &mut Shared,
    ) {
        let (link, now) = (LinkId(end.link.0), Duration::from_micros(shared.now));
        let mut post = Post::default();
        match arrival {
            Arrival::Letter(Letter::Join(member)) => {
                let host = shared.network.host(end.other()).unwrap_or(0);
                self.join(link, host, member, now, &mut post);
            }
            Arrival::Letter(Letter::ToReferee(message)) => {
                self.naming.message(link, message, now, &mut post)
            }
            Arrival::Letter(_) => shared.fail("the referee was taken for a node"),
            Arrival::Closed => {
                shared.network.close(end);
                self.naming.link_closed(link, now, &mut post);
            }
        }
        self.follow(post, over, shared);
    }

    fn join(
        &mut self,
        link: LinkId,
        host: usize,
        member: Option<Membership>,
        now: Duration,
        post: &mut Post,
    ) {
        let (name, address) = (format!("n{host}"), address_of(host));
        let join = Join {
            magic: MAGIC,
            versions: VERSIONS,
            name: &name,
            address: &address,
            member,
        };
        self.naming.join(link, join, now, post);
    }

    /// Nothing came for a time-out. A newcomer that waits for its answer owes no
    /// sign of life until it has it.
    pub(super) fn silent(
        &mut self,
        end: End,
        stamp: Option<u64>,
        over: &mut BTreeSet<LifeId>,
        shared: &mut Shared,
    ) {
        let (link, now) = (LinkId(end.link.0), Duration::from_micros(shared.now));
        let mut post = Post::default();
        if self.naming.holds(link) {
            let again = Event::Silent(end, stamp);
            return shared.agenda.enter(shared.now + T, again);
        }
        shared.close(end);
        self.naming.silent(link, now, &mut post);
        self.follow(post, over, shared);
    }

    /// Whether this life could still come back as a member.
    pub(super) fn may_know(&self, life: LifeId) -> bool {
        !self.recovered || self.present.contains(&life)
    }

    pub(super) fn tick(&mut self, over: &mut BTreeSet<LifeId>, shared: &mut Shared) {
        let mut post = Post::default();
        self.alarm = None;
        self.naming
            .tick(Duration::from_micros(shared.now), &mut post);
        self.follow(post, over, shared);
    }

    fn follow(&mut self, post: Post, over: &mut BTreeSet<LifeId>, shared: &mut Shared) {
        over.extend(post.over);
        self.present.extend(post.present);
        self.recovered |= post.recovered;
        for (link, letter) in post.mail {
            let end = End {
                link: LinkNo(link.0),
                side: 1,
            };
            match letter {
                Some(letter) => {
                    shared.note(|| format!("referee to {:?}: {letter:?}", end.link));
                    shared.send(end, Arrival::Letter(letter));
                }
                None => shared.close(end),
            }
        }
        let deadline = self.naming.deadline();
        if deadline != self.alarm {
            self.alarm = deadline;
            if let Some(at) = deadline {
                let at = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
                shared.agenda.enter(at.max(shared.now), Event::Tick);
            }
        }
    }
}
