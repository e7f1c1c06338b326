//! `dipc up`: starts a cluster on this machine, in the background.

use std::path::PathBuf;

use crate::cluster::default_dir;
use crate::failure::{Doing, Failure, Result};
use crate::interrupts::Interrupts;
use crate::launch::{Plan, Running};
use crate::output::print;

/// Starts a referee and some nodes on this machine, in the background.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,
    /// The cluster's folder: $DIPC_DIR, else /run/dipc-cluster for root, else
    /// $XDG_RUNTIME_DIR/dipc-cluster, else /tmp/dipc-UID
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// After what time a silent node counts as dead, such as 2s
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// What nodes take from each other of a segment: 4K, a multiple of it such as
    /// 64K, or segment, all of it
    #[arg(long, value_name = "BYTES")]
    granule: Option<String>,
    /// How long a node keeps that before it must give it up, such as 200us
    #[arg(long, value_name = "TIME")]
    quantum: Option<String>,
    /// Encrypt what passes between the nodes, with a key made for this cluster
    #[arg(long)]
    tls: bool,
    /// What root of another node may do with objects of a node: keep its rights,
    /// or squash to nobody
    #[arg(long, value_name = "RULE", value_parser = ["keep", "squash"])]
    root: Option<String>,
    /// A limit of the whole cluster, such as shmmni=8192; may be said often
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limit: Vec<String>,
    /// A file of such limits, one a line; --limit goes before it
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Gives each node and the referee a network namespace of its own, joined by a
    /// bridge; encrypts as --tls does. Needs root, and iproute2
    #[arg(long)]
    netns: bool,
}

pub(crate) fn main(args: Args) -> Result<()> {
    let default = default_dir();
    let dir = args.dir.unwrap_or_else(|| default.clone());
    let limits = args.limits.map(|file| {
        std::path::absolute(&file).doing(|| format!("cannot resolve {}", file.display()))
    });
    let plan = Plan {
        nodes: args.nodes,
        timeout: args.timeout,
        granule: args.granule,
        quantum: args.quantum,
        root: args.root,
        limit: args.limit,
        limits: limits.transpose()?,
        netns: args.netns,
        tls: args.tls,
        ends_with_us: false,
    };
    let running = Running::start(&dir, &plan, &Interrupts::catch()?)?;
    let cluster = running
        .release()
        .ok_or_else(|| Failure::new("no cluster", "it ended"))?;
    let option = if dir == default {
        String::new()
    } else {
        format!(" --dir {}", cluster.dir.display())
    };
    let nodes = args.nodes;
    print(&format!(
        "A cluster of {nodes} nodes is up in {}.

  dipc exec{option} -n 1 -- CMD    runs CMD on node 1, and so on to {nodes}
  dipc status{option}              shows the cluster
  dipc ls{option}                  shows its objects
  dipc down{option}                ends it
",
        cluster.dir.display()
    ))
}
