//! Distributed shared memory. Who makes the segment is its home; slot 0 of a
//! program is its first attachment.

use std::fs;
use std::time::Duration;

use dipc_tests::cluster::{Options, create};
use dipc_tests::wait::DEADLINE;
use dipc_tests::{CREATE, Cluster, Mode, Program, in_each_mode, skip, wait};

in_each_mode!(
    what_one_node_writes_the_others_read,
    new_memory_is_zero_on_every_node_and_stays_zero_around_a_write,
    locked_additions_of_four_processes_on_each_of_three_nodes_are_all_counted,
    plain_additions_under_a_semaphore_with_undo_are_all_counted,
    words_of_one_page_that_different_nodes_write_do_not_disturb_each_other,
    a_reader_never_sees_a_counter_fall,
    children_forked_twice_and_another_node_write_one_page_and_nothing_is_lost,
    a_grandchild_is_served_like_its_parents,
    a_segment_of_64_mib_is_walked_by_two_nodes,
    read_of_a_file_fills_untouched_pages_that_another_node_then_sees,
    write_of_untouched_pages_puts_what_another_node_wrote_into_a_file,
    who_may_only_read_changes_nothing_that_others_see,
    a_read_only_attachment_of_the_owner_sees_what_others_write_and_cannot_write,
    data_stays_when_every_attachment_is_gone,
    a_removed_segment_lives_until_its_last_attachment_goes,
    exit_exec_and_kill_detach,
    a_forked_child_counts_as_an_attachment_and_detaches_on_its_own,
    a_program_that_becomes_a_daemon_keeps_its_attachments,
    one_process_attaches_a_segment_twice_and_sees_one_memory,
    a_quantum_of_nothing_and_one_of_milliseconds_change_only_the_speed,
);

const PAGE: i64 = 4096;
const RDONLY: u32 = 0o10000;
/// How far one process counts: much longer than a node may keep a page, so that
/// counting processes do take pages from each other.
const COUNT: i64 = 2_000_000;

/// That the page did go to other nodes while the test ran.
fn assert_pages_moved(cluster: &Cluster) {
    let status = cluster.node(1).status().expect("node 1 answers");
    let moved: u64 = status.iter().map(|node| node.granules_in).sum();
    assert!(moved > 2, "only {moved} pages came to other nodes");
}

/// A segment with its home on the first program's node, attached by all at slot 0.
fn shared(programs: &mut [&mut Program], size: i64) -> i64 {
    let id = programs[0].must(format!("shmget 0 {size} {CREATE}"));
    for program in programs {
        assert_eq!(program.must(format!("shmat {id} 0")), 0);
    }
    id
}

fn until_attached(program: &mut Program, id: i64, count: i64) {
    wait::until(&format!("segment {id} has {count} attachments"), || {
        program.must(format!("shmstat {id}")) == count
    });
}

/// How often each of twelve processes adds 1 by one locked instruction.
const ADDITIONS: i64 = 100_000;

/// How often each adds 1 under a semaphore: two operations on it and a page
/// from another node each time, so 100 000 take minutes and are left to whoever
/// asks for them by `DIPC_TEST_INCREMENTS=100000`.
fn increments() -> u32 {
    let given = std::env::var("DIPC_TEST_INCREMENTS").ok();
    given.map_or(300, |text| {
        text.parse().expect("DIPC_TEST_INCREMENTS is a number")
    })
}

fn counters(cluster: &Cluster) -> Vec<Program> {
    let nodes = (1..=3).flat_map(|node| [node; 4]);
    nodes.map(|node| cluster.program(node)).collect()
}

fn what_one_node_writes_the_others_read(mode: Mode) {
    let cluster = mode.cluster(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two, &mut three], 3 * PAGE);
    for round in 1..50 {
        for offset in [0, PAGE + 8, 3 * PAGE - 8] {
            one.must(format!("poke 0 {offset} {round}"));
            assert_eq!(two.must(format!("peek 0 {offset}")), round);
            three.must(format!("poke 0 {offset} {}", -round));
            assert_eq!(one.must(format!("peek 0 {offset}")), -round);
            assert_eq!(two.must(format!("peek 0 {offset}")), -round);
        }
    }
}

fn new_memory_is_zero_on_every_node_and_stays_zero_around_a_write(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two], 4 * PAGE);
    assert_eq!(two.must(format!("differ 0 0 {} 0", 4 * PAGE)), 0);
    two.must(format!("poke 0 {PAGE} -1"));
    assert_eq!(one.must(format!("differ 0 0 {PAGE} 0")), 0);
    assert_eq!(one.must(format!("differ 0 {PAGE} 8 255")), 0);
    assert_eq!(
        one.must(format!("differ 0 {} {} 0", PAGE + 8, 3 * PAGE - 8)),
        0
    );
}

