//! A cluster in one thread, driven by seeds.
//!
//! [`world`] has the nodes, their memory and the links between them, [`checks`]
//! says after every step whether memory is still coherent, and [`schedule`]
//! decides at random what happens next.

mod broken;
mod checks;
mod hostile;
mod random;
mod scenarios;
mod schedule;
mod world;
