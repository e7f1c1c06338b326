//! The name server of a dipc cluster.
//!
//! It knows which nodes are members, and which home has a key; it sees to it
//! that one node at a time creates one. It carries no data: after a key is
//! found, nothing about its object passes here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`naming`] | the pure machine: joins, deaths, recovery after a restart |
//! | `membership` | numbers, names, lives and links of the members |
//! | [`keys`] | homes of keys, who creates, who waits |
//! | [`quota`] | how many objects the cluster has, and whether there is room for one more |
//! | [`output`] | what the machine says: answers, messages, refusals, events |
//! | [`server`] | sockets, threads and the clock around it; who comes in ([`dipc_door`]) |
//! | `link` | one connection's sending side, which never waits |
//! | `journal` | events as lines of the log |
//!
//! # One creation, step by step
//!
//! Programs on nodes 1 and 2 call `semget(0x1234, 1, IPC_CREAT)` at once.
//!
//! 1. Both daemons ask `Resolve { key: 0x1234, create: true }`. Each question
//!    is a frame on the node's one connection, read by that connection's thread
//!    ([`server`]).
//! 2. The thread takes the lock and gives the question to
//!    [`naming::Naming::message`], which finds the member at the link and hands
//!    the question to [`keys`].
//! 3. Say that node 1's came first. The key is free: its state becomes
//!    *creating, by 1*, and the answer is `Create`. The thread sends it itself,
//!    still under the lock, without ever waiting for the socket (`link`).
//! 4. Node 2's question goes into the key's line. Nobody is told anything.
//! 5. Node 1 makes the set, numbered by itself with its home in the id, and
//!    says `Created`. The key is *held*; everybody in the line gets `Found` with
//!    the id, from the thread of node 1's connection.
//! 6. Node 2 now asks node 1, and the referee is out of it.
//!
//! Where it goes wrong: node 1 says `Abandoned` (no memory, say), or dies, or
//! comes back on a new connection without the object among its own. Then the
//! key is free again, and the next in the line gets `Create`.
//!
//! # Invariants
//!
//! - A key has at most one home, and at most one node may create it.
//! - What is granted never adds up to more than a limit, and what counts is what
//!   the living nodes have or were granted.
//! - A life that was declared dead stays dead: its messages are not heard, and
//!   it is not admitted again.
//! - A number belongs to one name for as long as the referee lives; an
//!   incarnation is given once.
//! - All state is soft: whatever is here, some node knows, and says again to
//!   the next referee.
//! - Nothing waits under the lock, so that no node delays another.

mod journal;
pub mod keys;
mod link;
mod membership;
pub mod naming;
pub mod output;
pub mod quota;
pub mod server;

pub use server::{Options, Referee};
