//! Processes that come and go: what they hold is counted right on every node, at
//! every step of their lives.

use std::fs;
use std::process::Command;

use dipc_tests::twins::Twins;
use dipc_tests::{CREATE, Cluster, Program, UNDO, skip, wait};
use nix::unistd::geteuid;

const PAGE: i64 = 4096;
const SIZE: i64 = 8 * PAGE;

fn until_attached(program: &mut Program, id: i64, count: i64) {
    wait::until(&format!("segment {id} has {count} attachments"), || {
        program.must(format!("shmstat {id}")) == count
    });
}

/// Two programs on two nodes that have a segment of node 1 attached at slot 0,
/// with the word 5 in it.
fn sharing(cluster: &Cluster) -> (Program, Program, i64) {
    let [mut one, mut two] = [1, 2].map(|node| cluster.program(node));
    let id = one.must(format!("shmget 0 {SIZE} {CREATE}"));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    one.must("poke 0 0 5");
    (one, two, id)
}

/// Behaviour 104.
#[test]
fn children_that_borrow_their_parents_memory_do_not_count() {
    let Some(mut twins) = Twins::start("vfork and posix_spawn") else {
        return;
    };
    twins.segment(SIZE);
    twins.all("shmat $0 0");
    for birth in ["vfork", "spawn /bin/true", "system true"] {
        assert_eq!(twins.all(birth), "= 0");
        twins.all("poke 0 0 7");
        assert_eq!(twins.all("shmwho $0"), "= 1 1 1 0");
    }
    twins.all("shmdt 0");
}

/// Behaviour 103.
#[test]
fn exec_detaches_and_is_the_last_to_have_done_something() {
    let Some(mut twins) = Twins::start("exec") else {
        return;
    };
    twins.segment(SIZE);
    twins.all("shmat $0 0");
    twins.ask("fork");
    twins.soon("child 0 shmat $0 0");
    assert_eq!(twins.all("shmwho $0"), "= 3 0 1 0");
    twins.ask("exec");
    twins.soon("shmwho $0");
    // The child keeps what it has.
    assert_eq!(twins.only("shmwho $0"), "= 2 1 1 1");
}

#[test]
fn a_process_that_closes_what_it_does_not_know_keeps_its_memory() {
    let Some(mut twins) = Twins::start("closefrom") else {
        return;
    };
    twins.segment(SIZE);
    twins.all("shmat $0 0");
    twins.all("poke 0 0 5");
    twins.all("closefrom 3");
    twins.all("peek 0 4096");
    twins.all("shmat $0 0");
    twins.all(&format!("mremap 0 0 {SIZE} {SIZE} 5"));
    assert_eq!(twins.all("peek 2 0"), "= 5");
    for slot in 0..3 {
        twins.all(&format!("shmdt {slot}"));
    }
}

#[test]
fn a_child_by_the_quiet_fork_is_served_and_counted_as_any() {
    let Some(mut twins) = Twins::start("_Fork") else {
        return;
    };
    twins.segment(SIZE);
    twins.all("shmat $0 0");
    twins.all("poke 0 0 5");
    twins.ask("_fork");
    assert_eq!(twins.soon("child 0 peek 0 0"), "= 5");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 2);
    twins.only("send 0 exit");
    assert_eq!(twins.soon("reap 0"), "= 0");
    assert_eq!(twins.only("shmstat $0").numbers()[0], 1);
}

/// By a system call that no library sees. With fork events it is served as any
/// child. Without, it has no memory: never zeros.
#[test]
fn a_child_that_nobody_saw_come_reads_what_is_there_or_nothing() {
    let cluster = Cluster::start(2);
    let (mut one, mut two, id) = sharing(&cluster);
    two.must("clone");
    let peek = two.ask("child 0 peek 0 0");
    if geteuid().is_root() {
        assert_eq!(peek, "= 5");
        until_attached(&mut one, id, 3);
        one.must("poke 0 0 6");
        assert_eq!(two.ask("child 0 peek 0 0"), "= 6");
    } else {
        assert_eq!(peek, "! SIGSEGV");
        assert_eq!(two.ask("child 0 shmdt 0"), "! EINVAL");
    }
    // Its own calls are as good as anybody's.
    assert_eq!(two.ask(format!("child 0 shmat {id} 0")), "= 1");
    assert_eq!(two.ask("child 0 peek 1 0"), one.ask("peek 0 0"));
    two.must("send 0 exit");
    two.must("reap 0");
    until_attached(&mut one, id, 2);
    assert_eq!(two.ask("peek 0 0"), one.ask("peek 0 0"));
}

/// It makes no call at all: by its first page fault the daemon learns who it is.
#[test]
fn the_end_of_a_child_that_only_touched_memory_is_counted() {
    if !skip::unless_root("the attachments of a child that makes no call") {
        return;
    }
    let cluster = Cluster::start(2);
    let (mut one, mut two, id) = sharing(&cluster);
    two.must("clone");
    assert_eq!(two.ask("child 0 peek 0 4096"), "= 0");
    until_attached(&mut one, id, 3);
    two.must("send 0 exit");
    let child = two.must("reap 0");
    assert_eq!(child, 0);
    until_attached(&mut one, id, 2);
}

