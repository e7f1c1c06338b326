//! The limits of the cluster as a whole: however many nodes create at once,
//! whoever dies, and whichever referee counts.

use dipc_tests::{CREATE, Cluster, FIND, Options, Program, wait};

fn cluster(nodes: usize, limits: &'static [&'static str]) -> Cluster {
    Cluster::with(Options {
        limits,
        ..Options::nodes(nodes)
    })
}

fn set(program: &mut Program) -> i64 {
    program.must(format!("semget 0 1 {CREATE}"))
}

#[test]
fn of_three_nodes_that_create_until_there_is_no_space_all_together_make_exactly_the_limit() {
    let limits = &["semmni=100", "msgmni=101", "shmmni=102", "shmall=90"];
    let cluster = cluster(3, limits);
    let mut programs: Vec<Program> = (0..6).map(|n| cluster.program(n % 3 + 1)).collect();
    for (kind, limit) in [("sem", 100), ("msg", 101), ("shm", 90)] {
        for program in &mut programs {
            program.begin(format!("exhaust {kind} {CREATE}"));
        }
        let made: i64 = programs.iter().map(|p| p.answer().number()).sum();
        assert_eq!(made, limit, "{kind}");
    }
}

#[test]
fn a_removal_makes_room_at_once_for_another_node() {
    let cluster = cluster(2, &["semmni=1"]);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    for _ in 0..200 {
        let id = set(&mut one);
        one.must(format!("semrm {id}"));
        // Refused, if the referee did not look whether it has heard of that.
        let id = set(&mut two);
        one.must(format!("semrm {id}"));
    }
}

#[test]
fn a_segment_makes_room_when_the_last_process_that_has_it_ends() {
    let cluster = cluster(2, &["shmmni=1"]);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0 1 {CREATE}"));
    let mut holder = cluster.program(2);
    holder.must(format!("shmat {id} 0"));
    one.must(format!("shmrm {id}"));
    assert_eq!(two.ask(format!("shmget 0 1 {CREATE}")), "! ENOSPC");
    holder.kill();
    wait::until("there is room again", || {
        two.ask(format!("shmget 0 1 {CREATE}")).succeeded()
    });
}

#[test]
fn the_death_of_a_node_frees_its_share() {
    let mut cluster = cluster(2, &["semmni=2"]);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    set(&mut one);
    set(&mut one);
    assert_eq!(two.ask(format!("semget 0 1 {CREATE}")), "! ENOSPC");
    cluster.kill_node(1);
    cluster.until_peers(2, 0);
    set(&mut two);
    set(&mut two);
    assert_eq!(two.ask(format!("semget 0 1 {CREATE}")), "! ENOSPC");
}

#[test]
fn a_new_referee_counts_what_is_there_and_its_limits_are_those_of_all() {
    let mut cluster = cluster(2, &["semmni=3", "semmsl=10"]);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let ids = [set(&mut one), set(&mut two), set(&mut two)];
    cluster.kill_referee();
    // It waits, as every question does, and is asked again.
    two.begin(format!("semget 0 1 {CREATE}"));
    one.must(format!("semrm {}", ids[0]));
    cluster.restart_referee_with(&["semmni=2", "semmsl=5", "msgmnb=9000"]);
    assert_eq!(two.answer(), "! ENOSPC", "two are there");
    for program in [&mut one, &mut two] {
        assert_eq!(program.ask(format!("semget 0 6 {CREATE}")), "! EINVAL");
        let queue = program.must(format!("msgget 0 {CREATE}"));
        assert_eq!(program.ask(format!("msgstat {queue}")), "= 0 0 9000 0 0");
    }
    // What is above the new limits stays, and nothing is added.
    cluster.kill_referee();
    cluster.restart_referee_with(&["semmni=1"]);
    assert_eq!(one.ask(format!("semget 0x1 1 {CREATE}")), "! ENOSPC");
    two.must(format!("semop {} 0:1", ids[1]));
    one.must(format!("semrm {}", ids[1]));
    assert_eq!(one.ask(format!("semget 0x1 1 {CREATE}")), "! ENOSPC");
    one.must(format!("semrm {}", ids[2]));
    let new = one.must(format!("semget 0x1 1 {CREATE}"));
    assert_eq!(two.must(format!("semget 0x1 1 {FIND}")), new);
}

#[test]
fn a_failed_creation_leaves_its_room_to_others() {
    let cluster = cluster(2, &["shmmni=1"]);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    for key in 0..3 {
        assert_eq!(one.ask(format!("shmget {key} 0 {CREATE}")), "! EINVAL");
    }
    two.must(format!("shmget 0x1 1 {CREATE}"));
}
