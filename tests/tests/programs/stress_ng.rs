//! stress-ng's System V stressors: every call they know, with good and bad
//! arguments, from many processes at once, and checked (`--verify`). Bounded by
//! operations and not by time.

use std::process::Stdio;

use dipc_tests::{Cluster, skip};

use crate::{distributed, until_no_objects};

/// Runs stressors on one node until their operations are done.
fn stress(arguments: &[&str]) {
    let command = ["stress-ng", "--version"];
    if !skip::unless_runs(
        "stressors with every key distributed",
        "stress-ng",
        &command,
    ) {
        return;
    }
    let cluster = Cluster::start(1);
    let node = cluster.node(1);
    let mut command = distributed(node, "stress-ng");
    command
        .args(["--verify", "--verbose", "--temp-path"])
        .arg(cluster.folder())
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    let failure = |line: &&str| line.contains("fail:") || line.contains("error:");
    assert_eq!(said.lines().find(failure), None, "{said}");
    let calls = node.own_status().unwrap().calls;
    assert!(calls > 100, "only {calls} calls were distributed: {said}");
    until_no_objects(node);
}

#[test]
fn semaphores_hold_under_stress() {
    stress(&[
        "--sem-sysv",
        "2",
        "--sem-sysv-procs",
        "4",
        "--sem-sysv-ops",
        "4000",
    ]);
}

#[test]
fn queues_hold_under_stress() {
    stress(&["--msg", "2", "--msg-types", "4", "--msg-ops", "10000"]);
}

#[test]
fn segments_hold_under_stress() {
    // Each attaches, writes, forks, locks, protects, detaches.
    stress(&[
        "--shm-sysv",
        "2",
        "--shm-sysv-bytes",
        "1M",
        "--shm-sysv-ops",
        "24",
    ]);
}
