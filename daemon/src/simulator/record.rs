//! What programs asked of each object, when, and what they were told.
//!
//! Times are ticks of one counter that only goes up: of two calls the first
//! precedes the second if its answer was read before the second was made. The
//! home's tick for a call (`effect`) is no part of that. It is where a correct
//! machine did it, and so the first order that [`super::linearize`] tries.

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::call::SemOp;
use dipc_wire::{Kind, NodeId, ObjectId, Pid};

use super::letters::LifeId;

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// `semop`.
    Operate(Vec<SemOp>),
    /// SETVAL.
    SetValue(u16, u16),
    /// GETALL.
    Values,
    /// `msgsnd`.
    Send(i64, Vec<u8>),
    /// `msgrcv` of this type.
    Receive(i64),
    /// IPC_RMID.
    Remove,
    /// The process has ended: its SEM_UNDO.
    Exit,
    /// Its process died before it could learn of this earlier one: the call
    /// counts as not made.
    TakeBack(usize),
}

/// What the program was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// Nothing, or that the outcome cannot be known: it may have happened or not.
    Unknown,
    /// It happened.
    Done,
    /// GETALL's.
    Values(Vec<u16>),
    /// A message.
    Message(i64, Vec<u8>),
    /// It did not happen, since it would have had to wait: EAGAIN, ENOMSG, EINTR.
    Refused,
    /// The object is removed: EIDRM, EINVAL.
    Gone,
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pid: Pid,
    pub(super) life: LifeId,
    pub(super) what: What,
    pub(super) told: Told,
    pub(super) invoked: u64,
    pub(super) effect: Option<u64>,
    /// `None`: never.
    pub(super) returned: Option<u64>,
}

/// An object of one life of its home.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) kind: Kind,
    pub(super) home: LifeId,
    pub(super) nsems: usize,
    pub(super) entries: Vec<Entry>,
    /// When its home's life ended.
    pub(super) lost: Option<u64>,
}

/// All histories of a run.
#[derive(Default)]
pub(super) struct Record {
    tick: u64,
    pub(super) objects: BTreeMap<(Kind, ObjectId), History>,
    current: BTreeMap<Pid, ((Kind, ObjectId), usize)>,
    exits: BTreeSet<(Pid, ObjectId)>,
    given: BTreeMap<Vec<u8>, Pid>,
    made: bool,
    pub(super) calls: u64,
}

impl Record {
    pub(super) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// An object is made.
    pub(super) fn made(&mut self, kind: Kind, id: ObjectId, home: LifeId, nsems: usize) {
        let history = History {
            kind,
            home,
            nsems,
            entries: Vec::new(),
            lost: None,
        };
        self.objects.insert((kind, id), history);
        self.made = true;
    }

