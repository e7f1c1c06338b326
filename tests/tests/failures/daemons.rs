//! A dipcd that is killed, and with it all that has its home there: who waits for it or
//! touches it hears so; nobody else notices.

use dipc_tests::{Mode, in_each_mode};

use super::*;

in_each_mode!(
    memory_of_a_killed_node_is_sigbus_and_that_of_others_goes_on,
    no_process_anywhere_reads_a_zero_when_a_daemon_is_killed,
    a_child_that_is_forked_while_the_daemon_is_killed_reads_no_zero,
    writers_all_over_a_segment_end_with_sigbus_when_its_home_is_killed,
    who_waits_for_a_page_of_a_node_that_is_killed_gets_sigbus,
    a_program_that_waits_for_a_page_when_its_own_daemon_is_killed_gets_sigbus,
);

#[test]
fn waits_at_a_killed_node_end_with_eidrm_and_its_objects_are_gone() {
    let mut cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let set = two.must(format!("semget 0x2 1 {CREATE}"));
    let queue = two.must(format!("msgget 0x2 {CREATE}"));
    let segment = two.must(format!("shmget 0x2 4096 {CREATE}"));
    one.begin(format!("semop {set} 0:-1"));
    cluster.node(1).until_blocked(&one);
    three.begin(format!("msgrcv {queue} 9 0 0"));
    cluster.node(3).until_blocked(&three);
    cluster.kill_node(2);
    assert_eq!(one.answer(), "! EIDRM");
    assert_eq!(three.answer(), "! EIDRM");
    until_alone(&cluster);
    for program in [&mut one, &mut three] {
        assert_eq!(program.ask(format!("semop {set} 0:1")), "! EINVAL");
        assert_eq!(program.ask(format!("msgsnd {queue} 1 0 x")), "! EINVAL");
        assert_eq!(program.ask(format!("msgstat {queue}")), "! EINVAL");
        assert_eq!(program.ask(format!("shmat {segment} 0")), "! EINVAL");
        assert_eq!(program.ask(format!("shmstat {segment}")), "! EINVAL");
    }
    let new = three.must(format!("semget 0x2 1 {}", CREATE | 0o2000));
    assert_eq!(one.must(format!("semget 0x2 1 {FIND}")), new);
    one.begin(format!("semop {new} 0:-1"));
    cluster.node(1).until_blocked(&one);
    three.must(format!("semop {new} 0:1"));
    assert_eq!(one.answer(), "= 0");
}

#[test]
fn the_death_of_a_node_undoes_what_its_processes_did_elsewhere() {
    let mut cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0 1 {CREATE}"));
    one.must(format!("setval {set} 0 1"));
    let memory = segment(&mut one, 1);
    attach(&mut [&mut two, &mut three], memory);
    two.must(format!("semop {set} 0:-1:{UNDO}"));
    three.begin(format!("semop {set} 0:-1"));
    cluster.node(3).until_blocked(&three);
    cluster.kill_node(2);
    assert_eq!(three.answer(), "= 0");
    wait::until("the dead node's attachment does not count", || {
        one.must(format!("shmstat {memory}")) == 1
    });
}

