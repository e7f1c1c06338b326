//! A whole cluster: hosts, a referee, and what happens to them.

use std::collections::{BTreeSet, VecDeque};

use super::agenda::Agenda;
use super::desk::{Desk, Event, Shared};
use super::letters::{Letter, LifeId};
use super::network::{Arrival, End, Network, T};
use super::node::Life;
pub(super) use super::plan::REFEREE;
use super::plan::{Fate, Plan};
use super::record::Record;
use super::referee::Referee;
use super::variants::Variant;
use crate::dice::Dice;

/// Events of one run before it counts as one that never comes to rest.
const MOST: u64 = 400_000;

/// A computer.
#[derive(Default)]
pub(super) struct Host {
    pub(super) life: Option<Life>,
    /// The connection on which its daemon asks to be a member.
    candidate: Option<End>,
}

/// What a run was like.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Figures {
    pub(super) steps: u64,
    pub(super) calls: u64,
    pub(super) crashes: u64,
    pub(super) cuts: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.steps += other.steps;
        self.calls += other.calls;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
    }
}

/// A cluster.
pub(super) struct Cluster {
    pub(super) plan: Plan,
    pub(super) hosts: Vec<Host>,
    pub(super) shared: Shared,
    pub(super) record: Record,
    pub(super) figures: Figures,
    referee: Option<Referee>,
    referees: u64,
    /// Lives that some referee has declared dead.
    over: BTreeSet<LifeId>,
    pids: u32,
    cuts: u64,
    /// Programs begin nothing more, and nothing more breaks.
    resting: bool,
    /// The record's tick when what there is was begun to be looked at.
    pub(super) audit_began: u64,
}

