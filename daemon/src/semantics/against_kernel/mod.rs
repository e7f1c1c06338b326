//! The kernel as judge: random histories of calls are played by real processes,
//! and every result, errno, state, and who wakes when must be as our machines
//! say.
//!
//! ```text
//!   seed ──▶ generate ──▶ history ──▶ machines ──▶ plan ──▶ actors ──▶ judge
//!                            ▲      (semantics::*)         kernel, or    │
//!                            └──────── shrink ◀───────── the library ◀───┘
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `history` | who did what: lines of text |
//! | `generate` | histories by chance |
//! | `machines`, `calls`, `text` | what the machines make of a history |
//! | `races` | what the kernel leaves to chance, and is left out |
//! | `plan` | what is to be made, and what must come of it |
//! | `actors` | processes that play a plan |
//! | `judge` | whether it came so |
//! | `namespace` | the kernel as target |
//! | `library` | a cluster's library and daemons as target |
//! | `shrink` | makes a history that fails short |
//! | `campaign` | many histories, one after the other; the tests |
//! | `mistakes` | machines that are wrong on purpose must be found out |
//!
//! `docs/testing.md` says how to run it longer, and how to play one history.

mod actors;
mod calls;
mod campaign;
mod generate;
mod history;
mod judge;
mod library;
mod machines;
mod mistakes;
mod namespace;
mod plan;
mod races;
mod shrink;
mod text;