/// Wherever it is just then: nothing of it is left, and nothing is lost.
#[test]
fn a_process_that_is_killed_at_any_point_leaves_nothing() {
    let cluster = Cluster::start(2);
    let mut judge = cluster.program(1);
    let set = judge.must(format!("semget 0 1 {CREATE}"));
    let queue = judge.must(format!("msgget 0 {CREATE}"));
    let segment = judge.must(format!("shmget 0 {SIZE} {CREATE}"));
    judge.must(format!("setval {set} 0 1"));
    for round in 0..16 {
        let mut churning = [1, 2, 2].map(|node| cluster.program(node));
        for program in &mut churning {
            program.begin(format!("churn {set} {queue} {segment}"));
        }
        // So long that each round kills somewhere else.
        for _ in 0..round * round % 41 {
            judge.must(format!("getncnt {set} 0"));
        }
        for program in &churning {
            assert!(program.is_silent());
            program.begin_kill();
        }
        drop(churning);
        wait::until("the token is back, and nobody waits for it", || {
            judge.must(format!("getval {set} 0")) == 1
                && judge.must(format!("getncnt {set} 0")) == 0
        });
        until_attached(&mut judge, segment, 0);
        // One of theirs each, at most, and whole.
        let left = judge.must(format!("msgstat {queue}"));
        assert!(left <= 3, "round {round}: {left} messages");
        for _ in 0..left {
            assert_eq!(
                judge.must(format!("msgrcv {queue} 64 0 {}", dipc_tests::NOWAIT)),
                64
            );
        }
        let empty = judge.ask(format!("msgrcv {queue} 64 0 {}", dipc_tests::NOWAIT));
        assert_eq!(empty, "! ENOMSG");
    }
}

/// Says that this test process runs in a pid namespace of its own already.
const APART: &str = "DIPC_TEST_PID_NAMESPACE";

/// Whether this process may choose process ids. If not, the test of this name is
/// run again where it may, and this is not the place.
fn may_choose_pids(test: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return true;
    }
    let what = "a pid that is used again";
    if !skip::unless_root(what) {
        return false;
    }
    let inner = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().expect("the running test has a path"))
        .args(["--exact", test])
        .env(APART, "1")
        .output();
    match inner {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            if error.contains("unshare failed") {
                skip::because(what, error.trim());
            } else {
                panic!("{said}{error}");
            }
        }
        Err(error) => skip::because(what, &format!("unshare: {error}")),
    }
    false
}

/// The daemon hears of the one's end and of the other's beginning at once.
#[test]
fn a_pid_that_is_used_again_is_another_process() {
    if !may_choose_pids("a_pid_that_is_used_again_is_another_process") {
        return;
    }
    let cluster = Cluster::start(1);
    let [mut judge, mut first] = [1, 1].map(|node| cluster.program(node));
    let set = judge.must(format!("semget 0 1 {CREATE}"));
    let segment = judge.must(format!("shmget 0 {SIZE} {CREATE}"));
    judge.must(format!("setval {set} 0 1"));
    judge.must(format!("shmat {segment} 0"));
    first.must(format!("shmat {segment} 0"));
    first.must(format!("semop {set} 0:-1:{UNDO}"));
    let pid = first.pid();
    cluster.node(1).stop();
    first.kill();
    drop(first);
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may");
    let mut second = cluster.program(1);
    assert_eq!(second.pid(), pid);
    second.begin(format!("semop {set} 0:-1:{UNDO}"));
    cluster.node(1).signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(second.answer(), "= 0");
    assert_eq!(judge.must(format!("getval {set} 0")), 0);
    assert_eq!(judge.must(format!("sempid {set} 0")), i64::from(pid));
    until_attached(&mut judge, segment, 1);
    assert_eq!(second.ask("peek 0 0"), "! SIGSEGV");
    second.must(format!("shmat {segment} 0"));
    judge.must("poke 0 0 3");
    assert_eq!(second.must("peek 0 0"), 3);
    assert_eq!(judge.must(format!("shmstat {segment}")), 2);
    second.exit();
    until_attached(&mut judge, segment, 1);
    wait::until("the second process's operation is undone", || {
        judge.must(format!("getval {set} 0")) == 1
    });
}

/// The kernel has undone, detached and counted before a parent's wait returns.
#[test]
fn who_has_waited_for_a_child_finds_its_end_done() {
    let cluster = Cluster::start(2);
    let mut maker = cluster.program(1);
    let set = maker.must(format!("semget 0 1 {CREATE}"));
    maker.must(format!("setval {set} 0 1"));
    let segment = maker.must(format!("shmget 0 {SIZE} {CREATE}"));
    for node in [1, 2] {
        let mut parent = cluster.program(node);
        let stale = parent.must(format!("outlive {set} {segment} 200"));
        assert_eq!(stale, 0, "node {node}");
    }
}

/// The referee is away, and whoever wants to create something waits for its
/// successor. If that is killed, its end is worked off at once, and so nobody waits
/// for it who could see it.
#[test]
fn the_end_of_a_process_that_waits_for_the_referee_holds_nobody_up() {
    let mut cluster = Cluster::start(1);
    let mut program = cluster.program(1);
    let set = program.must(format!("semget 0 1 {CREATE}"));
    cluster.kill_referee();
    let mut creator = cluster.program(1);
    let calls = |cluster: &Cluster| cluster.node(1).own_status().map(|status| status.calls);
    let before = calls(&cluster);
    creator.begin(format!("semget 0x77 1 {CREATE}"));
    wait::until("dipcd has the call", || calls(&cluster) > before);
    creator.kill();
    assert_eq!(program.must(format!("getval {set} 0")), 0);
}
