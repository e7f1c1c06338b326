//! SEM_UNDO: what the end of a process gives back.

use dipc_tests::{Cluster, wait};

use super::{UNDO, set};
use crate::case::{Case, case};
use crate::stage::{Participant, Stage};

pub(crate) const CASES: &[Case] = &[
    case(
        49,
        "exit and SIGKILL add every adjustment back, clamped to 0 and 32767, without waiting",
        clamped,
    ),
    case(
        50,
        "undoing sets sempid to the process that ended, and otime",
        undo_leaves_traces,
    ),
    case(51, "undoing wakes waiters", undo_wakes),
    case(
        52,
        "SETVAL clears that semaphore's adjustments of all processes, SETALL those of the set",
        setting_clears,
    ),
    case(
        53,
        "a forked child has no adjustments, and its end undoes nothing of its parent's",
        not_inherited,
    ),
    case(54, "adjustments survive exec", survives_exec),
    case(
        55,
        "adjustments are the process's: the end of a thread undoes nothing",
        not_of_threads,
    ),
    case(
        56,
        "removal drops adjustments; the process's end harms nobody",
        removal_drops,
    ),
    case(
        57,
        "a waiting operation's adjustment is recorded when the operation is done",
        when_done,
    ),
    case(
        58,
        "operations without SEM_UNDO leave adjustments alone",
        plain_operations,
    ),
    case(
        59,
        "the death of a node undoes all its processes",
        death_of_a_node,
    )
    .between_nodes(),
];

/// Waits until semaphore `num` has this value.
fn until_value(who: &mut Participant<'_>, id: i64, num: u32, value: i64) {
    wait::until(&format!("semaphore {num} of {id} is {value}"), || {
        who.must(format!("getval {id} {num}")) == value
    });
}

fn clamped(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c, mut d] = s.participants();
    let id = set(&mut a, 3);
    a.must(format!("setall {id} 9 0 32760"));
    b.must(format!("semop {id} 0:-5:{UNDO} 1:4:{UNDO}"));
    d.must(format!("semop {id} 2:-7:{UNDO}"));
    c.must(format!("semop {id} 1:-3 2:13"));
    b.exit();
    until_value(&mut a, id, 0, 9);
    until_value(&mut a, id, 1, 0);
    d.kill();
    until_value(&mut a, id, 2, 32767);
}

fn undo_leaves_traces(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    b.must(format!("semop {id} 0:2:{UNDO}"));
    a.must(format!("semop {id} 0:1"));
    assert_eq!(a.must(format!("sempid {id} 0")), a.knows(&a));
    let before = a.stat("sem", id, "otime");
    wait::until("the clock goes on", || a.must("now") > before);
    b.exit();
    until_value(&mut a, id, 0, 1);
    assert_eq!(a.must(format!("sempid {id} 0")), a.knows(&b));
    assert!(a.stat("sem", id, "otime") > before);
}

fn undo_wakes(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 1);
    a.must(format!("setval {id} 0 1"));
    b.must(format!("semop {id} 0:-1:{UNDO}"));
    c.block(format!("semop {id} 0:-1"));
    b.kill();
    c.answers("= 0");
    assert_eq!(a.must(format!("sempid {id} 0")), a.knows(&c));
}

fn setting_clears(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 3);
    for who in [&mut b, &mut c] {
        who.must(format!("semop {id} 0:1:{UNDO} 1:1:{UNDO}"));
    }
    a.must(format!("setval {id} 0 7"));
    b.exit();
    until_value(&mut a, id, 1, 1);
    a.gives(format!("getval {id} 0"), "= 7");
    a.must(format!("setall {id} 5 5 5"));
    c.must(format!("semop {id} 2:1:{UNDO}"));
    c.exit();
    until_value(&mut a, id, 2, 5);
    a.gives(format!("getall {id} 3"), "= 5 5 5");
}

fn not_inherited(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("semop {id} 0:3:{UNDO}"));
    b.fork();
    b.must(format!("child 0 semop {id} 1:2:{UNDO}"));
    b.must("send 0 exit");
    b.must("reap 0");
    until_value(&mut a, id, 1, 0);
    a.gives(format!("getval {id} 0"), "= 3");
    b.exit();
    until_value(&mut a, id, 0, 0);
}

fn survives_exec(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("semop {id} 0:3:{UNDO}"));
    b.must("exec");
    a.gives(format!("getall {id} 2"), "= 3 0");
    b.must(format!("semop {id} 1:1"));
    a.gives(format!("getall {id} 2"), "= 3 1");
    b.exit();
    until_value(&mut a, id, 0, 0);
    a.gives(format!("getall {id} 2"), "= 0 1");
}

fn not_of_threads(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("thread semop {id} 0:3:{UNDO}"));
    b.must("join");
    // A later call of the process proves that the thread's end has been heard.
    b.must(format!("semop {id} 1:1"));
    a.gives(format!("getall {id} 2"), "= 3 1");
    b.exit();
    until_value(&mut a, id, 0, 0);
}

fn removal_drops(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let old = set(&mut a, 1);
    let id = set(&mut a, 1);
    b.must(format!("semop {old} 0:1:{UNDO}"));
    b.must(format!("semop {id} 0:1:{UNDO}"));
    a.must(format!("semrm {old}"));
    let new = set(&mut a, 1);
    a.must(format!("setval {new} 0 1"));
    b.exit();
    until_value(&mut a, id, 0, 0);
    a.gives(format!("getval {new} 0"), "= 1");
}

fn when_done(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 1);
    b.block(format!("semop {id} 0:-1:{UNDO}"));
    b.kill();
    wait::until("the killed one is gone", || {
        a.must(format!("getncnt {id} 0")) == 0
    });
    a.gives(format!("getval {id} 0"), "= 0");
    c.block(format!("semop {id} 0:-2:{UNDO}"));
    a.must(format!("semop {id} 0:2"));
    c.answers("= 0");
    c.exit();
    until_value(&mut a, id, 0, 2);
}

fn plain_operations(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    a.must(format!("setval {id} 0 1"));
    b.must(format!("semop {id} 0:-1:{UNDO}"));
    b.must(format!("semop {id} 0:1"));
    b.exit();
    until_value(&mut a, id, 0, 2);
}

fn death_of_a_node(_: &mut Stage<'_>) {
    // A cluster of its own, since a node of it dies.
    let mut cluster = Cluster::start(2);
    let [mut a, mut b, mut c] = [1, 2, 2].map(|node| cluster.program(node));
    let id = a.must(format!("semget 0 2 {}", dipc_tests::CREATE));
    b.must(format!("semop {id} 0:3:{UNDO}"));
    c.must(format!("semop {id} 1:4:{UNDO}"));
    assert_eq!(a.ask(format!("getall {id} 2")), "= 3 4");
    cluster.kill_node(2);
    wait::until("both are undone", || {
        a.ask(format!("getall {id} 2")) == "= 0 0"
    });
}
