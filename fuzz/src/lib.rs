//! Bytes from a stranger: one plain function for each decoder and each machine, which
//! must neither panic nor end up in a state that cannot be.
//!
//! | target | takes bytes for |
//! |---|---|
//! | `frames` | a stream of frames, in pieces |
//! | `local`, `peer`, `referee` | each message of that protocol |
//! | `rows` | what `dipc ls`, `dipc status` and `ipcs` are told |
//! | `limits` | a file of limits |
//! | `coherence` | what happens to a node's part in a segment |
//! | `naming` | what nodes say to the referee |
//! | `semaphores`, `queues` | calls on a set, and on a queue |
//!
//! The same functions run in two ways. `tests/bounded.rs` changes the seeds a fixed
//! number of times, the same in each run, and counts what was reached. The programs
//! of `fuzz_targets/` let libFuzzer look for new ways (`docs/testing.md`). What was
//! found is kept in `regressions/TARGET/` and tried first.

mod decoders;
mod machines;
mod seeds;

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// What a run came to: of each kind of thing, which. So that a test can tell whether
/// bytes get anywhere.
pub type Reached = BTreeSet<(&'static str, u8)>;

/// A function to feed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Bytes that mean something, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes bytes.
    ///
    /// # Panics
    /// If they lead to what must not be.
    pub take: fn(&[u8], &mut Reached),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("frames", seeds::frames, decoders::frames),
    target("local", seeds::local, decoders::local),
    target("peer", seeds::peer, decoders::peer),
    target("referee", seeds::referee, decoders::referee),
    target("rows", seeds::rows, decoders::rows),
    target("limits", seeds::limits, decoders::limits),
    target("coherence", seeds::coherence, machines::coherence::take),
    target("naming", seeds::naming, machines::naming::take),
    target("semaphores", seeds::calls, machines::semaphores::take),
    target("queues", seeds::calls, machines::queues::take),
];

const fn target(
    name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    take: fn(&[u8], &mut Reached),
) -> Target {
    Target { name, seeds, take }
}

/// What was found before, in `regressions/TARGET/`.
///
/// # Errors
/// When a file cannot be read.
pub fn regressions(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    match fs::read_dir(folder.join(target.name)) {
        Ok(files) => files.map(|file| fs::read(file?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or the bytes lead to what must not be.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target {name}"));
    (target.take)(bytes, &mut Reached::new());
}
