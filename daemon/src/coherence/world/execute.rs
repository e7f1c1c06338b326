//! What a machine wants done is done, and what it says is posted.

use dipc_wire::NodeId;
use dipc_wire::coherence::{Access, Content, Message};

use super::checks::Failure;
use super::node::Cell;
use super::sabotage::{Sabotage, acknowledges};
use super::{Bytes, Letter, Past, World};
use crate::coherence::Action;

impl World {
    /// The actions of one call, in order. `payload` came with the call.
    pub(super) fn execute_all(
        &mut self,
        at: NodeId,
        actions: &[Action],
        payload: Option<Bytes>,
    ) -> Result<(), Failure> {
        let mut aside = None;
        for (index, &action) in actions.iter().enumerate() {
            let acked = |g| actions[index..].iter().any(|&later| acknowledges(later, g));
            match action {
                Action::Drop { granule }
                    if self.cheats(Sabotage::AckBeforeDrop) && acked(granule) =>
                {
                    self.node_mut(at)
                        .map(|node| node.late_drops.insert(granule));
                }
                Action::Send { to, message } => {
                    let bytes = self
                        .bytes_of(&message, aside.take())
                        .ok_or(Failure::Impossible { node: at, action })?;
                    self.post(at, to, Letter { message, bytes });
                }
                Action::Copy { granule } => {
                    let node = self.nodes.get(&at);
                    let cell = node.and_then(|node| node.memory.get(&granule));
                    aside = cell.map(|cell| (granule, cell.bytes));
                }
                _ => self
                    .execute(at, action, payload)
                    .ok_or(Failure::Impossible { node: at, action })??,
            }
        }
        Ok(())
    }

    /// `None` if the action does not fit the memory that it is for.
    fn execute(
        &mut self,
        at: NodeId,
        action: Action,
        payload: Option<Bytes>,
    ) -> Option<Result<(), Failure>> {
        let sabotage = self.rules.sabotage;
        let granules = self.rules.granules;
        match action {
            Action::Protect { granule } => {
                let cell = self.node_mut(at)?.memory.get_mut(&granule)?;
                if sabotage != Some(Sabotage::DowngradeWithoutProtect) {
                    cell.access = Access::Read;
                }
            }
            Action::Drop { granule } => {
                self.node_mut(at)?.memory.remove(&granule)?;
            }
            Action::Install {
                granule,
                access,
                content,
            } => {
                let past = self.past(granule);
                past.writable |= access == Access::Write;
                let bytes = match content {
                    Content::Zero => zeros(past),
                    Content::Data => payload?,
                    Content::Keep => return None,
                };
                let node = self.node_mut(at)?;
                let before = node.memory.insert(granule, Cell { bytes, access });
                node.wake(granule, access);
                return before.is_none().then_some(Ok(()));
            }
            Action::Permit { granule, access } => {
                self.past(granule).writable |= access == Access::Write;
                let node = self.node_mut(at)?;
                let cell = node.memory.get_mut(&granule)?;
                cell.access = cell.access.max(access);
                node.wake(granule, access);
            }
            Action::Poison { granule } => return Some(self.poison(at, granule)),
            Action::PoisonAll => {
                let node = self.node_mut(at)?;
                node.memory.clear();
                node.segment_poisoned = true;
                (0..granules).for_each(|granule| node.wake(granule, Access::Write));
            }
            Action::Arm { granule, at: time } => {
                if sabotage != Some(Sabotage::QuantumOrderLost) {
                    self.node_mut(at)?.alarms.insert((time, granule));
                }
            }
            Action::Copy { .. } | Action::Send { .. } => return None,
        }
        Some(Ok(()))
    }

    /// Only what a death has taken is lost.
    fn poison(&mut self, at: NodeId, granule: u64) -> Result<(), Failure> {
        let wrongly = Failure::LostWrongly { granule, node: at };
        let gone = self.past(granule).gone;
        let node = self.node_mut(at).ok_or(wrongly)?;
        if node.segment_poisoned {
            return Ok(());
        }
        if node.memory.contains_key(&granule) || !gone {
            return Err(wrongly);
        }
        node.poisoned.insert(granule);
        node.wake(granule, Access::Write);
        Ok(())
    }

    /// The copy that a message carries. `None` if it should carry what was put
    /// aside, and that is not there.
    fn bytes_of(
        &mut self,
        message: &Message,
        aside: Option<(u64, Bytes)>,
    ) -> Option<Option<Bytes>> {
        let granule = message.granule();
        let past = self.past(granule);
        if let Message::Grant {
            access, content, ..
        } = message
        {
            past.writable |= *access == Access::Write;
            if *content == Content::Zero {
                return Some(Some(zeros(past)));
            }
        }
        if !message.carries_data() {
            return Some(None);
        }
        let (of, bytes) = aside?;
        (of == granule).then_some(Some(bytes))
    }

    fn post(&mut self, from: NodeId, to: NodeId, letter: Letter) {
        if !self.nodes.contains_key(&to) || self.news.contains(&(from, to)) {
            self.past(letter.message.granule()).endangered = true;
            return self.look_for_copies();
        }
        self.tamper(from, to, letter);
    }

    /// Puts a letter at the end of a link.
    pub(super) fn put(&mut self, from: NodeId, to: NodeId, letter: Letter) {
        self.posted += 1;
        self.links.entry((from, to)).or_default().push_back(letter);
    }
}

/// What zeros are worth.
fn zeros(past: &Past) -> Bytes {
    if past.written {
        Bytes::Old
    } else {
        Bytes::Latest
    }
}

/// The kind of a message, for those who ask whether a run has met them all.
pub(in crate::coherence) fn kind(message: &Message) -> &'static str {
    let data = |content: &Content| *content == Content::Data;
    match message {
        Message::Request { .. } => "request",
        Message::Grant { content, .. } => match content {
            Content::Keep => "grant to keep",
            Content::Zero => "grant of zeros",
            Content::Data => "grant of data",
        },
        Message::Forward { .. } => "forward",
        Message::Installed { .. } => "installed",
        Message::Invalidate { .. } => "invalidate",
        Message::Invalidated { .. } => "invalidated",
        Message::Evict { content, .. } if data(content) => "owner's eviction",
        Message::Evict { .. } => "reader's eviction",
        Message::Chase { .. } => "chase",
        Message::Missing { .. } => "missing",
        Message::Lost { .. } => "lost",
        Message::Own { .. } => "own",
        Message::Void { .. } => "void",
        Message::Cancel { .. } => "cancel",
        Message::Cancelled { held: true, .. } => "cancelled in time",
        Message::Cancelled { held: false, .. } => "cancelled too late",
    }
}

/// All that [`kind`] says.
pub(in crate::coherence) const KINDS: [&str; 18] = [
    "request",
    "grant to keep",
    "grant of zeros",
    "grant of data",
    "forward",
    "installed",
    "invalidate",
    "invalidated",
    "owner's eviction",
    "reader's eviction",
    "chase",
    "missing",
    "lost",
    "own",
    "void",
    "cancel",
    "cancelled in time",
    "cancelled too late",
];
