//! Tests that need what not every machine gives say so, and pass.

use nix::unistd::geteuid;

/// Whether the tests run as root; where not, says what is not tried therefore.
pub fn unless_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        because(what, "not root");
    }
    root
}

/// Says what is not tried, and why.
pub fn because(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
}
