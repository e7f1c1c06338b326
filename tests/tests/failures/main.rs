//! What can break, and what everybody sees then: the tests behind `docs/failures.md`,
//! one file a kind of failure.
//!
//! Nothing is retried, nothing hangs past its time-out, nobody reads a zero or a
//! value of before, and afterwards nothing is left: [`Holdings`] compares what daemons
//! hold with what they held.

mod daemons;
mod descriptors;
mod disk;
mod memory;
mod nodes;
mod programs;
mod referee;
mod starting;
mod stopped;
mod table;
mod threads;

use dipc_tests::cluster::Options;
use dipc_tests::observe::{exists, waits_for_page};
use dipc_tests::scarcity::{Scarce, Scarcity};
use dipc_tests::scratch::Scratch;
use dipc_tests::{CREATE, Cluster, FIND, Holdings, Program, UNDO, wait};
use nix::errno::Errno;
use nix::sys::signal::Signal;

const PAGE: i64 = 4096;

/// Three nodes, of which a silent one is dead soon.
fn impatient() -> Cluster {
    Cluster::with(Options {
        timeout: "2s",
        ..Options::nodes(3)
    })
}

fn segment(program: &mut Program, pages: i64) -> i64 {
    program.must(format!("shmget 0 {} {CREATE}", pages * PAGE))
}

fn attach(programs: &mut [&mut Program], id: i64) -> i64 {
    let slots: Vec<i64> = programs
        .iter_mut()
        .map(|p| p.must(format!("shmat {id} 0")))
        .collect();
    assert!(slots.iter().all(|slot| *slot == slots[0]));
    slots[0]
}

/// Node 2's death as nodes 1 and 3 hear of it.
fn until_alone(cluster: &Cluster) {
    cluster.until_peers(1, 1);
    cluster.until_peers(3, 1);
}

/// Two nodes, of which the first lacks what the test says, when it says so.
fn scarce() -> (Cluster, Scarcity) {
    let folder = Scratch::new();
    let scarcity = Scarcity::new(&folder.join("scarcity"));
    let cluster = Cluster::prepared(Options::nodes(2), |number, daemon| {
        if number == 1 {
            scarcity.rule(daemon);
        }
    });
    // The file is not looked for any more: both have it open.
    (cluster, scarcity)
}
