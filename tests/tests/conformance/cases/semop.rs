//! semop and semtimedop.

use dipc_tests::wait;
use nix::sys::signal::Signal;

use super::{ALICE, BOB, CREATE, NOWAIT, assert_now, set};
use crate::case::{Case, case};
use crate::stage::{Participant, Stage};

pub(crate) const CASES: &[Case] = &[
    case(23, "errors in this order: EINVAL for no operations, E2BIG, EFAULT, EINVAL for the id, EFBIG, EACCES", order_of_errors).by_root(),
    case(24, "an array may have 500 operations, a semaphore the value 32767", defaults),
    case(25, "a timeout below 0 or with 10^9 ns is EINVAL even if nothing would wait; a bad pointer EFAULT", bad_timeout),
    case(26, "an expired timeout is EAGAIN and changes nothing; 0 and none are allowed; it is not written to", timeouts),
    case(27, "operations are applied in their order, all or none", in_order),
    case(28, "a semaphore may occur several times in an array", several_times),
    case(29, "what fails takes everything back, adjustments of SEM_UNDO too", rolled_back),
    case(30, "IPC_NOWAIT counts only on the operation that would wait", nowait_per_operation),
    case(31, "a value above 32767 is ERANGE at once, with or without IPC_NOWAIT", value_range),
    case(32, "an adjustment of SEM_UNDO beyond 32767 is ERANGE", adjustment_range),
    case(33, "waiting for zero takes read permission, anything else alter and then not read", permission_by_operation).by_root(),
    case(34, "unknown bits of sem_flg are ignored", unknown_flags),
    case(35, "success sets otime, and sempid of the semaphores that are named", success_leaves_traces),
    case(36, "a caught signal ends a waiting semop by EINTR, SA_RESTART or not; an ignored one does not", signals),
    case(37, "SIGSTOP and SIGCONT end a waiting semop by EINTR", stop_and_continue),
    case(38, "removal ends every waiting semop by EIDRM; later ones are EINVAL", removal),
    case(39, "a waiter that IPC_SET takes the permission from goes on waiting, and may succeed", permission_lost).by_root(),
    case(40, "GETNCNT and GETZCNT count a waiter on the one operation that holds it", counts),
    case(41, "they no longer count a waiter that a signal, a timeout or a kill has ended", counts_fall),
    case(42, "a waiter that cannot go on does not hold back a later one that can", overtaking),
    case(43, "what is posted belongs to the waiter at once: who posts cannot take it back", hand_off),
    case(44, "a value that exists only within an array wakes nobody", transient_values),
    case(45, "after a waiter has gone on, sempid is the waiter's", waiter_is_sempid),
    case(46, "SETVAL and SETALL wake whoever can go on", setting_wakes),
    case(47, "one post may let several waiters go on, one after another", cascade),
    case(48, "a waiter that is woken runs its operations once", once).ours(),
];

fn order_of_errors(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = a.must(format!("semget 0 2 {CREATE}"));
    let gone = set(&mut a, 1);
    a.must(format!("semrm {gone}"));
    for absent in [-1, gone] {
        b.fails(format!("raw_semop {absent} 1 0"), "EINVAL");
        b.fails(format!("raw_semop {absent} 1 501"), "E2BIG");
        b.fails(format!("raw_semop {absent} 1 1"), "EFAULT");
        b.fails(format!("semop {absent} 9:1"), "EINVAL");
    }
    b.fails(format!("semop {id} 0:1 2:1"), "EFBIG");
    a.fails(format!("semop {id} 0:-1:{NOWAIT} 2:1"), "EFBIG");
    b.fails(format!("semop {id} 0:-1:{NOWAIT}"), "EACCES");
    a.fails(format!("semop {id} 0:-1:{NOWAIT}"), "EAGAIN");
}

fn defaults(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("semop {id}{}", " 0:1".repeat(500)));
    b.fails(format!("semop {id}{}", " 0:1".repeat(501)), "E2BIG");
    b.must(format!("semop {id} 0:32267"));
    assert_eq!(a.must(format!("getval {id} 0")), 32767);
    b.fails(format!("semop {id} 0:1"), "ERANGE");
}

fn bad_timeout(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        b.gives(
            format!("semtimeout {id} {seconds} {nanoseconds} 0 1"),
            &format!("! EINVAL {seconds} {nanoseconds}"),
        );
    }
    b.fails(format!("raw_semtimedop {id} 1"), "EFAULT");
    assert_eq!(a.must(format!("getval {id} 0")), 0);
}

fn timeouts(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.fails(format!("semtimedop {id} 20000000 0:2 0:-3"), "EAGAIN");
    b.fails(format!("semtimedop {id} 0 0:-1"), "EAGAIN");
    assert_eq!(a.must(format!("getval {id} 0")), 0);
    assert_eq!(a.stat("sem", id, "otime"), 0);
    b.must(format!("raw_semtimedop {id} 0"));
    b.gives(format!("semtimeout {id} 0 5 0 -1"), "= 0 0 5");
    b.must(format!("handle {} 0", libc::SIGUSR1));
    b.block(format!("semtimeout {id} 1000 7 0 -1"));
    b.signal(Signal::SIGUSR1);
    b.answers("! EINTR 1000 7");
}

