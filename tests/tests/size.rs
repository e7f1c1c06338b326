//! The sizes that must work: many objects, large ones, many processes.
//!
//! Each test also says what its size costs. `docs/limits.md` has the figures;
//! to see them anew:
//!
//! ```text
//! cargo test -p dipc-tests --test size -- --nocapture --test-threads=1
//! ```
//!
//! No figure of time or memory decides whether a test passes. Counts that are
//! exact do: descriptors and threads that are back where they were.

use std::time::{Duration, Instant};

use dipc_tests::holdings::processes;
use dipc_tests::{CREATE, Cluster, Cost, FIND, Holdings, NOWAIT, Options, Program, UNDO, wait};

/// For steps that do something many thousand times.
const LONG: Duration = Duration::from_secs(120);

/// Has a program do something long; what it came to, and how long it took.
#[track_caller]
fn timed(program: &mut Program, command: String) -> (Vec<i64>, Duration) {
    let begin = Instant::now();
    program.begin(&command);
    let answer = program.answer_within(LONG);
    assert!(answer.succeeded(), "{command}: {answer:?}");
    (answer.numbers(), begin.elapsed())
}

/// Has a program do something to many objects; the first number of its answer.
#[track_caller]
fn long(program: &mut Program, what: &str, command: String) -> i64 {
    let (numbers, took) = timed(program, command);
    println!("{what}: {} ms", took.as_millis());
    numbers[0]
}

fn say(cluster: &Cluster, when: &str) {
    for node in 1..=cluster.nodes().len() {
        let [daemon, keeper] = processes(cluster.node(node)).map(Cost::of);
        println!("{when}: dipcd {node}: {daemon}; keeper: {keeper}");
    }
    println!("{when}: referee: {}", Cost::of(cluster.referee_pid()));
}

fn listed(cluster: &Cluster, node: usize) -> usize {
    let output = cluster
        .node(node)
        .command(dipc_tests::artifacts::built("dipc"))
        .args(["ls", "--json"])
        .env_remove("LD_PRELOAD")
        .output()
        .expect("dipc can be run");
    assert!(output.status.success(), "{output:?}");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    rows["objects"].as_array().map_or(0, Vec::len)
}

#[test]
fn ten_thousand_sets_are_made_used_from_another_node_listed_and_removed() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    say(&cluster, "before");
    let made = long(
        &mut one,
        "10 000 sets are made",
        format!("many sem 0x100000 10000 {CREATE}"),
    );
    assert_eq!(made, 10_000);
    say(&cluster, "10 000 sets");
    let found = long(
        &mut two,
        "found by node 2",
        format!("many sem 0x100000 10000 {FIND}"),
    );
    assert_eq!(found, 10_000);
    long(
        &mut two,
        "a semop on each from node 2",
        "many_post 3".into(),
    );
    assert_eq!(
        long(&mut one, "GETVAL of each at home", "many_differ 3".into()),
        0
    );
    let begin = Instant::now();
    assert_eq!(listed(&cluster, 2), 10_000);
    println!("listed: {} ms", begin.elapsed().as_millis());
    long(&mut two, "removed from node 2", "many_rm sem".into());
    assert_eq!(listed(&cluster, 1), 0);
    let private = "private ones are made";
    assert_eq!(
        long(&mut one, private, format!("many sem 0 10000 {CREATE}")),
        10_000
    );
    let path = cluster.file("ids");
    one.must(format!("many_save {}", path.display()));
    two.must(format!("many_load {}", path.display()));
    long(
        &mut two,
        "a semop on each from node 2",
        "many_post 1".into(),
    );
    assert_eq!(
        long(&mut one, "GETVAL of each at home", "many_differ 1".into()),
        0
    );
    long(&mut one, "removed at home", "many_rm sem".into());
    say(&cluster, "after");
}

