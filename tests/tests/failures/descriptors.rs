//! No descriptors: in a program, in a daemon, on the whole machine. `tests/size.rs`
//! has the crowd that meets a daemon's limit by itself.

use dipc_tests::allowance::FewDescriptors;

use super::*;

#[test]
fn a_program_without_descriptors_gets_enomem_and_nothing_is_counted() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut two, 1);
    let set = two.must(format!("semget 0x1 1 {CREATE}"));
    let none = FewDescriptors::of(one.pid(), 0);
    assert_eq!(one.ask(format!("semget 0x1 1 {FIND}")), "! ENOMEM");
    assert_eq!(one.ask(format!("semop {set} 0:1")), "! ENOMEM");
    assert_eq!(one.ask(format!("shmat {memory} 0")), "! ENOMEM");
    drop(none);
    // The connection takes one; of the memory and the userfaultfd that come, some,
    // or none.
    one.must(format!("semop {set} 0:1"));
    for more in 0..3 {
        let few = FewDescriptors::of(one.pid(), more);
        let answer = one.ask(format!("shmat {memory} 0"));
        drop(few);
        if answer.succeeded() {
            one.must(format!("shmdt {}", answer.number()));
        } else {
            assert_eq!(answer, "! ENOMEM", "with {more} descriptors");
        }
        assert!(more > 0 || !answer.succeeded());
        assert_eq!(two.must(format!("shmstat {memory}")), 0, "{more}");
    }
    one.must(format!("shmat {memory} 0"));
    one.must("poke 0 0 5");
    assert_eq!(two.must(format!("shmstat {memory}")), 1);
    assert_eq!(two.must(format!("getval {set} 0")), 1);
}

#[test]
fn a_daemon_without_descriptors_tells_newcomers_enomem_and_serves_who_is_there() {
    let cluster = Cluster::start(2);
    let [mut one, mut two, mut late] = [1, 2, 1].map(|n| cluster.program(n));
    let memory = segment(&mut one, 1);
    attach(&mut [&mut one, &mut two], memory);
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    let before = Holdings::at_rest(cluster.node(1));
    let few = FewDescriptors::of(cluster.node(1).pid(), 0);
    for _ in 0..3 {
        assert_eq!(late.ask(format!("semop {set} 0:1")), "! ENOMEM");
        assert_eq!(late.ask(format!("semget 0x1 1 {FIND}")), "! ENOMEM");
    }
    for value in 1..20 {
        two.must(format!("poke 0 0 {value}"));
        assert_eq!(one.must("peek 0 0"), value);
        two.must(format!("semop {set} 0:1"));
        one.must(format!("semop {set} 0:-1"));
    }
    let said = cluster.node(1).log();
    assert_eq!(
        said.matches("too few of this daemon's descriptors").count(),
        1,
        "{said}"
    );
    drop(few);
    // The next one that comes finds room, and brings back what is kept for others.
    let mut next = cluster.program(1);
    next.must(format!("semop {set} 0:1"));
    next.exit();
    before.until_back(cluster.node(1));
    late.must(format!("semop {set} 0:1"));
    late.must(format!("shmat {memory} 0"));
    assert_eq!(late.must("peek 0 0"), 19);
}

/// ENFILE: no daemon can do anything about it. Who connects waits in the socket's
/// queue, as it would for a busy daemon, and nothing is said twice.
#[test]
fn while_the_machine_has_no_files_who_connects_waits_and_is_served_afterwards() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two, mut first, mut late] = [1, 2, 1, 1].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    scarcity.begin(Scarce::Connections, Errno::ENFILE);
    // This one is being waited for already.
    assert_eq!(first.must(format!("semget 0x1 1 {FIND}")), set);
    late.begin(format!("semop {set} 0:1"));
    scarcity.until_felt(Scarce::Connections, 4);
    assert!(late.is_silent());
    two.must(format!("semop {set} 0:1"));
    assert_eq!(one.must(format!("getval {set} 0")), 1);
    scarcity.end(Scarce::Connections);
    assert_eq!(late.answer(), "= 0");
    let said = cluster.node(1).log();
    assert_eq!(said.matches("cannot be accepted now").count(), 1, "{said}");
}

#[test]
fn a_node_that_joins_a_member_without_descriptors_is_refused_and_says_why() {
    let cluster = Cluster::start(2);
    let few = FewDescriptors::of(cluster.node(1).pid(), 0);
    let refusal = cluster
        .try_node(3, &[])
        .expect_err("node 1 cannot let it in");
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.message.contains("member node1"), "{refusal:?}");
    drop(few);
    let third = wait::until_some("node 3 is let in", || cluster.try_node(3, &[]).ok());
    let [mut one, mut three] = [cluster.program(1), third.program()];
    let set = three.must(format!("semget 0x3 1 {CREATE}"));
    assert_eq!(one.must(format!("semget 0x3 1 {FIND}")), set);
}
