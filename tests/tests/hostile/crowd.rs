//! Ten thousand connections of one user.

use dipc_tests::raw::{Raw, as_user};
use dipc_tests::{Cost, skip};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::Before;
use crate::honest::Honest;

const CROWD: usize = 10_000;

#[test]
fn ten_thousand_connections_of_one_user_are_refused_in_part_and_others_come_in() {
    if !skip::unless_root("ten thousand connections of another user") {
        return;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if most < CROWD as u64 + 1000 {
        return skip::because(
            "ten thousand connections",
            "too few descriptors for this test",
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("the hard limit can be had");
    let mut honest = Honest::new();
    honest.go_on();
    let node = honest.cluster.node(1);
    let before = Before::of(node);
    let empty = Cost::of(node.pid());
    let socket = node.socket.clone();
    let crowd: Vec<Raw> = as_user(1000, || {
        let mut refused = 0;
        let mut connections = Vec::new();
        for _ in 0..CROWD {
            match Raw::greeted(&socket) {
                Some(raw) => connections.push(raw),
                None => refused += 1,
            }
        }
        println!("{} were let in, {refused} were refused", connections.len());
        assert!(refused > 0 && connections.len() >= 1000);
        connections
    });
    let full = Cost::of(honest.cluster.node(1).pid());
    println!("with {} connections: {full}; before: {empty}", crowd.len());
    honest.go_on();
    honest.newcomer(1);
    drop(crowd);
    before.again();
    // Who was refused may come again.
    as_user(1000, || assert!(Raw::greeted(&socket).is_some()));
    honest.go_on();
    assert!(
        honest
            .cluster
            .node(1)
            .log()
            .contains("as many connections as one user")
    );
}
