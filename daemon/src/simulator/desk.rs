//! What a node's parts have in hand while they work off an event: clock,
//! network, and what looks on from above.

use std::collections::VecDeque;

use dipc_wire::coherence::{Content, Message as Step};
use dipc_wire::peer::Message;
use dipc_wire::{Incarnation, NodeId, ObjectId};

use super::agenda::Agenda;
use super::letters::{Letter, LifeId};
use super::network::{Arrival, End, Network};
use super::record::Record;
use super::truth::Truth;
use super::variants::Variant;
use crate::dice::Dice;
use crate::semantics::Ticket;

/// What a node wants to be reminded of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// A process does the next thing.
    Think(u32),
    /// A process that waits gets a signal.
    Signal(u32),
    /// `semtimedop` has waited long enough.
    TimeOut(Ticket),
    /// A granule's quantum is over.
    Expire(ObjectId, u64),
    /// A question to the referee has no answer.
    GiveUp(u64),
    /// A thread that was given the right to create uses it.
    Make { pid: u32, tag: u64, epoch: u64 },
    /// The referee may be back.
    Rejoin,
    /// A connection that is being made may have to be given up.
    Patience(End),
    /// A peer has had all the time that it needed to fence itself.
    EndPeer(NodeId, Incarnation),
}

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Something reaches an end of a connection.
    Arrive(End, Arrival),
    /// Nothing was heard at an end for too long, if this cut still lasts; with
    /// none, since the other side has stopped acknowledging.
    Silent(End, Option<u64>),
    /// A node's own, if it is in that life.
    Task(LifeId, Task),
    /// The referee's deadline.
    Tick,
    /// A daemon that asks to be a member has had no answer for too long.
    Unanswered(usize, End),
    /// A program is started on a host.
    Spawn(usize),
    /// Fate.
    Fate(super::plan::Fate),
}

/// Everything but the nodes.
pub(super) struct Shared {
    pub(super) now: u64,
    pub(super) dice: Dice,
    pub(super) network: Network,
    pub(super) agenda: Agenda<Event>,
    pub(super) truth: Truth,
    pub(super) variant: Option<Variant>,
    pub(super) failure: Option<String>,
    /// Hosts whose daemons end themselves now, and why.
    pub(super) dying: Vec<(usize, &'static str)>,
    /// The last lines, or all, of what happened.
    pub(super) trace: Option<VecDeque<String>>,
}

impl Shared {
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push_back(format!("{:>9} µs  {}", self.now, line()));
        }
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.failure.get_or_insert(what);
    }

    /// Sends a letter, or tells that the connection is closed.
    pub(super) fn send(&mut self, from: End, arrival: Arrival) {
        let sent = self.network.send(from, arrival, self.now, &mut self.dice);
        if let Some((at, arrival)) = sent {
            self.agenda.enter(at, Event::Arrive(from.other(), arrival));
        }
    }

    /// Closes an end; the other learns of it behind all that was sent.
    pub(super) fn close(&mut self, end: End) {
        self.send(end, Arrival::Closed);
        self.network.close(end);
    }
}

/// The same for one life of one node.
pub(super) struct Desk<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) host: usize,
    pub(super) life: LifeId,
    pub(super) record: &'a mut Record,
}

impl Desk<'_> {
    pub(super) fn is(&self, variant: Variant) -> bool {
        self.shared.variant == Some(variant)
    }

    pub(super) fn fail(&mut self, what: &str) {
        let life = self.life;
        self.shared.fail(format!("{life:?}: {what}"));
    }

    pub(super) fn later(&mut self, wait: u64, task: Task) {
        let at = self.shared.now + wait;
        self.shared.agenda.enter(at, Event::Task(self.life, task));
    }

    /// A time from 1 up to `most`.
    pub(super) fn while_up_to(&mut self, most: u64) -> u64 {
        1 + self.shared.dice.roll(most)
    }

    pub(super) fn send(&mut self, end: End, letter: Letter) {
        if let Some(Letter::Peer(forged, payload)) = self.forged_answer(&letter) {
            let arrival = Arrival::Letter(Letter::Peer(forged, payload));
            self.shared.send(end.other(), arrival);
        }
        if self.is(Variant::InvalidationNotAwaited)
            && let Letter::Peer(
                Message::Coherence {
                    message: Step::Invalidated { .. },
                    ..
                },
                _,
            ) = letter
        {
            return;
        }
        if self.is(Variant::GrantTakenTwice)
            && let Letter::Peer(
                Message::Coherence {
                    message: Step::Grant { content, .. },
                    ..
                },
                _,
            ) = letter
            && content != Content::Keep
        {
            self.shared.send(end, Arrival::Letter(letter.clone()));
        }
        self.shared.send(end, Arrival::Letter(letter));
    }

    /// The broken variant's answer to an invalidation.
    fn forged_answer(&self, letter: &Letter) -> Option<Letter> {
        match *letter {
            Letter::Peer(
                Message::Coherence {
                    id,
                    message: Step::Invalidate { granule },
                },
                _,
            ) if self.is(Variant::InvalidationNotAwaited) => {
                let message = Step::Invalidated { granule };
                let payload = super::letters::Payload::Nothing;
                Some(Letter::Peer(Message::Coherence { id, message }, payload))
            }
            _ => None,
        }
    }
}
