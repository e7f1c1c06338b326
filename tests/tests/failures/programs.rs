//! An application that is killed, at whatever point.

use dipc_tests::NOWAIT;
use dipc_tests::observe::all_threads_sleep;

use super::*;

#[test]
fn all_that_a_killed_program_had_is_given_back_and_those_who_wait_go_on() {
    let cluster = Cluster::start(2);
    let [mut one, mut two, mut other] = [1, 2, 2].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0 1 {CREATE}"));
    let queue = one.must(format!("msgget 0 {CREATE}"));
    let memory = segment(&mut one, 2);
    one.must(format!("shmat {memory} 0"));
    one.must(format!("setval {set} 0 1"));
    one.must("poke 0 0 5");
    // All of node 2's programs have their connections.
    two.must(format!("getval {set} 0"));
    other.must(format!("getval {set} 0"));
    // A node keeps a segment's memory, empty, until the segment is removed.
    let slot = two.must(format!("shmat {memory} 0"));
    two.must(format!("shmdt {slot}"));
    let before = Holdings::at_rest(cluster.node(2));
    for kill in 0..3 {
        let mut victim = cluster.program(2);
        victim.must(format!("shmat {memory} 0"));
        victim.must(format!("poke 0 {PAGE} {kill}"));
        victim.must(format!("semop {set} 0:-1:{UNDO}"));
        two.begin(format!("semop {set} 0:-1:{UNDO}"));
        cluster.node(2).until_blocked(&two);
        if kill == 1 {
            victim.begin(format!("msgrcv {queue} 9 0 0"));
            cluster.node(2).until_blocked(&victim);
        }
        victim.kill();
        assert_eq!(two.answer(), "= 0");
        // What only the dead one had is not lost.
        assert_eq!(other.must(format!("shmstat {memory}")), 1);
        assert_eq!(one.must(format!("peek 0 {PAGE}")), kill);
        two.must(format!("semop {set} 0:1:{UNDO}"));
        one.must(format!("msgsnd {queue} 1 0 x"));
        assert_eq!(two.ask(format!("msgrcv {queue} 9 0 {NOWAIT}")), "= 1 1 x");
    }
    before.until_back(cluster.node(2));
}

/// A program waits in `shmat` for a home that is stopped, and is killed. Its end is
/// worked off all the same: nobody else waits for that node because of it.
#[test]
fn the_end_of_a_program_that_waits_for_a_stopped_home_holds_nobody_up() {
    // Longer than any step may take: here nobody is dead.
    let cluster = Cluster::with(Options {
        timeout: "120s",
        ..Options::nodes(2)
    });
    let [mut one, mut two, mut victim] = [1, 2, 1].map(|n| cluster.program(n));
    let theirs = segment(&mut two, 1);
    let ours = segment(&mut one, 1);
    victim.must(format!("shmat {ours} 0"));
    let set = one.must(format!("semget 0 1 {CREATE}"));
    victim.must(format!("semop {set} 0:3:{UNDO}"));
    cluster.node(2).stop();
    victim.begin(format!("shmat {theirs} 0"));
    wait::until("it waits in its call", || {
        all_threads_sleep(victim.pid()) && all_threads_sleep(cluster.node(1).pid())
    });
    victim.kill();
    assert_eq!(one.must(format!("shmstat {ours}")), 0);
    assert_eq!(one.must(format!("getval {set} 0")), 0);
    cluster.node(2).signal(Signal::SIGCONT);
    wait::until("what was counted for the dead is taken back", || {
        two.must(format!("shmstat {theirs}")) == 0
    });
    // Nobody else's was taken instead.
    one.must(format!("shmat {theirs} 0"));
    assert_eq!(two.must(format!("shmstat {theirs}")), 1);
}
