//! The name server as a pure machine: who is a member, and which home has a key.
//!
//! Inputs are calls, each with the time at which it happens; what it says goes
//! into an [`Output`]. No I/O, no clock, no threads, no randomness: the same
//! inputs give the same state and the same output.
//!
//! # Who goes when two nodes lose each other
//!
//! A broken connection between two members means that one is dead to the other,
//! and since both would be right for ever, one must go. The first to report
//! stays, whether the other's link to the referee is healthy or not: the
//! referee cannot tell a healthy link from a healthy node, and the reporter has
//! at least just been heard.
//!
//! # Recovery
//!
//! A restarted referee knows nothing. For one time-out from its start, members
//! of before come back and say what they own and whom they know; everybody who
//! was named is awaited. Those who have not come back by then are dead, as is
//! one that is back and does not settle within a time-out. Until all have
//! settled or are dead, no question is answered and no newcomer is admitted: a
//! key could be given twice, or a number.

use std::time::Duration;

use dipc_wire::call::PRIVATE;
use dipc_wire::referee::{Join, ToNode, ToReferee};
use dipc_wire::{Incarnation, Kind, Limits, NodeId, ObjectId};

use crate::keys::{Key, Keys, Question};
use crate::membership::{Life, Link, Member, Members, Settling};
use crate::output::{Cause, Event, LinkId, Output};
use crate::quota::Total;

mod joining;

pub(crate) use joining::refuse;

/// What a referee starts with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// After how long without a sign of life a node is dead.
    pub timeout: Duration,
    /// The cluster's number, if this referee is its first: a random one.
    pub cluster: u64,
    /// Every life that is given is above this. Milliseconds since 1970 are a
    /// good choice: a restarted referee then gives none a second time.
    pub incarnations_above: u64,
    /// Nobody was a member before: there is nothing to recover.
    pub new_cluster: bool,
    /// What the cluster keeps to.
    pub limits: Limits,
}

/// The machine. Time is counted from any fixed moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Naming {
    timeout: Duration,
    cluster: u64,
    members: Members,
    keys: Keys,
    recovery: Option<Recovery>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Recovery {
    /// Until when members of before may come back; `None` when that has passed
    /// and some of those that did have not settled.
    until: Option<Duration>,
    /// Whether `cluster` is that of a member which came back.
    adopted: bool,
    newcomers: Vec<Newcomer>,
}

/// A node that joins and was no member before, or not in this life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Newcomer {
    link: LinkId,
    version: u16,
    name: String,
    address: String,
}

