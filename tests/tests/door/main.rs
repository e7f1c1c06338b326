//! Who comes in between machines, and who does not: docs/security.md has the list.

mod attempts;
mod hostile;
mod plaintext;
mod start;
mod tap;
