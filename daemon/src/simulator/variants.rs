//! Clusters that are wrong on purpose. Each is found by a seed that
//! `found.rs` names; a simulator that finds none of them proves nothing.

use crate::semantics::sabotage::{self, Sabotage};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Variant {
    /// A requester takes a grant twice: it does not look at the ticket.
    GrantTakenTwice,
    /// Of those who wait at a set, who came last is served first.
    LastComeFirstServed,
    /// A dead node's SEM_UNDO is forgotten.
    UndoOfDeadNodeForgotten,
    /// What a peer had sent is heard although its life is over here.
    HeardAfterDeath,
    /// The home takes an invalidation for answered when it is sent.
    InvalidationNotAwaited,
    /// A right to create a key is used though the referee is another one since.
    ClaimOutlivesReferee,
    /// Messages between peers overtake each other.
    LinkNotInOrder,
    /// A node that is cut off goes on with its pages until it learns of its death.
    CutOffNotFenced,
    /// What was granted to a process that died first is not taken back.
    TokenDiesWithProcess,
    /// An answer that was read is taken back all the same when its reader dies.
    MessageTakenBackTwice,
    /// A link that broke while there was no referee is not told to the next one.
    LossNotReported,
    /// A newcomer that cannot reach a member ends without a word to the referee.
    NewcomerGoesWithoutWord,
    /// A life of which others still have to be rid is let in with its next one.
    NextLifeLetInEarly,
    /// A segment whose home is dead is kept after its last detach if that home's
    /// next life is here.
    OrphanKept,
}

impl Variant {
    /// Every one.
    pub(super) const ALL: [Variant; 14] = [
        Variant::GrantTakenTwice,
        Variant::LastComeFirstServed,
        Variant::UndoOfDeadNodeForgotten,
        Variant::HeardAfterDeath,
        Variant::InvalidationNotAwaited,
        Variant::ClaimOutlivesReferee,
        Variant::LinkNotInOrder,
        Variant::CutOffNotFenced,
        Variant::TokenDiesWithProcess,
        Variant::MessageTakenBackTwice,
        Variant::LossNotReported,
        Variant::NewcomerGoesWithoutWord,
        Variant::NextLifeLetInEarly,
        Variant::OrphanKept,
    ];

    /// Puts this thread's machines into the state that the variant needs, which
    /// is none for most.
    pub(super) fn prepare(variant: Option<Variant>) {
        let sabotage = Sabotage::LastComeFirstServed;
        sabotage::put((variant == Some(Variant::LastComeFirstServed)).then_some(sabotage));
    }
}