#[test]
fn a_set_of_32_000_semaphores_is_filled_read_and_undone_from_two_nodes() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    say(&cluster, "before");
    let id = one.must(format!("semget 0x51 32000 {CREATE}"));
    assert_eq!(one.ask(format!("semget 0x52 32001 {CREATE}")), "! EINVAL");
    say(&cluster, "a set of 32 000");
    long(&mut one, "SETALL at home", format!("set_fill {id} 32000 1"));
    assert_eq!(two.must(format!("semget 0x51 32000 {FIND}")), id);
    let differ = |salt| format!("set_differ {id} 32000 {salt}");
    assert_eq!(long(&mut two, "GETALL from node 2", differ(1)), 0);
    assert_eq!(long(&mut one, "GETALL at home", differ(1)), 0);
    long(
        &mut two,
        "SETALL from node 2",
        format!("set_fill {id} 32000 2"),
    );
    assert_eq!(one.must(differ(2)), 0);
    // The last one: what its holder took comes back when it ends.
    let last = one.must(format!("getval {id} 31999"));
    two.must(format!("semop {id} 31999:-{last}:{UNDO}"));
    assert_eq!(one.ask(differ(2)).numbers(), [1, 31_999]);
    assert_eq!(two.ask(format!("semop {id} 32000:1")), "! EFBIG");
    two.exit();
    wait::until("node 2's operation is undone", || one.must(differ(2)) == 0);
    one.must(format!("semrm {id}"));
}

#[test]
fn as_many_queues_as_msgmni_hold_a_message_each_and_one_more_is_enospc() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    say(&cluster, "before");
    let made = long(
        &mut one,
        "32 000 queues are made",
        format!("many msg 0x200000 32000 {CREATE}"),
    );
    assert_eq!(made, 32_000);
    assert_eq!(one.ask(format!("msgget 0x52 {CREATE}")), "! ENOSPC");
    say(&cluster, "32 000 queues");
    long(&mut one, "a message into each", "many_send".into());
    say(&cluster, "with a message each");
    assert_eq!(listed(&cluster, 2), 32_000);
    long(
        &mut two,
        "found by node 2",
        format!("many msg 0x200000 32000 {FIND}"),
    );
    assert_eq!(
        long(&mut two, "received by node 2", "many_receive".into()),
        0
    );
    long(&mut two, "removed by node 2", "many_rm msg".into());
    one.must(format!("msgget 0x52 {CREATE}"));
    assert_eq!(listed(&cluster, 1), 1);
    say(&cluster, "after");
}

#[test]
fn a_segment_of_4_gib_costs_what_is_touched_of_it() {
    const STRIDE: u64 = (4 << 30) / 1000 / 4096 * 4096;
    const LENGTH: u64 = 1000 * STRIDE;
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    say(&cluster, "before");
    let id = one.must(format!("shmget 0x51 {} {CREATE}", 4u64 << 30));
    for (program, what) in [(&mut one, "attach at home"), (&mut two, "attach on node 2")] {
        assert_eq!(long(program, what, format!("shmat {id} 0")), 0);
    }
    say(&cluster, "attached");
    let walk = |salt| format!("walk 0 0 {LENGTH} {STRIDE} {salt}");
    let follow = |salt| format!("follow 0 0 {LENGTH} {STRIDE} {salt}");
    long(&mut one, "1 000 pages written at home", walk(1));
    assert_eq!(long(&mut two, "read on node 2", follow(1)), 0);
    long(&mut two, "written on node 2", walk(2));
    assert_eq!(long(&mut one, "read at home", follow(2)), 0);
    // The last page, alone.
    let end = (4u64 << 30) - 8;
    two.must(format!("poke 0 {end} 77"));
    assert_eq!(one.must(format!("peek 0 {end}")), 77);
    say(&cluster, "1 001 pages touched");
    let child = long(&mut two, "fork of an attached process", "fork".into());
    assert_eq!(two.ask(format!("child {child} {}", follow(2))), "= 0");
    two.begin("send 0 exit");
    two.answer();
    two.must("reap 0");
    long(&mut two, "walk once more", walk(3));
    long(&mut two, "detach on node 2", "shmdt 0".into());
    assert_eq!(long(&mut one, "all is at home", follow(3)), 0);
    long(&mut one, "detach at home", "shmdt 0".into());
    long(&mut one, "remove", format!("shmrm {id}"));
    say(&cluster, "after");
}

