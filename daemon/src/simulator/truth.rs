//! What every node's memory holds, and what was written last: seen from above,
//! as no node can.

use std::collections::BTreeMap;

use dipc_wire::ObjectId;
use dipc_wire::coherence::Access;

use super::letters::LifeId;

/// What a node's memory has of a granule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cell {
    /// The number of the write that made it, 0 for zeros.
    pub(super) value: u64,
    pub(super) access: Access,
}

type Place = (ObjectId, u64);

/// All memory of the cluster.
#[derive(Default)]
pub(super) struct Truth {
    copies: BTreeMap<Place, BTreeMap<LifeId, Cell>>,
    written: BTreeMap<Place, u64>,
    writes: u64,
}

impl Truth {
    pub(super) fn get(&self, life: LifeId, id: ObjectId, granule: u64) -> Option<Cell> {
        self.copies.get(&(id, granule))?.get(&life).copied()
    }

    /// A node's memory changes. An error is what is not coherent now.
    pub(super) fn put(
        &mut self,
        life: LifeId,
        id: ObjectId,
        granule: u64,
        cell: Option<Cell>,
    ) -> Result<(), String> {
        let copies = self.copies.entry((id, granule)).or_default();
        match cell {
            Some(cell) => copies.insert(life, cell),
            None => copies.remove(&life),
        };
        self.check(id, granule)
    }

    /// A thread writes what it may write.
    pub(super) fn write(&mut self, life: LifeId, id: ObjectId, granule: u64) -> Result<(), String> {
        self.writes += 1;
        let value = self.writes;
        self.written.insert((id, granule), value);
        let access = Access::Write;
        self.put(life, id, granule, Some(Cell { value, access }))
    }

    /// The memory of a node is gone.
    pub(super) fn forget(&mut self, life: LifeId) {
        self.copies
            .values_mut()
            .for_each(|copies| _ = copies.remove(&life));
    }

    /// A node gives up all that it has of a segment.
    pub(super) fn forget_segment(&mut self, life: LifeId, id: ObjectId) {
        let of_segment = self.copies.range_mut((id, 0)..=(id, u64::MAX));
        of_segment.for_each(|(_, copies)| _ = copies.remove(&life));
    }

    /// Who has a copy.
    pub(super) fn holders(&self, id: ObjectId, granule: u64) -> impl Iterator<Item = LifeId> {
        let copies = self.copies.get(&(id, granule));
        copies.into_iter().flat_map(|copies| copies.keys().copied())
    }

    fn check(&self, id: ObjectId, granule: u64) -> Result<(), String> {
        let Some(copies) = self.copies.get(&(id, granule)) else {
            return Ok(());
        };
        let written = self.written.get(&(id, granule)).copied().unwrap_or(0);
        for (life, cell) in copies {
            if cell.access == Access::Write && copies.len() > 1 {
                return Err(format!(
                    "{life:?} may write granule {granule} of {id:?}, and others have it"
                ));
            }
            if cell.value != written {
                return Err(format!(
                    "{life:?} has write {} of granule {granule} of {id:?}, not {written}",
                    cell.value
                ));
            }
        }
        Ok(())
    }
}
