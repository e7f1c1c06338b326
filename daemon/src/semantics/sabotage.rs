//! Faults that the tests put into the machines, to see that they are found.
//!
//! Each is asked for where it changes what happens, by a line that is only there
//! in tests. `against_kernel/mistakes.rs` says what became of them.

use std::cell::Cell;

/// A fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    /// Who came last to a set is first in line.
    LastComeFirstServed,
    /// An undo takes a semaphore below 0.
    UndoNotClamped,
    /// SETALL wakes nobody.
    SetAllWakesNobody,
    /// What SETVAL has settled is undone all the same.
    UndoOutlivesSetVal,
    /// A queue is full one byte early.
    FullOneByteEarly,
    /// `MSG_EXCEPT` is looked at for negative types too.
    ExceptForNegativeTypes,
}

thread_local! {
    static SABOTAGE: Cell<Option<Sabotage>> = const { Cell::new(None) };
}

/// Whether the machines of this thread have this fault.
pub(super) fn is(sabotage: Sabotage) -> bool {
    SABOTAGE.get() == Some(sabotage)
}

/// Gives the machines of this thread a fault, or none.
pub(crate) fn put(sabotage: Option<Sabotage>) {
    SABOTAGE.set(sabotage);
}