fn a_thousand_processes(how: &str) {
    const COUNT: i64 = 1000;
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0x51 8192 {CREATE}"));
    two.must(format!("shmat {id} 0"));
    two.must("poke 0 0 1");
    // What stays is there before: the home's memory, the parent's address space.
    one.must(format!("shmat {id} 0"));
    one.must("shmdt 0");
    say(&cluster, "before");
    let before = Holdings::at_rest(cluster.node(1));
    let (attached, took) = timed(&mut one, format!("swarm {COUNT} {id} 0 {how}"));
    println!("{COUNT} processes attach ({how}): {} ms", took.as_millis());
    println!(
        "shmat: median {} µs, longest {} µs",
        attached[2], attached[3]
    );
    assert_eq!(attached[..2], [COUNT, 0]);
    let own = i64::from(how == "inherit");
    assert_eq!(two.must(format!("shmstat {id}")), COUNT + own + 1);
    say(&cluster, "attached");
    two.must("poke 0 0 2");
    // A page that one process of them may write is taken from all of them.
    let mut writer = cluster.program(1);
    assert_eq!(writer.must(format!("shmat {id} 0")), 0);
    writer.must("poke 0 4096 1");
    long(&mut two, "a page is read from node 1", "peek 0 4096".into());
    writer.exit();
    let (read, took) = timed(&mut one, "swarm_look 0 2".into());
    println!("all read a word of node 2: {} ms", took.as_millis());
    assert_eq!(read, [0, 0]);
    say(&cluster, "after reading");
    long(
        &mut two,
        "node 2 writes what all of them have",
        "poke 0 0 3".into(),
    );
    long(&mut two, "and once more", "poke 0 0 4".into());
    assert_eq!(long(&mut one, "all end", "swarm_end".into()), 0);
    let begin = Instant::now();
    wait::until("the ends of all are noticed", || {
        two.must(format!("shmstat {id}")) == 1
    });
    before.until_back(cluster.node(1));
    println!("their ends are noticed: {} ms", begin.elapsed().as_millis());
    say(&cluster, "after");
}

#[test]
fn a_thousand_processes_of_a_node_attach_see_another_nodes_write_and_leave_nothing() {
    a_thousand_processes("own");
}

#[test]
fn a_thousand_forked_children_see_another_nodes_write_and_leave_nothing() {
    a_thousand_processes("inherit");
}

#[test]
fn two_hundred_waiters_of_two_nodes_are_served_in_order_at_once_and_end_by_removal() {
    const COUNT: usize = 200;
    let cluster = Cluster::start(2);
    let mut one = cluster.program(1);
    let id = one.must(format!("semget 0x51 1 {CREATE}"));
    let mut waiters: Vec<Program> = (0..COUNT).map(|n| cluster.program(1 + n % 2)).collect();
    let mut until_waiting = |waiting: i64| {
        wait::until(&format!("{waiting} wait"), || {
            one.must(format!("getncnt {id} 0")) == waiting
        });
    };
    for (before, waiter) in waiters.iter_mut().enumerate() {
        waiter.begin(format!("semop {id} 0:-1"));
        until_waiting(before as i64 + 1);
    }
    let mut poster = cluster.program(2);
    let begin = Instant::now();
    for next in 0..COUNT {
        poster.must(format!("semop {id} 0:1"));
        assert_eq!(waiters[next].answer(), "= 0");
        assert!(waiters[next + 1..].iter().all(Program::is_silent));
    }
    println!(
        "200 posts, one after the other: {} ms",
        begin.elapsed().as_millis()
    );

    for waiter in &mut waiters {
        waiter.begin(format!("semop {id} 0:-1"));
    }
    until_waiting(COUNT as i64);
    let begin = Instant::now();
    poster.must(format!("semop {id} 0:{COUNT}"));
    println!("a post for all: {} µs", begin.elapsed().as_micros());
    assert!(waiters.iter().all(|waiter| waiter.answer() == "= 0"));
    println!("all are awake: {} µs", begin.elapsed().as_micros());

    for waiter in &mut waiters {
        waiter.begin(format!("semop {id} 0:-1"));
    }
    until_waiting(COUNT as i64);
    let begin = Instant::now();
    poster.must(format!("semrm {id}"));
    assert!(waiters.iter().all(|waiter| waiter.answer() == "! EIDRM"));
    println!("all have EIDRM: {} µs", begin.elapsed().as_micros());
    assert_eq!(one.ask(format!("semop {id} 0:1:{NOWAIT}")), "! EINVAL");
}

