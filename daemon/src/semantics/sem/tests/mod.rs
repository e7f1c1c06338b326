//! One test a behaviour.

use dipc_wire::call::{SemOp, flags};
use dipc_wire::{Errno, Pid};

use super::super::testing::{NOW, caller, permissions, pid, root, user, woken};
use super::super::{Credentials, Granted, Outcome, Setting, Ticket, Wake};
use super::SemSet;

mod undo;

const NOWAIT: u16 = flags::NOWAIT as u16;
const UNDO: u16 = flags::UNDO as u16;
const DONE: Result<Outcome<()>, Errno> = Ok(Outcome::Done(()));
const BLOCKED: Result<Outcome<()>, Errno> = Ok(Outcome::Blocked);
const GRANTED: Result<Granted, Errno> = Ok(Granted::Done);

fn op(num: u16, op: i16) -> SemOp {
    SemOp { num, op, flags: 0 }
}

fn with(num: u16, op: i16, flags: u16) -> SemOp {
    SemOp { num, op, flags }
}

/// A set, its owner, and what it has pushed. The ticket of a call is its pid.
struct Table {
    set: SemSet,
    owner: Credentials,
    wakes: Vec<Wake>,
    now: i64,
}

impl Table {
    fn new(values: &[u16]) -> Self {
        let set = SemSet::new(permissions(0o600), values.len() as u16, NOW);
        let mut table = Table {
            set,
            owner: user(1000),
            wakes: Vec::new(),
            now: NOW,
        };
        for (num, &value) in (0..).zip(values) {
            table.set_value(9999, num, value.into()).unwrap();
        }
        table
    }

    fn by(&mut self, pid: Pid, ops: &[SemOp]) -> Result<Outcome<()>, Errno> {
        let ticket = Ticket(pid.pid.into());
        self.set.operate(
            ops,
            caller(pid, &self.owner),
            ticket,
            self.now,
            &mut self.wakes,
        )
    }

    fn op(&mut self, process: u32, ops: &[SemOp]) -> Result<Outcome<()>, Errno> {
        self.by(pid(process), ops)
    }

    fn set_value(&mut self, process: u32, num: i32, value: i32) -> Result<(), Errno> {
        let who = caller(pid(process), &self.owner);
        self.set
            .set_value(who, num, value, self.now, &mut self.wakes)
    }

    fn set_all(&mut self, process: u32, values: &[u16]) -> Result<(), Errno> {
        let who = caller(pid(process), &self.owner);
        self.set.set_all(who, values, self.now, &mut self.wakes)
    }

    fn exit(&mut self, process: u32) {
        self.set.exit(pid(process), self.now, &mut self.wakes);
    }

    fn revert(&mut self, process: u32, ops: &[SemOp]) {
        self.set
            .revert(ops, pid(process), self.now, &mut self.wakes);
    }

    fn values(&self) -> Vec<u16> {
        self.set.get_all(caller(pid(1), &root())).unwrap().collect()
    }

    fn last(&self, num: i32) -> Option<Pid> {
        self.set.get_pid(caller(pid(1), &root()), num).unwrap()
    }

    /// GETNCNT and GETZCNT.
    fn counts(&self, num: i32) -> (i32, i32) {
        let who = root();
        let who = caller(pid(1), &who);
        (
            self.set.ncnt(who, num).unwrap(),
            self.set.zcnt(who, num).unwrap(),
        )
    }

    fn otime(&self) -> i64 {
        self.set.stat(caller(pid(1), &root()), false).unwrap().otime
    }

    fn ctime(&self) -> i64 {
        self.set.stat(caller(pid(1), &root()), false).unwrap().ctime
    }

    fn woken(&mut self) -> Vec<(u64, Result<Granted, Errno>)> {
        woken(&mut self.wakes)
    }
}

