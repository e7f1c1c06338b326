//! A node that dies as a whole: its programs, dipcd and keeper at once, as by a
//! power cut.

use dipc_tests::holdings::{processes, segment_bytes};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// Kills all that runs on node 2. None of it hears of another's end before its own:
/// a daemon that lives on for a moment gives back what its programs had.
fn cut_power(cluster: &mut Cluster, programs: Vec<Program>) {
    let [_, keeper] = processes(cluster.node(2));
    cluster.node(2).stop();
    kill(Pid::from_raw(keeper as i32), Signal::SIGKILL).expect("node 2 has a keeper");
    for program in &programs {
        program.begin_kill();
    }
    cluster.kill_node(2);
}

#[test]
fn a_whole_node_that_dies_takes_its_own_along_and_the_others_lose_nothing_else() {
    let mut cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    let memory = segment(&mut one, 3);
    attach(&mut [&mut one, &mut two, &mut three], memory);
    one.must(format!("setval {set} 0 1"));
    two.must(format!("semop {set} 0:-1:{UNDO}"));
    // Page 0 only node 2 has, page 1 node 3 has read, page 2 it has never had.
    two.must("poke 0 0 7");
    two.must(format!("poke 0 {PAGE} 8"));
    assert_eq!(three.must(format!("peek 0 {PAGE}")), 8);
    three.must(format!("poke 0 {} 9", 2 * PAGE));
    let theirs = two.must(format!("semget 0x2 1 {CREATE}"));
    one.begin(format!("semop {set} 0:-1"));
    cluster.node(1).until_blocked(&one);
    three.begin(format!("semop {theirs} 0:-1"));
    cluster.node(3).until_blocked(&three);
    cut_power(&mut cluster, vec![two]);
    assert_eq!(one.answer(), "= 0");
    assert_eq!(three.answer(), "! EIDRM");
    until_alone(&cluster);
    for program in [&mut one, &mut three] {
        assert_eq!(program.ask("peek 0 0"), "! SIGBUS");
        assert_eq!(program.must(format!("peek 0 {PAGE}")), 8);
        assert_eq!(program.must(format!("peek 0 {}", 2 * PAGE)), 9);
        assert_eq!(program.ask(format!("semop {theirs} 0:1")), "! EINVAL");
        assert_eq!(program.must(format!("shmstat {memory}")), 2);
    }
}

/// Each round, node 2 uses everything of node 1's and is cut off. What node 1 holds
/// after the third is what it held after the first.
#[test]
fn nothing_of_dead_nodes_is_left_on_those_that_live() {
    let mut cluster = Cluster::start(2);
    let mut one = cluster.program(1);
    let set = one.must(format!("semget 0 1 {CREATE}"));
    let queue = one.must(format!("msgget 0 {CREATE}"));
    let memory = segment(&mut one, 4);
    one.must(format!("shmat {memory} 0"));
    one.must(format!("poke 0 {} 1", 3 * PAGE));
    let mut after_first = None;
    for round in 0..3 {
        let mut programs: Vec<Program> = (0..3).map(|_| cluster.program(2)).collect();
        for program in &mut programs {
            program.must(format!("shmat {memory} 0"));
            // This page dies with the node.
            program.must(format!("poke 0 {} 1", round * PAGE));
            program.must(format!("semop {set} 0:1:{UNDO}"));
            // A segment of its own, of which node 1 has a copy.
            let own = segment(program, 1);
            program.must(format!("shmat {own} 0"));
            let slot = one.must(format!("shmat {own} 0"));
            one.must(format!("poke {slot} 0 1"));
            one.must(format!("shmdt {slot}"));
        }
        programs[0].begin(format!("msgrcv {queue} 9 0 0"));
        cluster.node(2).until_blocked(&programs[0]);
        cut_power(&mut cluster, programs);
        cluster.until_peers(1, 0);
        cluster.restart_node(2);
        cluster.until_peers(1, 1);
        assert_eq!(one.must(format!("getval {set} 0")), 0);
        assert_eq!(one.must(format!("shmstat {memory}")), 1);
        let held = Holdings::at_rest(cluster.node(1));
        let bytes = segment_bytes(cluster.node(1));
        match after_first {
            None => after_first = Some((held, bytes)),
            Some((first, first_bytes)) => {
                first.until_back(cluster.node(1));
                assert_eq!(bytes, first_bytes);
            }
        }
    }
}
