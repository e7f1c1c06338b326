//! What the kernel leaves to chance.
//!
//! Senders that wait for room are woken all at once if their message fits, and
//! race for it; receivers are woken by IPC_SET, to look again whether they may
//! read, and line up anew in whatever order they run. We serve both in the order
//! in which they came, which is one of the kernel's outcomes: there is nothing
//! to compare.

use dipc_wire::{Kind, ObjectId};

use super::super::testing::{NOW, caller, root};
use super::super::{Queue, Ticket};
use super::history::{Step, Verb};
use super::machines::{Machines, Waiting};

/// Whether more than one outcome is right.
pub(super) fn would_race(machines: &Machines, id: Option<ObjectId>, step: &Step) -> bool {
    let Some(queue) = id.filter(|_| matches!(step.verb, Verb::MsgRcv | Verb::MsgSet)) else {
        return false;
    };
    let here = |waiting: &Waiting| waiting.object == (Kind::Msg, queue);
    let waiting = machines
        .processes
        .iter()
        .filter_map(|process| process.waiting);
    let (senders, receivers): (Vec<Waiting>, Vec<Waiting>) = waiting
        .filter(here)
        .partition(|waiting| waiting.sends.is_some());
    if step.verb == Verb::MsgSet
        && (receivers.len() > 1 || !receivers.is_empty() && !senders.is_empty())
    {
        return true;
    }
    senders.len() > 1
        && machines
            .msgs
            .get(queue)
            .is_some_and(|queue| room_for_several(machines, queue.clone(), step, &senders))
}

/// Whether several of the senders would fit when the step is done.
fn room_for_several(
    machines: &Machines,
    mut queue: Queue,
    step: &Step,
    senders: &[Waiting],
) -> bool {
    for sender in senders {
        queue.withdraw(sender.ticket);
    }
    let (mut wakes, god) = (Vec::new(), root());
    let who = &machines.processes[step.actor].who;
    let me = caller(machines.pid(step.actor), who);
    match step.verb {
        Verb::MsgRcv => {
            let (mtype, room, flags) = (step.number(1), step.number(2), step.number(3));
            let ticket = Ticket(u64::MAX);
            let _ = queue.receive(
                me,
                mtype,
                room as u64,
                flags as u32,
                ticket,
                NOW,
                &mut wakes,
            );
        }
        _ => {
            let (new, qbytes) = machines.setting(step);
            let limits = &machines.limits;
            let _ = queue.set(me, new, Some(qbytes), limits, NOW, &mut wakes);
        }
    }
    let Ok(stat) = queue.stat(caller(machines.pid(0), &god), true) else {
        return false;
    };
    let lengths = senders.iter().filter_map(|sender| sender.sends);
    let fitting = lengths.filter(|len| stat.cbytes + len <= stat.qbytes && stat.qnum < stat.qbytes);
    fitting.count() > 1
}
