//! The pure machines as the world of a history, which they turn into a [`Plan`].
//!
//! ```text
//!   history ──▶ step ──▶ who and what is meant ──▶ call on a machine
//!                              │                        │ answer, wakes
//!                              └──────────▶ plan ◀──────┘
//! ```
//!
//! Whatever the numbers of a step, it means something or is left out:
//!
//! - who waits makes no call; the next actor that does not makes it instead;
//! - actor 0 never waits: what it does has IPC_NOWAIT;
//! - what the kernel itself leaves to chance is left out ([`super::races`]).
//!
//! In the end actor 0 removes what there is, and everybody detaches: so one
//! history begins like the other.

use std::collections::BTreeSet;

use dipc_wire::call::flags;
use dipc_wire::{Errno, Kind, ObjectId, Pid};

use super::super::testing::{NOW, node};
use super::super::{
    Caller, Credentials, Fate, Granted, Limits, Queue, Registry, Segment, SemSet, Ticket, Wake,
};
use super::history::{ACTORS, History, Step, Verb};
use super::plan::{Answer, Plan, Planned, Value, Waits};
use super::races;
use super::text;

/// Objects of a kind that a history may make: `OBJECTS` of `actors.h`, shared
/// by three.
const MOST: usize = 160;
/// What no command of `semctl` is.
const NO_COMMAND: u32 = 99;
/// Attachments that an actor may have.
const MOST_ATTACHED: usize = 8;

/// A mistake of the layer above the machines, made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mistake {
    /// `semop` looks at the number of operations when it has found the set.
    TooManyAfterId,
    /// A segment that is to be destroyed outlives its last detach.
    OutlivesItsLastDetach,
    /// The end of a process leaves its attachments counted.
    ExitForgetsAttachments,
}

/// A call that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    /// Its place in the plan.
    pub(super) step: usize,
    pub(super) ticket: Ticket,
    pub(super) object: (Kind, ObjectId),
    /// `msgsnd`: the length of its text.
    pub(super) sends: Option<u64>,
}

/// A process of an actor.
pub(super) struct Process {
    /// Its place in the order of births.
    pub(super) number: usize,
    pub(super) who: Credentials,
    pub(super) attached: Vec<ObjectId>,
    pub(super) waiting: Option<Waiting>,
    /// The sets at which the kernel has begun its adjustments.
    pub(super) begun: BTreeSet<ObjectId>,
}

/// All there is.
pub(super) struct Machines {
    pub(super) limits: Limits,
    pub(super) identities: [Credentials; ACTORS],
    pub(super) sems: Registry<SemSet>,
    pub(super) msgs: Registry<Queue>,
    pub(super) shms: Registry<Segment>,
    pub(super) processes: [Process; ACTORS],
    /// All objects there ever were, by kind.
    objects: [Vec<ObjectId>; 3],
    /// Sets of which a process began adjustments and ended: the kernel tells a
    /// new otime then, even if the operation had failed. We do not: who may not
    /// alter a set shall change nothing that others see.
    pub(super) touched: BTreeSet<ObjectId>,
    pub(super) wakes: Vec<Wake>,
    pub(super) mistake: Option<Mistake>,
    plan: Plan,
}

/// What became of a call on a machine.
pub(super) enum Became {
    Ended(Answer),
    Made(ObjectId),
    Waits(Waiting),
    TimesOut,
}

impl Machines {
    /// Nothing, and actors of these identities.
    pub(super) fn new(identities: &[Credentials; ACTORS], mistake: Option<Mistake>) -> Self {
        let limits = Limits::LINUX;
        let mut number = 0;
        let process = |who: &Credentials| {
            number += 1;
            Process {
                number: number - 1,
                who: who.clone(),
                attached: Vec::new(),
                waiting: None,
                begun: BTreeSet::new(),
            }
        };
        Machines {
            sems: Registry::new(node(1), Kind::Sem, 0),
            msgs: Registry::new(node(1), Kind::Msg, 0),
            shms: Registry::new(node(1), Kind::Shm, 0),
            processes: identities.each_ref().map(process),
            identities: identities.clone(),
            limits,
            objects: Default::default(),
            touched: BTreeSet::new(),
            wakes: Vec::new(),
            mistake,
            plan: Plan::new(),
        }
    }

    /// What must happen in this history. `most` bounds the steps of the plan.
    pub(super) fn plan(mut self, history: &History, most: usize) -> Plan {
        for step in &history.0 {
            if self.plan.steps.len() + 64 >= most {
                break;
            }
            self.take(step);
        }
        self.clear();
        self.plan
    }

