//! A node for tests: no referee, no threads, and a keeper that nobody is.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use clap::Parser;
use dipc_door::Door;
use dipc_wire::peer::{Hello, MAGIC, VERSIONS};
use dipc_wire::{Incarnation, NodeId};

use super::Node;
use super::lease::Lease;
use super::link::{BACKLOG, Link};
use super::outgoing::Outgoing;
use super::process::{Process, Processes};
use super::start::assemble;
use crate::config::Config;
use crate::keeper::Keeper;

/// A cluster of one.
pub(super) fn solo_node() -> Arc<Node> {
    let config = Config::parse_from(["dipcd", "--name", "test"]);
    assemble(
        &config,
        Keeper::nobody(),
        "test".into(),
        String::new(),
        None,
        Door::default(),
    )
    .unwrap()
}

/// The process of the test.
pub(super) fn this_process() -> Arc<Process> {
    let pid = std::process::id();
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open");
    // SAFETY: the kernel has just given us this descriptor.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let processes = Processes::new().unwrap();
    processes.enter(pid, 0, pidfd, |_| ()).unwrap()
}

/// A link of `node` to a life of a peer, and the peer's end of it.
pub(super) fn link_to(node: &Node, peer: u8, incarnation: u64) -> (Arc<Link>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let hello = Hello {
        magic: MAGIC,
        versions: VERSIONS,
        cluster: node.me.cluster,
        node: NodeId::new(peer).unwrap(),
        incarnation: Incarnation(incarnation),
        to: node.me.node,
        to_incarnation: node.me.incarnation,
    };
    let now = node.clock.now();
    let lease = Lease::new(node.terms(), now, now);
    let outgoing = Outgoing::plain_link(&ours, BACKLOG).unwrap();
    let link = Link::new(outgoing, &hello, node.counters.clone(), lease);
    let connected = node.peers.connect(&link, || Ok::<(), ()>(()));
    assert_eq!(connected, Ok(Some(())));
    (link, theirs)
}
