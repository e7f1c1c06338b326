//! A machine without memory: for a page, for a segment, for a daemon.

use super::*;

#[test]
fn who_waits_for_a_page_without_memory_gets_sigbus_and_nothing_is_lost() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two, mut late] = [1, 2, 1].map(|n| cluster.program(n));
    let memory = segment(&mut two, 3);
    attach(&mut [&mut one, &mut two, &mut late], memory);
    for page in 0..3 {
        two.must(format!("poke 0 {} {}", page * PAGE, 10 + page));
    }
    scarcity.begin(Scarce::Pages, Errno::ENOMEM);
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    // Node 1 owns this one now: there is no other copy of it.
    assert_eq!(one.ask(format!("poke 0 {PAGE} 5")), "! SIGBUS");
    assert_eq!(late.ask(format!("peek 0 {PAGE}")), "! SIGBUS");
    // The others get from it what they had.
    for page in 0..3 {
        assert_eq!(two.must(format!("peek 0 {}", page * PAGE)), 10 + page);
    }
    assert_eq!(one.ask(format!("poke 0 {PAGE} 5")), "! SIGBUS");
    two.must(format!("poke 0 {PAGE} 21"));
    scarcity.end(Scarce::Pages);
    // A page that raised SIGBUS in a process does so until it attaches anew.
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    assert_eq!(late.must("peek 0 0"), 10);
    assert_eq!(one.must(format!("peek 0 {}", 2 * PAGE)), 12);
    one.must("shmdt 0");
    one.must(format!("shmat {memory} 0"));
    assert_eq!(one.must("peek 0 0"), 10);
    assert_eq!(one.must(format!("peek 0 {PAGE}")), 21);
    one.must(format!("poke 0 {PAGE} 22"));
    assert_eq!(two.must(format!("peek 0 {PAGE}")), 22);
    assert_eq!(two.must(format!("shmstat {memory}")), 3);
    let log = cluster.node(1).log();
    assert!(log.contains("no memory for a page"), "{log}");
    assert!(cluster.node(1).own_status().is_some());
}

#[test]
fn a_home_without_memory_keeps_what_comes_back_to_it() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two, mut late] = [1, 2, 1].map(|n| cluster.program(n));
    let memory = segment(&mut one, 1);
    two.must(format!("shmat {memory} 0"));
    two.must("poke 0 0 7");
    scarcity.begin(Scarce::Pages, Errno::ENOMEM);
    two.must("shmdt 0");
    scarcity.until_felt(Scarce::Pages, 0);
    late.must(format!("shmat {memory} 0"));
    assert_eq!(late.ask("peek 0 0"), "! SIGBUS");
    scarcity.end(Scarce::Pages);
    one.must(format!("shmat {memory} 0"));
    assert_eq!(one.must("peek 0 0"), 7);
}

#[test]
fn a_page_that_cannot_be_mapped_for_lack_of_memory_is_sigbus_for_that_process_only() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two, mut late] = [1, 2, 1].map(|n| cluster.program(n));
    let memory = segment(&mut two, 1);
    attach(&mut [&mut one, &mut two, &mut late], memory);
    two.must("poke 0 0 7");
    assert_eq!(one.must("peek 0 0"), 7);
    scarcity.begin(Scarce::Mappings, Errno::ENOMEM);
    assert_eq!(late.ask("peek 0 0"), "! SIGBUS");
    scarcity.end(Scarce::Mappings);
    assert_eq!(one.must("peek 0 0"), 7);
    two.must("poke 0 0 8");
    assert_eq!(one.must("peek 0 0"), 8);
}

#[test]
fn a_segment_for_which_there_is_no_memory_is_enomem_and_is_not_counted() {
    let (cluster, scarcity) = scarce();
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut two, 1);
    one.must(format!("shmstat {memory}"));
    let before = Holdings::at_rest(cluster.node(1));
    for errno in [Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE] {
        scarcity.begin(Scarce::Memories, errno);
        assert_eq!(one.ask(format!("shmat {memory} 0")), "! ENOMEM");
        assert_eq!(two.must(format!("shmstat {memory}")), 0);
    }
    before.until_back(cluster.node(1));
    scarcity.end(Scarce::Memories);
    one.must(format!("shmat {memory} 0"));
    two.must(format!("shmat {memory} 0"));
    two.must("poke 0 0 3");
    assert_eq!(one.must("peek 0 0"), 3);
}
