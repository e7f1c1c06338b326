//! SEM_UNDO, dead nodes, and grants that nobody learned of.

use super::super::super::testing::{NOW, node, pid, pid_on};
use super::{BLOCKED, DONE, GRANTED, Table, UNDO, op, with};

#[test]
fn exit_gives_back_what_was_taken_and_wakes_behaviours_49_50_51() {
    let mut table = Table::new(&[1, 0]);
    assert_eq!(table.op(1, &[with(0, -1, UNDO), with(1, 1, UNDO)]), DONE);
    assert_eq!(table.op(2, &[op(0, -1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(1, 3), op(0, 0)]), DONE);
    table.now += 9;
    table.exit(1);
    assert_eq!(table.woken(), [(2, GRANTED)]);
    assert_eq!((table.values(), table.otime()), (vec![0, 3], NOW + 9));
    assert_eq!((table.last(0), table.last(1)), (Some(pid(2)), Some(pid(1))));
    table.exit(1);
    assert_eq!(table.values(), [0, 3]);
}

#[test]
fn what_exit_gives_back_stays_between_0_and_semvmx_behaviour_49() {
    let mut table = Table::new(&[0, 32_767]);
    assert_eq!(table.op(1, &[with(0, 5, UNDO), with(1, -5, UNDO)]), DONE);
    assert_eq!(table.op(2, &[op(0, -3), op(1, 3)]), DONE);
    table.exit(1);
    assert_eq!(table.values(), [0, 32_767]);
}

#[test]
fn setval_clears_that_adjustment_of_everybody_and_setall_all_behaviour_52() {
    let mut table = Table::new(&[9, 9]);
    for process in [1, 2] {
        assert_eq!(
            table.op(process, &[with(0, -1, UNDO), with(1, -1, UNDO)]),
            DONE
        );
    }
    table.set_value(3, 0, 4).unwrap();
    table.exit(1);
    assert_eq!(table.values(), [4, 8]);
    table.set_all(3, &[1, 1]).unwrap();
    table.exit(2);
    assert_eq!(table.values(), [1, 1]);
}

#[test]
fn a_blocked_operation_has_its_adjustment_when_it_completes_not_before_behaviour_57() {
    let mut table = Table::new(&[0]);
    assert_eq!(table.op(1, &[with(0, -1, UNDO)]), BLOCKED);
    table.exit(1);
    assert_eq!(table.values(), [0]);
    assert_eq!(table.op(2, &[op(0, 1)]), DONE);
    assert_eq!(table.values(), [0]);
    table.exit(1);
    assert_eq!(table.values(), [1]);
}

#[test]
fn operations_without_undo_leave_the_adjustment_alone_behaviour_58() {
    let mut table = Table::new(&[1]);
    assert_eq!(table.op(1, &[with(0, -1, UNDO)]), DONE);
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    table.exit(1);
    assert_eq!(table.values(), [2]);
}

#[test]
fn a_dead_nodes_processes_are_undone_and_its_waiters_dropped_behaviour_59() {
    let mut table = Table::new(&[2]);
    assert_eq!(table.by(pid_on(2, 50), &[with(0, -1, UNDO)]), DONE);
    assert_eq!(table.by(pid_on(2, 51), &[with(0, -1, UNDO)]), DONE);
    assert_eq!(table.by(pid_on(2, 52), &[op(0, -2)]), BLOCKED);
    assert_eq!(table.by(pid_on(3, 53), &[op(0, -2)]), BLOCKED);
    table.set.forget_node(node(2), NOW, &mut table.wakes);
    assert_eq!(table.woken(), [(53, GRANTED)]);
    assert_eq!((table.values(), table.counts(0)), (vec![0], (0, 0)));
}

#[test]
fn a_grant_that_its_process_never_saw_goes_to_the_next_waiter() {
    let mut table = Table::new(&[0, 0]);
    let ops = [op(0, -1), op(1, 2)];
    assert_eq!(table.op(2, &ops), BLOCKED);
    assert_eq!(table.op(3, &[op(0, -1)]), BLOCKED);
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED)]);
    table.revert(2, &ops);
    assert_eq!(table.woken(), [(3, GRANTED)]);
    assert_eq!(table.values(), [0, 0]);
}

#[test]
fn a_reverted_undo_operation_is_given_back_once_before_or_after_exit() {
    let ops = [with(0, -1, UNDO)];
    for exit_first in [false, true] {
        let mut table = Table::new(&[5]);
        assert_eq!(table.op(2, &[with(0, -2, UNDO)]), DONE);
        assert_eq!(table.op(2, &ops), DONE);
        if exit_first {
            table.exit(2);
            table.revert(2, &ops);
        } else {
            table.revert(2, &ops);
            assert_eq!(table.values(), [3]);
            table.exit(2);
        }
        assert_eq!(table.values(), [5], "exit first: {exit_first}");
    }
}

#[test]
fn reverting_what_setval_has_overridden_or_what_is_nonsense_is_harmless() {
    let mut table = Table::new(&[5]);
    assert_eq!(table.op(2, &[with(0, -1, UNDO)]), DONE);
    table.set_value(1, 0, 7).unwrap();
    table.revert(2, &[with(0, -1, UNDO)]);
    assert_eq!(table.values(), [7]);
    table.revert(
        2,
        &[
            op(1, -1),
            op(u16::MAX, 1),
            with(u16::MAX, i16::MIN, UNDO),
            op(0, i16::MIN),
        ],
    );
    assert_eq!(table.values(), [32_767]);
    table.revert(2, &[op(0, i16::MAX), op(0, i16::MAX)]);
    assert_eq!(table.values(), [0]);
}
