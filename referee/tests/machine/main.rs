//! The pure machine, rule by rule and at random.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

mod keys;
mod membership;
mod quota;
mod random;
mod recovery;
mod rig;
