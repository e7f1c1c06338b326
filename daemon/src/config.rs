//! The command line of `dipcd`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use dipc_door::{BadDoor, Door};
use dipc_wire::Limits;
use dipc_wire::duration::duration;
use dipc_wire::limits::BadLimit;
use dipc_wire::local::SYSTEM_SOCKET;
use dipc_wire::sharing::{Granule, quantum};
use thiserror::Error;

/// What root of another node is to the objects of this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Root {
    /// Root here too, with the capabilities that it has there
    Keep,
    /// Nobody: one of the others, who owns nothing
    Squash,
}

/// The daemon of a dipc node.
///
/// Programs that run with LD_PRELOAD=libdipc.so reach it through its socket;
/// together with the daemons of the other nodes, which have the same referee, it
/// makes their System V IPC objects one set. Without a referee this node is a
/// cluster of its own.
#[derive(Clone, Debug, Parser)]
#[command(name = "dipcd", version)]
pub struct Config {
    /// This node's name, unique in the cluster [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,

    /// Where programs of this node connect
    #[arg(long, default_value = SYSTEM_SOCKET, env = "DIPC_SOCKET")]
    pub socket: PathBuf,

    /// Address at which the other nodes reach this one; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// How the other nodes reach that address, if it is another to them, as behind
    /// a forwarded port [default: that of --listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub advertise: Option<String>,

    /// The cluster's referee; without one this node is a cluster of its own
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub referee: Option<String>,

    /// The cluster's key, made by `dipc keygen`: connections to other nodes and to
    /// the referee are encrypted, and only those who have it come in. Needed where
    /// an address is not loopback
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Which nodes come in, each from which address: lines `NAME ADDRESS`. Read
    /// once, at the start [default: all who have the key]
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,

    /// What nodes take from each other of the segments made here, unless
    /// DIPC_GRANULE says otherwise: 4K, a multiple of it such as 64K or 1M, or
    /// segment, all of it
    #[arg(long, default_value = "4K", value_name = "BYTES")]
    pub granule: Granule,

    /// How long a node keeps a granule of these segments that others wait for,
    /// unless DIPC_QUANTUM says otherwise; a second at most
    #[arg(long, default_value = "200us", value_parser = quantum, value_name = "TIME")]
    pub quantum: u64,

    /// What root of other nodes may do with objects of this node
    #[arg(long, default_value = "keep", value_enum)]
    pub root: Root,

    /// How long to wait for a referee that does not answer; how long nodes may
    /// be silent before they are dead is the referee's to say
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,

    /// A limit of a cluster of one, such as shmmni=8192; may be said often.
    /// Those that are not set are the kernel's defaults
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limit: Vec<String>,

    /// A file of such limits, one a line; --limit goes before it
    #[arg(long, value_name = "FILE")]
    pub limits: Option<PathBuf>,
}

/// Why the limits cannot be these.
#[derive(Debug, Error)]
pub enum LimitsError {
    /// The node has a referee.
    #[error(
        "limits are the whole cluster's: give --limit and --limits to dipc-referee, which tells \
         them to all nodes, and not to a dipcd that has a --referee"
    )]
    NotOurs,
    /// No such file.
    #[error("cannot read --limits {path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// What is written there, or behind `--limit`.
    #[error("a limit cannot be set: {0}")]
    Bad(#[from] BadLimit),
}

impl Config {
    /// Who comes in from other machines.
    pub fn door(&self) -> Result<Door, BadDoor> {
        Door::load(self.key.as_deref(), self.allow.as_deref())
    }

    /// The limits of a cluster of one.
    pub fn limits(&self) -> Result<Limits, LimitsError> {
        if self.referee.is_some() && (self.limits.is_some() || !self.limit.is_empty()) {
            return Err(LimitsError::NotOurs);
        }
        let file = match &self.limits {
            Some(path) => std::fs::read_to_string(path).map_err(|error| LimitsError::File {
                path: path.display().to_string(),
                error,
            })?,
            None => String::new(),
        };
        let settings = self.limit.iter().map(String::as_str);
        Ok(Limits::written(&file, settings)?)
    }
}