fn in_order(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("semop {id} 0:2 0:-2"));
    b.fails(format!("semop {id} 0:-2:{NOWAIT} 0:2"), "EAGAIN");
    b.must(format!("semop {id} 0:0 0:1"));
    b.fails(format!("semop {id} 0:1 0:0:{NOWAIT}"), "EAGAIN");
    assert_eq!(a.must(format!("getval {id} 0")), 1);
}

fn several_times(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("semop {id} 0:1 1:5 0:1 1:-2 0:1 0:-2"));
    a.gives(format!("getall {id} 2"), "= 1 3");
}

fn rolled_back(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 3);
    a.must(format!("setall {id} 5 0 5"));
    b.must(format!("semop {id} 0:-1:0x1000"));
    b.fails(
        format!("semop {id} 0:-2:0x1000 2:3 1:-1:{NOWAIT}"),
        "EAGAIN",
    );
    b.fails(format!("semop {id} 0:-2:0x1000 2:32767"), "ERANGE");
    a.gives(format!("getall {id} 3"), "= 4 0 5");
    b.exit();
    wait::until("the one adjustment is undone", || {
        a.must(format!("getval {id} 0")) == 5
    });
}

fn nowait_per_operation(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.fails(format!("semop {id} 0:-1:{NOWAIT} 1:-1"), "EAGAIN");
    b.block(format!("semop {id} 0:-1 1:-1:{NOWAIT}"));
    a.must(format!("semop {id} 0:1"));
    // Now the second operation is the one that would wait.
    b.answers("! EAGAIN");
    a.gives(format!("getall {id} 2"), "= 1 0");
}

fn value_range(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    a.must(format!("setval {id} 0 32767"));
    b.fails(format!("semop {id} 0:1"), "ERANGE");
    b.fails(format!("semop {id} 0:1:{NOWAIT}"), "ERANGE");
    b.fails(format!("semop {id} 0:1 1:-1"), "ERANGE");
    b.fails(format!("semop {id} 0:32767 0:-32767"), "ERANGE");
}

fn adjustment_range(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    a.must(format!("setval {id} 0 32767"));
    b.must(format!("semop {id} 0:-32767:0x1000"));
    a.must(format!("semop {id} 0:5"));
    b.fails(format!("semop {id} 0:-1:0x1000"), "ERANGE");
    assert_eq!(a.must(format!("getval {id} 0")), 5);
    b.must(format!("semop {id} 0:-1"));
}

fn permission_by_operation(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let readable = a.must("semget 0 2 01604");
    b.must(format!("semop {readable} 0:0 1:0"));
    b.fails(format!("semop {readable} 0:0 1:1"), "EACCES");
    let alterable = a.must("semget 0 2 01602");
    b.fails(format!("semop {alterable} 0:0"), "EACCES");
    b.must(format!("semop {alterable} 0:0 1:1"));
}

fn unknown_flags(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("semop {id} 0:1:0x2345"));
    assert_eq!(a.must(format!("getval {id} 0")), 1);
}

fn success_leaves_traces(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 3);
    a.must(format!("semop {id} 0:1"));
    b.must(format!("semop {id} 1:1 2:0"));
    for (num, last) in [(0, a.knows(&a)), (1, a.knows(&b)), (2, a.knows(&b))] {
        assert_eq!(
            a.must(format!("sempid {id} {num}")),
            last,
            "semaphore {num}"
        );
    }
    assert_eq!(b.must(format!("sempid {id} 0")), b.knows(&a));
    assert_eq!(b.must(format!("sempid {id} 1")), b.knows(&b));
    let other = set(&mut a, 1);
    b.must(format!("semop {other} 0:0"));
    let otime = a.stat("sem", other, "otime");
    assert_now(&mut a, otime);
}

fn signals(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    for flags in [0, libc::SA_RESTART] {
        b.must(format!("handle {} {flags}", libc::SIGUSR1));
        b.block(format!("semop {id} 0:-1"));
        b.signal(Signal::SIGUSR1);
        b.answers("! EINTR");
    }
    assert_eq!(b.must("caught"), 2);
    b.must(format!("ignore {}", libc::SIGUSR1));
    b.block(format!("semop {id} 0:-1"));
    b.signal(Signal::SIGUSR1);
    a.must(format!("semop {id} 0:1"));
    b.answers("= 0");
}

fn stop_and_continue(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-1"));
    b.stop();
    b.signal(Signal::SIGCONT);
    b.answers("! EINTR");
    a.gives(format!("getncnt {id} 0"), "= 0");
}