    fn take(&mut self, step: &Step) {
        let actor = step.actor;
        match step.verb {
            Verb::Signal => self.signal(actor),
            Verb::Kill => self.end(actor, Verb::Kill, true),
            Verb::Fork | Verb::Exit | Verb::Exec if self.processes[actor].waiting.is_some() => {}
            Verb::Exit => self.end(actor, Verb::Exit, true),
            Verb::Exec => self.exec(actor),
            Verb::Fork => self.fork(actor, step.number(0).rem_euclid(ACTORS as i64) as usize),
            _ => self.call(step),
        }
    }

    /// Removes everything, detaches everybody.
    fn clear(&mut self) {
        let kinds = [
            (Kind::Sem, Verb::SemRm),
            (Kind::Msg, Verb::MsgRm),
            (Kind::Shm, Verb::ShmRm),
        ];
        for (kind, verb) in kinds {
            for age in 0..self.objects[kind as usize].len() {
                if self.lives(kind, self.objects[kind as usize][age]) {
                    let younger = self.objects[kind as usize].len() - 1 - age;
                    self.call(&Step::new(0, verb, [younger as i64]));
                }
            }
        }
        for actor in 0..ACTORS {
            while !self.processes[actor].attached.is_empty() {
                self.call(&Step::new(actor, Verb::ShmDt, [0]));
            }
            // A child of another actor's is who that is.
            if self.plan.nodes[self.processes[actor].number] != actor {
                self.end(actor, Verb::Kill, true);
            }
        }
    }

    fn lives(&self, kind: Kind, id: ObjectId) -> bool {
        match kind {
            Kind::Sem => self.sems.get(id).is_some(),
            Kind::Msg => self.msgs.get(id).is_some(),
            Kind::Shm => self.shms.get(id).is_some_and(|segment| {
                segment
                    .stat(caller(0, &self.identities[0]), true)
                    .is_ok_and(|stat| stat.perm.mode & flags::DEST == 0)
            }),
        }
    }

    fn call(&mut self, step: &Step) {
        let Some(actor) = (0..ACTORS)
            .map(|more| (step.actor + more) % ACTORS)
            .find(|&actor| self.processes[actor].waiting.is_none())
        else {
            return;
        };
        let mut step = Step {
            actor,
            ..step.clone()
        };
        plain_flags(&mut step);
        if actor == 0 {
            without_waiting(&mut step);
        }
        let kind = kind(step.verb);
        let named = names_object(step.verb).then(|| self.object(kind, &mut step));
        let target = named.flatten();
        let is_full = self.objects[kind as usize].len() >= MOST;
        if (step.verb == Verb::ShmAt && self.processes[actor].attached.len() >= MOST_ATTACHED)
            || (!names_object(step.verb) && step.verb != Verb::ShmDt && is_full)
            || races::would_race(self, target.map(|(id, _)| id), &step)
        {
            return;
        }
        if step.verb == Verb::ShmDt {
            let attached = self.processes[actor].attached.len() as i64;
            step.numbers = vec![step.number(0).rem_euclid(attached + 1)];
        }
        let at = self.plan.steps.len();
        let settles = target.is_some_and(|(id, _)| {
            let waits_there = |process: &Process| {
                process
                    .waiting
                    .is_some_and(|waiting| waiting.object == (kind, id))
            };
            self.processes.iter().any(waits_there)
        });
        let ticket = Ticket(at as u64);
        let became = self.perform(&step, target.map(|(id, _)| id), ticket);
        if matches!(step.verb, Verb::SemSet | Verb::MsgSet | Verb::ShmSet) {
            let (new, _) = self.setting(&step);
            step.numbers.resize(step.verb.numbers(), 0);
            step.numbers[1..3].copy_from_slice(&[new.uid.into(), new.gid.into()]);
        }
        let mut planned = Planned {
            object: target.map(|(_, place)| place),
            binds: None,
            waits: Waits::No,
            wakes: Vec::new(),
            settles,
            born: None,
            answer: None,
            asker: actor,
            step,
        };
        match became {
            Became::Ended(answer) => planned.answer = Some(answer),
            Became::Made(id) => {
                let place = self.place(kind, id);
                planned.binds = Some(place);
                planned.answer = Some(Ok(vec![Value::Object(place)]));
            }
            Became::TimesOut => {
                planned.waits = Waits::TimesOut;
                planned.answer = Some(Err(Errno::EAGAIN));
            }
            Became::Waits(waiting) => {
                planned.waits = Waits::Yes;
                self.processes[actor].waiting = Some(Waiting {
                    step: at,
                    ..waiting
                });
            }
        }
        self.push(planned);
    }