/// A cluster whose daemons have few descriptors, and a segment on it with a word
/// that node 2 has written.
fn scarce() -> (Cluster, Program, Program, i64) {
    let cluster = Cluster::with(Options {
        descriptors: Some(128),
        ..Options::nodes(2)
    });
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("shmget 0x51 4096 {CREATE}"));
    one.must(format!("shmat {id} 0"));
    two.must(format!("shmat {id} 0"));
    two.must("poke 0 0 7");
    (cluster, one, two, id)
}

/// Whoever was served before is served, and there is room again.
fn goes_on(cluster: &Cluster, [one, two]: [&mut Program; 2], id: i64, before: Holdings) {
    let log = cluster.node(1).log();
    assert!(
        log.contains("too few of this daemon's descriptors"),
        "{log}"
    );
    before.until_back(cluster.node(1));
    wait::until("node 2's is the only other attachment", || {
        two.must(format!("shmstat {id}")) == 2
    });
    two.must("poke 0 0 8");
    assert_eq!(one.must("peek 0 0"), 8);
    let mut late = cluster.program(1);
    assert_eq!(late.must(format!("shmat {id} 0")), 0);
    assert_eq!(late.must("peek 0 0"), 8);
}

#[test]
fn processes_for_which_there_are_no_descriptors_get_enomem_and_harm_nobody() {
    const COUNT: i64 = 200;
    let (cluster, mut one, mut two, id) = scarce();
    let before = Holdings::at_rest(cluster.node(1));
    let mut crowd = cluster.program(1);
    let came = crowd.ask(format!("swarm {COUNT} {id} 0 own")).numbers();
    let (attached, errno) = (came[0], came[1]);
    println!("with 128 descriptors {attached} processes are attached");
    // How many depends on how many connected before the first had attached.
    assert!(attached < 50, "{attached}");
    assert_eq!(errno, i64::from(libc::ENOMEM));
    assert_eq!(one.must("peek 0 0"), 7);
    let read = crowd.ask("swarm_look 0 7").numbers();
    assert_eq!(read, [0, COUNT - attached]);
    assert_eq!(crowd.ask("swarm_end"), "= 0");
    crowd.exit();
    goes_on(&cluster, [&mut one, &mut two], id, before);
}

#[test]
fn forked_children_for_which_there_are_no_descriptors_read_no_zeros() {
    const COUNT: i64 = 200;
    let (cluster, mut one, mut two, id) = scarce();
    let before = Holdings::at_rest(cluster.node(1));
    let mut crowd = cluster.program(1);
    assert_eq!(crowd.must(format!("swarm {COUNT} {id} 0 inherit")), COUNT);
    assert_eq!(one.must("peek 0 0"), 7);
    let read = crowd.ask("swarm_look 0 7").numbers();
    println!(
        "with 128 descriptors {} children are served",
        COUNT - read[1]
    );
    assert_eq!(read[0], 0);
    assert!((1..COUNT - 50).contains(&(COUNT - read[1])), "{read:?}");
    assert_eq!(crowd.ask("swarm_end"), "= 0");
    crowd.exit();
    goes_on(&cluster, [&mut one, &mut two], id, before);
}
