//! The same tests with granules of each kind.
//!
//! A test that touches shared memory takes a [`Mode`], and starts its cluster by it:
//!
//! ```text
//! fn what_one_node_writes_another_reads(mode: Mode) { … mode.cluster(2) … }
//! in_each_mode!(what_one_node_writes_another_reads);
//! ```
//!
//! Each mode is a module of tests, so `cargo test segment::` runs those of one.

use crate::{Cluster, Options};

/// A kind of granule.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// One page, the default.
    Page,
    /// Sixteen pages, of which a segment has a part or several.
    Block,
    /// The whole segment.
    Segment,
}

impl Mode {
    /// So many nodes in this mode.
    #[must_use]
    pub fn nodes(self, nodes: usize) -> Options {
        let granule = match self {
            Mode::Page => "4K",
            Mode::Block => "64K",
            Mode::Segment => "segment",
        };
        Options {
            granule,
            ..Options::nodes(nodes)
        }
    }

    /// A cluster of so many nodes that serve.
    #[must_use]
    pub fn cluster(self, nodes: usize) -> Cluster {
        Cluster::with(self.nodes(nodes))
    }
}

/// Makes tests of functions that take a [`Mode`].
#[macro_export]
macro_rules! in_each_mode {
    ($($test:ident),* $(,)?) => {
        mod page {
            $(#[test] fn $test() { super::$test($crate::Mode::Page); })*
        }
        mod block {
            $(#[test] fn $test() { super::$test($crate::Mode::Block); })*
        }
        mod segment {
            $(#[test] fn $test() { super::$test($crate::Mode::Segment); })*
        }
    };
}