fn memory_of_a_killed_node_is_sigbus_and_that_of_others_goes_on(mode: Mode) {
    let mut cluster = mode.cluster(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let theirs = segment(&mut two, 4);
    attach(&mut [&mut one, &mut two, &mut three], theirs);
    let ours = segment(&mut one, 4);
    let slot = attach(&mut [&mut one, &mut two, &mut three], ours);
    two.must(format!("fill 0 0 {} 1", 4 * PAGE));
    one.must("peek 0 0");
    // Of the segment of node 1, page 1 is only at node 2, page 2 at 3, page 3 read by 3.
    two.must(format!("poke {slot} {PAGE} 21"));
    three.must(format!("poke {slot} {} 32", 2 * PAGE));
    two.must(format!("poke {slot} {} 23", 3 * PAGE));
    three.must(format!("peek {slot} {}", 3 * PAGE));
    cluster.kill_node(2);
    until_alone(&cluster);
    // What travels together is lost or kept together.
    let page_1 = match mode {
        Mode::Page => "! SIGBUS",
        Mode::Block | Mode::Segment => "= 21",
    };
    for program in [&mut one, &mut three] {
        for page in 0..4 {
            assert_eq!(program.ask(format!("peek 0 {}", page * PAGE)), "! SIGBUS");
        }
        assert_eq!(program.ask("poke 0 0 5"), "! SIGBUS");
        assert_eq!(program.ask(format!("peek {slot} {PAGE}")), page_1);
        assert_eq!(program.must(format!("peek {slot} {}", 2 * PAGE)), 32);
        assert_eq!(program.must(format!("peek {slot} {}", 3 * PAGE)), 23);
        assert_eq!(program.must(format!("peek {slot} 0")), 0);
    }
    one.must(format!("poke {slot} 0 8"));
    assert_eq!(three.must(format!("peek {slot} 0")), 8);
    three.must(format!("poke {slot} {} 9", 3 * PAGE));
    assert_eq!(one.must(format!("peek {slot} {}", 3 * PAGE)), 9);
}

/// Every process reads a word that is never 0 until it is another: what it
/// finds then must be the end of its memory, not a page that nobody wrote.
fn no_process_anywhere_reads_a_zero_when_a_daemon_is_killed(mode: Mode) {
    for round in 0..3 {
        let mut cluster = mode.cluster(3);
        let mut programs: Vec<Program> = [1, 2, 3, 2, 2].map(|node| cluster.program(node)).into();
        let id = segment(&mut programs[1], 8);
        attach(&mut programs.iter_mut().collect::<Vec<_>>(), id);
        programs[round % 3].must(format!("fill 0 0 {} 1", 8 * PAGE));
        let ones = 0x0101_0101_0101_0101_u64;
        for (program, page) in programs.iter_mut().zip(0..) {
            program.begin(format!("watch 0 {} {ones}", page * PAGE));
        }
        // A child that has been served before.
        let mut parent = cluster.program(2);
        parent.must(format!("shmat {id} 0"));
        parent.must("fork");
        assert_eq!(parent.ask("child 0 peek 0 0").number() as u64, ones);
        parent.must(format!("send 0 watch 0 0 {ones}"));
        cluster.kill_node(2);
        for (program, number) in programs.iter().zip(0..) {
            assert_eq!(
                program.answer(),
                "! SIGBUS",
                "round {round}, program {number}"
            );
        }
        assert_eq!(parent.ask("receive 0"), "! SIGBUS");
        for page in 0..8 {
            assert_eq!(parent.ask(format!("peek 0 {}", page * PAGE)), "! SIGBUS");
        }
        assert_eq!(parent.ask("poke 0 0 1"), "! SIGBUS");
    }
}

/// A child is the daemon's to serve from the fork on, and the daemon dies just
/// then. Its memory may be closed to the child in whatever way, but not be zero.
fn a_child_that_is_forked_while_the_daemon_is_killed_reads_no_zero(mode: Mode) {
    for round in 0..10 {
        let mut cluster = mode.cluster(1);
        let mut parent = cluster.program(1);
        let id = segment(&mut parent, 1);
        attach(&mut [&mut parent], id);
        parent.must(format!("fill 0 0 {PAGE} 1"));
        if round % 2 == 0 {
            parent.must("fork");
        } else {
            parent.begin("fork");
        }
        cluster.kill_node(1);
        if round % 2 == 1 {
            assert!(parent.answer().succeeded());
        }
        let answer = parent.ask("child 0 watch 0 0 0x0101010101010101");
        let closed = ["! SIGBUS", "! SIGSEGV"];
        assert!(
            closed.iter().any(|end| answer == *end),
            "round {round}: {answer:?}"
        );
    }
}

fn writers_all_over_a_segment_end_with_sigbus_when_its_home_is_killed(mode: Mode) {
    let mut cluster = mode.cluster(3);
    let mut programs: Vec<Program> = [1, 2, 3, 2].map(|node| cluster.program(node)).into();
    let id = segment(&mut programs[1], 1);
    attach(&mut programs.iter_mut().collect::<Vec<_>>(), id);
    for program in &mut programs {
        program.begin("xadd 0 0 1000000000000");
    }
    wait::until("node 3 has faulted", || {
        let status = cluster.node(3).own_status().expect("node 3 answers");
        status.write_faults > 3
    });
    cluster.kill_node(2);
    for program in &programs {
        assert_eq!(program.answer(), "! SIGBUS");
    }
}

fn who_waits_for_a_page_of_a_node_that_is_killed_gets_sigbus(mode: Mode) {
    let mut cluster = mode.cluster(3);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let ours = segment(&mut one, 1);
    attach(&mut [&mut one, &mut two], ours);
    two.must("poke 0 0 5");
    cluster.node(2).stop();
    one.begin("peek 0 0");
    wait::until("program 1 waits for a page", || waits_for_page(one.pid()));
    cluster.kill_node(2);
    assert_eq!(one.answer(), "! SIGBUS");
}

fn a_program_that_waits_for_a_page_when_its_own_daemon_is_killed_gets_sigbus(mode: Mode) {
    let mut cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let ours = segment(&mut one, 2);
    attach(&mut [&mut one, &mut two], ours);
    one.must("poke 0 0 5");
    cluster.node(2).stop();
    two.begin("peek 0 0");
    wait::until("program 2 waits for a page", || waits_for_page(two.pid()));
    cluster.kill_node(2);
    assert_eq!(two.answer(), "! SIGBUS");
    assert_eq!(two.ask(format!("peek 0 {PAGE}")), "! SIGBUS");
    // Only node 1 had the page; node 2's death costs it nothing.
    assert_eq!(one.must("peek 0 0"), 5);
}

#[test]
fn programs_of_a_killed_daemon_get_errors_and_keep_what_is_local() {
    let mut cluster = Cluster::start(2);
    let [mut one, mut two, mut blocked] = [1, 2, 2].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0x9 1 {CREATE}"));
    let local = two.must("semget 0 1 0600");
    two.must(format!("getval {set} 0"));
    blocked.begin(format!("semop {set} 0:-1"));
    cluster.node(2).until_blocked(&blocked);
    cluster.kill_node(2);
    assert_eq!(blocked.answer(), "! EIDRM");
    assert_eq!(two.ask(format!("semop {set} 0:1")), "! EINVAL");
    assert_eq!(two.ask(format!("semget 0x9 1 {CREATE}")), "! ETIMEDOUT");
    two.must(format!("semop {local} 0:1"));
    two.must(format!("semrm {local}"));
    wait::until("node 1 has dropped the waiter", || {
        one.must(format!("getncnt {set} 0")) == 0
    });
}

#[test]
fn a_node_that_comes_back_is_a_new_one_under_its_old_name() {
    let mut cluster = Cluster::start(3);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let old = two.must(format!("semget 0x2 1 {CREATE}"));
    let before = cluster.node(2).own_status().expect("node 2 answers");
    cluster.kill_node(2);
    until_alone(&cluster);
    cluster.restart_node(2);
    cluster.until_peers(1, 2);
    cluster.until_peers(3, 2);
    let after = cluster.node(2).own_status().expect("node 2 answers");
    assert_eq!(after.node, before.node);
    assert!(after.incarnation > before.incarnation);
    assert_eq!(one.ask(format!("semop {old} 0:1")), "! EINVAL");
    let mut again = cluster.program(2);
    let new = again.must(format!("semget 0x2 1 {}", CREATE | 0o2000));
    assert_ne!(new, old, "an id of the former life");
    assert_eq!(one.must(format!("semget 0x2 1 {FIND}")), new);
    let memory = segment(&mut one, 1);
    attach(&mut [&mut one, &mut again], memory);
    again.must("poke 0 0 6");
    assert_eq!(one.must("peek 0 0"), 6);
    // A program of the former life is served by no one, and says so.
    assert!(!two.ask(format!("semop {old} 0:1")).succeeded());
}

#[test]
fn sigterm_ends_a_daemon_in_order_and_the_others_go_on() {
    let mut cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let set = two.must(format!("semget 0x2 1 {CREATE}"));
    let memory = segment(&mut two, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 3");
    three.begin(format!("semop {set} 0:-1"));
    cluster.node(3).until_blocked(&three);
    assert!(cluster.terminate_node(2).success());
    assert!(!cluster.node(2).socket.exists());
    assert_eq!(three.answer(), "! EIDRM");
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    wait::until("node 2's own program has lost its memory", || {
        let answer = two.ask("peek 0 0");
        assert!(answer == "= 3" || answer == "! SIGBUS", "{answer:?}");
        answer == "! SIGBUS"
    });
    until_alone(&cluster);
    let new = three.must(format!("semget 0x2 1 {CREATE}"));
    assert_eq!(one.must(format!("semget 0x2 1 {FIND}")), new);
}

#[test]
fn nothing_is_left_when_a_cluster_has_ended() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut one, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 1");
    let status = cluster.node(1).status().expect("node 1 answers");
    let pids: Vec<u32> = status
        .iter()
        .flat_map(|node| [node.pid, node.keeper])
        .collect();
    assert_eq!(pids.len(), 4);
    drop(cluster);
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    drop((one, two));
    for pid in pids {
        wait::until(&format!("the end of process {pid}"), || !exists(pid));
    }
}