fn locked_additions_of_four_processes_on_each_of_three_nodes_are_all_counted(mode: Mode) {
    let cluster = mode.cluster(3);
    let mut programs = counters(&cluster);
    shared(&mut programs.iter_mut().collect::<Vec<_>>(), PAGE);
    for program in &mut programs {
        program.begin(format!("xadd 0 64 {ADDITIONS}"));
    }
    for program in &programs {
        assert!(program.answer().succeeded());
    }
    for program in &mut programs {
        assert_eq!(program.must("peek 0 64"), 12 * ADDITIONS);
    }
    assert_pages_moved(&cluster);
}

fn plain_additions_under_a_semaphore_with_undo_are_all_counted(mode: Mode) {
    let cluster = mode.cluster(3);
    let mut programs = counters(&cluster);
    shared(&mut programs.iter_mut().collect::<Vec<_>>(), PAGE);
    let lock = programs[0].must(format!("semget 0 1 {CREATE}"));
    programs[0].must(format!("setval {lock} 0 1"));
    let each = increments();
    for program in &mut programs {
        program.begin(format!("increment 0 8 {each} {lock}"));
    }
    let patience = DEADLINE + 12 * each * Duration::from_millis(10);
    for program in &programs {
        assert_eq!(program.answer_within(patience), "= 0");
    }
    assert_eq!(programs[7].must("peek 0 8"), 12 * i64::from(each));
    assert_eq!(programs[7].must(format!("getval {lock} 0")), 1);
}

fn words_of_one_page_that_different_nodes_write_do_not_disturb_each_other(mode: Mode) {
    let cluster = mode.cluster(3);
    let mut programs: Vec<Program> = [1, 2, 3, 1, 2, 3].map(|node| cluster.program(node)).into();
    shared(&mut programs.iter_mut().collect::<Vec<_>>(), PAGE);
    for (program, place) in programs.iter_mut().zip(0..) {
        program.begin(format!("count_to 0 {} {COUNT}", place * 8));
    }
    for program in &programs {
        assert_eq!(program.answer(), "= 0");
    }
    for (program, place) in programs.iter_mut().rev().zip(0..) {
        assert_eq!(program.must(format!("peek 0 {}", place * 8)), COUNT);
    }
    assert_pages_moved(&cluster);
}

fn a_reader_never_sees_a_counter_fall(mode: Mode) {
    let cluster = mode.cluster(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two, &mut three], PAGE);
    two.begin(format!("rising 0 0 {COUNT}"));
    three.begin(format!("rising 0 0 {COUNT}"));
    assert_eq!(one.ask(format!("count_to 0 0 {COUNT}")), "= 0");
    assert_eq!(two.answer(), "= 0");
    assert_eq!(three.answer(), "= 0");
}

fn children_forked_twice_and_another_node_write_one_page_and_nothing_is_lost(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut two, &mut one], PAGE);
    one.must("fork");
    one.must("fork");
    until_attached(&mut two, id, 4);
    for child in 0..2 {
        one.must(format!("send {child} count_to 0 {} {COUNT}", 8 * child));
    }
    two.begin(format!("count_to 0 16 {COUNT}"));
    assert_eq!(one.ask(format!("count_to 0 24 {COUNT}")), "= 0");
    assert_eq!(one.ask("receive 0"), "= 0");
    assert_eq!(one.ask("receive 1"), "= 0");
    assert_eq!(two.answer(), "= 0");
    for place in 0..4 {
        for reader in [&mut one, &mut two] {
            assert_eq!(reader.must(format!("peek 0 {}", 8 * place)), COUNT);
        }
    }
    assert_pages_moved(&cluster);
}

fn a_grandchild_is_served_like_its_parents(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut two, &mut one], 2 * PAGE);
    one.must("fork");
    one.must("child 0 fork");
    until_attached(&mut two, id, 4);
    two.must("poke 0 0 41");
    assert_eq!(one.ask("child 0 child 0 peek 0 0"), "= 41");
    assert_eq!(one.ask(format!("child 0 child 0 poke 0 {PAGE} 42")), "= 0");
    assert_eq!(two.must(format!("peek 0 {PAGE}")), 42);
    assert_eq!(one.must(format!("peek 0 {PAGE}")), 42);
}

