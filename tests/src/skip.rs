//! Tests that need what not every machine gives say so, and pass.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

/// Whether the tests run as root; where not, says what is not tried therefore.
pub fn unless_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        because(what, "not root");
    }
    root
}

/// Whether a command can be run and succeeds, as one that shows that `name` is
/// there; if not, says what is not tried therefore.
pub fn unless_runs(what: &str, name: &str, command: &[&str]) -> bool {
    let there = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        because(what, &format!("no {name}"));
    }
    there
}

/// Says what is not tried, and why. The runner swallows what passing tests
/// print by `println!` and `eprintln!`; this it does not.
pub fn because(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}