    /// The object that a step means, and its place among all; the id is then
    /// put in by whoever makes the call. A negative number is an id that is
    /// nobody's, which the step then has itself.
    fn object(&self, kind: Kind, step: &mut Step) -> Option<(ObjectId, usize)> {
        let objects = &self.objects[kind as usize];
        let younger = step.number(0);
        if step.numbers.is_empty() {
            step.numbers.push(0);
        }
        if objects.is_empty() || younger < 0 {
            let nobodys = [-1, i64::from(i32::MIN), i64::from(i32::MAX)];
            step.numbers[0] = nobodys[(younger.unsigned_abs() % 3) as usize];
            return None;
        }
        let at = objects.len() - 1 - younger as usize % objects.len();
        Some((objects[at], self.place_of(kind, at)))
    }

    fn place_of(&self, kind: Kind, at: usize) -> usize {
        kind as usize * MOST + at
    }

    /// The place of an object that has just been found or made.
    pub(super) fn place(&mut self, kind: Kind, id: ObjectId) -> usize {
        let objects = &mut self.objects[kind as usize];
        let at = objects.iter().position(|&other| other == id);
        let at = at.unwrap_or_else(|| {
            objects.push(id);
            objects.len() - 1
        });
        self.place_of(kind, at)
    }

    /// The step is made; whom it woke are awake.
    fn push(&mut self, mut planned: Planned) {
        let at = self.plan.steps.len();
        for Wake { ticket, result } in std::mem::take(&mut self.wakes) {
            let found = self.processes.iter_mut().position(|process| {
                process
                    .waiting
                    .is_some_and(|waiting| waiting.ticket == ticket)
            });
            let Some(actor) = found else { continue };
            let answer = result.map(|granted| match granted {
                Granted::Done => vec![Value::Number(0)],
                Granted::Message(message) => text::told(message.mtype, &message.text),
            });
            self.awake(actor, Some(answer));
            planned.wakes.push(actor);
        }
        self.plan.steps.push(planned);
        debug_assert!(self.plan.steps.len() == at + 1);
    }

    /// An actor's wait has ended like this.
    fn awake(&mut self, actor: usize, answer: Option<Answer>) {
        if let Some(waiting) = self.processes[actor].waiting.take() {
            self.plan.steps[waiting.step].answer = answer;
        }
    }

    fn happening(&self, actor: usize, verb: Verb, numbers: &[i64]) -> Planned {
        Planned {
            step: Step::new(actor, verb, numbers),
            object: None,
            binds: None,
            waits: Waits::No,
            wakes: Vec::new(),
            settles: true,
            born: None,
            answer: Some(Ok(vec![Value::Any])),
            asker: actor,
        }
    }

    /// The machine lets go of a call that waits.
    fn withdraw(&mut self, actor: usize) -> bool {
        let Some(Waiting { ticket, object, .. }) = self.processes[actor].waiting else {
            return false;
        };
        let (kind, id) = object;
        match kind {
            Kind::Sem => self
                .sems
                .get_mut(id)
                .is_some_and(|set| set.withdraw(ticket)),
            _ => self
                .msgs
                .get_mut(id)
                .is_some_and(|queue| queue.withdraw(ticket)),
        }
    }

    fn signal(&mut self, actor: usize) {
        let mut planned = self.happening(actor, Verb::Signal, &[]);
        if self.withdraw(actor) {
            self.awake(actor, Some(Err(Errno::EINTR)));
            planned.wakes.push(actor);
        }
        self.push(planned);
    }

    /// The process detaches, as at its end and at exec.
    fn detach_all(&mut self, actor: usize) {
        let pid = self.pid(actor);
        for id in std::mem::take(&mut self.processes[actor].attached) {
            if self.mistake != Some(Mistake::ExitForgetsAttachments) {
                self.detach(pid, id);
            }
        }
    }

    /// One attachment of a segment ends.
    pub(super) fn detach(&mut self, pid: Pid, id: ObjectId) {
        let fate = self
            .shms
            .get_mut(id)
            .map(|segment| segment.detach(pid, 1, NOW));
        if fate == Some(Fate::Destroyed) && self.mistake != Some(Mistake::OutlivesItsLastDetach) {
            self.shms.remove(id);
        }
    }

