//! Links that are cut, slow or healed, and nodes that go as a whole: the rows of
//! `docs/failures.md`, "Links and nodes". Each node is in a network namespace, so
//! these need root.

mod machines;
mod peers;
mod referee;
mod slow;
mod stage;