    /// Whether an object was made since the last look.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.made)
    }

    /// The home gives a message to a process.
    pub(super) fn given(&mut self, text: &[u8], pid: Pid) {
        self.given.insert(text.to_vec(), pid);
    }

    /// To which process a message was given last.
    pub(super) fn receiver(&self, text: &[u8]) -> Option<Pid> {
        self.given.get(text).copied()
    }

    /// A program calls.
    pub(super) fn invoke(&mut self, kind: Kind, id: ObjectId, pid: Pid, life: LifeId, what: What) {
        let invoked = self.tick();
        self.calls += 1;
        self.current.remove(&pid);
        if let Some(history) = self.objects.get_mut(&(kind, id)) {
            let entry = Entry {
                pid,
                life,
                what,
                told: Told::Unknown,
                invoked,
                effect: None,
                returned: None,
            };
            self.current
                .insert(pid, ((kind, id), history.entries.len()));
            history.entries.push(entry);
        }
    }

    fn now(&mut self, pid: Pid) -> Option<(u64, &mut Entry)> {
        let tick = self.tick();
        let (object, at) = self.current.get(&pid)?;
        Some((tick, self.objects.get_mut(object)?.entries.get_mut(*at)?))
    }

    /// The home decides this process's call.
    pub(super) fn effect(&mut self, pid: Pid) {
        if let Some((tick, entry)) = self.now(pid) {
            entry.effect = Some(tick);
        }
    }

    /// The program reads its answer.
    pub(super) fn told(&mut self, pid: Pid, told: Told) {
        if let Some((tick, entry)) = self.now(pid) {
            entry.returned = (told != Told::Unknown).then_some(tick);
            entry.told = told;
        }
        self.current.remove(&pid);
    }

    /// The call was never made: nobody could be asked.
    pub(super) fn unasked(&mut self, pid: Pid) {
        if let Some((object, at)) = self.current.remove(&pid)
            && let Some(history) = self.objects.get_mut(&object)
            && at + 1 == history.entries.len()
        {
            history.entries.pop();
        } else {
            self.told(pid, Told::Unknown);
        }
    }

    /// The process has died with a call unanswered, or with its answer unread.
    pub(super) fn died_in_call(&mut self, pid: Pid) {
        let Some((tick, entry)) = self.now(pid) else {
            return;
        };
        let back = matches!(entry.what, What::Operate(_) | What::Receive(_));
        let (pid, life) = (entry.pid, entry.life);
        if let (true, Some(&(object, at))) = (back, self.current.get(&pid))
            && let Some(history) = self.objects.get_mut(&object)
        {
            history.entries.push(Entry {
                pid,
                life,
                what: What::TakeBack(at),
                told: Told::Done,
                invoked: tick,
                effect: None,
                returned: None,
            });
        }
    }

    /// The home takes back what this process's call did.
    pub(super) fn taken_back(&mut self, pid: Pid) {
        let tick = self.tick();
        if let Some((object, at)) = self.current.get(&pid)
            && let Some(history) = self.objects.get_mut(object)
        {
            let mut entries = history.entries.iter_mut();
            if let Some(entry) = entries.find(|e| e.what == What::TakeBack(*at)) {
                entry.effect = Some(tick);
            }
        }
    }

    /// A process has ended, or its node is dead to those that `concerns`: where
    /// it has used SEM_UNDO, its end is due.
    pub(super) fn exit_due(
        &mut self,
        of: impl Fn(&Entry) -> bool,
        concerns: impl Fn(LifeId) -> bool,
    ) {
        let tick = self.tick();
        for (&(_, id), history) in &mut self.objects {
            if history.kind != Kind::Sem || history.lost.is_some() || !concerns(history.home) {
                continue;
            }
            let who: BTreeSet<(Pid, LifeId)> = (history.entries.iter())
                .filter(|entry| undoes(&entry.what) && of(entry))
                .map(|entry| (entry.pid, entry.life))
                .collect();
            for (pid, life) in who {
                if self.exits.insert((pid, id)) {
                    history.entries.push(Entry {
                        pid,
                        life,
                        what: What::Exit,
                        told: Told::Done,
                        invoked: tick,
                        effect: None,
                        returned: None,
                    });
                }
            }
        }
    }

    /// The home undoes what this process did to a set.
    pub(super) fn undone(&mut self, pid: Pid, id: ObjectId) {
        let tick = self.tick();
        if let Some(history) = self.objects.get_mut(&(Kind::Sem, id)) {
            let mut exits = history.entries.iter_mut();
            if let Some(exit) = exits.find(|e| e.pid == pid && e.what == What::Exit) {
                exit.effect = Some(tick);
            }
        }
    }

    /// A life has ended, and its objects with it.
    pub(super) fn lost(&mut self, life: LifeId) {
        let tick = self.tick();
        for history in self.objects.values_mut().filter(|h| h.home == life) {
            history.lost.get_or_insert(tick);
        }
    }

    /// The processes of one node.
    pub(super) fn is_of(node: NodeId) -> impl Fn(&Entry) -> bool {
        move |entry| entry.pid.node == node
    }
}

fn undoes(what: &What) -> bool {
    let undo = |op: &SemOp| u32::from(op.flags) & dipc_wire::call::flags::UNDO != 0;
    matches!(what, What::Operate(ops) if ops.iter().any(undo))
}