#[test]
fn a_new_set_is_zero_and_was_touched_by_nobody_behaviour_18() {
    let set = SemSet::new(permissions(0o600), 3, NOW);
    let who = root();
    let me = caller(pid(1), &who);
    assert_eq!(set.get_all(me).unwrap().collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(set.get_pid(me, 2), Ok(None));
    let stat = set.stat(me, false).unwrap();
    assert_eq!((stat.otime, stat.ctime, stat.nsems), (0, NOW, 3));
}

#[test]
fn more_semaphores_than_there_are_is_einval_and_fewer_are_found_behaviour_4() {
    let set = SemSet::new(permissions(0o600), 3, NOW);
    assert_eq!(set.check_get(&user(1000), 4, 0o600), Err(Errno::EINVAL));
    assert_eq!(set.check_get(&user(1000), 3, 0o600), Ok(()));
    assert_eq!(set.check_get(&user(1000), 0, 0o600), Ok(()));
}

#[test]
fn efbig_comes_before_eacces_and_before_eagain_behaviour_23() {
    let mut table = Table::new(&[0]);
    let stranger = user(2000);
    let mut operate = |ops: &[SemOp]| {
        table.set.operate(
            ops,
            caller(pid(2), &stranger),
            Ticket(2),
            NOW,
            &mut Vec::new(),
        )
    };
    assert_eq!(operate(&[with(0, -1, NOWAIT), op(1, 1)]), Err(Errno::EFBIG));
    assert_eq!(operate(&[with(0, -1, NOWAIT)]), Err(Errno::EACCES));
    assert_eq!(operate(&[]), Err(Errno::EINVAL));
}

#[test]
fn operations_apply_in_order_and_all_or_none_behaviours_27_28_29() {
    let mut table = Table::new(&[0, 5]);
    assert_eq!(table.op(1, &[op(0, 2), op(0, -2)]), DONE);
    let ops = [with(1, -3, UNDO), with(0, -2, NOWAIT), op(0, 2)];
    assert_eq!(table.op(1, &ops), Err(Errno::EAGAIN));
    assert_eq!(table.values(), [0, 5]);
    table.exit(1);
    assert_eq!(table.values(), [0, 5]);
}

#[test]
fn nowait_counts_on_the_operation_that_blocks_only_behaviour_30() {
    let mut table = Table::new(&[0, 0]);
    assert_eq!(
        table.op(1, &[with(0, -1, NOWAIT), op(1, -1)]),
        Err(Errno::EAGAIN)
    );
    assert_eq!(table.op(2, &[op(0, -1), with(1, -1, NOWAIT)]), BLOCKED);
    // Once the first can proceed, the second blocks, and must not.
    assert_eq!(table.op(3, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(2, Err(Errno::EAGAIN))]);
    assert_eq!(table.values(), [1, 0]);
}

#[test]
fn a_value_over_semvmx_is_erange_and_never_blocks_behaviour_31() {
    let mut table = Table::new(&[32_767, 1]);
    assert_eq!(table.op(1, &[op(1, -1), op(0, 1)]), Err(Errno::ERANGE));
    assert_eq!(
        table.op(1, &[with(0, i16::MAX, NOWAIT)]),
        Err(Errno::ERANGE)
    );
    assert_eq!(table.values(), [32_767, 1]);
}

#[test]
fn an_adjustment_out_of_range_is_erange_behaviour_32() {
    let mut table = Table::new(&[32_767]);
    assert_eq!(table.op(1, &[with(0, -32_767, UNDO)]), DONE);
    assert_eq!(table.op(2, &[op(0, 1)]), DONE);
    assert_eq!(table.op(1, &[with(0, -1, UNDO)]), Err(Errno::ERANGE));
    assert_eq!(table.values(), [1]);
    // A waiter learns it when its turn comes.
    assert_eq!(table.op(2, &[op(0, -1)]), DONE);
    assert_eq!(table.op(1, &[with(0, -1, UNDO)]), BLOCKED);
    assert_eq!(table.op(2, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(1, Err(Errno::ERANGE))]);
}

#[test]
fn waiting_for_zero_needs_read_and_anything_else_needs_alter_only_behaviour_33() {
    for (mode, zero, change) in [(0o604, true, false), (0o602, false, true)] {
        let mut set = SemSet::new(permissions(mode), 1, NOW);
        let who = user(2000);
        let mut may = |ops: &[SemOp]| {
            let done = set.operate(ops, caller(pid(2), &who), Ticket(2), NOW, &mut Vec::new());
            assert!(matches!(done, DONE | Err(Errno::EACCES)));
            done.is_ok()
        };
        assert_eq!(
            (may(&[op(0, 0)]), may(&[op(0, 0), op(0, 1)])),
            (zero, change)
        );
    }
}

#[test]
fn unknown_flags_are_ignored_behaviour_34() {
    let mut table = Table::new(&[0]);
    assert_eq!(table.op(1, &[with(0, 1, !NOWAIT & !UNDO)]), DONE);
    table.exit(1);
    assert_eq!(table.values(), [1]);
}

#[test]
fn success_sets_otime_and_the_pids_of_the_semaphores_named_behaviour_35() {
    let mut table = Table::new(&[0, 0, 0]);
    table.now += 5;
    assert_eq!(table.op(7, &[op(0, 0), op(2, 1)]), DONE);
    assert_eq!((table.otime(), table.ctime()), (NOW + 5, NOW));
    assert_eq!(
        [0, 1, 2].map(|num| table.last(num).unwrap().pid),
        [7, 9999, 7]
    );
    table.now += 5;
    assert_eq!(table.op(7, &[with(0, -1, NOWAIT)]), Err(Errno::EAGAIN));
    assert_eq!(table.otime(), NOW + 5);
}

#[test]
fn a_blocked_waiter_is_woken_by_removal_with_eidrm_behaviours_38_56() {
    let mut table = Table::new(&[1]);
    assert_eq!(table.op(1, &[with(0, -1, UNDO)]), DONE);
    assert_eq!(table.op(2, &[op(0, -1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(0, -1)]), BLOCKED);
    let (owner, stranger) = (user(1000), user(2000));
    assert_eq!(
        table
            .set
            .remove(caller(pid(9), &stranger), &mut table.wakes),
        Err(Errno::EPERM)
    );
    assert_eq!(
        table.set.remove(caller(pid(9), &owner), &mut table.wakes),
        Ok(())
    );
    assert_eq!(
        table.woken(),
        [(2, Err(Errno::EIDRM)), (3, Err(Errno::EIDRM))]
    );
    assert!(!table.set.withdraw(Ticket(2)));
    table.exit(1);
    assert_eq!((table.values(), table.woken()), (vec![0], vec![]));
}

#[test]
fn a_waiter_that_loses_its_permission_waits_on_and_succeeds_behaviour_39() {
    let mut table = Table::new(&[0]);
    let setting = Setting {
        uid: 1000,
        gid: 1000,
        mode: 0o602,
    };
    let (owner, other) = (user(1000), user(2000));
    table.set.set(caller(pid(9), &owner), setting, NOW).unwrap();
    let me = caller(pid(2), &other);
    assert_eq!(
        table
            .set
            .operate(&[op(0, -1)], me, Ticket(2), NOW, &mut table.wakes),
        BLOCKED
    );
    table
        .set
        .set(
            caller(pid(9), &owner),
            Setting {
                mode: 0o600,
                ..setting
            },
            NOW,
        )
        .unwrap();
    assert_eq!(table.woken(), []);
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED)]);
}

