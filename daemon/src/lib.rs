//! The daemon.
pub mod coherence;
pub mod memory;
pub mod semantics;
