//! A cluster under load for long, while programs, daemons and the referee are
//! killed: money is conserved, no message is lost or doubled between nodes that
//! live, nobody sees a zero or an older value than anybody saw before, nobody
//! hangs, all locks are free in the end, and memory and descriptors are what they
//! were in the beginning.
//!
//! | file | what |
//! |---|---|
//! | `crew` | the workers, `programs/soak/`: who works where, and what becomes of them |
//! | `board` | what they and the test share |
//! | `fate` | who is killed when |
//!
//! `DIPC_SOAK_SECONDS=600 cargo test -p dipc-tests --test soak -- --nocapture` is the
//! long run; `DIPC_SOAK_SEED` repeats its kills.

mod board;
mod crew;
mod fate;

use std::env;
use std::io::{Write, stderr};
use std::time::Duration;

use dipc_tests::{CREATE, Cluster, Cost, FIND, Options, wait};

use crew::{Crew, Post};
use fate::{Fate, Kills};

/// How long a soak lasts, if nobody says.
const SECONDS: u64 = 8;
/// How much more memory of its own a daemon may have after a soak, in KiB: what
/// the allocator keeps.
const ALLOWANCE: u64 = 16 << 10;

fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

fn duration() -> Duration {
    Duration::from_secs(setting("DIPC_SOAK_SECONDS").unwrap_or(SECONDS))
}

/// A banker and a queue's receiver on each node; tellers, watchers and senders on
/// the next ones.
fn posts(nodes: usize) -> Vec<Post> {
    let of = |node: usize| {
        let thing = node - 1;
        let post = |role, ahead: usize| Post {
            role,
            node: (thing + ahead) % nodes + 1,
            thing,
        };
        [
            post("banker", 0),
            post("teller", 0),
            post("teller", 1),
            post("teller", 2),
            post("watcher", nodes - 1),
            post("receiver", 0),
            post("sender", 1),
        ]
    };
    (1..=nodes).flat_map(of).collect()
}

fn costs(cluster: &Cluster) -> Vec<Cost> {
    let nodes = cluster.nodes().iter();
    nodes.map(|node| Cost::of(node.pid())).collect()
}

/// Every node is connected to every other one.
fn until_whole(cluster: &Cluster) {
    for node in cluster.nodes() {
        cluster.until_peers(node.number, cluster.nodes().len() - 1);
    }
}

/// On every node new objects of each kind work at once, and for the others too.
fn try_new_objects(cluster: &Cluster) {
    for node in cluster.nodes() {
        let mut here = node.program();
        let mut there = cluster.program(node.number % cluster.nodes().len() + 1);
        let key = 0x50a6_0000 + node.number;
        let set = here.must(format!("semget {key} 1 {CREATE}"));
        let queue = here.must(format!("msgget {key} {CREATE}"));
        let segment = here.must(format!("shmget {key} 8192 {CREATE}"));
        assert_eq!(there.must(format!("semget {key} 1 {FIND}")), set);
        assert_eq!(there.must(format!("setval {set} 0 3")), 0);
        assert_eq!(here.must(format!("getval {set} 0")), 3);
        assert!(there.ask(format!("msgsnd {queue} 1 word 0")).succeeded());
        assert!(here.ask(format!("msgrcv {queue} 100 0 0")).succeeded());
        assert_eq!(here.must(format!("shmat {segment} 0")), 0);
        assert_eq!(there.must(format!("shmat {segment} 0")), 0);
        there.must("poke 0 4096 7");
        assert_eq!(here.must("peek 0 4096"), 7);
        for removal in [
            format!("semrm {set}"),
            format!("msgrm {queue}"),
            format!("shmrm {segment}"),
        ] {
            here.must(removal);
        }
    }
}

/// Whoever holds a lock when its process ends gives it back: all that are left
/// are free. What is left is removed.
fn find_locks_free(cluster: &Cluster, banks: usize) {
    let mut program = cluster.program(1);
    for bank in 0..banks {
        let key = 0x50a4_0000 + bank;
        let set = program.ask(format!("semget {key} 0 {FIND}"));
        if set.succeeded() {
            let set = set.number();
            assert_eq!(
                program.must(format!("getval {set} 0")),
                1,
                "bank {bank}'s lock"
            );
            program.must(format!("semrm {set}"));
        }
        for (find, remove, key) in [
            ("shmget", "shmrm", key),
            ("msgget", "msgrm", key + 0x1_0000),
        ] {
            let size = if find == "shmget" { "0 " } else { "" };
            let found = program.ask(format!("{find} {key} {size}{FIND}"));
            if found.succeeded() {
                program.must(format!("{remove} {}", found.number()));
            }
        }
    }
}

/// Daemons have come back to what they needed in the beginning.
fn find_flat(cluster: &Cluster, before: &[Cost]) -> Vec<Cost> {
    for (node, before) in cluster.nodes().iter().zip(before) {
        wait::until(
            &format!("{} needs what it needed before", node.name),
            || {
                let now = Cost::of(node.pid());
                now.descriptors <= before.descriptors
                    && now.threads <= before.threads
                    && now.segments <= before.segments
                    && now.memory <= before.memory + ALLOWANCE
            },
        );
    }
    costs(cluster)
}

/// The whole of a soak; what is said of it ends up in the log of a test run.
fn soak(name: &str, nodes: usize, duration: Duration, kills: Kills) {
    let seed = setting("DIPC_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{name}: DIPC_SOAK_SEED={seed}");
    let options = Options {
        timeout: "10s",
        ..Options::nodes(nodes)
    };
    let mut cluster = Cluster::with(options);
    until_whole(&cluster);
    let before = costs(&cluster);
    let mut crew = Crew::new(&cluster, &posts(nodes));
    let mut fate = Fate::new(seed, kills);
    fate.rule(&mut cluster, &mut crew, duration);
    until_whole(&cluster);
    try_new_objects(&cluster);
    crew.muster(&cluster, None);
    crew.dismiss();
    let lost = crew.what_was_lost();
    find_locks_free(&cluster, nodes);
    let after = find_flat(&cluster, &before);
    let done = |role| crew.done(role);
    let _ = writeln!(
        stderr(),
        "soak: {name}: {duration:?}, {nodes} nodes, {} transfers, {} looks, {} messages; killed: {fate}; \
         {} workers lost something, {} messages with them: {lost:?}",
        done("teller"),
        done("watcher"),
        done("receiver"),
        crew.losses,
        crew.gaps(),
    );
    for (node, (before, after)) in cluster.nodes().iter().zip(before.iter().zip(&after)) {
        println!("{}: {before} before, {after} after", node.name);
    }
}

#[test]
fn nothing_is_wrong_after_random_kills_of_programs_daemons_and_the_referee() {
    soak("random kills", 4, duration(), Kills::Random);
}

#[test]
fn nothing_is_wrong_when_every_daemon_is_killed_in_turn() {
    // A minute in a long run: that is the promise. A short run kills each once.
    let duration = duration().min(Duration::from_secs(60));
    let every = if duration.as_secs() < 60 {
        duration / 4
    } else {
        Duration::from_secs(5)
    };
    soak("every daemon in turn", 3, duration, Kills::InTurn { every });
}
