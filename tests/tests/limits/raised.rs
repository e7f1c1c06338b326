//! Limits above the kernel's defaults, and how limits are set and shown.

use std::process::Command;

use dipc_tests::{CREATE, Cluster, Options, artifacts};

const RAISED: &[&str] = &[
    "semmsl=65535",
    "semopm=5000",
    "msgmax=1048576",
    "msgmnb=2097152",
];

#[test]
fn sets_operations_and_messages_are_as_large_as_the_limits_say() {
    let cluster = Cluster::with(Options {
        limits: RAISED,
        ..Options::nodes(2)
    });
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let set = one.must(format!("semget 0 65535 {CREATE}"));
    assert_eq!(one.ask(format!("semget 0 65536 {CREATE}")), "! EINVAL");
    for program in [&mut one, &mut two] {
        program.must(format!("setval {set} 65534 7"));
        program.must(format!("semop {set} 65534:-3"));
        assert_eq!(program.must(format!("getval {set} 65534")), 4);
        program.must(format!("semups {set} 5000"));
        assert_eq!(program.ask(format!("semups {set} 5001")), "! E2BIG");
        // More than any limit allows, and so more than is sent.
        assert_eq!(program.ask(format!("semups {set} 2796203")), "! E2BIG");
    }
    assert_eq!(one.must(format!("getval {set} 0")), 10_000);
    let queue = two.must(format!("msgget 0 {CREATE}"));
    for size in [8193, 1 << 20] {
        one.must(format!("msgsnd_pattern {queue} 1 {size}"));
        two.must(format!("msgsnd_pattern {queue} 2 {size}"));
        for (program, kind) in [(&mut two, 1), (&mut one, 2)] {
            let received = program.ask(format!("msgrcv_pattern {queue} {kind} {size}"));
            assert_eq!(received.to_string(), format!("= {size} 0"));
        }
    }
    let longer = (1 << 20) + 1;
    assert_eq!(
        one.ask(format!("msgsnd_pattern {queue} 1 {longer}")),
        "! EINVAL"
    );
}

#[test]
fn a_node_with_a_referee_has_no_limits_of_its_own() {
    let cluster = Cluster::start(1);
    let output = Command::new(artifacts::built("dipcd"))
        .arg("--socket")
        .arg(cluster.file("other.sock"))
        .args(["--referee", &cluster.referee_address])
        .args(["--limit", "semmni=5"])
        .output()
        .expect("dipcd can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("give --limit and --limits to dipc-referee"),
        "{said}"
    );
}

#[test]
fn a_limit_that_cannot_be_kept_stops_a_node_before_it_serves() {
    let cluster = Cluster::start(1);
    for (setting, reason) in [
        ("semmsl=65536", "dipc supports 1 to 65535"),
        ("semmsl", "sets no limit"),
        ("msgmax=20000", "raise msgmnb"),
    ] {
        let output = Command::new(artifacts::built("dipcd"))
            .arg("--socket")
            .arg(cluster.file("other.sock"))
            .args(["--limit", setting])
            .output()
            .expect("dipcd can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}
