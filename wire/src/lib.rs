//! The protocols of dipc. No I/O happens here: these are types, and the
//! functions that turn them into bytes and back.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | the names of things: nodes, incarnations, processes, objects |
//! | [`errno`] | error numbers that mean the same on every processor |
//! | [`call`] | the System V calls as values, and their replies |
//! | [`census`] | the objects of one kind in the whole cluster |
//! | [`coherence`] | what directory and caches say to each other about granules |
//! | [`sharing`] | how a segment is kept coherent: granule and quantum |
//! | [`local`] | program ↔ `dipcd`, over a Unix socket; same version on both sides |
//! | [`peer`] | `dipcd` ↔ `dipcd`, over TCP; version negotiated |
//! | [`referee`] | `dipcd` ↔ `dipc-referee`, over TCP; version negotiated |
//! | [`admin`] | what `dipc ls` and `dipc status` are told |
//! | [`limits`] | the limits of a cluster, and which errno says that one is reached |
//! | [`duration`] | durations as people write them |
//! | [`frame`] | length-limited frames: a postcard header with raw payload beside it |
//!
//! Two rules keep old and new nodes able to talk. Enums are append-only: a
//! variant keeps its place for ever. Integers have a fixed width: never
//! `usize`, `c_long`, or anything else that a processor may choose.

pub mod admin;
pub mod call;
pub mod census;
pub mod coherence;
pub mod duration;
pub mod errno;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod local;
pub mod peer;
pub mod referee;
pub mod sharing;

pub use errno::Errno;
pub use ids::{Incarnation, Kind, NodeId, ObjectId, Pid};
pub use limits::Limits;