#[test]
fn a_waiter_is_counted_only_where_it_blocks_behaviours_40_41() {
    let mut table = Table::new(&[0, 0, 1]);
    assert_eq!(table.op(2, &[op(0, -1), op(1, -1), op(2, 0)]), BLOCKED);
    assert_eq!(
        [0, 1, 2].map(|num| table.counts(num)),
        [(1, 0), (0, 0), (0, 0)]
    );
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(
        [0, 1, 2].map(|num| table.counts(num)),
        [(0, 0), (1, 0), (0, 0)]
    );
    assert_eq!(table.op(1, &[op(1, 1)]), DONE);
    assert_eq!(
        [0, 1, 2].map(|num| table.counts(num)),
        [(0, 0), (0, 0), (0, 1)]
    );
    // And back, when what it had within reach is taken.
    assert_eq!(table.op(1, &[op(0, -1)]), DONE);
    assert_eq!(
        [0, 1, 2].map(|num| table.counts(num)),
        [(1, 0), (0, 0), (0, 0)]
    );
    assert!(table.set.withdraw(Ticket(2)));
    assert_eq!([0, 1, 2].map(|num| table.counts(num)), [(0, 0); 3]);
}

#[test]
fn the_first_that_can_proceed_is_served_and_holds_nobody_back_behaviour_42() {
    let mut table = Table::new(&[0]);
    for (process, wanted) in [(2, -2), (3, -1), (4, -1)] {
        assert_eq!(table.op(process, &[op(0, wanted)]), BLOCKED);
    }
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(3, GRANTED)]);
    assert_eq!(table.op(1, &[op(0, 3)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED), (4, GRANTED)]);
}

