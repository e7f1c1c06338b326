//! Programs that other people wrote and nobody changed, with every key
//! distributed: they pass on one node as on the kernel, and interpreters and
//! fakeroot across two.
//!
//! `.ci/run` installs them; where one is missing its tests skip.

// Its helpers are tests too: a panic is how they report.
#![allow(clippy::unwrap_used)]

mod fakeroot;
mod interpreters;
mod perl;
mod php;
mod postgres;
mod python;
mod stress_ng;

use std::process::Command;

use dipc_tests::Node;
use dipc_tests::wait::until;

/// A command on a node, with every key distributed.
fn distributed(node: &Node, program: &str) -> Command {
    let mut command = node.command(program);
    command.env("DIPC_KEYS", "all");
    command
}

/// The names of the cluster's objects, as `dipc ls` shows them.
fn objects(node: &Node) -> Vec<String> {
    let output = Command::new(dipc_tests::artifacts::built("dipc"))
        .arg("ls")
        .env("DIPC_SOCKET", &node.socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(str::to_owned);
    lines.filter(|line| line.starts_with("0x")).collect()
}

/// Waits until nothing is left: a daemon hears of a process's end by its pidfd, as
/// its parent does by `wait`, and may be the later of the two.
fn until_no_objects(node: &Node) {
    until(&format!("{} has no objects", node.name), || {
        objects(node).is_empty()
    });
}