fn a_segment_of_64_mib_is_walked_by_two_nodes(mode: Mode) {
    const SIZE: i64 = 64 << 20;
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two], SIZE);
    one.must(format!("walk 0 0 {SIZE} {} 1", 4 * PAGE));
    assert_eq!(two.must(format!("follow 0 0 {SIZE} {} 1", 4 * PAGE)), 0);
    two.must(format!("walk 0 0 {SIZE} {} 2", 4 * PAGE));
    assert_eq!(one.must(format!("follow 0 0 {SIZE} {} 2", 4 * PAGE)), 0);
}

fn read_of_a_file_fills_untouched_pages_that_another_node_then_sees(mode: Mode) {
    if !skip::unless_root("read(2) into untouched pages") {
        return;
    }
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two], 8 * PAGE);
    let file = cluster.file("bytes");
    create(&file, &vec![0x5a; 3 * PAGE as usize]);
    two.must(format!("fill 0 0 {} 7", 8 * PAGE));
    // From the middle of a page that node 2 owns.
    let length = 3 * PAGE;
    let read = format!("read 0 {} {length} {}", PAGE / 2, file.display());
    assert_eq!(one.must(read), length);
    assert_eq!(two.must(format!("differ 0 0 {} 7", PAGE / 2)), 0);
    assert_eq!(
        two.must(format!("differ 0 {} {length} {}", PAGE / 2, 0x5a)),
        0
    );
    assert_eq!(
        two.must(format!("differ 0 {} {PAGE} 7", PAGE / 2 + length)),
        0
    );
}

fn write_of_untouched_pages_puts_what_another_node_wrote_into_a_file(mode: Mode) {
    if !skip::unless_root("write(2) out of untouched pages") {
        return;
    }
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    shared(&mut [&mut one, &mut two], 4 * PAGE);
    two.must(format!("fill 0 0 {} {}", 2 * PAGE, 0x21));
    let file = cluster.file("bytes");
    let wrote = one.must(format!("write 0 {} {} {}", PAGE, 2 * PAGE, file.display()));
    assert_eq!(wrote, 2 * PAGE);
    let (page, bytes) = (PAGE as usize, fs::read(&file).expect("the file"));
    assert!(bytes[..page].iter().all(|byte| *byte == 0x21));
    assert!(bytes[page..].iter().all(|byte| *byte == 0));
}

fn who_may_only_read_changes_nothing_that_others_see(mode: Mode) {
    if !skip::unless_root("attaching as another user") {
        return;
    }
    let cluster = mode.cluster(2);
    let [mut one, mut two, mut stranger] = [1, 2, 2].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0 {PAGE} {}", CREATE | 0o044));
    one.must(format!("shmat {id} 0"));
    two.must(format!("shmat {id} 0"));
    one.must("poke 0 0 11");
    stranger.must("setuid 65534");
    assert_eq!(stranger.ask(format!("shmat {id} 0")), "! EACCES");
    assert_eq!(stranger.must(format!("shmat {id} {RDONLY}")), 0);
    assert_eq!(stranger.must("peek 0 0"), 11);
    assert_eq!(stranger.ask("poke 0 0 66"), "! SIGSEGV");
    let writable = stranger.ask(format!("mprotect 0 {PAGE}"));
    assert_eq!(writable, "! EACCES");
    assert_eq!(one.must("peek 0 0"), 11);
    assert_eq!(two.must("peek 0 0"), 11);
    one.must("poke 0 0 12");
    assert_eq!(two.must("peek 0 0"), 12);
    assert_eq!(stranger.ask(format!("shmrm {id}")), "! EPERM");
}

fn a_read_only_attachment_of_the_owner_sees_what_others_write_and_cannot_write(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0 {PAGE} {CREATE}"));
    one.must(format!("shmat {id} 0"));
    two.must(format!("shmat {id} {RDONLY}"));
    for value in 1..20 {
        one.must(format!("poke 0 0 {value}"));
        assert_eq!(two.must("peek 0 0"), value);
        assert_eq!(two.ask("poke 0 0 99"), "! SIGSEGV");
    }
    assert_eq!(one.must("peek 0 0"), 19);
}

