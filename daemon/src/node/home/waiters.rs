//! Calls that wait: whom to answer when they no longer do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dipc_wire::call::Reply;
use dipc_wire::{Errno, NodeId, ObjectId, Pid};
use parking_lot::Mutex;

use super::{Home, Objects, Slot};
use crate::node::Task;
use crate::node::answer::Asker;
use crate::node::timer::{Entry, Timer};
use crate::semantics::{Granted, Outcome, Queue, SemSet, Ticket, Wake};

/// Calls of one peer that may wait: more threads than Linux gives a node's programs
/// by default (`threads-max` on 32 GiB).
const MOST: usize = 1 << 18;

/// All calls that wait in this home.
pub(crate) struct Waiters {
    timer: Arc<Timer<Task>>,
    tickets: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiters: HashMap<Ticket, Waiter>,
    /// Calls of peers, by the name that the peer gave them.
    remote: HashMap<NodeId, HashMap<u64, Ticket>>,
}

#[derive(Clone)]
struct Waiter {
    asker: Asker,
    pid: Pid,
    on: WaitsOn,
    /// When it has waited long enough.
    deadline: Option<Entry>,
}

/// Where a waiter stands in line.
#[derive(Clone)]
pub(super) enum WaitsOn {
    Sem(Slot<SemSet>),
    Msg(Slot<Queue>),
}

/// The object of a call that may have to wait.
pub(super) struct Target<'a, T> {
    pub(super) objects: &'a Objects<T>,
    pub(super) id: ObjectId,
    /// How a waiter names it.
    pub(super) on: fn(Slot<T>) -> WaitsOn,
}

impl Waiters {
    pub(super) fn new(timer: Arc<Timer<Task>>) -> Self {
        Waiters {
            timer,
            tickets: AtomicU64::new(1),
            table: Mutex::default(),
        }
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Called with the object locked, so that no wake can come before.
    pub(super) fn enter(&self, ticket: Ticket, asker: Asker, pid: Pid, on: WaitsOn) {
        let mut table = self.table.lock();
        if let Asker::Peer { link, tag } = &asker {
            let calls = table.remote.entry(link.node).or_default();
            calls.insert(*tag, ticket);
        }
        table.waiters.insert(
            ticket,
            Waiter {
                asker,
                pid,
                on,
                deadline: None,
            },
        );
    }

    fn take(&self, ticket: Ticket) -> Option<Waiter> {
        let mut table = self.table.lock();
        let waiter = table.waiters.remove(&ticket)?;
        if let Asker::Peer { link, tag } = &waiter.asker
            && let Some(calls) = table.remote.get_mut(&link.node)
        {
            calls.remove(tag);
        }
        drop(table);
        if let Some(deadline) = waiter.deadline {
            self.timer.cancel(deadline);
        }
        Some(waiter)
    }

    /// The call waits no longer than until `end`.
    pub(super) fn until(&self, ticket: Ticket, end: Instant) {
        let deadline = self.timer.at(end, Task::TimeOut(ticket));
        match self.table.lock().waiters.get_mut(&ticket) {
            Some(waiter) => waiter.deadline = Some(deadline),
            // Granted meanwhile.
            None => self.timer.cancel(deadline),
        }
    }

    /// The call that a peer names so, if it waits.
    pub(crate) fn remote(&self, node: NodeId, tag: u64) -> Option<Ticket> {
        self.table.lock().remote.get(&node)?.get(&tag).copied()
    }

    /// Whether a peer may make one more call under this name. The error is what no
    /// honest peer does: its programs have a thread for each call that waits.
    pub(crate) fn admit(&self, node: NodeId, tag: u64) -> Result<(), String> {
        match self.table.lock().remote.get(&node) {
            Some(calls) if calls.contains_key(&tag) => {
                Err(format!("it gives the name {tag} to two calls that wait"))
            }
            Some(calls) if calls.len() >= MOST => {
                Err(format!("it has more than {MOST} calls that wait here"))
            }
            _ => Ok(()),
        }
    }

    fn get(&self, ticket: Ticket) -> Option<Waiter> {
        self.table.lock().waiters.get(&ticket).cloned()
    }

    /// Nobody of this node waits any more.
    pub(super) fn forget_node(&self, node: NodeId) {
        let mut table = self.table.lock();
        table.waiters.retain(|_, waiter| waiter.pid.node != node);
        table.remote.remove(&node);
    }
}

impl Home {
    /// The waiting calls of peers.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Makes a call that may have to wait: `act` on the object, and if it is done
    /// `grant` to the asker. Returns the ticket under which it waits.
    pub(super) fn may_wait<T, R>(
        &self,
        target: Target<'_, T>,
        pid: Pid,
        asker: Asker,
        act: impl FnOnce(&mut T, Ticket, &mut Vec<Wake>) -> Result<Outcome<R>, Errno>,
        grant: impl FnOnce(&Asker, R),
    ) -> Option<Ticket> {
        let ticket = self.waiters.ticket();
        let mut wakes = Vec::new();
        let outcome = (|| {
            let slot = target
                .objects
                .read()
                .get(target.id)
                .cloned()
                .ok_or(Errno::EINVAL)?;
            let mut object = slot.lock();
            let machine = object.as_mut().ok_or(Errno::EINVAL)?;
            let outcome = act(machine, ticket, &mut wakes)?;
            if let Outcome::Blocked = outcome {
                self.waiters
                    .enter(ticket, asker.clone(), pid, (target.on)(slot.clone()));
            }
            Ok(outcome)
        })();
        let waits = match outcome {
            Ok(Outcome::Done(granted)) => {
                grant(&asker, granted);
                None
            }
            Ok(Outcome::Blocked) => Some(ticket),
            Err(errno) => {
                asker.fail(errno);
                None
            }
        };
        self.wake(wakes);
        waits
    }

    /// Ends a wait with an error, unless it has ended: then its answer is on
    /// the way, and success wins (behaviour 128).
    pub(crate) fn withdraw(&self, ticket: Ticket, errno: Errno) {
        let Some(waiter) = self.waiters.get(ticket) else {
            return;
        };
        let withdrawn = match &waiter.on {
            WaitsOn::Sem(slot) => slot.lock().as_mut().is_some_and(|set| set.withdraw(ticket)),
            WaitsOn::Msg(slot) => slot.lock().as_mut().is_some_and(|q| q.withdraw(ticket)),
        };
        if withdrawn && let Some(waiter) = self.waiters.take(ticket) {
            waiter.asker.fail(errno);
        }
    }

    /// Sends what the machines have granted.
    pub(super) fn wake(&self, wakes: Vec<Wake>) {
        for Wake { ticket, result } in wakes {
            let Some(waiter) = self.waiters.take(ticket) else {
                continue;
            };
            match &result {
                Ok(Granted::Done) => waiter.asker.answer(&Reply::Done, &[]),
                Ok(Granted::Message(message)) => waiter.asker.answer(
                    &Reply::Message {
                        mtype: message.mtype,
                    },
                    &message.text,
                ),
                Err(errno) => waiter.asker.fail(*errno),
            }
        }
    }
}
