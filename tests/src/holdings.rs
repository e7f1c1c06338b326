//! What a node's daemon and keeper hold, to see that nothing is left of what has
//! ended. All of it is exact: descriptors, threads, and beside them the bytes of
//! segments.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::observe::all_threads_sleep;
use crate::{Cost, Node, wait};

/// What both hold at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holdings {
    daemon: Held,
    keeper: Held,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn of(pid: u32) -> Self {
        let Cost {
            descriptors,
            threads,
            ..
        } = Cost::of(pid);
        Held {
            descriptors,
            threads,
        }
    }
}

/// How many bytes of segments are in a node's memory.
#[must_use]
pub fn segment_bytes(node: &Node) -> u64 {
    /// The unit of `st_blocks`, stat(3type).
    const BLOCK: u64 = 512;
    let all = fs::read_dir(format!("/proc/{}/fd", node.pid()))
        .into_iter()
        .flatten();
    let segments = all.flatten().map(|entry| entry.path()).filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:dipc-"))
    });
    // One that is closed just now has none.
    let bytes = |path| fs::metadata(path).map_or(0, |stat| stat.blocks() * BLOCK);
    segments.map(bytes).sum()
}

/// A node's daemon and keeper. The daemon is not asked: its answer would be one
/// more connection, which ends some time later.
///
/// # Panics
/// If it has no keeper.
#[must_use]
pub fn processes(node: &Node) -> [u32; 2] {
    let daemon = node.pid();
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children"));
    let children = children.expect("a kernel with CONFIG_PROC_CHILDREN");
    let keeper = children.split_whitespace().next();
    let keeper = keeper.and_then(|pid| pid.parse().ok());
    [daemon, keeper.expect("its child is its keeper")]
}

impl Holdings {
    /// Of a node when both have done what they were told: a keeper reads its
    /// daemon's notes in its own time.
    #[must_use]
    pub fn at_rest(node: &Node) -> Self {
        let processes = processes(node);
        wait::until("daemon and keeper are at rest", || {
            processes.into_iter().all(all_threads_sleep)
        });
        Self::of(processes)
    }

    fn of([daemon, keeper]: [u32; 2]) -> Self {
        Holdings {
            daemon: Held::of(daemon),
            keeper: Held::of(keeper),
        }
    }

    /// Waits until the node holds again what it held before.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn until_back(self, node: &Node) {
        let processes = processes(node);
        let mut now = self;
        let back = wait::within_deadline(|| {
            now = Self::of(processes);
            now == self
        });
        assert!(back, "{} holds {now:?}, and held {self:?}", node.name);
    }
}