fn data_stays_when_every_attachment_is_gone(mode: Mode) {
    let cluster = mode.cluster(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let id = shared(&mut [&mut one, &mut two], 2 * PAGE);
    two.must("poke 0 0 5");
    one.must(format!("poke 0 {PAGE} 6"));
    two.must("shmdt 0");
    assert_eq!(one.must(format!("shmstat {id}")), 1);
    one.must("shmdt 0");
    assert_eq!(one.must(format!("shmstat {id}")), 0);
    three.must(format!("shmat {id} 0"));
    assert_eq!(three.must("peek 0 0"), 5);
    assert_eq!(three.must(format!("peek 0 {PAGE}")), 6);
    assert_eq!(two.ask("shmdt 0"), "! EINVAL");
}

fn a_removed_segment_lives_until_its_last_attachment_goes(mode: Mode) {
    let cluster = mode.cluster(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0x5e6 {PAGE} {CREATE}"));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    three.must(format!("shmrm {id}"));
    assert_eq!(
        three.ask(format!("shmget 0x5e6 0 {}", dipc_tests::FIND)),
        "! ENOENT"
    );
    two.must("poke 0 0 77");
    assert_eq!(one.must("peek 0 0"), 77);
    assert_eq!(three.ask(format!("shmstat {id}")), "= 2 4096 1600");
    assert_eq!(three.must(format!("shmat {id} 0")), 0);
    assert_eq!(three.must("peek 0 0"), 77);
    three.must("shmdt 0");
    one.must("shmdt 0");
    two.exit();
    wait::until("the segment is destroyed", || {
        one.ask(format!("shmstat {id}")) == "! EINVAL"
    });
}

fn exit_exec_and_kill_detach(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two, mut doomed] = [1, 2, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut one, &mut two, &mut doomed], PAGE);
    two.must(format!("shmat {id} 0"));
    until_attached(&mut one, id, 4);
    two.must("exec");
    until_attached(&mut one, id, 2);
    doomed.kill();
    until_attached(&mut one, id, 1);
    assert_eq!(two.must(format!("shmat {id} 0")), 0);
    until_attached(&mut one, id, 2);
    two.exit();
    until_attached(&mut one, id, 1);
}

fn a_forked_child_counts_as_an_attachment_and_detaches_on_its_own(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut one, &mut two], PAGE);
    two.must("fork");
    until_attached(&mut one, id, 3);
    two.must("child 0 shmdt 0");
    until_attached(&mut one, id, 2);
    one.must("poke 0 0 3");
    assert_eq!(two.must("peek 0 0"), 3);
}

fn a_program_that_becomes_a_daemon_keeps_its_attachments(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut one, &mut two], PAGE);
    one.must("poke 0 0 3");
    two.must("daemonize");
    assert_eq!(two.must("peek 0 0"), 3);
    two.must("poke 0 8 4");
    assert_eq!(one.must("peek 0 8"), 4);
    until_attached(&mut one, id, 2);
}

#[test]
fn of_many_programs_that_become_daemons_at_once_each_keeps_its_attachments() {
    let cluster = Cluster::start(1);
    let mut programs: Vec<Program> = (0..12).map(|_| cluster.program(1)).collect();
    let id = shared(&mut programs.iter_mut().collect::<Vec<_>>(), PAGE);
    for _ in 0..20 {
        // Their ends, which others are working off, and their children's reports meet.
        programs.iter_mut().for_each(|p| p.begin("daemonize"));
        programs.iter().for_each(|p| assert_eq!(p.answer(), "= 0"));
        for program in &mut programs {
            assert!(program.must("xadd 0 0 1") >= 0);
        }
    }
    assert_eq!(programs[0].must("peek 0 0"), 20 * 12);
    until_attached(&mut programs[0], id, 12);
}

fn one_process_attaches_a_segment_twice_and_sees_one_memory(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = shared(&mut [&mut one, &mut two], PAGE);
    assert_eq!(two.must(format!("shmat {id} {RDONLY}")), 1);
    two.must("poke 0 8 4");
    assert_eq!(two.must("peek 1 8"), 4);
    one.must("poke 0 8 5");
    assert_eq!(two.must("peek 1 8"), 5);
    assert_eq!(two.must("peek 0 8"), 5);
    assert_eq!(one.must(format!("shmstat {id}")), 3);
}

fn a_quantum_of_nothing_and_one_of_milliseconds_change_only_the_speed(mode: Mode) {
    for quantum in ["0", "5ms"] {
        let options = Options {
            quantum,
            ..mode.nodes(2)
        };
        let cluster = Cluster::with(options);
        let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
        shared(&mut [&mut one, &mut two], PAGE);
        one.begin("xadd 0 0 100000");
        two.begin("xadd 0 0 100000");
        assert!(one.answer().succeeded() && two.answer().succeeded());
        assert_eq!(one.must("peek 0 0"), 200_000, "quantum {quantum}");
    }
}
