//! Locks that programs make of loads, stores and atomic instructions, taken by
//! processes of three nodes; words that lie across the end of a page; words of
//! one page that belong to different nodes. Exact, and everybody gets on.

use dipc_tests::{CREATE, Cluster, Mode, Program, in_each_mode};

in_each_mode!(
    a_test_and_set_lock_holds_on_three_nodes,
    a_ticket_lock_holds_on_three_nodes_and_passes_nobody_by,
    petersons_lock_holds_between_two_nodes,
    compare_and_swap_of_three_nodes_loses_nothing,
    words_across_the_end_of_a_page_are_whole_in_each_half_and_nobody_starves,
);

const PAGE: i64 = 4096;
/// Where the lock is; what it guards may be elsewhere.
const LOCK: i64 = 0;
/// A counter beside the lock, one in another page, and one in two.
const COUNTERS: [i64; 3] = [512, PAGE + 8, 2 * PAGE - 4];
/// How often each process takes a lock: each time a page or two come.
const TIMES: i64 = 50;

/// A process on each of three nodes, with one segment at slot 0.
fn three(cluster: &Cluster) -> [Program; 3] {
    let mut programs = [1, 2, 3].map(|node| cluster.program(node));
    let id = programs[0].must(format!("shmget 0 {} {CREATE}", 64 * PAGE));
    for program in &mut programs {
        assert_eq!(program.must(format!("shmat {id} 0")), 0);
    }
    programs
}

/// All do the same at once, and find nothing wrong.
fn at_once(programs: &mut [Program], command: impl Fn(usize) -> String) {
    for (number, program) in programs.iter_mut().enumerate() {
        program.begin(command(number));
    }
    for program in programs {
        assert_eq!(program.answer(), "= 0");
    }
}

/// Every addition under a lock is counted, wherever the counter lies.
fn counts_exactly(programs: &mut [Program], lock: &str) {
    for counter in COUNTERS {
        at_once(programs, |number| {
            format!("{lock} 0 {LOCK} {counter} {TIMES} {number}")
        });
        let expected = TIMES * programs.len() as i64;
        for program in programs.iter_mut() {
            assert_eq!(
                program.must(format!("peek 0 {counter}")),
                expected,
                "{lock}"
            );
        }
    }
}

fn a_test_and_set_lock_holds_on_three_nodes(mode: Mode) {
    let cluster = mode.cluster(3);
    counts_exactly(&mut three(&cluster), "spin_lock");
}

fn a_ticket_lock_holds_on_three_nodes_and_passes_nobody_by(mode: Mode) {
    let cluster = mode.cluster(3);
    counts_exactly(&mut three(&cluster), "ticket_lock");
}

fn petersons_lock_holds_between_two_nodes(mode: Mode) {
    let cluster = mode.cluster(3);
    counts_exactly(&mut three(&cluster)[1..], "peterson");
}

fn compare_and_swap_of_three_nodes_loses_nothing(mode: Mode) {
    let cluster = mode.cluster(3);
    let mut programs = three(&cluster);
    at_once(&mut programs, |_| {
        format!("compare_and_swap 0 64 {}", 5_000)
    });
    assert_eq!(programs[2].must("peek 0 64"), 15_000);
}

fn words_across_the_end_of_a_page_are_whole_in_each_half_and_nobody_starves(mode: Mode) {
    let cluster = mode.cluster(3);
    let mut programs = three(&cluster);
    at_once(&mut programs, |number| {
        format!("straddle 0 {} 300 {} 3", 3 * PAGE - 4, number + 1)
    });
}