    /// Ends a process; another may take its place, with the actor's identity.
    fn end(&mut self, actor: usize, verb: Verb, born: bool) {
        let mut planned = self.happening(actor, verb, &[i64::from(born)]);
        if self.withdraw(actor) {
            self.awake(actor, None);
        }
        self.detach_all(actor);
        let pid = self.pid(actor);
        let ids: Vec<ObjectId> = self.sems.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(set) = self.sems.get_mut(id) {
                set.exit(pid, NOW, &mut self.wakes);
            }
        }
        let begun = std::mem::take(&mut self.processes[actor].begun);
        self.touched.extend(begun);
        if born {
            self.processes[actor].who = self.identities[actor].clone();
            planned.born = Some((self.birth(actor, actor), actor));
        }
        self.push(planned);
    }

    /// A new process in an actor's place, on the node of another's.
    fn birth(&mut self, actor: usize, node_of: usize) -> usize {
        let number = self.plan.nodes.len();
        let node = match actor == node_of {
            true => actor,
            false => self.plan.nodes[self.processes[node_of].number],
        };
        self.plan.nodes.push(node);
        self.processes[actor].number = number;
        number
    }

    /// The process becomes another program: what it did is still to be undone.
    fn exec(&mut self, actor: usize) {
        self.detach_all(actor);
        let planned = self.happening(actor, Verb::Exec, &[]);
        self.push(planned);
    }

    fn fork(&mut self, parent: usize, child: usize) {
        if child == 0 || child == parent {
            return;
        }
        self.end(child, Verb::Kill, false);
        let mut planned = self.happening(parent, Verb::Fork, &[child as i64]);
        self.processes[child].who = self.processes[parent].who.clone();
        self.processes[child].attached = self.processes[parent].attached.clone();
        let pid = self.pid(parent);
        for id in &self.processes[parent].attached {
            if let Some(segment) = self.shms.get_mut(*id) {
                segment.inherit(pid, 1, NOW);
            }
        }
        planned.born = Some((self.birth(child, parent), child));
        self.push(planned);
    }

    /// An actor's process, as the machines name it.
    pub(super) fn pid(&self, actor: usize) -> Pid {
        pid(self.processes[actor].number)
    }
}

fn pid(number: usize) -> Pid {
    super::super::testing::pid(number as u32)
}

fn caller(number: usize, who: &Credentials) -> Caller<'_> {
    super::super::testing::caller(pid(number), who)
}

/// The process that the machines name so.
pub(super) fn process(pid: Option<Pid>) -> Value {
    Value::Process(pid.map(|pid| pid.pid as usize))
}

/// Of which kind of object a call is.
fn kind(verb: Verb) -> Kind {
    match verb as i32 {
        verb if verb < Verb::MsgGet as i32 => Kind::Sem,
        verb if verb < Verb::ShmGet as i32 => Kind::Msg,
        _ => Kind::Shm,
    }
}

fn names_object(verb: Verb) -> bool {
    !matches!(
        verb,
        Verb::SemGet | Verb::MsgGet | Verb::ShmGet | Verb::ShmDt
    )
}

/// No flag but those that are the same in the kernel and here; objects are to be
/// distributed, which the kernel does not look at.
fn plain_flags(step: &mut Step) {
    let (at, known, added) = match step.verb {
        Verb::SemGet | Verb::ShmGet => (2, 0o3777, flags::DIPC),
        Verb::MsgGet => (1, 0o3777, flags::DIPC),
        Verb::ShmAt => (1, flags::RDONLY | flags::EXEC, 0),
        Verb::SemCtl => (1, 0, NO_COMMAND),
        _ => return,
    };
    step.numbers.resize(step.verb.numbers().max(at + 1), 0);
    step.numbers[at] = step.numbers[at] & i64::from(known) | i64::from(added);
}

fn without_waiting(step: &mut Step) {
    let flags: &[usize] = match step.verb {
        Verb::SemOp => &[5, 8, 11, 14],
        Verb::MsgSnd | Verb::MsgRcv => &[3],
        _ => &[],
    };
    if step.verb != Verb::SemOp && !flags.is_empty() {
        step.numbers.resize(step.verb.numbers(), 0);
    }
    for &at in flags {
        if let Some(number) = step.numbers.get_mut(at) {
            *number |= i64::from(flags::NOWAIT);
        }
    }
}
