//! The daemon.
pub mod coherence;
pub mod semantics;
