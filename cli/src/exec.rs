//! `dipc exec`: runs a program on a node of a local cluster.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::client::Client;
use crate::cluster::{Cluster, default_dir};
use crate::failure::{Failure, Result};
use crate::program::{Environment, OUR_FAILURE};

/// Runs a program on one node of the cluster that `dipc up` started.
///
/// Working directory, input, output, signals and exit status pass through
/// unchanged: dipc becomes the program. It ends with 127 if there is no such
/// program, 126 if it cannot be run, 125 if dipc itself fails.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// On which node, from 1
    #[arg(short = 'n', long = "node", value_name = "K")]
    node: u8,
    /// The cluster's folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn main(args: Args) -> Result<Infallible> {
    let prepare = |dir: &Path| {
        let cluster = Cluster::expect(dir)?;
        let environment = environment(&cluster, args.node)?;
        enter_namespace(&cluster, args.node)?;
        Ok(environment)
    };
    let environment = prepare(&args.dir.unwrap_or_else(default_dir));
    Err(environment
        .map_err(|failure: Failure| failure.code(OUR_FAILURE))?
        .exec(args.command))
}

/// A node with a network of its own has its programs there too.
fn enter_namespace(cluster: &Cluster, number: u8) -> Result<()> {
    let Some(namespace) = cluster.namespace(&cluster.node(number)?.name)? else {
        return Ok(());
    };
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Failure::new(
            format!("cannot enter the network namespace of node {number}"),
            errno.desc(),
        )
        .next("only root can; to be another user there, let the command change user")
    })
}

/// What a program on node `number` needs. The node must answer: otherwise the
/// program's objects would silently be local ones.
pub(crate) fn environment(cluster: &Cluster, number: u8) -> Result<Environment> {
    let node = cluster.node(number)?;
    if !node.process.is_alive() {
        return Err(Failure::new(
            format!("node {number} does not run"),
            format!("its dipcd, process {}, has ended", node.process.pid),
        )
        .next(format!(
            "{} says why; `dipc down` and `dipc up` start anew",
            cluster.log(&node.name).display()
        )));
    }
    let socket = Path::new(&node.at);
    Client::connect(socket)?;
    Environment::new(socket, Some(number))
}
