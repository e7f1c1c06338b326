//! The machines by themselves, and a cluster of them driven by seeds.
//!
//! [`schedule`] decides at random what happens next in a
//! [`World`](super::world::World); [`random`] asks that nothing goes wrong, and
//! [`broken`] that what is broken on purpose does.

mod broken;
mod hostile;
mod random;
mod scenarios;
mod schedule;
