//! Semaphores across nodes. Who makes the set is its home.

use dipc_tests::{CREATE, Cluster, FIND, NOWAIT, Node, Program, UNDO, wait};
use nix::sys::signal::Signal;

const SA_RESTART: i32 = libc::SA_RESTART;
const SIGUSR1: i32 = libc::SIGUSR1;

/// A set of so many semaphores with its home on this program's node.
fn set(program: &mut Program, nsems: u32) -> i64 {
    program.must(format!("semget 0 {nsems} {CREATE}"))
}

/// Begins `semop` and waits until it waits at the set's home.
fn block(node: &Node, program: &mut Program, semop: String) {
    program.begin(semop);
    node.until_blocked(program);
}

fn until_value(program: &mut Program, id: i64, value: i64) {
    wait::until(&format!("semaphore 0 of set {id} is {value}"), || {
        program.must(format!("getval {id} 0")) == value
    });
}

fn until_waiters(program: &mut Program, id: i64, waiters: i64) {
    wait::until(&format!("{waiters} wait for semaphore 0 of {id}"), || {
        program.must(format!("getncnt {id} 0")) == waiters
    });
}

#[test]
fn a_post_on_one_node_wakes_a_waiter_on_another() {
    let cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let id = one.must(format!("semget 0x51 1 {CREATE}"));
    assert_eq!(two.must(format!("semget 0x51 1 {FIND}")), id);
    block(cluster.node(2), &mut two, format!("semop {id} 0:-1"));
    assert_eq!(one.must(format!("getncnt {id} 0")), 1);
    three.must(format!("semop {id} 0:1"));
    assert_eq!(two.answer(), "= 0");
    assert_eq!(three.must(format!("getval {id} 0")), 0);
}

#[test]
fn waiters_of_all_nodes_are_served_in_the_order_they_came() {
    let cluster = Cluster::start(3);
    let mut one = cluster.program(1);
    let id = set(&mut one, 1);
    let order = [2, 1, 3, 3, 1, 2];
    let mut waiters: Vec<Program> = order.map(|node| cluster.program(node)).into();
    for (waiter, node) in waiters.iter_mut().zip(order) {
        block(cluster.node(node), waiter, format!("semop {id} 0:-1"));
    }
    for next in 0..waiters.len() {
        one.must(format!("semop {id} 0:1"));
        assert_eq!(waiters[next].answer(), "= 0");
        let left = (waiters.len() - next - 1) as i64;
        assert_eq!(one.must(format!("getncnt {id} 0")), left);
        assert!(waiters[next + 1..].iter().all(Program::is_silent));
    }
}

#[test]
fn a_waiter_that_wants_more_does_not_hold_back_one_that_wants_less() {
    let cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    block(cluster.node(2), &mut two, format!("semop {id} 0:-2"));
    block(cluster.node(3), &mut three, format!("semop {id} 0:-1"));
    one.must(format!("semop {id} 0:1"));
    assert_eq!(three.answer(), "= 0");
    assert!(two.is_silent());
    one.must(format!("semop {id} 0:2"));
    assert_eq!(two.answer(), "= 0");
}

#[test]
fn an_array_of_operations_happens_as_a_whole_or_not_at_all() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 3);
    one.must(format!("setall {id} 1 0 5"));
    block(
        cluster.node(2),
        &mut two,
        format!("semop {id} 0:-1 1:-1 2:+1"),
    );
    let values = |program: &mut Program| program.ask(format!("getall {id} 3")).numbers();
    assert_eq!(values(&mut one), [1, 0, 5]);
    assert_eq!(one.must(format!("getncnt {id} 1")), 1);
    assert_eq!(one.must(format!("getncnt {id} 0")), 0);
    one.must(format!("semop {id} 1:1"));
    assert_eq!(two.answer(), "= 0");
    assert_eq!(values(&mut two), [0, 0, 6]);
    assert_eq!(
        two.ask(format!("semop {id} 2:-6 0:-1:{NOWAIT}")),
        "! EAGAIN"
    );
    assert_eq!(two.ask(format!("semop {id} 2:-6 9:1")), "! EFBIG");
    assert_eq!(values(&mut one), [0, 0, 6]);
}

#[test]
fn an_operation_of_500_parts_crosses_nodes_and_one_of_501_is_e2big() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    let parts = |count| " 0:1".repeat(count);
    two.must(format!("semop {id}{}", parts(500)));
    assert_eq!(one.must(format!("getval {id} 0")), 500);
    assert_eq!(two.ask(format!("semop {id}{}", parts(501))), "! E2BIG");
}