impl Naming {
    /// A referee that starts `now`.
    pub fn new(settings: Settings, now: Duration) -> Self {
        let recovery = (!settings.new_cluster).then(|| Recovery {
            until: Some(now + settings.timeout),
            adopted: false,
            newcomers: Vec::new(),
        });
        Naming {
            timeout: settings.timeout,
            cluster: settings.cluster,
            members: Members::new(Incarnation(settings.incarnations_above)),
            keys: Keys::new(recovery.is_none(), settings.limits),
            recovery,
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Duration> {
        let recovery = self.recovery.as_ref().and_then(|recovery| recovery.until);
        let members = self
            .members
            .iter()
            .filter_map(|(_, member)| member.deadline());
        members.map(|(time, _)| time).chain(recovery).min()
    }

    /// Who is at the end of a link, if it is a member.
    pub fn member_at(&self, link: LinkId) -> Option<NodeId> {
        self.members.at(link)
    }

    /// The links of all members.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.members
            .iter()
            .filter_map(|(_, member)| member.link.up())
    }

    /// Whether a newcomer waits on this link for its answer. Until it has that,
    /// it owes no sign of life.
    pub fn holds(&self, link: LinkId) -> bool {
        let held = self
            .recovery
            .iter()
            .flat_map(|recovery| &recovery.newcomers);
        held.into_iter().any(|newcomer| newcomer.link == link)
    }

    /// The first message on a link.
    pub fn join(&mut self, link: LinkId, join: Join<'_>, now: Duration, out: &mut dyn Output) {
        let outcome = joining::check(&join).and_then(|version| match join.member {
            Some(member) => self.come_back(link, version, &join, member, now, out),
            None => {
                let (name, address) = (join.name.to_owned(), join.address.to_owned());
                self.welcome_or_hold(
                    Newcomer {
                        link,
                        version,
                        name,
                        address,
                    },
                    out,
                )
            }
        });
        if let Err(refusal) = outcome {
            refuse(link, join.name, &refusal, out);
        }
        self.follow_up(now, out);
    }

    /// Any later message.
    pub fn message(
        &mut self,
        link: LinkId,
        message: ToReferee,
        now: Duration,
        out: &mut dyn Output,
    ) {
        let Some(node) = self.members.at(link) else {
            return;
        };
        match self.apply(node, message, out) {
            Ok(Done) => {}
            Ok(Ignored(what)) => out.note(Event::Ignored { node, what }),
            Err(cause) => self.bury(node, cause, out),
        }
        self.follow_up(now, out);
    }

    /// The link's connection has ended.
    pub fn link_closed(&mut self, link: LinkId, now: Duration, out: &mut dyn Output) {
        if let Some(recovery) = &mut self.recovery {
            recovery.newcomers.retain(|newcomer| newcomer.link != link);
        }
        let Some(node) = self.members.at(link) else {
            return;
        };
        if let Some(member) = self.members.get_mut(node) {
            member.link = Link::Lost(now + self.timeout);
            let incarnation = member.incarnation;
            self.keys.link_lost(node);
            out.note(Event::LinkLost { node, incarnation });
        }
        self.follow_up(now, out);
    }

    /// For a time-out, nothing came on the link, or nothing could be sent.
    pub fn silent(&mut self, link: LinkId, now: Duration, out: &mut dyn Output) {
        if let Some(node) = self.members.at(link) {
            self.bury(node, Cause::Silent, out);
        }
        self.link_closed(link, now, out);
        self.follow_up(now, out);
    }

    /// Does what is due: see [`deadline`](Self::deadline).
    pub fn tick(&mut self, now: Duration, out: &mut dyn Output) {
        let due = |member: &Member| member.deadline().filter(|(time, _)| *time <= now);
        let dead = self
            .members
            .iter()
            .filter_map(|(node, m)| Some((node, due(m)?.1)));
        for (node, cause) in dead.collect::<Vec<_>>() {
            self.bury(node, cause, out);
        }
        self.follow_up(now, out);
    }

    /// How many objects of `kind` count now.
    pub fn total(&self, kind: Kind) -> Total {
        self.keys.total(kind)
    }

    /// What any input may have made possible.
    fn follow_up(&mut self, now: Duration, out: &mut dyn Output) {
        self.end_recovery_when_complete(now, out);
        self.look_for_room(out);
    }

    /// Asks those who may have made room, and decides when they have answered;
    /// see [`crate::quota`].
    fn look_for_room(&mut self, out: &mut dyn Output) {
        let members = &self.members;
        let linked = |node| members.get(node).is_some_and(|m| m.link.up().is_some());
        loop {
            if let Some((round, nodes)) = self.keys.begin_round(linked) {
                for node in nodes {
                    members.send(out, node, ToNode::Flush { round });
                }
            }
            let mut post = |to: NodeId, message: ToNode<'static>| members.send(out, to, message);
            if !self.keys.end_round(&mut post) {
                return;
            }
        }
    }

    // ---- messages ----

    fn apply(
        &mut self,
        node: NodeId,
        message: ToReferee,
        out: &mut dyn Output,
    ) -> Result<Effect, Cause> {
        let (members, keys) = (&self.members, &mut self.keys);
        let mut post = |to: NodeId, message: ToNode<'static>| members.send(out, to, message);
        Ok(match message {
            ToReferee::Ping => Done,
            ToReferee::Owns { kind, key, id } => {
                return self.owns(node, Key { kind, key }, id, out);
            }
            ToReferee::Knows {
                node: other,
                incarnation,
            } => self.knows(node, other, incarnation, out),
            ToReferee::Settled => self.settled(node, out),
            ToReferee::Resolve {
                key: PRIVATE,
                create: None,
                ..
            } => Ignored("a question about IPC_PRIVATE, which is no key"),
            ToReferee::Resolve {
                tag,
                kind,
                key,
                create,
                not,
            } => {
                keys.resolve(
                    Key { kind, key },
                    Question {
                        node,
                        tag,
                        create,
                        not,
                    },
                    &mut post,
                )?;
                Done
            }
            ToReferee::Created { tag, id } => {
                done_or(keys.created(node, tag, id, &mut post)?, NO_GRANT)
            }
            ToReferee::Abandoned { tag } => done_or(keys.abandoned(node, tag, &mut post), NO_GRANT),
            ToReferee::Released { kind, key, id } => {
                let released = keys.released(node, Key { kind, key }, id, &mut post);
                done_or(released, "released a key that this object does not have")
            }
            ToReferee::Holds { kind, id, weight } => return self.has(node, kind, id, weight),
            ToReferee::Freed { kind, id } => done_or(
                keys.freed(node, kind, id),
                "freed an object that it does not have",
            ),
            ToReferee::Flushed { round } => done_or(
                keys.flushed(node, round),
                "answered a question that is not open",
            ),
            ToReferee::PeerLost {
                node: lost,
                incarnation,
            } => self.peer_lost(node, lost, incarnation, out),
            ToReferee::Leave => return Err(Cause::Left),
        })
    }

    fn owns(
        &mut self,
        node: NodeId,
        key: Key,
        id: ObjectId,
        out: &mut dyn Output,
    ) -> Result<Effect, Cause> {
        if id.home() != node || key.key == PRIVATE {
            return Ok(Ignored(
                "owns an object of another home, or one without a key",
            ));
        }
        let members = &self.members;
        self.keys
            .claim(key, id, &mut |to, message| members.send(out, to, message))?;
        if let Some(settling) = self.members.get_mut(node).and_then(|m| m.settling.as_mut()) {
            settling.owned.insert(key);
        }
        Ok(Done)
    }

    fn has(
        &mut self,
        node: NodeId,
        kind: Kind,
        id: ObjectId,
        weight: u64,
    ) -> Result<Effect, Cause> {
        let settling = self.members.get_mut(node).and_then(|m| m.settling.as_mut());
        let Some(settling) = settling.filter(|_| id.home() == node) else {
            return Ok(Ignored(
                "holds an object of another home, or says so after it has settled",
            ));
        };
        settling.held.insert((kind, id));
        self.keys.holds(kind, id, weight)?;
        Ok(Done)
    }

    fn knows(
        &mut self,
        node: NodeId,
        other: NodeId,
        incarnation: Incarnation,
        out: &mut dyn Output,
    ) -> Effect {
        let settling = self.members.get_mut(node).filter(|m| m.settling.is_some());
        let Some(member) = settling.filter(|_| other != node) else {
            return Ignored("knows itself, or says whom it knows after it has settled");
        };
        let told = member.told.entry(other).or_insert(incarnation);
        *told = incarnation.max(*told);
        let unknown = self.members.life(other, incarnation) == Life::Unknown;
        if self.recovery.is_none() || !unknown {
            return Done;
        }
        if !self.members.believe(incarnation) {
            return Ignored("knows a life that no referee gives");
        }
        self.replace(other, out);
        self.members.expect(other, incarnation);
        Done
    }

    fn settled(&mut self, node: NodeId, out: &mut dyn Output) -> Effect {
        let settling = self.members.get_mut(node).and_then(|m| m.settling.take());
        // A newcomer owns nothing and knows nobody.
        if let Some(settling) = settling {
            let members = &self.members;
            let Settling { owned, held, .. } = settling;
            self.keys.settle(node, &owned, &held, &mut |to, message| {
                members.send(out, to, message)
            });
            self.members.settle(out, node);
        }
        self.members.send(out, node, ToNode::Complete);
        Done
    }

    fn peer_lost(
        &mut self,
        reporter: NodeId,
        lost: NodeId,
        incarnation: Incarnation,
        out: &mut dyn Output,
    ) -> Effect {
        if lost == reporter {
            return Ignored("lost itself");
        }
        match self.members.life(lost, incarnation) {
            Life::Over => return Done,
            Life::Present | Life::Awaited => {}
            // Reported before anybody named it: it must not come back later.
            Life::Unknown if self.recovery.is_some() && self.members.believe(incarnation) => {
                self.replace(lost, out);
            }
            Life::Unknown => return Ignored("lost a node that never was"),
        }
        self.end(lost, incarnation, Cause::ReportedBy(reporter), out);
        Done
    }

    // ---- ends ----

    /// A later life has come: an earlier one of the same number is over.
    fn replace(&mut self, node: NodeId, out: &mut dyn Output) {
        self.bury(node, Cause::Replaced, out);
        if let Some(earlier) = self.members.awaited_life(node) {
            self.end(node, earlier, Cause::Replaced, out);
        }
    }

    fn bury(&mut self, node: NodeId, cause: Cause, out: &mut dyn Output) {
        if let Some(incarnation) = self.members.get(node).map(|member| member.incarnation) {
            self.end(node, incarnation, cause, out);
        }
    }

    /// A life is over: tells it, tells all, frees its keys, goes on with those
    /// who waited for it.
    fn end(&mut self, node: NodeId, incarnation: Incarnation, cause: Cause, out: &mut dyn Output) {
        let link = match self
            .members
            .end(node, incarnation)
            .map(|member| member.link)
        {
            Some(Link::Up(link)) => Some(link),
            _ => None,
        };
        let fenced = link.is_some() && cause != Cause::Left;
        out.note(Event::Gone {
            node,
            incarnation,
            cause,
            fenced,
        });
        if let Some(link) = link {
            if fenced {
                out.send(link, ToNode::Fenced);
            }
            out.close(link);
        }
        self.members.tell_gone(out, node, incarnation);
        let members = &self.members;
        self.keys
            .bury(node, &mut |to, message| members.send(out, to, message));
    }

    fn end_recovery_when_complete(&mut self, now: Duration, out: &mut dyn Output) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        let late = recovery.until.is_none_or(|until| until <= now);
        if late {
            recovery.until = None;
            for (node, incarnation) in self.members.awaited() {
                self.end(node, incarnation, Cause::NotBack, out);
            }
        }
        let known = late || self.members.len() > 0 && self.members.awaited().is_empty();
        if known && self.members.iter().all(|(_, m)| m.settling.is_none()) {
            self.end_recovery(out);
        }
    }

    fn end_recovery(&mut self, out: &mut dyn Output) {
        let newcomers = self.recovery.take().map(|recovery| recovery.newcomers);
        let (cluster, members) = (self.cluster, self.members.len());
        out.note(Event::Recovered { cluster, members });
        let members = &self.members;
        self.keys
            .open(&mut |to, message| members.send(out, to, message));
        for newcomer in newcomers.unwrap_or_default() {
            let (link, name) = (newcomer.link, newcomer.name.clone());
            if let Err(refusal) = self.welcome(newcomer, out) {
                refuse(link, &name, &refusal, out);
            }
        }
    }
}

/// What became of a message that broke no rule.
enum Effect {
    Done,
    /// It had none; for the log.
    Ignored(&'static str),
}
use Effect::{Done, Ignored};

const NO_GRANT: &str = "answered a grant that it does not have";

fn done_or(done: bool, what: &'static str) -> Effect {
    if done { Done } else { Ignored(what) }
}
