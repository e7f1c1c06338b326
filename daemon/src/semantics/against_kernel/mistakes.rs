//! Machines that are wrong on purpose: the comparison must notice, or it proves
//! nothing. `docs/testing.md` has the table of what it took.

use super::campaign::{Count, first_seed, plan, say};
use super::generate::{self, Shape};
use super::judge::Target;
use super::machines::Mistake;
use super::namespace::Kernel;
use super::shrink::shrink;
use crate::semantics::sabotage::{self, Sabotage};

/// By then it must be found; most are within a few hundred calls.
const CALLS: u64 = 200_000;
/// Tries to shorten what found it.
const TRIES: usize = 120;

/// Shorter ones than elsewhere: less to cut off.
const SHAPE: Shape = Shape {
    steps: 60,
    deaths: 20,
    same: 3,
};

fn is_found(name: &str, mistake: Option<Mistake>, sabotage: Option<Sabotage>) {
    let Some(mut kernel) = Kernel::new() else {
        return;
    };
    sabotage::put(sabotage);
    let mut count = Count::default();
    let first = first_seed();
    while count.calls < CALLS {
        let history = generate::history(first.wrapping_add(count.histories), SHAPE);
        let planned = plan(&kernel, &history, mistake);
        count.add(&planned);
        if kernel.play(&planned).is_err() {
            let fails = |history: &_| {
                let planned = plan(&kernel, history, mistake);
                kernel.play(&planned).is_err()
            };
            let short = shrink(&history, TRIES, fails);
            say(&format!(
                "{name}: found within {} calls, by {} steps",
                count.calls,
                short.0.len()
            ));
            return;
        }
    }
    panic!("{name} is not found by {} calls", count.calls);
}

#[test]
fn a_reversed_wake_order_is_found() {
    let sabotage = Some(Sabotage::LastComeFirstServed);
    is_found("a reversed wake order", None, sabotage);
}

#[test]
fn an_undo_without_clamp_is_found() {
    let sabotage = Some(Sabotage::UndoNotClamped);
    is_found("an undo without clamp", None, sabotage);
}

#[test]
fn too_many_operations_looked_at_after_the_id_is_found() {
    let mistake = Some(Mistake::TooManyAfterId);
    is_found("E2BIG after the id check", mistake, None);
}

#[test]
fn a_setall_that_wakes_nobody_is_found() {
    let sabotage = Some(Sabotage::SetAllWakesNobody);
    is_found("a SETALL that wakes nobody", None, sabotage);
}

#[test]
fn an_undo_that_outlives_setval_is_found() {
    let sabotage = Some(Sabotage::UndoOutlivesSetVal);
    is_found("an undo that outlives SETVAL", None, sabotage);
}

#[test]
fn a_queue_that_is_full_one_byte_early_is_found() {
    let sabotage = Some(Sabotage::FullOneByteEarly);
    is_found("a queue that is full one byte early", None, sabotage);
}

#[test]
fn msg_except_for_negative_types_is_found() {
    let sabotage = Some(Sabotage::ExceptForNegativeTypes);
    is_found("MSG_EXCEPT for negative types", None, sabotage);
}

#[test]
fn a_segment_that_outlives_its_last_detach_is_found() {
    let mistake = Some(Mistake::OutlivesItsLastDetach);
    is_found("a segment that outlives its last detach", mistake, None);
}

#[test]
fn an_exit_that_forgets_its_attachments_is_found() {
    let mistake = Some(Mistake::ExitForgetsAttachments);
    is_found("an exit that forgets its attachments", mistake, None);
}
