//! The pure machine, rule by rule and at random.

mod keys;
mod membership;
mod random;
mod recovery;
mod rig;
