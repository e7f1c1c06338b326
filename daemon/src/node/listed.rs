//! What one process has listed, and what it may therefore not remove.
//!
//! `ipcrm -a` lists everything and removes what it has listed: without a word
//! about dipc it would sweep the cluster. So an object that a process knows
//! from a list only is not its to remove. It is once the process has made it or
//! asked for its key; and an id that came from elsewhere (a command line, a
//! file) was never listed by this process, and is nobody's concern here.
//!
//! ```text
//!                   listed      not listed
//!   got by *get     may         may
//!   not got         may not     may
//! ```

use std::collections::HashSet;

use dipc_wire::{Kind, ObjectId};

/// A process that has got more ids than this made them itself, and is no
/// `ipcrm`: what it gets is no longer noted, and nothing is kept from it.
const MOST: usize = 1 << 16;

/// What a process knows. It begins with nothing, in a forked child too.
#[derive(Default)]
pub(super) struct Listed {
    kinds: [OfKind; Kind::ALL.len()],
}

#[derive(Default)]
struct OfKind {
    /// The order of the last list, for `*_STAT` by index.
    order: Vec<ObjectId>,
    /// What it knows from lists.
    listed: HashSet<ObjectId>,
    /// What it has made, or found by key.
    got: HashSet<ObjectId>,
}

impl Listed {
    /// The process was told these, in this order, by `*_INFO`. With `sweep` it
    /// may remove them all the same.
    pub(super) fn census(&mut self, kind: Kind, order: Vec<ObjectId>, sweep: bool) {
        self.saw(kind, order.iter().copied(), sweep);
        self.of(kind).order = order;
    }

    /// It asks for a place beyond the list: what is new comes behind, so that no
    /// object changes its place under a program that goes through them.
    pub(super) fn refresh(
        &mut self,
        kind: Kind,
        ids: impl Iterator<Item = ObjectId> + Clone,
        sweep: bool,
    ) {
        let of = self.of(kind);
        let known: HashSet<ObjectId> = of.order.iter().copied().collect();
        of.order
            .extend(ids.clone().filter(|id| !known.contains(id)));
        self.saw(kind, ids, sweep);
    }

    /// It was told these without an order, by `/proc/sysvipc`.
    pub(super) fn saw(&mut self, kind: Kind, ids: impl Iterator<Item = ObjectId>, sweep: bool) {
        let of = self.of(kind);
        // What is on no later list is no more, and its id may name another object.
        of.listed.clear();
        if !sweep {
            of.listed.extend(ids);
        }
    }

    /// Which object is at this place of the last list.
    pub(super) fn at(&mut self, kind: Kind, place: u32) -> Option<ObjectId> {
        self.of(kind).order.get(place as usize).copied()
    }

    /// It has made this object, or found it by key.
    pub(super) fn got(&mut self, kind: Kind, id: ObjectId) {
        let got = &mut self.of(kind).got;
        if got.len() < MOST {
            got.insert(id);
        }
    }

    /// Whether it has.
    pub(super) fn has_got(&mut self, kind: Kind, id: ObjectId) -> bool {
        let got = &self.of(kind).got;
        got.len() >= MOST || got.contains(&id)
    }

    /// Whether all it knows of this object is that it is there.
    pub(super) fn only_lists(&mut self, kind: Kind, id: ObjectId) -> bool {
        self.of(kind).listed.contains(&id) && !self.has_got(kind, id)
    }

    fn of(&mut self, kind: Kind) -> &mut OfKind {
        &mut self.kinds[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::NodeId;

    use super::*;

    const SEM: Kind = Kind::Sem;

    fn id(serial: u32) -> ObjectId {
        ObjectId::new(NodeId::SOLO, serial)
    }

    #[test]
    fn an_object_that_is_only_listed_is_not_to_be_removed() {
        let mut known = Listed::default();
        assert!(!known.only_lists(SEM, id(1)), "an id from elsewhere");
        known.census(SEM, vec![id(1), id(2)], false);
        known.got(SEM, id(2));
        assert!(known.only_lists(SEM, id(1)));
        assert!(!known.only_lists(SEM, id(2)), "it was asked for by key");
        assert!(!known.only_lists(SEM, id(3)), "it was never listed");
        assert!(
            !known.only_lists(Kind::Msg, id(1)),
            "the same id of another kind"
        );
    }

    #[test]
    fn what_was_made_before_or_after_the_list_is_the_processs_own() {
        let mut known = Listed::default();
        known.got(SEM, id(1));
        known.saw(SEM, [id(1), id(2)].into_iter(), false);
        known.got(SEM, id(2));
        assert!(!known.only_lists(SEM, id(1)) && !known.only_lists(SEM, id(2)));
    }

    #[test]
    fn who_says_that_it_sweeps_may_remove_what_it_lists() {
        let mut known = Listed::default();
        known.census(SEM, vec![id(1)], true);
        known.saw(SEM, [id(1)].into_iter(), true);
        assert!(!known.only_lists(SEM, id(1)));
        assert_eq!(known.at(SEM, 0), Some(id(1)));
    }

    #[test]
    fn a_place_keeps_its_object_when_the_list_grows() {
        let mut known = Listed::default();
        known.census(SEM, vec![id(3), id(5)], false);
        known.refresh(SEM, [id(1), id(3), id(4)].into_iter(), false);
        let places = [0, 1, 2, 3, 4].map(|place| known.at(SEM, place));
        assert_eq!(
            places,
            [Some(id(3)), Some(id(5)), Some(id(1)), Some(id(4)), None]
        );
        assert!(known.only_lists(SEM, id(4)));
    }

    #[test]
    fn who_makes_very_many_objects_is_no_sweeper() {
        let mut known = Listed::default();
        (0..MOST as u32).for_each(|serial| known.got(SEM, id(serial)));
        let other = id(MOST as u32 + 1);
        known.census(SEM, vec![other], false);
        assert!(!known.only_lists(SEM, other));
    }
}
