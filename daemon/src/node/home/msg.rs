//! Message calls.

use dipc_wire::call::Reply;
use dipc_wire::{Errno, ObjectId};

use super::waiters::WaitsOn;
use super::{Caller, Home, now, with};
use crate::node::answer::Asker;
use crate::semantics::{Outcome, Ticket};

impl Home {
    pub(super) fn msgsnd(
        &self,
        caller: &Caller,
        id: ObjectId,
        mtype: i64,
        text: &[u8],
        flags: u32,
        asker: Asker,
    ) -> Option<Ticket> {
        let ticket = self.waiters.ticket();
        let mut wakes = Vec::new();
        let done = self.limits.check_message(mtype, text.len()).and_then(|()| {
            let slot = self.msgs.read().get(id).cloned().ok_or(Errno::EINVAL)?;
            let mut queue = slot.lock();
            let machine = queue.as_mut().ok_or(Errno::EINVAL)?;
            let who = caller.borrow();
            let outcome = machine.send(who, mtype, text, flags, ticket, now(), &mut wakes)?;
            if outcome == Outcome::Blocked {
                let on = WaitsOn::Msg(slot.clone());
                self.waiters.enter(ticket, asker.clone(), caller.pid, on);
            }
            Ok(outcome)
        });
        let waits = match done {
            Ok(Outcome::Done(())) => {
                asker.answer(&Reply::Done, &[]);
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

    pub(super) fn msgrcv(
        &self,
        caller: &Caller,
        id: ObjectId,
        mtype: i64,
        size: u64,
        flags: u32,
        asker: Asker,
    ) -> Option<Ticket> {
        let ticket = self.waiters.ticket();
        let mut wakes = Vec::new();
        let done = (|| {
            let slot = self.msgs.read().get(id).cloned().ok_or(Errno::EINVAL)?;
            let mut queue = slot.lock();
            let machine = queue.as_mut().ok_or(Errno::EINVAL)?;
            let who = caller.borrow();
            let outcome = machine.receive(who, mtype, size, flags, ticket, now(), &mut wakes)?;
            if outcome == Outcome::Blocked {
                let on = WaitsOn::Msg(slot.clone());
                self.waiters.enter(ticket, asker.clone(), caller.pid, on);
            }
            Ok(outcome)
        })();
        let waits = match done {
            Ok(Outcome::Done(message)) => {
                asker.answer(
                    &Reply::Message {
                        mtype: message.mtype,
                    },
                    &message.text,
                );
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

    /// A received message never reached its process: put it back in front.
    pub(crate) fn put_back(&self, id: ObjectId, mtype: i64, text: &[u8]) {
        let mut wakes = Vec::new();
        // A queue that is gone has lost all its messages.
        let _ = with(&self.msgs, id, |queue| {
            queue.put_back(mtype, text.to_vec(), now(), &mut wakes);
            Ok(())
        });
        self.wake(wakes);
    }
}
