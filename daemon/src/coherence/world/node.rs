//! One node: its machine, its memory, its threads.

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::Incarnation;
use dipc_wire::coherence::Access;

use super::Bytes;
use crate::coherence::Protocol;

/// What a node's memory has of a granule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::coherence) struct Cell {
    pub(in crate::coherence) bytes: Bytes,
    pub(in crate::coherence) access: Access,
}

/// A node that runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::coherence) struct Node {
    pub(in crate::coherence) protocol: Protocol,
    pub(in crate::coherence) incarnation: Incarnation,
    pub(in crate::coherence) memory: BTreeMap<u64, Cell>,
    /// Threads by what they want. Two that want the same are one: they are let
    /// go on together, and succeed together. True for one that may try (again),
    /// false for one that waits.
    pub(in crate::coherence) wants: BTreeMap<(u64, Access), bool>,
    /// When the machine asked to be called, and about which granule.
    pub(in crate::coherence) alarms: BTreeSet<(u64, u64)>,
    /// Drops that sabotage holds back.
    pub(super) late_drops: BTreeSet<u64>,
    pub(super) poisoned: BTreeSet<u64>,
    pub(super) segment_poisoned: bool,
}

impl Node {
    pub(super) fn new(protocol: Protocol, incarnation: Incarnation) -> Self {
        Node {
            protocol,
            incarnation,
            memory: BTreeMap::new(),
            wants: BTreeMap::new(),
            alarms: BTreeSet::new(),
            late_drops: BTreeSet::new(),
            poisoned: BTreeSet::new(),
            segment_poisoned: false,
        }
    }

    /// A thread's access would succeed.
    pub(in crate::coherence) fn can(&self, granule: u64, access: Access) -> bool {
        let cell = self.memory.get(&granule);
        cell.is_some_and(|cell| cell.access >= access)
    }

    /// A thread's access would be SIGBUS.
    pub(super) fn is_poisoned(&self, granule: u64) -> bool {
        let poisoned = self.segment_poisoned || self.poisoned.contains(&granule);
        poisoned && !self.memory.contains_key(&granule)
    }

    /// A thread was let go on and has not tried yet.
    pub(in crate::coherence) fn is_about_to_touch(&self, granule: u64) -> bool {
        let mut wants = self.wants.iter();
        wants.any(|(&(wanted, access), &ready)| {
            ready && wanted == granule && self.can(granule, access)
        })
    }

    /// Threads that wait for no more than `access` try again.
    pub(super) fn wake(&mut self, granule: u64, access: Access) {
        for (&(wanted, needed), ready) in &mut self.wants {
            *ready |= wanted == granule && needed <= access;
        }
    }
}
