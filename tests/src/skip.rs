//! Tests that need what not every machine gives say so, and pass.

use std::io::Write;

use nix::unistd::geteuid;

/// Whether the tests run as root; where not, says what is not tried therefore.
pub fn unless_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        because(what, "not root");
    }
    root
}

/// Says what is not tried, and why. The runner swallows what passing tests
/// print by `println!` and `eprintln!`; this it does not.
pub fn because(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}
