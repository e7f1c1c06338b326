//! What is to happen, in the order in which it will.

use std::collections::BTreeMap;

/// Events by time. Those of the same time happen in the order in which they
/// were entered, so that a run depends on nothing but its seed.
pub(super) struct Agenda<E> {
    events: BTreeMap<(u64, u64), E>,
    entered: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Agenda {
            events: BTreeMap::new(),
            entered: 0,
        }
    }
}

impl<E> Agenda<E> {
    pub(super) fn enter(&mut self, at: u64, event: E) {
        self.entered += 1;
        self.events.insert((at, self.entered), event);
    }

    pub(super) fn next(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
