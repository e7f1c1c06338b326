//! What must be true of a cluster.

use dipc_wire::NodeId;
use dipc_wire::coherence::Access;
use thiserror::Error;

use super::world::World;
use crate::coherence::entry::{Origin, Phase};
use crate::coherence::{Action, Violation};

/// What can be wrong with a run.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// A node may write a granule of which another has a copy.
    #[error("{writer} may write granule {granule}, of which {other} has a copy")]
    NotAlone {
        granule: u64,
        writer: NodeId,
        other: NodeId,
    },
    /// A copy differs from what was written last.
    #[error("{node} has an old copy of granule {granule}")]
    Stale { granule: u64, node: NodeId },
    /// A copy lives although the granule was given up as lost, or it was given
    /// up although no death explains it.
    #[error("granule {granule} was not lost, as {node} shows")]
    LostWrongly { granule: u64, node: NodeId },
    /// An action that does not fit the memory it is for.
    #[error("{action:?} does not fit the memory of {node}")]
    Impossible { node: NodeId, action: Action },
    /// The machine and the memory, or directory and caches, do not agree.
    #[error("{node} disagrees on {what} of granule {granule}")]
    Disagree {
        granule: u64,
        node: NodeId,
        what: &'static str,
    },
    /// An honest node was accused.
    #[error("{by} accused the honest {from}: {violation}")]
    Accused {
        from: NodeId,
        by: NodeId,
        violation: Violation,
    },
    /// Somebody waits although nothing can happen any more, or things never
    /// come to rest.
    #[error("{what} never ends")]
    Stuck { what: &'static str },
}

impl World {
    /// What is true after every step.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for granule in 0..self.granules {
            let copies = || {
                let all = self.nodes.iter();
                all.filter_map(move |(&id, node)| Some((id, *node.memory.get(&granule)?)))
            };
            let latest = self.written.get(&granule).copied().unwrap_or(0);
            for (id, cell) in copies() {
                let other = copies().map(|(other, _)| other).find(|&other| other != id);
                if let Some(other) = other.filter(|_| cell.access == Access::Write) {
                    return Err(Failure::NotAlone {
                        granule,
                        writer: id,
                        other,
                    });
                }
                if self.lost.contains(&granule) {
                    return Err(Failure::LostWrongly { granule, node: id });
                }
                if cell.value != latest {
                    return Err(Failure::Stale { granule, node: id });
                }
            }
            self.check_bookkeeping(granule)?;
        }
        Ok(())
    }

    fn check_bookkeeping(&self, granule: u64) -> Result<(), Failure> {
        for (&id, node) in self.nodes.iter().filter(|_| self.sabotage.is_none()) {
            let mapped = node.memory.get(&granule).map(|cell| cell.access);
            if node.protocol.held(granule) != mapped {
                return Err(Failure::Disagree {
                    granule,
                    node: id,
                    what: "held",
                });
            }
        }
        let entry = self
            .nodes
            .get(&self.home)
            .and_then(|home| home.protocol.directory());
        let Some(entry) = entry.and_then(|directory| directory.entry(granule)) else {
            return Ok(());
        };
        let undecided = entry
            .transaction()
            .is_some_and(|t| matches!(t.phase, Phase::Chasing | Phase::Forwarded(_)));
        let holder = self
            .nodes
            .iter()
            .find(|(_, node)| node.memory.contains_key(&granule));
        match holder {
            Some((&id, _)) if entry.origin() == Origin::Lost && !undecided => {
                Err(Failure::LostWrongly { granule, node: id })
            }
            _ => Ok(()),
        }
    }

    /// What is true when nothing is left to do.
    pub(super) fn check_at_rest(&self) -> Result<(), Failure> {
        let stuck = |what| Err(Failure::Stuck { what });
        for (&id, node) in &self.nodes {
            if node.threads.iter().any(|thread| thread.wants.is_some()) {
                return stuck("a thread");
            }
            for (granule, line) in node.protocol.cache().lines() {
                if line.pending.is_some() || line.order.is_some() {
                    return stuck("a line");
                }
                let entry = self.home_entry(granule);
                let owned = entry.is_some_and(|(origin, _)| origin == Origin::Owned(id));
                if owned && !line.owner {
                    return Err(Failure::Disagree {
                        granule,
                        node: id,
                        what: "owner",
                    });
                }
            }
        }
        let Some(home) = self.nodes.get(&self.home) else {
            return Ok(());
        };
        for (_, entry) in home.protocol.directory().unwrap().entries() {
            if entry.transaction().is_some() || entry.queued() > 0 {
                return stuck("an entry");
            }
        }
        for granule in 0..self.granules {
            let (origin, readers) = self.home_entry(granule).unwrap_or_default();
            let copies = |id: &NodeId| self.nodes[id].memory.contains_key(&granule);
            let holders: Vec<NodeId> = self.nodes.keys().copied().filter(copies).collect();
            if readers != holders {
                return Err(Failure::Disagree {
                    granule,
                    node: self.home,
                    what: "readers",
                });
            }
            if (origin == Origin::Lost) && !holders.is_empty() {
                return Err(Failure::Disagree {
                    granule,
                    node: self.home,
                    what: "lost",
                });
            }
        }
        Ok(())
    }

    fn home_entry(&self, granule: u64) -> Option<(Origin, Vec<NodeId>)> {
        let entry = self
            .nodes
            .get(&self.home)?
            .protocol
            .directory()?
            .entry(granule)?;
        Some((entry.origin(), entry.readers().iter().collect()))
    }
}
