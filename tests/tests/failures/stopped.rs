//! A dipcd that is stopped (SIGSTOP): for less than the time-out it is late, for longer
//! it is dead.

use super::*;

#[test]
fn a_silent_node_is_dead_after_the_time_out_and_ends_when_it_wakes() {
    let mut cluster = impatient();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let set = two.must(format!("semget 0 1 {CREATE}"));
    let memory = segment(&mut two, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 5");
    one.begin(format!("semop {set} 0:-1"));
    cluster.node(1).until_blocked(&one);
    cluster.node(2).stop();
    assert_eq!(one.answer(), "! EIDRM");
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    until_alone(&cluster);
    assert_eq!(three.ask(format!("semop {set} 0:1")), "! EINVAL");
    cluster.node(2).signal(Signal::SIGCONT);
    assert!(!cluster.node_ended(2).success());
    wait::until("node 2's own program has lost its memory", || {
        let answer = two.ask("peek 0 0");
        assert!(answer == "= 5" || answer == "! SIGBUS", "{answer:?}");
        answer == "! SIGBUS"
    });
}

#[test]
fn a_node_that_is_stopped_for_less_than_the_time_out_is_late_and_loses_nothing() {
    let cluster = Cluster::start(2);
    let [mut one, mut two, mut three] = [1, 2, 1].map(|n| cluster.program(n));
    let set = two.must(format!("semget 0 1 {CREATE}"));
    let memory = segment(&mut two, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 5");
    three.must(format!("getval {set} 0"));
    let life = cluster.node(2).own_status().expect("node 2 answers");
    cluster.node(2).stop();
    one.begin("peek 0 0");
    wait::until("program 1 waits for a page", || waits_for_page(one.pid()));
    three.begin(format!("semop {set} 0:1"));
    // Its own programs go on with what they have.
    assert_eq!(two.must("peek 0 0"), 5);
    assert!(three.is_silent());
    cluster.node(2).signal(Signal::SIGCONT);
    assert_eq!(one.answer(), "= 5");
    assert_eq!(three.answer(), "= 0");
    assert_eq!(two.must(format!("getval {set} 0")), 1);
    let now = cluster.node(2).own_status().expect("node 2 answers");
    assert_eq!(now.incarnation, life.incarnation);
    assert_eq!(two.must(format!("shmstat {memory}")), 2);
}
