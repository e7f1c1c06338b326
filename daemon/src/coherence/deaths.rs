//! Which nodes are dead, as far as this one knows.

use std::collections::BTreeMap;

use dipc_wire::{Incarnation, NodeId};

use super::NodeSet;

/// The dead, and those who were.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(super) struct Deaths {
    dead: NodeSet,
    /// The last life of each node that ended.
    last: BTreeMap<NodeId, Incarnation>,
}

impl Deaths {
    /// This life of a node has ended; false if that was known.
    pub(super) fn died(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let news = !self.is_over(node, incarnation);
        if news {
            self.dead.insert(node);
            self.last.insert(node, incarnation);
        }
        news
    }

    /// A later life of a node has begun.
    pub(super) fn joined(&mut self, node: NodeId, incarnation: Incarnation) {
        if !self.is_over(node, incarnation) {
            self.dead.remove(node);
        }
    }

    /// The node is dead and has not come back.
    pub(super) fn is_dead(&self, node: NodeId) -> bool {
        self.dead.contains(node)
    }

    /// This life of the node has ended, whether or not a later one has begun.
    pub(super) fn is_over(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.last
            .get(&node)
            .is_some_and(|&last| incarnation <= last)
    }
}