#[test]
fn a_post_is_handed_to_the_sleeper_and_cannot_be_taken_back_behaviours_43_45() {
    let mut table = Table::new(&[0]);
    assert_eq!(table.op(2, &[op(0, -1)]), BLOCKED);
    table.now += 1;
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED)]);
    assert_eq!(table.values(), [0]);
    assert_eq!(table.op(1, &[with(0, -1, NOWAIT)]), Err(Errno::EAGAIN));
    assert_eq!((table.last(0), table.otime()), (Some(pid(2)), NOW + 1));
}

#[test]
fn a_value_within_one_array_is_seen_by_nobody_behaviour_44() {
    let mut table = Table::new(&[1]);
    assert_eq!(table.op(2, &[op(0, 0)]), BLOCKED);
    assert_eq!(table.op(1, &[op(0, -1), op(0, 1)]), DONE);
    assert_eq!(table.woken(), []);
    assert_eq!(table.op(1, &[op(0, -1)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED)]);
}

#[test]
fn setval_and_setall_wake_whoever_can_proceed_behaviour_46() {
    let mut table = Table::new(&[0, 1]);
    assert_eq!(table.op(2, &[op(0, -1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(1, 0)]), BLOCKED);
    table.now += 1;
    table.set_value(1, 0, 2).unwrap();
    assert_eq!(table.woken(), [(2, GRANTED)]);
    assert_eq!(
        (table.values(), table.ctime(), table.otime()),
        (vec![1, 1], NOW + 1, NOW + 1)
    );
    table.set_all(1, &[0, 0]).unwrap();
    assert_eq!(table.woken(), [(3, GRANTED)]);
}

#[test]
fn one_post_completes_a_cascade_behaviour_47() {
    let mut table = Table::new(&[0, 0, 0]);
    assert_eq!(table.op(4, &[op(2, -1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(1, -1), op(2, 1)]), BLOCKED);
    assert_eq!(table.op(2, &[op(0, -1), op(1, 1)]), BLOCKED);
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(2, GRANTED), (3, GRANTED), (4, GRANTED)]);
    assert_eq!(table.values(), [0, 0, 0]);
}

