//! Which daemon `ls`, `rm` and `status` ask.

use std::env;
use std::path::{Path, PathBuf};

use dipc_wire::local::{SYSTEM_SOCKET, USER_SOCKET};

use crate::client::Client;
use crate::cluster::{Cluster, default_dir};
use crate::failure::Result;

/// A node of a local cluster, or else whoever `DIPC_SOCKET` names, or else node
/// 1 of the local cluster if one is up, or else this machine's own dipcd.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Target {
    /// Ask this node of the cluster that `dipc up` started
    #[arg(short = 'n', long = "node", value_name = "K")]
    node: Option<u8>,
    /// That cluster's folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Target {
    /// Connects to the daemon; and the local cluster, if that is whose it is.
    pub(crate) fn connect(self) -> Result<(Client, Option<Cluster>)> {
        if self.node.is_some() || self.dir.is_some() {
            let cluster = Cluster::expect(&self.dir.unwrap_or_else(default_dir))?;
            return ask(cluster, self.node.unwrap_or(1));
        }
        if let Some(socket) = named_socket() {
            return Ok((Client::connect(&socket)?, None));
        }
        match Cluster::open(&default_dir())? {
            Some(cluster) if cluster.is_up() => ask(cluster, 1),
            _ => Ok((Client::connect(&local_socket())?, None)),
        }
    }
}

fn ask(cluster: Cluster, node: u8) -> Result<(Client, Option<Cluster>)> {
    let client = Client::connect(Path::new(&cluster.node(node)?.at))?;
    Ok((client, Some(cluster)))
}

fn named_socket() -> Option<PathBuf> {
    env::var_os("DIPC_SOCKET")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The socket of this machine's own dipcd: the named one, else the first that is there.
pub(crate) fn local_socket() -> PathBuf {
    let system = PathBuf::from(SYSTEM_SOCKET);
    let user = env::var_os("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join(USER_SOCKET));
    named_socket().unwrap_or_else(|| match user {
        Some(user) if !system.exists() && user.exists() => user,
        _ => system,
    })
}
