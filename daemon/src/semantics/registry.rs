//! The objects of one kind at their home: by key, by id, by index.

use std::collections::{BTreeSet, HashMap};

use dipc_wire::call::PRIVATE;
use dipc_wire::{Errno, Kind, NodeId, ObjectId};

use super::limits::Limits;

/// Objects of one kind. It counts and finds them, and knows nothing of what
/// they do.
#[derive(Clone, Debug)]
pub struct Registry<T> {
    home: NodeId,
    kind: Kind,
    weight: u64,
    next_serial: u32,
    /// The place of an object here is its index for `*_STAT` (behaviour 117).
    slots: Vec<Option<Slot<T>>>,
    free: BTreeSet<usize>,
    indices: HashMap<ObjectId, usize>,
    keys: HashMap<i32, ObjectId>,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    id: ObjectId,
    /// [`PRIVATE`] when it can be found by none.
    key: i32,
    weight: u64,
    object: T,
}

impl<T> Registry<T> {
    /// None yet. Ids begin with `first_serial`: one that an earlier life of
    /// this home is unlikely to have given last.
    pub fn new(home: NodeId, kind: Kind, first_serial: u32) -> Self {
        Registry {
            home,
            kind,
            weight: 0,
            next_serial: first_serial,
            slots: Vec::new(),
            free: BTreeSet::new(),
            indices: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// The object with this key; never one that was made with [`PRIVATE`].
    pub fn find(&self, key: i32) -> Option<(ObjectId, &T)> {
        let &id = self.keys.get(&key)?;
        Some((id, self.get(id)?))
    }

    /// Makes an object; [`weight`](super::limits::weight) says how heavy it is.
    ///
    /// ENOSPC when there are too many here, or they weigh too much together
    /// (behaviour 16); EEXIST when the key is another's. Then `make` has not
    /// been called. In a cluster of several nodes the referee has counted those
    /// of all nodes before.
    pub fn insert(
        &mut self,
        limits: &Limits,
        key: i32,
        weight: u64,
        make: impl FnOnce(ObjectId) -> T,
    ) -> Result<ObjectId, Errno> {
        if key != PRIVATE && self.keys.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        let total = self
            .weight
            .checked_add(weight)
            .filter(|&total| total <= limits.total(self.kind));
        let total = total.ok_or(Errno::ENOSPC)?;
        if self.indices.len() as u64 >= limits.objects(self.kind) {
            return Err(Errno::ENOSPC);
        }
        let id = self.fresh_id().ok_or(Errno::ENOSPC)?;
        let slot = Slot {
            id,
            key,
            weight,
            object: make(id),
        };
        let index = match self.free.pop_first() {
            Some(index) => {
                self.slots[index] = Some(slot);
                index
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        };
        self.indices.insert(id, index);
        if key != PRIVATE {
            self.keys.insert(key, id);
        }
        self.weight = total;
        Ok(id)
    }

    /// The object with this id.
    pub fn get(&self, id: ObjectId) -> Option<&T> {
        Some(&self.slot(id)?.object)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: ObjectId) -> Option<&mut T> {
        let &index = self.indices.get(&id)?;
        Some(&mut self.slots.get_mut(index)?.as_mut()?.object)
    }

    /// The key under which this object can be found.
    pub fn key(&self, id: ObjectId) -> Option<i32> {
        self.slot(id)
            .map(|slot| slot.key)
            .filter(|&key| key != PRIVATE)
    }

    /// From now on the object is found by its id only, and its key is free
    /// (behaviour 21). Returns the key that it had.
    pub fn release_key(&mut self, id: ObjectId) -> Option<i32> {
        let &index = self.indices.get(&id)?;
        let slot = self.slots.get_mut(index)?.as_mut()?;
        let key = std::mem::replace(&mut slot.key, PRIVATE);
        self.keys.remove(&key).map(|_| key)
    }

    /// The object is no more; its id will not be given again for long.
    pub fn remove(&mut self, id: ObjectId) -> Option<T> {
        self.release_key(id);
        let index = self.indices.remove(&id)?;
        let slot = self.slots.get_mut(index)?.take()?;
        self.weight -= slot.weight;
        self.free.insert(index);
        while let Some(None) = self.slots.last() {
            self.slots.pop();
            self.free.remove(&self.slots.len());
        }
        Some(slot.object)
    }

    /// The object with this index, for `*_STAT` (behaviour 117).
    pub fn at_index(&self, index: usize) -> Option<(ObjectId, &T)> {
        let slot = self.slots.get(index)?.as_ref()?;
        Some((slot.id, &slot.object))
    }

    /// What `*_INFO` returns; 0 also when there is none (behaviour 118).
    pub fn highest_index(&self) -> usize {
        self.slots.len().saturating_sub(1)
    }

    /// All objects with their ids, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &T)> {
        self.slots
            .iter()
            .flatten()
            .map(|slot| (slot.id, &slot.object))
    }

    /// What each of them weighs.
    pub fn weights(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        let slots = self.slots.iter().flatten();
        slots.map(|slot| (slot.id, slot.weight))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// What they weigh together: semaphores, pages.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    fn slot(&self, id: ObjectId) -> Option<&Slot<T>> {
        self.slots.get(*self.indices.get(&id)?)?.as_ref()
    }

    /// The next id that no living object has. Serials go round, so that an id
    /// comes back as late as possible (behaviour 20).
    fn fresh_id(&mut self) -> Option<ObjectId> {
        for _ in 0..ObjectId::SERIALS {
            let id = ObjectId::new(self.home, self.next_serial);
            self.next_serial = self.next_serial.wrapping_add(1);
            if !self.indices.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::node;
    use super::*;

    /// A registry with limits of its own.
    struct Limited(Registry<ObjectId>, Limits);

    impl Limited {
        fn insert(
            &mut self,
            key: i32,
            weight: u64,
            make: impl FnOnce(ObjectId) -> ObjectId,
        ) -> Result<ObjectId, Errno> {
            self.0.insert(&self.1, key, weight, make)
        }
    }

    impl std::ops::Deref for Limited {
        type Target = Registry<ObjectId>;
        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    impl std::ops::DerefMut for Limited {
        fn deref_mut(&mut self) -> &mut Self::Target {
            &mut self.0
        }
    }

    fn registry(max_objects: u64, max_weight: u64) -> Limited {
        let limits = Limits {
            semmni: max_objects,
            semmns: max_weight,
            ..Limits::LINUX
        };
        Limited(Registry::new(node(3), Kind::Sem, 0), limits)
    }

    #[test]
    fn an_object_is_found_by_key_id_and_index_until_it_is_removed() {
        let mut registry = registry(10, 100);
        let id = registry.insert(5, 1, |id| id).unwrap();
        assert_eq!(registry.find(5), Some((id, &id)));
        assert_eq!(registry.get(id), Some(&id));
        assert_eq!(registry.at_index(0), Some((id, &id)));
        assert_eq!(registry.remove(id), Some(id));
        assert_eq!(
            (registry.find(5), registry.get(id), registry.at_index(0)),
            (None, None, None)
        );
        assert_eq!(registry.remove(id), None);
    }

    #[test]
    fn too_many_objects_and_too_much_weight_are_enospc_behaviour_16() {
        let mut registry = registry(2, 10);
        let id = registry.insert(PRIVATE, 10, |id| id).unwrap();
        let never = |_| panic!("made");
        assert_eq!(registry.insert(PRIVATE, 1, never), Err(Errno::ENOSPC));
        assert_eq!(
            registry.insert(PRIVATE, u64::MAX, never),
            Err(Errno::ENOSPC)
        );
        registry.insert(PRIVATE, 0, |id| id).unwrap();
        assert_eq!(registry.insert(PRIVATE, 0, never), Err(Errno::ENOSPC));
        registry.remove(id);
        assert_eq!((registry.len(), registry.weight()), (1, 0));
        registry.insert(PRIVATE, 10, |id| id).unwrap();
    }

    #[test]
    fn a_released_key_is_free_at_once_and_the_object_stays_behaviour_21() {
        let mut registry = registry(10, 100);
        let old = registry.insert(5, 1, |id| id).unwrap();
        assert_eq!(registry.insert(5, 1, |id| id), Err(Errno::EEXIST));
        assert_eq!(registry.key(old), Some(5));
        assert_eq!(registry.release_key(old), Some(5));
        assert_eq!((registry.find(5), registry.key(old)), (None, None));
        let new = registry.insert(5, 1, |id| id).unwrap();
        assert_ne!(old, new);
        assert_eq!(registry.release_key(old), None);
        registry.remove(old);
        assert_eq!(registry.find(5), Some((new, &new)));
    }

    #[test]
    fn private_objects_have_no_key_behaviour_11() {
        let mut registry = registry(10, 100);
        let (a, b) = (
            registry.insert(PRIVATE, 1, |id| id),
            registry.insert(PRIVATE, 1, |id| id),
        );
        assert_ne!(a.unwrap(), b.unwrap());
        assert_eq!(registry.find(PRIVATE), None);
    }

    #[test]
    fn serials_go_round_and_step_over_those_in_use_behaviour_20() {
        let mut registry = registry(10, 100);
        registry.next_serial = ObjectId::SERIALS - 2;
        let mut next = || registry.insert(PRIVATE, 0, |id| id).unwrap().serial();
        assert_eq!(
            [next(), next(), next()],
            [ObjectId::SERIALS - 2, ObjectId::SERIALS - 1, 0]
        );
        registry.remove(ObjectId::new(node(3), 0));
        registry.next_serial = ObjectId::SERIALS - 2;
        let mut next = || registry.insert(PRIVATE, 0, |id| id).unwrap().serial();
        assert_eq!([next(), next()], [0, 1]);
    }

    proptest! {
        #[test]
        fn counts_keys_and_indices_agree_after_any_history(
            steps in proptest::collection::vec((0..4i32, 0..6u64, any::<prop::sample::Index>()), 0..80)
        ) {
            let mut registry = registry(8, 20);
            let mut alive: Vec<(ObjectId, i32, u64)> = Vec::new();
            for (key, weight, which) in steps {
                if which.index(3) > 0 || alive.is_empty() {
                    let total: u64 = alive.iter().map(|(.., weight)| weight).sum();
                    let taken = key != PRIVATE && alive.iter().any(|&(_, other, _)| other == key);
                    let full = alive.len() == 8 || total + weight > 20;
                    match registry.insert(key, weight, |id| id) {
                        Ok(id) => {
                            prop_assert!(!taken && !full);
                            prop_assert!(alive.iter().all(|&(other, ..)| other != id));
                            alive.push((id, key, weight));
                        }
                        Err(errno) => prop_assert_eq!(
                            errno,
                            if taken { Errno::EEXIST } else { prop_assert!(full); Errno::ENOSPC }
                        ),
                    }
                } else {
                    let (id, ..) = alive.swap_remove(which.index(alive.len()));
                    prop_assert_eq!(registry.remove(id), Some(id));
                }
                prop_assert_eq!(registry.len(), alive.len());
                prop_assert_eq!(registry.iter().count(), alive.len());
                prop_assert!(alive.is_empty() || registry.at_index(registry.highest_index()).is_some());
                prop_assert!(registry.at_index(registry.highest_index() + 1).is_none());
                for &(id, key, _) in &alive {
                    prop_assert_eq!(registry.get(id), Some(&id));
                    prop_assert_eq!(registry.find(key).map(|(id, _)| id), (key != PRIVATE).then_some(id));
                }
            }
        }
    }

    #[test]
    fn the_lowest_free_index_is_used_first() {
        let mut registry = registry(10, 100);
        let ids: Vec<_> = (0..4)
            .map(|_| registry.insert(PRIVATE, 1, |id| id).unwrap())
            .collect();
        registry.remove(ids[1]);
        registry.remove(ids[2]);
        assert_eq!(registry.highest_index(), 3);
        let id = registry.insert(PRIVATE, 1, |id| id).unwrap();
        assert_eq!(registry.at_index(1), Some((id, &id)));
        registry.remove(ids[3]);
        assert_eq!(registry.highest_index(), 1);
    }
}