#[test]
fn those_who_only_wait_for_zero_see_it_before_an_earlier_call_changes_it() {
    let mut table = Table::new(&[1]);
    assert_eq!(table.op(2, &[op(0, 0), op(0, 1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(0, 0)]), BLOCKED);
    assert_eq!(table.op(1, &[op(0, -1)]), DONE);
    assert_eq!(table.woken(), [(3, GRANTED), (2, GRANTED)]);
    assert_eq!(table.values(), [1]);
}

#[test]
fn setval_says_erange_before_einval_before_eacces_behaviours_60_61_65() {
    let mut table = Table::new(&[0]);
    let stranger = user(2000);
    let mut set = |num, value| {
        let who = caller(pid(2), &stranger);
        table.set.set_value(who, num, value, NOW, &mut Vec::new())
    };
    assert_eq!(set(5, -1), Err(Errno::ERANGE));
    assert_eq!(set(5, 32_768), Err(Errno::ERANGE));
    for num in [1, -1, 65_536] {
        assert_eq!(set(num, 1), Err(Errno::EINVAL), "{num}");
    }
    assert_eq!(set(0, 1), Err(Errno::EACCES));
}

#[test]
fn reading_a_semaphore_says_eacces_before_einval_behaviours_61_65() {
    let table = Table::new(&[0]);
    let (owner, stranger) = (user(1000), user(2000));
    for (who, num, errno) in [
        (&stranger, 5, Errno::EACCES),
        (&owner, 1, Errno::EINVAL),
        (&owner, -1, Errno::EINVAL),
    ] {
        let who = caller(pid(2), who);
        assert_eq!(table.set.get_value(who, num), Err(errno));
        assert_eq!(table.set.get_pid(who, num), Err(errno));
        assert_eq!(table.set.ncnt(who, num), Err(errno));
        assert_eq!(table.set.zcnt(who, num), Err(errno));
    }
    let who = caller(pid(2), &stranger);
    assert_eq!(table.set.get_all(who).err(), Some(Errno::EACCES));
    assert_eq!(table.set.stat(who, false).err(), Some(Errno::EACCES));
    assert!(table.set.stat(who, true).is_ok());
}

#[test]
fn setall_with_one_bad_value_changes_nothing_behaviour_62() {
    let mut table = Table::new(&[1, 2]);
    assert_eq!(table.set_all(1, &[5, 32_768]), Err(Errno::ERANGE));
    assert_eq!(table.set_all(1, &[5]), Err(Errno::EINVAL));
    assert_eq!(
        (table.values(), table.last(0)),
        (vec![1, 2], Some(pid(9999)))
    );
}

#[test]
fn setval_and_setall_set_pid_and_ctime_but_not_otime_behaviour_63() {
    let mut table = Table::new(&[1, 2]);
    table.now += 3;
    table.set_value(4, 0, 7).unwrap();
    assert_eq!(
        (table.last(0), table.last(1)),
        (Some(pid(4)), Some(pid(9999)))
    );
    assert_eq!((table.ctime(), table.otime()), (NOW + 3, 0));
    table.set_all(5, &[1, 1]).unwrap();
    assert_eq!((table.last(0), table.last(1)), (Some(pid(5)), Some(pid(5))));
}

#[test]
fn set_and_remove_by_a_stranger_are_eperm_and_set_keeps_ctime_then_behaviours_65_66() {
    let mut table = Table::new(&[1]);
    let (stranger, owner) = (user(2000), user(1000));
    let setting = Setting {
        uid: 2000,
        gid: 2000,
        mode: 0o7777,
    };
    let denied = table.set.set(caller(pid(2), &stranger), setting, NOW + 1);
    assert_eq!((denied, table.ctime()), (Err(Errno::EPERM), NOW));
    table
        .set
        .set(caller(pid(2), &owner), setting, NOW + 1)
        .unwrap();
    let stat = table.set.stat(caller(pid(1), &root()), false).unwrap();
    assert_eq!(
        (stat.perm.uid, stat.perm.mode, stat.ctime),
        (2000, 0o777, NOW + 1)
    );
}

#[test]
fn a_withdrawn_waiter_is_gone_and_a_granted_one_cannot_be_withdrawn_behaviour_128() {
    let mut table = Table::new(&[0]);
    assert_eq!(table.op(2, &[op(0, -1)]), BLOCKED);
    assert_eq!(table.op(3, &[op(0, -1)]), BLOCKED);
    assert!(table.set.withdraw(Ticket(2)));
    assert!(!table.set.withdraw(Ticket(2)));
    assert_eq!(table.op(1, &[op(0, 1)]), DONE);
    assert_eq!(table.woken(), [(3, GRANTED)]);
    assert!(!table.set.withdraw(Ticket(3)));
}

#[test]
fn a_large_set_with_many_waiters_wakes_the_right_ones() {
    let mut table = Table::new(&[]);
    table.set = SemSet::new(permissions(0o600), 32_000, NOW);
    for process in 0..400 {
        let far = 31_000 + (process % 200) as u16;
        assert_eq!(
            table.op(process, &[op(far, -1), op(process as u16, 1)]),
            BLOCKED
        );
    }
    assert_eq!(table.op(999, &[op(31_007, 1)]), DONE);
    assert_eq!(table.woken(), [(7, GRANTED)]);
    assert_eq!(table.op(999, &[op(31_007, 5)]), DONE);
    assert_eq!(table.woken(), [(207, GRANTED)]);
    let values = table.values();
    assert_eq!((values[7], values[207], values[31_007]), (1, 1, 4));
}