#[test]
fn zero_is_waited_for_across_nodes() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    one.must(format!("setval {id} 0 2"));
    block(cluster.node(2), &mut two, format!("semop {id} 0:0"));
    assert_eq!(one.must(format!("getzcnt {id} 0")), 1);
    one.must(format!("semop {id} 0:-1"));
    assert!(two.is_silent());
    one.must(format!("semop {id} 0:-1"));
    assert_eq!(two.answer(), "= 0");
}

#[test]
fn nowait_and_time_outs_end_with_eagain_and_change_nothing() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    for command in [
        format!("semop {id} 0:-1:{NOWAIT}"),
        format!("semtimedop {id} 0 0:-1"),
        format!("semtimedop {id} 50000000 0:-1"),
        format!("semtimedop {id} 50000000 0:3 0:-9"),
    ] {
        assert_eq!(two.ask(&command), "! EAGAIN", "{command}");
    }
    assert_eq!(
        two.ask(format!("semtimedop {id} -1000000000 0:1")),
        "! EINVAL"
    );
    assert_eq!(one.must(format!("getval {id} 0")), 0);
    assert_eq!(one.must(format!("getncnt {id} 0")), 0);
}

#[test]
fn a_grant_before_the_time_out_is_a_success() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    let hour = 3_600_000_000_000_u64;
    block(
        cluster.node(2),
        &mut two,
        format!("semtimedop {id} {hour} 0:-1"),
    );
    one.must(format!("semop {id} 0:1"));
    assert_eq!(two.answer(), "= 0");
}

#[test]
fn sem_undo_of_a_holder_on_another_node_is_applied_at_its_exit_and_its_kill() {
    let cluster = Cluster::start(2);
    let mut one = cluster.program(1);
    let id = set(&mut one, 1);
    one.must(format!("setval {id} 0 1"));
    for killed in [false, true] {
        let mut holder = cluster.program(2);
        holder.must(format!("semop {id} 0:-1:{UNDO}"));
        block(cluster.node(1), &mut one, format!("semop {id} 0:-1"));
        if killed {
            holder.kill();
        } else {
            holder.exit();
        }
        assert_eq!(one.answer(), "= 0");
        one.must(format!("semop {id} 0:1"));
    }
}

#[test]
fn sem_undo_survives_exec_and_is_not_inherited_by_fork() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("semop {id} 0:3:{UNDO}"));
    two.must("fork");
    assert_eq!(two.ask(format!("child 0 semop {id} 0:5:{UNDO}")), "= 0");
    two.begin("child 0 exit");
    assert_eq!(two.answer(), "? the child has ended");
    two.must("reap 0");
    until_value(&mut one, id, 3);
    two.must("exec");
    assert_eq!(two.must(format!("getval {id} 0")), 3);
    two.kill();
    until_value(&mut one, id, 0);
}

#[test]
fn the_end_of_a_thread_undoes_nothing() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("thread semop {id} 0:2:{UNDO}"));
    assert_eq!(two.ask("join"), "= 0");
    assert_eq!(two.must(format!("getval {id} 0")), 2);
    two.exit();
    until_value(&mut one, id, 0);
}

#[test]
fn threads_of_one_process_wait_each_on_their_own() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 2);
    two.must(format!("thread semop {id} 0:-1"));
    two.begin(format!("semop {id} 1:-1"));
    cluster.node(2).until_waiting(two.pid(), 2);
    one.must(format!("semop {id} 1:1"));
    assert_eq!(two.answer(), "= 0");
    one.must(format!("semop {id} 0:1"));
    assert_eq!(two.ask("join"), "= 0");
}

#[test]
fn a_waiter_that_is_killed_leaves_the_queue() {
    let cluster = Cluster::start(2);
    let mut one = cluster.program(1);
    let id = set(&mut one, 1);
    let mut waiter = cluster.program(2);
    block(cluster.node(2), &mut waiter, format!("semop {id} 0:-1"));
    waiter.kill();
    until_waiters(&mut one, id, 0);
    one.must(format!("semop {id} 0:1"));
    assert_eq!(one.must(format!("getval {id} 0")), 1);
}

