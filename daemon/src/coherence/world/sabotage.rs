//! How the world cheats, to show that the checks notice.
//!
//! Each breaks one rule of the protocol by changing what the machines say, hear
//! or have done, so that the machines themselves stay as they are shipped.

use dipc_wire::coherence::{Content, Message};
use dipc_wire::{Incarnation, NodeId};

use super::{Letter, World};
use crate::coherence::Action;

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::coherence) enum Sabotage {
    /// Invalidated is sent while threads can still read.
    AckBeforeDrop,
    /// The home takes an invalidation for answered as soon as it is sent.
    InvalidationNotAwaited,
    /// A downgrade leaves the owner's threads able to write.
    DowngradeWithoutProtect,
    /// Readers are forgotten: none is told to drop its copy, and nobody notices.
    ReaderForgotten,
    /// A grant that answers an earlier request is taken for the present one.
    TicketIgnored,
    /// An owner does not ask in which life a copy was asked for.
    IncarnationIgnored,
    /// Messages of one link overtake each other.
    LinkNotInOrder,
    /// What a dead node had said before is taken for the word of its next life.
    LettersOfTheDeadHeard,
    /// The directory never learns that a copy has come.
    InstalledDropped,
    /// The directory takes a copy for installed when it orders it to be sent.
    InstalledNotAwaited,
    /// An order that waits for the quantum's end is never carried out.
    QuantumOrderLost,
    /// Who was told to forget an order does not say what it still has.
    CancelNotAnswered,
    /// An owner that has evicted does not say that it cannot send.
    VoidNotSaid,
    /// An owner evicts without its bytes, as if it were a reader.
    EvictionWithoutBytes,
    /// A reader is not told that its copy is the one that counts now.
    OwnNotSaid,
    /// The requester of a copy whose sender died is not asked whether it came.
    ChaseNotSaid,
}

impl World {
    pub(super) fn cheats(&self, sabotage: Sabotage) -> bool {
        self.rules.sabotage == Some(sabotage)
    }

    /// The message as the receiver takes it.
    pub(super) fn mangled(&self, to: NodeId, mut message: Message) -> Message {
        match &mut message {
            Message::Grant {
                granule, ticket, ..
            } if self.cheats(Sabotage::TicketIgnored) => {
                let line = self
                    .nodes
                    .get(&to)
                    .map(|n| n.protocol.cache().line(*granule));
                if let Some(pending) = line.and_then(|line| line.pending) {
                    *ticket = pending.ticket;
                }
            }
            Message::Forward { incarnation, .. } if self.cheats(Sabotage::IncarnationIgnored) => {
                // Nobody has died in this one.
                *incarnation = Incarnation(u64::MAX);
            }
            _ => {}
        }
        message
    }

    /// Puts a letter on its link, if no sabotage is against it.
    pub(super) fn tamper(&mut self, from: NodeId, to: NodeId, mut letter: Letter) {
        use Sabotage as S;
        let bare = |message| Letter {
            message,
            bytes: None,
        };
        let granule = letter.message.granule();
        match (self.rules.sabotage, letter.message) {
            (Some(S::InstalledDropped | S::InstalledNotAwaited), Message::Installed { .. })
            | (Some(S::InvalidationNotAwaited), Message::Invalidated { .. })
            | (Some(S::CancelNotAnswered), Message::Cancelled { .. })
            | (Some(S::VoidNotSaid), Message::Void { .. })
            | (Some(S::OwnNotSaid), Message::Own { .. })
            | (Some(S::ChaseNotSaid), Message::Chase { .. }) => return,
            (Some(S::ReaderForgotten), Message::Invalidate { .. }) => {
                return self.put(to, from, bare(Message::Invalidated { granule }));
            }
            (Some(S::InvalidationNotAwaited), Message::Invalidate { .. }) => {
                self.put(to, from, bare(Message::Invalidated { granule }));
            }
            (Some(S::InstalledNotAwaited), Message::Forward { to: requester, .. })
                if requester != from =>
            {
                self.put(requester, from, bare(Message::Installed { granule }));
            }
            (
                Some(S::EvictionWithoutBytes),
                Message::Evict {
                    content: Content::Data,
                    ..
                },
            ) => {
                let content = Content::Keep;
                letter = bare(Message::Evict { granule, content });
            }
            _ => {}
        }
        self.put(from, to, letter);
    }
}

/// The action says that the granule is gone here.
pub(super) fn acknowledges(action: Action, of: u64) -> bool {
    matches!(action, Action::Send { message: Message::Invalidated { granule }, .. } if granule == of)
}
