//! Message calls.

use dipc_wire::ObjectId;
use dipc_wire::call::Reply;

use super::waiters::{Target, WaitsOn};
use super::{Caller, Home, now, with};
use crate::node::answer::Asker;
use crate::semantics::{Received, Ticket};

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
        let who = caller.borrow();
        self.may_wait(
            Target {
                objects: &self.msgs,
                id,
                on: WaitsOn::Msg,
            },
            caller.pid,
            asker,
            |queue, ticket, wakes| queue.send(who, mtype, text, flags, ticket, now(), wakes),
            |asker, ()| asker.answer(&Reply::Done, &[]),
        )
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
        let who = caller.borrow();
        self.may_wait(
            Target {
                objects: &self.msgs,
                id,
                on: WaitsOn::Msg,
            },
            caller.pid,
            asker,
            |queue, ticket, wakes| queue.receive(who, mtype, size, flags, ticket, now(), wakes),
            |asker, message| {
                let Received { mtype, text } = message;
                asker.answer(&Reply::Message { mtype }, &text);
            },
        )
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
