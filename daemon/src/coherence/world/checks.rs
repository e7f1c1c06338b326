//! What must be true of a cluster.

use dipc_wire::NodeId;
use dipc_wire::coherence::Access;
use thiserror::Error;

use super::{Bytes, World};
use crate::coherence::{Action, Entry, NodeSet, Origin, Phase, Violation};

/// What can be wrong with a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub(in crate::coherence) enum Failure {
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
    /// It was given up although a copy lives, or no death explains it.
    #[error("granule {granule} was not lost, as {node} shows")]
    LostWrongly { granule: u64, node: NodeId },
    /// The last copy was given up, and nobody had died of it.
    #[error("granule {granule} is nowhere any more")]
    Vanished { granule: u64 },
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
    /// What a dead incarnation had said changed something after its death was known.
    #[error("{learner} took something that the dead {dead} had said")]
    DeadHeard { dead: NodeId, learner: NodeId },
    /// The home counts on a node that it knows is dead.
    #[error("the home counts on the dead {dead} for granule {granule}")]
    DeadCounted { granule: u64, dead: NodeId },
    /// Somebody waits although nothing can happen any more, or things never
    /// come to rest.
    #[error("{what} never ends")]
    Stuck { what: &'static str },
}

impl World {
    /// What is true after every step.
    pub(in crate::coherence) fn check(&self) -> Result<(), Failure> {
        for granule in 0..self.rules.granules {
            let copies = || {
                let all = self.nodes.iter();
                all.filter_map(move |(&id, node)| Some((id, *node.memory.get(&granule)?)))
            };
            for (id, cell) in copies() {
                let other = copies().map(|(other, _)| other).find(|&other| other != id);
                if let Some(other) = other.filter(|_| cell.access == Access::Write) {
                    return Err(Failure::NotAlone {
                        granule,
                        writer: id,
                        other,
                    });
                }
                if cell.bytes != Bytes::Latest {
                    return Err(Failure::Stale { granule, node: id });
                }
            }
            self.check_bookkeeping(granule)?;
            self.check_survival(granule)?;
        }
        Ok(())
    }

    /// What was written last is somewhere, unless a death has taken it.
    fn check_survival(&self, granule: u64) -> Result<(), Failure> {
        let past = self.granules[granule as usize];
        let home = self.rules.home;
        if past.writable && !past.gone && self.nodes.contains_key(&home) && !self.survives(granule)
        {
            return Err(Failure::Vanished { granule });
        }
        Ok(())
    }

    fn check_bookkeeping(&self, granule: u64) -> Result<(), Failure> {
        for (&id, node) in self.nodes.iter().filter(|_| self.rules.sabotage.is_none()) {
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
            .get(&self.rules.home)
            .and_then(|home| home.protocol.directory());
        let Some(entry) = entry.and_then(|directory| directory.entry(granule)) else {
            return Ok(());
        };
        self.check_the_dead_are_out(granule, entry)?;
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

    /// Who is known to be dead has no copy, waits for none and is not waited for.
    fn check_the_dead_are_out(&self, granule: u64, entry: &Entry) -> Result<(), Failure> {
        let known_dead = |id: &NodeId| {
            !self.nodes.contains_key(id) && !self.news.contains(&(self.rules.home, *id))
        };
        let transaction = entry.transaction();
        let awaited = transaction.map(|t| match t.phase {
            Phase::Invalidating(told) | Phase::Cancelling(told) => told,
            Phase::Forwarded(source) => NodeSet::of(source),
            Phase::Chasing => NodeSet::default(),
        });
        let served = transaction.filter(|t| !t.orphaned).map(|t| t.request.node);
        let queued = entry.queue().map(|request| request.node);
        let named = entry.readers().iter().chain(served).chain(queued);
        let dead = named
            .chain(awaited.unwrap_or_default().iter())
            .find(known_dead);
        dead.map_or(Ok(()), |dead| Err(Failure::DeadCounted { granule, dead }))
    }

    /// What is true when nothing is left to do.
    pub(in crate::coherence) fn check_at_rest(&self) -> Result<(), Failure> {
        let stuck = |what| Err(Failure::Stuck { what });
        for (&id, node) in &self.nodes {
            if !node.wants.is_empty() {
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
        let Some(home) = self.nodes.get(&self.rules.home) else {
            return Ok(());
        };
        for (_, entry) in home.protocol.directory().unwrap().entries() {
            if entry.transaction().is_some() || entry.queue().next().is_some() {
                return stuck("an entry");
            }
        }
        for granule in 0..self.rules.granules {
            let (origin, readers) = self.home_entry(granule).unwrap_or_default();
            let copies = |id: &NodeId| self.nodes[id].memory.contains_key(&granule);
            let holders: Vec<NodeId> = self.nodes.keys().copied().filter(copies).collect();
            if readers != holders {
                return Err(Failure::Disagree {
                    granule,
                    node: self.rules.home,
                    what: "readers",
                });
            }
            if (origin == Origin::Lost) && !holders.is_empty() {
                return Err(Failure::Disagree {
                    granule,
                    node: self.rules.home,
                    what: "lost",
                });
            }
        }
        Ok(())
    }

    fn home_entry(&self, granule: u64) -> Option<(Origin, Vec<NodeId>)> {
        let entry = self
            .nodes
            .get(&self.rules.home)?
            .protocol
            .directory()?
            .entry(granule)?;
        Some((entry.origin(), entry.readers().iter().collect()))
    }
}
