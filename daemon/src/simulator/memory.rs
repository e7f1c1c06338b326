//! The segments in use on a node: `node/segments.rs` without the kernel.
//!
//! | rule | stands for |
//! |---|---|
//! | a message to a segment that is not here any more is ignored | `coherence` |
//! | a segment that is entered late learns of the deaths before | `learn_deaths` |
//! | actions are carried out in order | `execute` |
//! | a segment whose home is dead goes with its last attachment | `settle_detached`, `memory_of_dead` |

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId, ObjectId};

use super::desk::{Desk, Task};
use super::home::GRANULES;
use super::letters::{LifeId, Payload};
use super::truth::Cell;
use super::variants::Variant;
use crate::coherence::{Action, Config, Protocol};

/// A segment.
struct Segment {
    protocol: Protocol,
    poisoned: BTreeSet<u64>,
    all_poisoned: bool,
    /// Threads in a fault.
    waiting: Vec<(u32, u64, Access)>,
    /// What [`Action::Copy`] put aside.
    aside: Option<(u64, u64)>,
}

/// What an access came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touched {
    /// It happened.
    Done,
    /// The thread waits for its page.
    Waits,
    /// SIGBUS.
    Lost,
}

/// All segments on a node.
pub(super) struct Segments {
    me: LifeId,
    quantum: u64,
    table: BTreeMap<ObjectId, Segment>,
    /// To be sent.
    pub(super) out: Vec<(NodeId, ObjectId, Message, Payload)>,
    /// Threads that try again.
    pub(super) woken: Vec<u32>,
}

impl Segments {
    pub(super) fn new(me: LifeId, quantum: u64) -> Self {
        Segments {
            me,
            quantum,
            table: BTreeMap::new(),
            out: Vec::new(),
            woken: Vec::new(),
        }
    }

    pub(super) fn enter(&mut self, id: ObjectId) {
        let config = Config {
            me: self.me.node,
            incarnation: self.me.incarnation,
            home: id.home(),
            granules: GRANULES,
            quantum: self.quantum,
            secret: u128::from(self.me.incarnation.0) << 64 | id.raw() as u128,
        };
        self.table.entry(id).or_insert_with(|| Segment {
            protocol: Protocol::new(config),
            poisoned: BTreeSet::new(),
            all_poisoned: false,
            waiting: Vec::new(),
            aside: None,
        });
    }

    /// A thread reads or writes.
    pub(super) fn touch(
        &mut self,
        pid: u32,
        id: ObjectId,
        granule: u64,
        access: Access,
        desk: &mut Desk<'_>,
    ) -> Touched {
        let Some(segment) = self.table.get_mut(&id) else {
            return Touched::Lost;
        };
        if segment.all_poisoned || segment.poisoned.contains(&granule) {
            return Touched::Lost;
        }
        match desk.shared.truth.get(self.me, id, granule) {
            Some(cell) if cell.access >= access => {
                if access == Access::Write
                    && let Err(what) = desk.shared.truth.write(self.me, id, granule)
                {
                    desk.fail(&what);
                }
                Touched::Done
            }
            _ => {
                segment.waiting.push((pid, granule, access));
                self.call(id, None, desk, |protocol, now, actions| {
                    protocol.fault(granule, access, now, actions);
                    true
                });
                Touched::Waits
            }
        }
    }

    /// A thread waits no more: its process has ended.
    pub(super) fn leave(&mut self, pid: u32) {
        for segment in self.table.values_mut() {
            segment.waiting.retain(|&(it, ..)| it != pid);
        }
        self.woken.retain(|&it| it != pid);
    }

    /// A peer says something about a granule.
    pub(super) fn receive(
        &mut self,
        from: LifeId,
        id: ObjectId,
        message: Message,
        value: Option<u64>,
        desk: &mut Desk<'_>,
    ) {
        let mut message = message;
        if let (
            true,
            Message::Grant {
                granule, ticket, ..
            },
        ) = (desk.is(Variant::GrantTakenTwice), &mut message)
            && let Some(segment) = self.table.get(&id)
            && let Some(pending) = segment.protocol.cache().line(*granule).pending
        {
            *ticket = pending.ticket;
        }
        self.call(id, value, desk, |protocol, now, actions| {
            protocol.node_joined(from.node, from.incarnation);
            protocol.receive(from.node, message, now, actions).is_ok()
        });
    }

    pub(super) fn expire(&mut self, id: ObjectId, granule: u64, desk: &mut Desk<'_>) {
        self.call(id, None, desk, |protocol, now, actions| {
            protocol.expire(granule, now, actions);
            true
        });
    }

    /// The last process of this node has detached.
    pub(super) fn evict(&mut self, id: ObjectId, home_lives: bool, desk: &mut Desk<'_>) {
        self.call(id, None, desk, |protocol, now, actions| {
            protocol.evict_all(now, actions);
            true
        });
        let dead = self.protocol(id).is_some_and(Protocol::is_orphaned);
        let orphaned = dead && !desk.is(Variant::OrphanKept);
        if id.home() != self.me.node && (!home_lives || orphaned) {
            self.forget(id, desk);
        }
    }

