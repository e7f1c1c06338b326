//! `dipc down`: ends a local cluster.

use std::path::{Path, PathBuf};

use dipc_wire::admin::Process;

use crate::client::Client;
use crate::cluster::{Cluster, default_dir};
use crate::failure::Result;
use crate::launch::end;

/// Ends the cluster that `dipc up` started, and removes its folder.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The cluster's folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn main(args: Args) -> Result<()> {
    let cluster = Cluster::expect(&args.dir.unwrap_or_else(default_dir))?;
    for process in attached(&cluster) {
        eprintln!(
            "dipc: process {} ({}) still uses the cluster's objects; it gets errors for them now",
            process.pid, process.command
        );
    }
    let remains = end(&cluster)?;
    for name in remains.killed {
        eprintln!("dipc: {name} did not end when asked to, and was killed");
    }
    for keeper in remains.keepers {
        eprintln!(
            "dipc: keeper {keeper} stays until the last program that has its memory attached ends"
        );
    }
    Ok(())
}

/// The programs that the first node which answers knows of.
fn attached(cluster: &Cluster) -> Vec<Process> {
    let status = |at: &str| Client::connect(Path::new(at))?.status();
    let nodes = cluster
        .record
        .nodes
        .iter()
        .find_map(|node| status(&node.at).ok());
    nodes
        .into_iter()
        .flatten()
        .flat_map(|node| node.processes)
        .filter(is_not_us)
        .collect()
}

/// Our own connection makes us one of the node's programs.
fn is_not_us(process: &Process) -> bool {
    process.pid != std::process::id()
}
