//! The command line of `dipcd`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use dipc_door::{BadDoor, Door};
use dipc_wire::Limits;
use dipc_wire::limits::BadLimit;
use dipc_wire::local::SYSTEM_SOCKET;
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

    /// How long a node keeps a page of shared memory that others wait for
    #[arg(long, default_value = "200us", value_parser = duration)]
    pub quantum: Duration,

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

/// Longer than any time-out or quantum of use.
const LONGEST: Duration = Duration::from_secs(3600);

/// A number with a unit: `200us`, `5ms`, `2s`, `1.5s`; `0` needs none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    let seconds = match unit {
        "" if number == 0.0 => 0.0,
        "ns" => number / 1e9,
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        _ => return Err(format!("{text:?} needs a unit: ns, us, ms, s or min")),
    };
    // More cannot be added to a time of day without overflow checks everywhere.
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("{text:?} is more than an hour"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "5 parsecs", "-1s", "s", "1.2.3s", "99999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
