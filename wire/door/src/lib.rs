//! Who comes in between the machines of a cluster.
//!
//! ```text
//!   dipcd, as a caller                          dipcd or dipc-referee, as the one called
//!   ──────────────────                          ─────────────────────────────────────────
//!   Door::call(stream) ──── TLS 1.3, both show ────▶ Lobby::enter, then Door::answer(stream)
//!        │                  the cluster's key             │
//!        ▼                                                ▼
//!   Channel: reads  ◀──────── records ────────────▶  Channel: reads
//!   Session: seals                                   Session: seals
//!                           name, cluster, life
//!   Allow::admits(name, address) ◀────────────────▶  Allow::admits(name, address)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`key`] | the cluster's key: made once, the same file on every host |
//! | [`allow`] | the file of nodes that may come in, each from its address |
//! | [`file`](mod@file) | files that others could read or change are not believed |
//! | [`door`] | key and allow file together: what a program is told by its options |
//! | `tls` | TLS with exactly one key on both sides |
//! | [`session`] | an encrypted connection, sealed by many threads, opened by one |
//! | [`channel`] | the reading half of a connection, encrypted or not |
//! | [`lobby`] | how many may be on the threshold at once |
//! | [`refusal`] | why somebody does not come in |
//! | [`tally`] | refusals counted, and how many of them are logged |
//!
//! Without a key a connection is plain: nothing is between it and its socket, and
//! both of its ends must be loopback addresses.

pub mod allow;
pub mod channel;
pub mod door;
pub mod file;
pub mod key;
pub mod lobby;
pub mod refusal;
pub mod session;
pub mod tally;
mod tls;

pub use allow::Allow;
pub use channel::Channel;
pub use door::{BadDoor, Door};
pub use key::Key;
pub use lobby::{Guest, Lobby};
pub use refusal::Refusal;
pub use session::Session;
pub use tally::Tally;
