//! A full process table: a daemon for which there is no thread.

use nix::unistd::geteuid;

use super::*;

#[test]
fn a_program_for_which_there_is_no_thread_gets_enomem_and_others_go_on() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two, mut late] = [1, 2, 1].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    two.must(format!("getval {set} 0"));
    let before = Holdings::at_rest(cluster.node(1));
    scarcity.begin(Scarce::Threads, Errno::EAGAIN);
    for _ in 0..3 {
        assert_eq!(late.ask(format!("semget 0x1 1 {FIND}")), "! ENOMEM");
        assert_eq!(late.ask(format!("semop {set} 0:1")), "! ENOMEM");
        assert_eq!(late.ask(format!("semget 0x9 1 {CREATE}")), "! ENOMEM");
    }
    assert_eq!(one.must(format!("getval {set} 0")), 0);
    two.must(format!("semop {set} 0:1"));
    before.until_back(cluster.node(1));
    scarcity.end(Scarce::Threads);
    late.must(format!("semop {set} 0:-1"));
    assert_eq!(two.ask(format!("semget 0x9 1 {FIND}")), "! ENOENT");
}

#[test]
fn a_forked_child_for_which_there_is_no_thread_is_served_all_the_same() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut two, 2);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 5");
    let before = Holdings::at_rest(cluster.node(1));
    scarcity.begin(Scarce::ThreadsForChildren, Errno::EAGAIN);
    for child in 0..3 {
        assert_eq!(one.must("fork"), child);
    }
    for value in 1..50 {
        let [reader, writer] = [value % 3, (value + 1) % 3];
        two.must(format!("poke 0 0 {value}"));
        assert_eq!(one.must(format!("child {reader} peek 0 0")), value);
        one.must(format!("child {writer} poke 0 {PAGE} {value}"));
        assert_eq!(two.must(format!("peek 0 {PAGE}")), value);
    }
    assert_eq!(two.must(format!("shmstat {memory}")), 5);
    // Where the kernel does not tell of forks, a child brings a thread of its own.
    if geteuid().is_root() {
        assert_eq!(scarcity.failed(Scarce::ThreadsForChildren), 3);
    }
    for child in 0..3 {
        one.must(format!("send {child} exit"));
        one.must(format!("reap {child}"));
    }
    wait::until("the children's attachments are counted off", || {
        two.must(format!("shmstat {memory}")) == 2
    });
    before.until_back(cluster.node(1));
}

/// It cannot ask whether it is served, and so must not touch what it inherited.
#[test]
fn a_forked_child_that_cannot_connect_has_no_memory_and_its_end_is_counted() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut two, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 5");
    let before = Holdings::at_rest(cluster.node(1));
    scarcity.begin(Scarce::Threads, Errno::EAGAIN);
    one.must("fork");
    assert_eq!(one.ask("child 0 peek 0 0"), "! SIGSEGV");
    assert_eq!(one.must("peek 0 0"), 5);
    one.must("send 0 exit");
    one.must("reap 0");
    wait::until("the child's attachment is counted off", || {
        two.must(format!("shmstat {memory}")) == 2
    });
    before.until_back(cluster.node(1));
    two.must("poke 0 0 6");
    assert_eq!(one.must("peek 0 0"), 6);
}

#[test]
fn a_program_that_attaches_when_there_is_no_thread_is_served_all_the_same() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut two, 1);
    two.must(format!("shmat {memory} 0"));
    two.must("poke 0 0 5");
    // What stays is there before: the segment's memory.
    let mut earlier = cluster.program(1);
    earlier.must(format!("shmat {memory} 0"));
    earlier.exit();
    wait::until("it has gone", || two.must(format!("shmstat {memory}")) == 1);
    let before = Holdings::at_rest(cluster.node(1));
    // It has its connection.
    one.must(format!("shmstat {memory}"));
    scarcity.begin(Scarce::Threads, Errno::EAGAIN);
    one.must(format!("shmat {memory} 0"));
    assert_eq!(one.must("peek 0 0"), 5);
    one.must("poke 0 0 6");
    assert_eq!(two.must("peek 0 0"), 6);
    assert!(scarcity.failed(Scarce::Threads) > 0);
    one.exit();
    wait::until("its attachment is counted off", || {
        two.must(format!("shmstat {memory}")) == 1
    });
    scarcity.end(Scarce::Threads);
    assert_eq!(two.must("peek 0 0"), 6);
    before.until_back(cluster.node(1));
}

#[test]
fn a_node_that_joins_when_a_member_has_no_thread_for_it_is_refused_and_says_why() {
    let (cluster, scarcity) = scarce();
    scarcity.begin(Scarce::Threads, Errno::EAGAIN);
    let refusal = cluster
        .try_node(3, &[])
        .expect_err("node 1 cannot let it in");
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.message.contains("member node1"), "{refusal:?}");
    scarcity.end(Scarce::Threads);
    cluster.until_peers(1, 1);
    let third = cluster.try_node(3, &[]).expect("there is a thread now");
    let [mut one, mut three] = [cluster.program(1), third.program()];
    let set = three.must(format!("semget 0x3 1 {CREATE}"));
    assert_eq!(one.must(format!("semget 0x3 1 {FIND}")), set);
}
