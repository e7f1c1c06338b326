//! The daemon of a dipc node.
//!
//! | module | what it is |
//! |---|---|
//! | [`semantics`] | what System V calls mean: pure state machines |
//! | [`coherence`] | who may read and write which granule: a pure state machine |
//! | [`memory`] | what the kernel is told about pages |
//! | [`node`] | sockets, threads and clocks around the three |
//! | [`keeper`] | the process that outlives a killed daemon, and ends a stopped one |
//! | [`clock`] | by which leases run |
//! | [`config`] | the command line |
//!
//! ARCHITECTURE.md walks a `semop` and a page fault through them.

pub mod clock;
pub mod coherence;
pub mod config;
#[cfg(test)]
mod dice;
pub mod keeper;
mod kernel;
pub mod memory;
pub mod node;
pub mod semantics;
#[cfg(test)]
mod simulator;
