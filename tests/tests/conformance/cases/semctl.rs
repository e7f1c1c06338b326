//! semctl.

use super::{ALICE, BOB, CAROL, CREATE, IPC_RMID, IPC_SET, IPC_STAT, assert_now, set};
use crate::case::{Case, case};
use crate::stage::Stage;

/// Commands of semctl, as `<linux/sem.h>` numbers them.
const GETPID: u32 = 11;
const GETVAL: u32 = 12;
const GETALL: u32 = 13;
const GETNCNT: u32 = 14;
const GETZCNT: u32 = 15;
const SETVAL: u32 = 16;
const SETALL: u32 = 17;

pub(crate) const CASES: &[Case] = &[
    case(60, "SETVAL of less than 0 or more than 32767 is ERANGE, before number and id are looked at, but for a negative id: EINVAL", setval_range),
    case(61, "a semaphore number that is out of range is EINVAL where a semaphore is named, else ignored", number_range),
    case(62, "SETALL with a value that is too large is ERANGE and changes nothing", setall_range),
    case(63, "SETVAL and SETALL set sempid and ctime", setting_leaves_traces),
    case(64, "an unknown command is EINVAL, a bad buffer EFAULT", bad_arguments),
    case(65, "GETxxx and IPC_STAT take read, SETxxx alter (EACCES); IPC_SET and IPC_RMID the owner (EPERM)", permissions).by_root(),
    case(66, "IPC_SET changes uid, gid, the low 9 mode bits and ctime; an owner of -1 is EINVAL", ipc_set).by_root(),
    case(67, "otime and ctime are whole seconds, and their reserved words 0", times),
    case(68, "the fourth argument may be left out where none is needed", variadic),
];

fn setval_range(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    let gone = set(&mut a, 1);
    a.must(format!("semrm {gone}"));
    for value in [-1, 32_768] {
        b.fails(format!("setval {id} 0 {value}"), "ERANGE");
        b.fails(format!("setval {id} 9 {value}"), "ERANGE");
        b.fails(format!("setval {gone} 0 {value}"), "ERANGE");
        b.fails(format!("setval -1 0 {value}"), "EINVAL");
    }
    b.must(format!("setval {id} 0 32767"));
}

fn number_range(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    for num in [2, -1] {
        for command in [GETVAL, SETVAL, GETPID, GETNCNT, GETZCNT] {
            b.fails(format!("control sem {id} {num} {command} 0"), "EINVAL");
        }
        for command in [IPC_STAT, GETALL, SETALL] {
            b.must(format!("control sem {id} {num} {command} buffer"));
        }
    }
    b.must(format!("control sem {id} 99 {IPC_RMID} 0"));
}

fn setall_range(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 3);
    a.must(format!("setall {id} 1 2 3"));
    b.fails(format!("setall {id} 7 7 32768"), "ERANGE");
    a.gives(format!("getall {id} 3"), "= 1 2 3");
}

fn setting_leaves_traces(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("setval {id} 0 1"));
    assert_eq!(a.must(format!("sempid {id} 0")), a.knows(&b));
    assert_eq!(a.must(format!("sempid {id} 1")), 0);
    a.must(format!("setall {id} 1 1"));
    for num in [0, 1] {
        assert_eq!(b.must(format!("sempid {id} {num}")), b.knows(&a));
    }
    let ctime = b.stat("sem", id, "ctime");
    assert_now(&mut b, ctime);
    let made = set(&mut a, 1);
    let before = a.stat("sem", made, "ctime");
    dipc_tests::wait::until("the clock goes on", || a.must("now") > before);
    b.must(format!("setval {made} 0 1"));
    assert!(a.stat("sem", made, "ctime") > before);
    assert_eq!(a.stat("sem", made, "otime"), 0);
}

fn bad_arguments(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    for command in [99, -1, 21] {
        b.fails(format!("control sem {id} 0 {command} buffer"), "EINVAL");
    }
    for command in [IPC_STAT, IPC_SET, GETALL, SETALL] {
        b.fails(format!("control sem {id} 0 {command} 1"), "EFAULT");
    }
}

fn permissions(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let readable = a.must("semget 0 2 01604");
    let alterable = a.must("semget 0 2 01602");
    for command in [IPC_STAT, GETALL, GETVAL, GETPID, GETNCNT, GETZCNT] {
        b.must(format!("control sem {readable} 0 {command} buffer"));
        b.fails(
            format!("control sem {alterable} 0 {command} buffer"),
            "EACCES",
        );
    }
    b.must(format!("setval {alterable} 0 1"));
    b.must(format!("setall {alterable} 1 1"));
    b.fails(format!("setval {readable} 0 1"), "EACCES");
    b.fails(format!("setall {readable} 1 1"), "EACCES");
    for id in [readable, alterable] {
        b.fails(format!("set sem {id} {BOB} {BOB} 0600"), "EPERM");
        b.fails(format!("semrm {id}"), "EPERM");
        a.must(format!("semrm {id}"));
    }
}

fn ipc_set(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.participant();
    let id = a.must(format!("semget 0 1 {CREATE}"));
    let before = b.stat("sem", id, "ctime");
    b.fails(format!("set sem {id} -1 {ALICE} 0600"), "EINVAL");
    dipc_tests::wait::until("the clock goes on", || b.must("now") > before);
    b.must(format!("set sem {id} {BOB} {CAROL} 07654"));
    for (field, value) in [
        ("uid", BOB),
        ("gid", CAROL),
        ("cuid", ALICE),
        ("cgid", ALICE),
        ("mode", 0o654),
        ("nsems", 1),
    ] {
        assert_eq!(b.stat("sem", id, field), i64::from(value), "{field}");
    }
    assert!(b.stat("sem", id, "ctime") > before);
    assert_eq!(b.stat("sem", id, "otime"), 0);
}

fn times(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("semop {id} 0:1"));
    for field in ["otime_high", "ctime_high"] {
        assert_eq!(b.stat("sem", id, field), 0, "{field}");
    }
    for field in ["otime", "ctime"] {
        let time = b.stat("sem", id, field);
        assert_now(&mut b, time);
    }
}

fn variadic(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    a.must(format!("setval {id} 0 5"));
    b.gives(format!("short_semctl {id} 0 {GETVAL}"), "= 5");
    b.gives(format!("short_semctl {id} 0 {GETNCNT}"), "= 0");
    b.must(format!("short_semctl {id} 0 {IPC_RMID}"));
    a.fails(format!("getval {id} 0"), "EINVAL");
}