impl Cluster {
    pub(super) fn new(seed: u64, variant: Option<Variant>, traced: bool) -> Cluster {
        // Seeds that follow each other must not make dice that do.
        let mut dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x51ed);
        let plan = Plan::drawn(&mut dice);
        let mut network = Network::new(plan.slow.clone());
        network.unordered = variant == Some(Variant::LinkNotInOrder);
        let mut cluster = Cluster {
            hosts: (0..plan.hosts).map(|_| Host::default()).collect(),
            shared: Shared {
                now: 0,
                dice,
                network,
                agenda: Agenda::default(),
                truth: super::truth::Truth::default(),
                variant,
                failure: None,
                dying: Vec::new(),
                trace: traced.then(VecDeque::new),
            },
            record: Record::default(),
            figures: Figures::default(),
            referee: None,
            referees: 0,
            over: BTreeSet::new(),
            pids: 0,
            cuts: 0,
            resting: false,
            audit_began: 0,
            plan,
        };
        cluster.fate(Fate::StartReferee);
        for host in 0..cluster.plan.hosts {
            let at = cluster.shared.dice.roll(T / 8);
            cluster
                .shared
                .agenda
                .enter(at, Event::Fate(Fate::Start(host)));
        }
        for (at, fate) in cluster.plan.fates.clone() {
            cluster.shared.agenda.enter(at, Event::Fate(fate));
        }
        cluster
    }

    /// Runs to the end of the plan, and on until nothing is under way.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.work_off(Some(self.plan.end))?;
        self.resting = true;
        for host in &mut self.hosts {
            if let Some(life) = &mut host.life {
                life.processes.values_mut().for_each(|it| it.auditor = true);
            }
        }
        for (a, b) in self.shared.network.all_cuts() {
            self.heal(a, b);
        }
        self.work_off(None)?;
        self.audit_began = self.record.tick();
        Ok(())
    }

    /// Works off what is to happen, until then or until there is nothing.
    pub(super) fn work_off(&mut self, until: Option<u64>) -> Result<(), String> {
        while until.is_none_or(|until| self.shared.now < until) {
            let Some((at, event)) = self.shared.agenda.next() else {
                break;
            };
            self.shared.now = at;
            self.figures.steps += 1;
            self.happen(event);
            while let Some((host, why)) = self.shared.dying.pop() {
                self.shared
                    .note(|| format!("the daemon of host {host} ends: {why}"));
                self.stop(host, true);
                self.start_later(host, T / 4);
            }
            if let Some(failure) = self.shared.failure.take() {
                return Err(failure);
            }
            if self.figures.steps > MOST {
                return Err("it never comes to rest".into());
            }
        }
        self.figures.calls = self.record.calls;
        Ok(())
    }

    /// Lets a node do something.
    pub(super) fn at(&mut self, host: usize, act: impl FnOnce(&mut Life, &mut Desk<'_>)) {
        let Some(life) = self.hosts.get_mut(host).and_then(|host| host.life.as_mut()) else {
            return;
        };
        let mut desk = Desk {
            shared: &mut self.shared,
            host,
            life: life.id,
            record: &mut self.record,
        };
        act(life, &mut desk);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(end, arrival) => self.arrive(end, arrival),
            Event::Silent(end, stamp) => self.silent(end, stamp),
            Event::Tick => {
                if let Some(referee) = &mut self.referee {
                    referee.tick(&mut self.over, &mut self.shared);
                }
            }
            Event::Task(life, task) => {
                let lives = |host: &Host| host.life.as_ref().is_some_and(|it| it.id == life);
                if let Some(host) = self.hosts.iter().position(lives) {
                    self.at(host, |life, desk| life.task(task, desk));
                    self.check_keys(host);
                }
            }
            Event::Unanswered(host, end) => {
                if self.hosts[host].candidate == Some(end) {
                    self.answered_candidate(host, end, Arrival::Closed);
                }
            }
            Event::Spawn(host) => self.spawn(host),
            Event::Fate(fate) => self.fate(fate),
        }
    }

    fn arrive(&mut self, end: End, arrival: Arrival) {
        if !self.shared.network.is_open(end) {
            return;
        }
        let Some(host) = self.shared.network.host(end) else {
            return;
        };
        self.shared
            .note(|| format!("host {host} at {end:?}: {arrival:?}"));
        if host == REFEREE {
            return match &mut self.referee {
                Some(referee) => referee.arrive(end, arrival, &mut self.over, &mut self.shared),
                None => self.shared.close(end),
            };
        }
        if self.hosts[host].candidate == Some(end) {
            return self.answered_candidate(host, end, arrival);
        }
        match self.hosts[host].life {
            Some(_) => self.at(host, |life, desk| life.arrive(end, arrival, desk)),
            None => self.shared.close(end),
        }
        self.check_keys(host);
    }

    fn silent(&mut self, end: End, stamp: Option<u64>) {
        if !self.shared.network.is_open(end) {
            return;
        }
        let hosts = (
            self.shared.network.host(end),
            self.shared.network.host(end.other()),
        );
        let (Some(here), Some(there)) = hosts else {
            return;
        };
        if stamp.is_some_and(|stamp| !self.shared.network.still_cut(here, there, stamp)) {
            return;
        }
        self.shared
            .note(|| format!("host {here} at {end:?}: silence"));
        if here == REFEREE {
            if let Some(referee) = &mut self.referee {
                referee.silent(end, stamp, &mut self.over, &mut self.shared);
            }
        } else if self.hosts[here].candidate == Some(end) {
            self.answered_candidate(here, end, Arrival::Closed);
        } else {
            self.at(here, |life, desk| life.silent(end, desk));
        }
    }

    // ---- daemons ----

    fn start(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.life.is_some() || it.candidate.is_some() {
            return;
        }
        let link = self.shared.network.open(host, REFEREE);
        let end = End { link, side: 0 };
        it.candidate = Some(end);
        self.shared.send(end, Arrival::Letter(Letter::Join(None)));
        // `join` waits no longer than that.
        let at = self.shared.now + 2 * T;
        self.shared.agenda.enter(at, Event::Unanswered(host, end));
    }

    fn start_later(&mut self, host: usize, wait: u64) {
        let at = self.shared.now + wait;
        self.shared.agenda.enter(at, Event::Fate(Fate::Start(host)));
    }

    fn answered_candidate(&mut self, host: usize, end: End, arrival: Arrival) {
        self.hosts[host].candidate = None;
        let Arrival::Letter(Letter::Welcome(me)) = arrival else {
            self.shared.close(end);
            return self.start_later(host, T / 4);
        };
        self.hosts[host].life = Some(Life::new(me, end, self.plan.habits));
        self.at(host, |life, desk| {
            life.introduce(desk);
            life.flush(desk);
        });
        for _ in 0..self.plan.programs {
            self.shared
                .agenda
                .enter(self.shared.now, Event::Spawn(host));
        }
    }

    /// A program is started, as soon as the daemon serves any.
    fn spawn(&mut self, host: usize) {
        let resting = self.resting;
        let Some(life) = &self.hosts[host].life else {
            return;
        };
        if !life.ready {
            let at = self.shared.now + T / 20;
            return self.shared.agenda.enter(at, Event::Spawn(host));
        }
        let pid = self.new_pid();
        self.at(host, |life, desk| life.spawn(pid, resting, desk));
    }

    pub(super) fn new_pid(&mut self) -> u32 {
        self.pids += 1;
        self.pids
    }

    /// A daemon ends, and its programs with it. `told`: its links close, behind
    /// its programs' last access; else they fall silent.
    fn stop(&mut self, host: usize, told: bool) {
        let ends = self.shared.network.ends_at(host);
        if let Some(life) = self.hosts[host].life.take() {
            let id = life.life();
            self.shared.truth.forget(id);
            self.record.lost(id);
            self.record.exit_due(|entry| entry.life == id, |_| true);
        }
        self.hosts[host].candidate = None;
        for end in ends {
            if told {
                self.shared.close(end);
                continue;
            }
            self.shared.network.close(end);
            let silence = match self.shared.network.host(end.other()) {
                Some(REFEREE) => T,
                _ => T / 4 * 3,
            };
            let at = self.shared.now + silence;
            self.shared
                .agenda
                .enter(at, Event::Silent(end.other(), None));
        }
    }

    // ---- fate ----

    fn fate(&mut self, fate: Fate) {
        let breaks = !matches!(fate, Fate::Start(_) | Fate::StartReferee | Fate::Heal(..));
        if breaks && self.resting {
            return;
        }
        self.shared.note(|| format!("fate: {fate:?}"));
        match fate {
            Fate::Start(host) => self.start(host),
            Fate::Kill(host, away) => {
                self.figures.crashes += 1;
                self.stop(host, true);
                self.start_later(host, away);
            }
            Fate::PowerOff(host, away) => {
                self.figures.crashes += 1;
                self.stop(host, false);
                self.start_later(host, away);
            }
            Fate::Leave(host, away) => {
                self.at(host, |life, desk| {
                    life.names.say(dipc_wire::referee::ToReferee::Leave, desk)
                });
                self.stop(host, true);
                self.start_later(host, away);
            }
            Fate::KillReferee(away) => {
                self.figures.crashes += 1;
                self.referee = None;
                for end in self.shared.network.ends_at(REFEREE) {
                    self.shared.close(end);
                }
                let at = self.shared.now + away;
                self.shared
                    .agenda
                    .enter(at, Event::Fate(Fate::StartReferee));
            }
            Fate::StartReferee => {
                if self.referee.is_none() {
                    self.referee = Some(Referee::start(self.referees, self.shared.now));
                    self.referees += 1;
                    // It may have nobody to wait for.
                    self.shared.agenda.enter(self.shared.now + T, Event::Tick);
                }
            }
            Fate::Cut(a, b, both, lasts) => self.cut(a, b, both, lasts),
            Fate::Heal(a, b) => self.heal(a, b),
            Fate::Isolate(host, lasts) => {
                let others = (0..self.plan.hosts).chain([REFEREE]);
                others
                    .filter(|&other| other != host)
                    .for_each(|other| self.cut(host, other, true, lasts));
            }
            Fate::KillProgram(host) => {
                let life = self.hosts[host].life.as_ref();
                let pids: Vec<u32> = life
                    .iter()
                    .flat_map(|it| it.processes.keys().copied())
                    .collect();
                if let Some(pid) = self.shared.dice.pick(&pids) {
                    self.at(host, |life, desk| {
                        life.process_ended(pid, desk);
                        life.flush(desk);
                    });
                    self.spawn(host);
                }
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize, both: bool, lasts: u64) {
        self.figures.cuts += 1;
        self.cuts += 1;
        let stamp = self.cuts;
        self.shared.network.cut(a, b, stamp);
        let heal = self.shared.now + lasts;
        self.shared
            .agenda
            .enter(heal, Event::Fate(Fate::Heal(a, b)));
        if both {
            self.shared.network.cut(b, a, stamp);
            self.shared
                .agenda
                .enter(heal, Event::Fate(Fate::Heal(b, a)));
        }
        for end in self.shared.network.ends_between(a, b) {
            let silence = match a == REFEREE || b == REFEREE {
                true => T + self.shared.dice.roll(T / 8),
                false => T / 4 * 3 - self.shared.dice.roll(T / 8),
            };
            let at = self.shared.now + silence;
            self.shared
                .agenda
                .enter(at, Event::Silent(end, Some(stamp)));
        }
    }

    fn heal(&mut self, a: usize, b: usize) {
        let (now, dice) = (self.shared.now, &mut self.shared.dice);
        for (at, end, arrival) in self.shared.network.heal(a, b, now, dice) {
            self.shared.agenda.enter(at, Event::Arrive(end, arrival));
        }
    }

    // ---- checks ----

    /// No key has two homes, of lives that no referee has declared dead.
    fn check_keys(&mut self, host: usize) {
        let referee = self.referee.as_ref();
        let over = |life: LifeId| {
            self.over.contains(&life) || referee.is_some_and(|it| !it.may_know(life))
        };
        let lives = |it: &Host| it.life.as_ref().is_some_and(|life| !over(life.id));
        if !lives(&self.hosts[host]) || !self.record.take_news() {
            return;
        }
        let mut homes = std::collections::BTreeMap::new();
        for life in self
            .hosts
            .iter()
            .filter(|it| lives(it))
            .filter_map(|it| it.life.as_ref())
        {
            for key in life.home.keys() {
                if let Some(other) = homes.insert(key, life.id) {
                    self.shared.fail(format!(
                        "{key:?} has two homes: {other:?} and {:?}",
                        life.id
                    ));
                    return;
                }
            }
        }
    }
}
