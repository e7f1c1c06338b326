//! Who comes in between machines, and who does not: docs/security.md has the list.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

mod attempts;
mod hostile;
mod local;
mod plaintext;
mod start;
mod tap;
