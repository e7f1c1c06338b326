//! What the tests of dipc from outside share: real daemons, real programs under
//! `LD_PRELOAD`, several nodes on one machine.
//!
//! ```text
//! Cluster ─┬─ referee        dipc-referee --listen 127.0.0.1:0
//!          └─ Node 1, 2, …   dipcd --name nodeK --socket …
//!               └─ Program   a process driven line by line (programs/ipc/)
//! ```
//!
//! With a [`Network`] each node is in a network namespace of its own, and links can
//! be cut.
//!
//! A test drives [`Program`]s step by step and so decides every order itself.
//! Where it must know that a call waits, it looks at what can be observed from
//! outside ([`Node::until_blocked`], GETNCNT), with a deadline ([`wait::until`]);
//! nothing is ever taken to have happened because time has passed.
//!
//! Whatever a test starts ends with it, and with the test process too if that
//! is killed. Logs are printed when a test fails.

pub mod accounts;
pub mod allowance;
pub mod apart;
pub mod artifacts;
pub mod cluster;
pub mod cost;
pub mod holdings;
pub mod modes;
pub mod network;
pub mod observe;
pub mod process;
pub mod program;
pub mod raw;
pub mod relay;
pub mod scarcity;
pub mod scratch;
pub mod skip;
pub mod twins;
pub mod wait;

pub use accounts::Accounts;
pub use cluster::{Cluster, Node, Options};
pub use cost::Cost;
pub use holdings::Holdings;
pub use modes::Mode;
pub use network::Network;
pub use program::{Answer, Program};
pub use relay::{Direction, Relay};

/// `IPC_CREAT | IPC_DIPC | 0600`: what most tests create objects with.
pub const CREATE: u32 = 0o11600;
/// The same with `IPC_EXCL`.
pub const CREATE_NEW: u32 = CREATE | 0o2000;
/// `IPC_DIPC` alone: a look-up.
pub const FIND: u32 = 0o10000;
/// `SEM_UNDO`
pub const UNDO: u32 = 0x1000;
/// `IPC_NOWAIT`
pub const NOWAIT: u32 = 0o4000;