    /// A life is over, to one segment or to all of those that `which` names.
    pub(super) fn node_died(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        which: impl Fn(ObjectId) -> bool,
        desk: &mut Desk<'_>,
    ) {
        let ids: Vec<ObjectId> = self.table.keys().copied().filter(|&id| which(id)).collect();
        for id in ids {
            self.call(id, None, desk, |protocol, now, actions| {
                protocol.node_died(node, incarnation, now, actions);
                true
            });
        }
    }

    /// The segment is destroyed: nothing of it is left to see.
    pub(super) fn forget(&mut self, id: ObjectId, desk: &mut Desk<'_>) {
        desk.shared.truth.forget_segment(self.me, id);
        if let Some(segment) = self.table.remove(&id) {
            self.woken
                .extend(segment.waiting.iter().map(|&(pid, ..)| pid));
        }
    }

    /// The segments here.
    pub(super) fn ids(&self) -> Vec<ObjectId> {
        self.table.keys().copied().collect()
    }

    /// A segment's machine, if it is here.
    pub(super) fn protocol(&self, id: ObjectId) -> Option<&Protocol> {
        self.table.get(&id).map(|segment| &segment.protocol)
    }

    fn call(
        &mut self,
        id: ObjectId,
        value: Option<u64>,
        desk: &mut Desk<'_>,
        call: impl FnOnce(&mut Protocol, u64, &mut Vec<Action>) -> bool,
    ) {
        let now = desk.shared.now;
        let Some(segment) = self.table.get_mut(&id) else {
            return;
        };
        let mut actions = Vec::new();
        let honest = call(&mut segment.protocol, now, &mut actions);
        if !honest {
            desk.fail("an honest peer is accused of what no honest peer says");
        }
        for action in actions {
            if let Err(what) = self.execute(id, action, value, desk) {
                desk.fail(&format!("{action:?} of {id:?}: {what}"));
            }
        }
    }

    fn execute(
        &mut self,
        id: ObjectId,
        action: Action,
        value: Option<u64>,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        let me = self.me;
        let truth = &mut desk.shared.truth;
        let Some(segment) = self.table.get_mut(&id) else {
            return Ok(());
        };
        match action {
            Action::Protect { granule } => {
                let cell = truth.get(me, id, granule).ok_or("it is not here")?;
                let access = Access::Read;
                truth.put(me, id, granule, Some(Cell { access, ..cell }))
            }
            Action::Copy { granule } => {
                let cell = truth.get(me, id, granule).ok_or("it is not here")?;
                segment.aside = Some((granule, cell.value));
                Ok(())
            }
            Action::Drop { granule } => {
                truth.get(me, id, granule).ok_or("it is not here")?;
                truth.put(me, id, granule, None)
            }
            Action::Install {
                granule,
                access,
                content,
            } => {
                let value = match content {
                    Content::Zero => 0,
                    Content::Data => value.ok_or("it came without bytes")?,
                    Content::Keep => return Err("nothing to install".into()),
                };
                if truth.get(me, id, granule).is_some() {
                    return Err("it is here already".into());
                }
                truth.put(me, id, granule, Some(Cell { value, access }))?;
                self.wake(id, granule, access);
                Ok(())
            }
            Action::Permit { granule, access } => {
                let cell = truth.get(me, id, granule).ok_or("it is not here")?;
                let access = access.max(cell.access);
                truth.put(me, id, granule, Some(Cell { access, ..cell }))?;
                self.wake(id, granule, access);
                Ok(())
            }
            Action::Poison { granule } => {
                segment.poisoned.insert(granule);
                if let Some(life) = truth.holders(id, granule).next() {
                    return Err(format!("it is called lost, and {life:?} has it"));
                }
                self.wake(id, granule, Access::Write);
                Ok(())
            }
            Action::PoisonAll => {
                segment.all_poisoned = true;
                truth.forget_segment(me, id);
                (0..GRANULES).for_each(|granule| self.wake(id, granule, Access::Write));
                Ok(())
            }
            Action::Arm { granule, at } => {
                let wait = at.saturating_sub(desk.shared.now);
                desk.later(wait, Task::Expire(id, granule));
                Ok(())
            }
            Action::Send { to, message } => {
                let payload = match message.carries_data() {
                    false => Payload::Nothing,
                    true => match segment.aside.take() {
                        Some((granule, value)) if granule == message.granule() => {
                            Payload::Written(value)
                        }
                        _ => return Err("nothing was put aside for it".into()),
                    },
                };
                self.out.push((to, id, message, payload));
                Ok(())
            }
        }
    }

    /// Threads that wait for no more than `access` try again.
    fn wake(&mut self, id: ObjectId, granule: u64, access: Access) {
        let Some(segment) = self.table.get_mut(&id) else {
            return;
        };
        let (go, stay) = (segment.waiting.iter().copied())
            .partition(|&(_, it, wanted): &(u32, u64, Access)| it == granule && wanted <= access);
        segment.waiting = stay;
        let go: Vec<(u32, u64, Access)> = go;
        self.woken.extend(go.into_iter().map(|(pid, ..)| pid));
    }
}
