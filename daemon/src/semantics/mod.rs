//! System V semantics at an object's home: pure state machines.
//!
//! Everything that a semaphore set, a message queue or a segment record *means*
//! is decided here, and nothing else: no sockets, no clocks, no threads. The
//! caller says who asks ([`Caller`]) and what time it is, and gets what became
//! of the call. A call that must wait leaves a waiter behind under the
//! [`Ticket`] it was given; whichever later call completes it pushes a [`Wake`].
//!
//! ```text
//!   operate(ops, caller, ticket, now, &mut wakes)
//!        │
//!        ├─ Ok(Done)     it happened; `wakes` names the waiters it completed
//!        ├─ Ok(Blocked)  `ticket` now waits; one Wake or withdraw() ends that
//!        └─ Err(errno)   nothing changed
//! ```
//!
//! A ticket is answered exactly once: by its `Wake`, or by a `withdraw` that
//! returned true. A `withdraw` that returned false came too late and its `Wake`
//! has been pushed, so a grant is never lost between signal and success
//! (behaviour 128).
//!
//! | file | what it holds |
//! |---|---|
//! | [`perm`] | who may do what to an object: the only permission rules |
//! | [`credentials`] | who asks, and what is only asked about when it matters |
//! | [`limits`] | the largest of everything, and which errno says so |
//! | [`registry`] | the objects of one kind: by key, by id, by index |
//! | [`sem`] | semaphore sets |
//! | [`msq`] | message queues |
//! | [`shm`] | segment records: sizes, attachments, destruction |
//! | `touches` | who touched a segment last, and when it was attached |
//!
//! "Behaviour n" in these files is line n of the project's list of System V
//! behaviours as seen on Linux, which is the judge in every question.
//!
//! Times are seconds since the epoch, by the home's clock; 0 is never.

use dipc_wire::{Errno, Pid};

pub mod credentials;
pub mod limits;
pub mod msq;
pub mod perm;
pub mod registry;
pub mod sem;
pub mod shm;

#[cfg(test)]
mod against_kernel;
#[cfg(test)]
pub(crate) mod sabotage;
#[cfg(test)]
mod testing;
mod touches;

pub use credentials::{Credentials, Rights, Witness};
pub use limits::Limits;
pub use msq::{Queue, Received};
pub use perm::{Permissions, Setting};
pub use registry::Registry;
pub use sem::SemSet;
pub use shm::{Attached, Fate, Segment};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The process, whichever of its threads it was.
    pub pid: Pid,
    /// On whose behalf.
    pub credentials: &'a Credentials,
}

/// Names a call that may have to wait. Unique among a home's blocked calls;
/// chosen by whoever carries the answer back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What became of a call that did not fail.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome<T> {
    /// It happened.
    Done(T),
    /// It waits under its ticket.
    Blocked,
}

/// What a blocked call is given when it succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Granted {
    /// `semop`, `msgsnd`: it happened.
    Done,
    /// `msgrcv`: the message, already taken from the queue.
    Message(Received),
}

/// A blocked call has ended. Pushed in the order in which calls completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wake {
    /// Which call.
    pub ticket: Ticket,
    /// How.
    pub result: Result<Granted, Errno>,
}
