//! A network for the nodes of one cluster: each of them and the referee has a
//! network namespace (network_namespaces(7)) with an address of its own, and a
//! bridge in one more namespace joins them.
//!
//! ```text
//!   referee 10.0.1.1      node1 10.0.0.1      node2 10.0.0.2
//!      eth0                  eth0                eth0
//!  ─────┼─────────────────────┼───────────────────┼─────  veth(4)
//!    referee                node1               node2
//!      └─────────────────── br0 ──────────────────┘
//!                     namespace "switch"
//! ```
//!
//! No namespace has a name in `/run/netns`, and nothing is in that of the host: a
//! process holds them all, [`main`], as open descriptors, and is in the switch's
//! itself. They outlive a killed dipcd, and go with the last process that is in
//! them or holds them, however it ends. To enter one by hand:
//! `nsenter --net=/proc/HOLDER/fd/N`.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use nix::unistd::{geteuid, pause};

use crate::failure::{Doing, Failure, Result};
use crate::output::print;
use crate::process::Identity;

/// What its log is called, as a node's is by the node's name.
pub(crate) const NAME: &str = "network";
/// The referee's name, beside `node1`, `node2` …
pub(crate) const REFEREE: &str = "referee";

/// How many bits of an address are the same for all.
const PREFIX: u8 = 16;

/// Holds the network of a cluster until it is ended. Says which places there are:
/// `ready referee=10.0.1.1@4 node1=10.0.0.1@5 …`, where 4 and 5 are descriptors
/// of this process, and this process is in the switch's namespace.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// For how many nodes
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,
}

/// One member's side of the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Whose; also the name of the switch's port.
    pub(crate) name: String,
    /// Its address there.
    pub(crate) address: Ipv4Addr,
    /// The holder's descriptor of its namespace.
    descriptor: i32,
}

/// The command that holds a network for so many nodes.
pub(crate) fn holder(nodes: u8) -> Result<Command> {
    if !geteuid().is_root() {
        return Err(
            Failure::new("cannot make network namespaces", "you are not root")
                .next("start it as root, or without --netns: all nodes are on loopback then"),
        );
    }
    let ours = std::env::current_exe().doing(|| "cannot tell where dipc itself lies".into())?;
    let mut command = Command::new(ours);
    command.args(["hold-network", "--nodes", &nodes.to_string()]);
    Ok(command)
}

/// Reads what a holder has said behind `ready`; without what it did not say.
pub(crate) fn places(said: &str) -> impl Iterator<Item = Place> {
    said.split_whitespace().filter_map(Place::read)
}

impl Place {
    fn of(name: String, address: Ipv4Addr, namespace: &File) -> Self {
        Place {
            name,
            address,
            descriptor: namespace.as_raw_fd(),
        }
    }

    fn read(word: &str) -> Option<Self> {
        let (name, rest) = word.split_once('=')?;
        let (address, descriptor) = rest.split_once('@')?;
        Some(Place {
            name: name.into(),
            address: address.parse().ok()?,
            descriptor: descriptor.parse().ok()?,
        })
    }

    fn written(&self) -> String {
        format!("{}={}@{}", self.name, self.address, self.descriptor)
    }

    fn path(&self, holder: u32) -> PathBuf {
        format!("/proc/{holder}/fd/{}", self.descriptor).into()
    }

    /// Its namespace, which `holder` holds.
    pub(crate) fn open(&self, holder: Identity) -> Result<File> {
        let what = || format!("cannot find the network namespace of {}", self.name);
        let file = File::open(self.path(holder.pid));
        // Only now: whose descriptor it was is sure only if the holder still lives.
        if !holder.is_alive() {
            let why = format!("process {}, which held it, has ended", holder.pid);
            return Err(Failure::new(what(), why).next("`dipc down` and `dipc up` start anew"));
        }
        file.map_err(|error| Failure::new(what(), error).next("only root may use it"))
    }
}

/// Makes the network, says so, and stays.
pub(crate) fn main(args: &Args) -> Result<()> {
    let members = [(REFEREE.to_string(), Ipv4Addr::new(10, 0, 1, 1))]
        .into_iter()
        .chain((1..=args.nodes).map(|k| (format!("node{k}"), Ipv4Addr::new(10, 0, 0, k))));
    let mut held = Vec::new();
    for (name, address) in members {
        let namespace = enter_new()?;
        held.push((Place::of(name, address, &namespace), namespace));
    }
    let switch = enter_new()?;
    let us = std::process::id();
    ip(&switch_side(held.iter().map(|(place, _)| place), us))?;
    for (place, namespace) in &held {
        enter(namespace)?;
        ip(&member_side(place))?;
    }
    enter(&switch)?;
    // Whoever started us may have waited for signals itself, with these blocked.
    let none = SigSet::empty().thread_set_mask();
    none.doing(|| "cannot unblock signals".into())?;
    let words: Vec<String> = held.iter().map(|(place, _)| place.written()).collect();
    print(&format!("ready {}\n", words.join(" ")))?;
    loop {
        // Until SIGTERM ends this process, as it does those who handle no signal.
        pause();
    }
}

fn enter_new() -> Result<File> {
    let what = || "cannot make a network namespace".to_string();
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Failure::new(what(), errno.desc())
            .next("the kernel needs CONFIG_NET_NS, and you CAP_SYS_ADMIN")
    })?;
    File::open("/proc/self/ns/net").doing(what)
}

fn enter(namespace: &File) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).doing(|| "cannot enter a network namespace".into())
}

/// What the switch is, as `ip -batch` reads it. A member's end goes into its own
/// namespace as it is made.
fn switch_side<'p>(places: impl Iterator<Item = &'p Place>, holder: u32) -> String {
    let mut lines = String::from("link add br0 type bridge\nlink set br0 up\n");
    for place in places {
        let (port, namespace) = (&place.name, place.path(holder));
        lines += &format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} master br0 up\n",
            namespace.display()
        );
    }
    lines
}

fn member_side(place: &Place) -> String {
    let address = place.address;
    format!("link set lo up\naddr add {address}/{PREFIX} brd + dev eth0\nlink set eth0 up\n")
}

/// Has iproute2 do these lines where we are.
fn ip(lines: &str) -> Result<()> {
    let what = || "cannot make the cluster's network".to_string();
    let spawned = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| {
        Failure::new(what(), format!("cannot run ip: {error}"))
            .next("install iproute2, or leave out --netns")
    })?;
    if let Some(mut input) = child.stdin.take() {
        // One that has ended already has said why.
        let _ = input.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().doing(what)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(what(), format!("ip says: {}", said.trim()))
        .next("the kernel needs veth and bridge: CONFIG_VETH, CONFIG_BRIDGE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place {
            name: "node3".into(),
            address: Ipv4Addr::new(10, 0, 0, 3),
            descriptor: 7,
        };
        let said = format!("{} and {}", place.written(), "node4=10.0.0@x");
        assert_eq!(places(&said).collect::<Vec<_>>(), [place]);
    }

    #[test]
    fn a_namespace_is_not_taken_from_a_stranger_with_the_holders_number() {
        let file = File::open("/proc/self/ns/net").unwrap();
        let place = Place::of("node1".into(), Ipv4Addr::LOCALHOST, &file);
        let us = Identity::of(std::process::id()).unwrap();
        assert!(place.open(us).is_ok());
        let earlier = Identity { started: 0, ..us };
        let failure = place.open(earlier).unwrap_err().to_string();
        assert!(failure.contains("has ended"), "{failure}");
    }
}