fn removal(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 2);
    a.must(format!("setval {id} 1 1"));
    b.block(format!("semop {id} 0:-1"));
    c.block(format!("semop {id} 1:0"));
    a.must(format!("semrm {id}"));
    for who in [&mut b, &mut c] {
        who.answers("! EIDRM");
        who.fails(format!("semop {id} 0:1"), "EINVAL");
    }
}

fn permission_lost(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-1"));
    a.must(format!("set sem {id} {ALICE} {ALICE} 0600"));
    a.gives(format!("getncnt {id} 0"), "= 1");
    a.must(format!("semop {id} 0:1"));
    b.answers("= 0");
    b.fails(format!("semop {id} 0:1"), "EACCES");
}

fn counts(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 3);
    a.must(format!("setall {id} 1 0 1"));
    b.block(format!("semop {id} 0:-1 1:-1 2:-1"));
    c.block(format!("semop {id} 1:0 2:0 1:-1"));
    let counts = |who: &mut Participant<'_>| {
        [0, 1, 2].map(|n| {
            let increase = who.must(format!("getncnt {id} {n}"));
            (increase, who.must(format!("getzcnt {id} {n}")))
        })
    };
    assert_eq!(counts(&mut a), [(0, 0), (1, 0), (0, 1)]);
    // What holds the third is now another operation.
    a.must(format!("setval {id} 2 0"));
    assert_eq!(counts(&mut a), [(0, 0), (2, 0), (0, 0)]);
}

fn counts_fall(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("handle {} 0", libc::SIGUSR1));
    b.block(format!("semop {id} 0:-1"));
    c.block(format!("semop {id} 0:-1"));
    a.gives(format!("getncnt {id} 0"), "= 2");
    b.signal(Signal::SIGUSR1);
    b.answers("! EINTR");
    a.gives(format!("getncnt {id} 0"), "= 1");
    c.kill();
    wait::until("the killed one is no longer counted", || {
        a.must(format!("getncnt {id} 0")) == 0
    });
    b.fails(format!("semtimedop {id} 20000000 0:-1"), "EAGAIN");
    a.gives(format!("getncnt {id} 0"), "= 0");
}

fn overtaking(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c, mut d] = s.participants();
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-2"));
    c.block(format!("semop {id} 0:-1"));
    d.block(format!("semop {id} 0:-1"));
    a.must(format!("semop {id} 0:1"));
    c.answers("= 0");
    assert!(b.is_silent());
    assert!(d.is_silent(), "the first that can is served first");
    a.gives(format!("getncnt {id} 0"), "= 2");
}

fn hand_off(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-1"));
    a.must(format!("semop {id} 0:1"));
    a.gives(format!("getval {id} 0"), "= 0");
    a.fails(format!("semop {id} 0:-1:{NOWAIT}"), "EAGAIN");
    b.answers("= 0");
}

fn transient_values(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    a.must(format!("setval {id} 0 1"));
    b.block(format!("semop {id} 0:0"));
    a.must(format!("semop {id} 0:-1 0:1"));
    a.gives(format!("getzcnt {id} 0"), "= 1");
    assert!(b.is_silent());
}

fn waiter_is_sempid(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-1"));
    a.must(format!("semop {id} 0:1"));
    assert_eq!(a.must(format!("sempid {id} 0")), a.knows(&b));
    b.answers("= 0");
    assert_eq!(b.must(format!("sempid {id} 0")), b.knows(&b));
}

fn setting_wakes(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 2);
    b.block(format!("semop {id} 0:-1"));
    c.block(format!("semop {id} 1:-3"));
    a.must(format!("setval {id} 0 2"));
    b.answers("= 0");
    assert!(c.is_silent());
    a.must(format!("setall {id} 0 3"));
    c.answers("= 0");
    a.gives(format!("getall {id} 2"), "= 0 0");
}

fn cascade(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c, mut d] = s.participants();
    let id = set(&mut a, 3);
    d.block(format!("semop {id} 2:-1"));
    c.block(format!("semop {id} 1:-1 2:1"));
    b.block(format!("semop {id} 0:-1 1:1"));
    a.must(format!("semop {id} 0:1"));
    a.gives(format!("getall {id} 3"), "= 0 0 0");
    for who in [&mut b, &mut c, &mut d] {
        who.answers("= 0");
    }
}

fn once(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("handle {} 0", libc::SIGUSR1));
    for round in 1..=20 {
        b.block(format!("semop {id} 0:-1 1:1"));
        // A signal and a post at once: one of them wins.
        b.signal(Signal::SIGUSR1);
        c.begin(format!("semop {id} 0:1"));
        let done = b.answer() == "= 0";
        assert_eq!(c.answer(), "= 0");
        if !done {
            b.must(format!("semop {id} 0:-1 1:1"));
        }
        a.gives(format!("getall {id} 2"), &format!("= 0 {round}"));
    }
}
