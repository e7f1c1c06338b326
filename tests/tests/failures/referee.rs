//! A referee that dies, or lacks something: who has objects goes on.

use dipc_tests::allowance::FewDescriptors;

use super::*;

#[test]
fn a_referee_that_is_killed_and_restarted_is_not_noticed_by_running_programs() {
    // Long enough for nodes to find the new referee on a busy machine.
    let mut cluster = Cluster::with(Options {
        timeout: "5s",
        ..Options::nodes(3)
    });
    let mut programs: Vec<Program> = (1..=3).map(|node| cluster.program(node)).collect();
    let set = programs[1].must(format!("semget 0x5e7 1 {CREATE}"));
    let memory = segment(&mut programs[0], 1);
    attach(&mut programs.iter_mut().collect::<Vec<_>>(), memory);
    programs[2].begin(format!("semop {set} 0:-1"));
    cluster.node(3).until_blocked(&programs[2]);
    let lives: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.own_status().unwrap())
        .collect();
    cluster.kill_referee();
    for value in 1..100 {
        programs[0].must(format!("poke 0 0 {value}"));
        assert_eq!(programs[1].must("peek 0 0"), value);
        programs[0].must(format!("semop {set} 0:2"));
        programs[1].must(format!("semop {set} 0:-1"));
        programs[1].must(format!("setval {set} 0 0"));
        if value == 1 {
            assert_eq!(programs[2].answer(), "= 0");
        }
    }
    programs[2].begin(format!("semop {set} 0:-1"));
    cluster.node(3).until_blocked(&programs[2]);
    cluster.restart_referee();
    let new = wait::until_some("a new key can be made", || {
        let answer = programs[0].ask(format!("semget 0x9e4 1 {CREATE}"));
        answer.succeeded().then(|| answer.number())
    });
    assert_eq!(programs[1].must(format!("semget 0x9e4 1 {FIND}")), new);
    assert!(programs[2].is_silent());
    assert_eq!(
        programs[0].must(format!("semget 0x5e7 1 {CREATE}")),
        set,
        "an old key is known"
    );
    assert_eq!(
        programs[0].ask(format!("semget 0x5e7 1 {}", CREATE | 0o2000)),
        "! EEXIST"
    );
    programs[1].must(format!("semop {set} 0:1"));
    assert_eq!(programs[2].answer(), "= 0");
    for (node, life) in cluster.nodes().iter().zip(lives) {
        assert_eq!(node.own_status().unwrap().incarnation, life.incarnation);
    }
}

#[test]
fn a_node_joins_after_the_referee_was_restarted() {
    let mut cluster = Cluster::with(Options {
        timeout: "5s",
        ..Options::nodes(2)
    });
    cluster.kill_referee();
    cluster.restart_referee();
    let third = cluster
        .try_node(3, &[])
        .expect("the new referee takes a newcomer");
    let [mut one, mut three] = [cluster.program(1), third.program()];
    let set = three.must(format!("semget 0x3 1 {CREATE}"));
    assert_eq!(one.must(format!("semget 0x3 1 {FIND}")), set);
}

/// Twice the time-out at most: the call waits for a referee that may come back.
#[test]
fn without_a_referee_nothing_is_created_and_all_that_exists_works() {
    let mut cluster = Cluster::with(Options {
        timeout: "1s",
        ..Options::nodes(2)
    });
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    two.must(format!("semop {set} 0:1"));
    cluster.kill_referee();
    let begin = std::time::Instant::now();
    assert_eq!(one.ask(format!("semget 0x2 1 {CREATE}")), "! ETIMEDOUT");
    assert_eq!(two.ask(format!("msgget 0 {CREATE}")), "! ETIMEDOUT");
    println!("two calls without a referee took {:?}", begin.elapsed());
    two.must(format!("semop {set} 0:1"));
    assert_eq!(one.must(format!("getval {set} 0")), 2);
    // Its home knows the key of what it has itself.
    one.must(format!("semrm {set}"));
    assert_eq!(two.ask(format!("semop {set} 0:1")), "! EINVAL");
    cluster.restart_referee();
    let made = wait::until_some("a key can be made", || {
        let answer = two.ask(format!("semget 0x2 1 {CREATE}"));
        answer.succeeded().then(|| answer.number())
    });
    // Half of it was not there from before.
    assert_eq!(one.must(format!("semget 0x2 1 {FIND}")), made);
    assert_eq!(one.ask(format!("semget 0x1 1 {FIND}")), "! ENOENT");
}

#[test]
fn a_referee_without_descriptors_serves_who_is_there_and_newcomers_when_it_can() {
    let cluster = Cluster::with(Options {
        timeout: "1s",
        ..Options::nodes(1)
    });
    let mut one = cluster.program(1);
    let few = FewDescriptors::of(cluster.referee_pid(), 0);
    // The one that it waits for has a descriptor already.
    let second = cluster.try_node(2, &[]).expect("there is one descriptor");
    let refusal = cluster
        .try_node(3, &[])
        .expect_err("there is no descriptor for another node");
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.message.contains("referee"), "{refusal:?}");
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    assert_eq!(second.program().must(format!("semget 0x1 1 {FIND}")), set);
    drop(few);
    let third = wait::until_some("node 3 is taken in", || cluster.try_node(3, &[]).ok());
    assert_eq!(third.program().must(format!("semget 0x1 1 {FIND}")), set);
    let said = cluster.referee_log();
    assert_eq!(
        said.matches("no connection can be accepted").count(),
        1,
        "{said}"
    );
}
