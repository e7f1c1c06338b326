//! What the home knows about each granule of a segment.

use std::collections::BTreeMap;

use dipc_wire::NodeId;
use dipc_wire::coherence::Message;

use super::Violation;
use super::entry::{Desk, Entry, Phase, Request};
use super::outlet::Outlet;

/// One entry for each granule that was ever asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Directory {
    home: NodeId,
    entries: BTreeMap<u64, Entry>,
}

impl Directory {
    pub(super) fn new(home: NodeId) -> Self {
        Directory {
            home,
            entries: BTreeMap::new(),
        }
    }

    /// The entry of a granule; `None` while nobody has a copy of its zeros.
    pub fn entry(&self, granule: u64) -> Option<&Entry> {
        self.entries.get(&granule)
    }

    /// All entries, by granule.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries
            .iter()
            .map(|(&granule, entry)| (granule, entry))
    }

    /// This node was told to send the granule to the home's cache. Elsewhere
    /// only the ticket can tell.
    pub(super) fn sends_home(&self, granule: u64, from: NodeId) -> bool {
        let transaction = self.entry(granule).and_then(Entry::transaction);
        transaction
            .is_some_and(|t| t.request.node == self.home && t.phase == Phase::Forwarded(from))
    }

    /// A cache says this.
    pub(super) fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        out: &mut Outlet<'_>,
    ) -> Result<(), Violation> {
        let granule = message.granule();
        let entry = self.entries.entry(granule).or_default();
        let mut desk = Desk {
            home: self.home,
            granule,
            out,
        };
        let answer = match message {
            Message::Request {
                access,
                ticket,
                incarnation,
                ..
            } => {
                let node = from;
                entry.request(
                    Request {
                        node,
                        access,
                        ticket,
                        incarnation,
                    },
                    &mut desk,
                )
            }
            Message::Installed { .. } => entry.installed(from, &mut desk),
            Message::Invalidated { .. } => entry.invalidated(from, &mut desk),
            Message::Evict { content, .. } => entry.evicted(from, content, &mut desk),
            Message::Void { .. } => entry.void(from, &mut desk),
            Message::Missing { ticket, .. } => entry.missing(from, ticket, &mut desk),
            Message::Cancelled { held, .. } => entry.cancelled(from, held, &mut desk),
            _ => None,
        };
        if entry.is_blank() {
            self.entries.remove(&granule);
        }
        answer.ok_or(Violation::Unexpected(message))
    }

    pub(super) fn node_died(&mut self, node: NodeId, out: &mut Outlet<'_>) {
        self.entries.retain(|&granule, entry| {
            entry.node_died(
                node,
                &mut Desk {
                    home: self.home,
                    granule,
                    out,
                },
            );
            !entry.is_blank()
        });
    }
}