/// Kill and post race: whether the dying waiter had got the token or not, it is
/// there again afterwards, once.
#[test]
fn a_waiter_killed_while_it_is_given_a_token_loses_none() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    for round in 0..60 {
        let child = two.ask("fork").numbers();
        two.must(format!("send {} semop {id} 0:-1:{UNDO}", child[0]));
        until_waiters(&mut one, id, 1);
        let pid = nix::unistd::Pid::from_raw(child[1] as i32);
        if round % 2 == 0 {
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            one.must(format!("semop {id} 0:1"));
        } else {
            one.begin(format!("semop {id} 0:1"));
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            assert_eq!(one.answer(), "= 0");
        }
        two.must(format!("reap {}", child[0]));
        assert_eq!(
            one.ask(format!("semtimedop {id} 20000000000 0:-1")),
            "= 0",
            "round {round}"
        );
        assert_eq!(one.must(format!("getval {id} 0")), 0, "round {round}");
    }
}

#[test]
fn a_caught_signal_ends_a_wait_with_eintr_even_with_sa_restart() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("handle {SIGUSR1} {SA_RESTART}"));
    block(cluster.node(2), &mut two, format!("semop {id} 0:-1"));
    two.signal(Signal::SIGUSR1);
    assert_eq!(two.answer(), "! EINTR");
    assert_eq!(two.must("caught"), 1);
    assert_eq!(one.must(format!("getncnt {id} 0")), 0);
    one.must(format!("semop {id} 0:1"));
    assert_eq!(one.must(format!("getval {id} 0")), 1);
}

#[test]
fn an_ignored_signal_does_not_end_a_wait() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("ignore {SIGUSR1}"));
    block(cluster.node(2), &mut two, format!("semop {id} 0:-1"));
    two.signal(Signal::SIGUSR1);
    one.must(format!("semop {id} 0:1"));
    assert_eq!(two.answer(), "= 0");
}

/// Signal and post race: EINTR and the token is still there, or success and it
/// is not.
#[test]
fn a_signal_that_races_a_grant_neither_loses_nor_doubles_a_token() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("handle {SIGUSR1} {SA_RESTART}"));
    let mut taken = 0;
    const ROUNDS: i64 = 100;
    for round in 0..ROUNDS {
        two.begin(format!("semop {id} 0:{}", -1 - (round - taken)));
        until_waiters(&mut one, id, 1);
        one.begin(format!("semop {id} 0:1"));
        two.signal(Signal::SIGUSR1);
        assert_eq!(one.answer(), "= 0");
        let answer = two.answer();
        if answer == "= 0" {
            taken = round + 1;
        } else {
            assert_eq!(answer, "! EINTR");
        }
    }
    assert_eq!(one.must(format!("getval {id} 0")), ROUNDS - taken);
}

#[test]
fn removal_wakes_every_waiter_everywhere_with_eidrm() {
    let cluster = Cluster::start(3);
    let mut one = cluster.program(1);
    let id = set(&mut one, 1);
    one.must(format!("setval {id} 0 1"));
    let mut waiters: Vec<Program> = [1, 2, 2, 3].map(|node| cluster.program(node)).into();
    for (waiter, (node, op)) in waiters.iter_mut().zip([(1, -2), (2, -3), (2, 0), (3, -4)]) {
        block(cluster.node(node), waiter, format!("semop {id} 0:{op}"));
    }
    let mut remover = cluster.program(3);
    remover.must(format!("semrm {id}"));
    for waiter in &mut waiters {
        assert_eq!(waiter.answer(), "! EIDRM");
        assert_eq!(waiter.ask(format!("semop {id} 0:1")), "! EINVAL");
    }
}

#[test]
fn statistics_are_the_same_from_every_node() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("semget 0x5151 4 {CREATE}"));
    assert_eq!(two.ask(format!("semstat {id}")), "= 4 0 600 0x5151");
    two.must(format!("semop {id} 3:7"));
    assert_eq!(one.ask(format!("semstat {id}")), "= 4 1 600 0x5151");
    assert_eq!(two.must(format!("sempid {id} 3")), i64::from(two.pid()));
    assert!(one.must(format!("sempid {id} 3")) > i64::from(two.pid()));
    assert_eq!(two.ask(format!("setval {id} 9 1")), "! EINVAL");
    assert_eq!(two.ask(format!("setval {id} 0 32768")), "! ERANGE");
}

#[test]
fn a_process_that_closes_all_its_descriptors_goes_on_and_keeps_its_undo() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = set(&mut one, 1);
    two.must(format!("semop {id} 0:2:{UNDO}"));
    two.must("closeall");
    two.must(format!("semop {id} 0:3"));
    assert_eq!(one.must(format!("getval {id} 0")), 5);
    two.exit();
    until_value(&mut one, id, 3);
}
