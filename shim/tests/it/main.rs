//! Small C programs under the built libdipc.so, against a scripted daemon: the
//! test plays dipcd itself, one request after the other.

// Its helpers are tests too: a panic is how they report.
#![allow(clippy::unwrap_used)]

mod absence;
mod calls;
mod descriptors;
mod fake;
mod listing;
mod memory;
#[cfg(target_arch = "x86_64")]
mod plugins;
mod probe;
mod signals;
