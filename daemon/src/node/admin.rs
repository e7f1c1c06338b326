//! What `dipc ls` and `dipc status` are told.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam::channel::bounded;
use dipc_wire::admin::{Detail, NodeStatus, Object, Process};
use dipc_wire::call::{Perm, Reply};
use dipc_wire::frame::{self, FrameError};
use dipc_wire::peer::Message;
use dipc_wire::{Kind, NodeId};
use nix::sys::socket::{getsockopt, sockopt};
use serde::de::DeserializeOwned;

use super::Node;
use super::link::Link;

impl Node {
    /// The objects of this home.
    pub(super) fn list(&self) -> Vec<Object> {
        let object = |(id, stat): (_, Reply<'static>)| {
            let (kind, perm, detail) = describe(&stat)?;
            Some(Object {
                kind,
                key: perm.key,
                id,
                owner: self.home.users.login(perm.uid).to_string(),
                mode: perm.mode,
                home: self.name.clone(),
                detail,
            })
        };
        let all = Kind::ALL.into_iter().flat_map(|kind| self.home.list(kind));
        all.filter_map(object).collect()
    }

    /// The objects of the cluster.
    pub(super) fn list_cluster(&self) -> Vec<Object> {
        let mut all = self.list();
        all.extend(self.ask_all(|tag| Message::List { tag }));
        all
    }

    /// How this node is.
    pub(super) fn status(&self) -> NodeStatus {
        let mut peers: Vec<_> = self.peers.links().iter().map(|link| link.node).collect();
        peers.sort_unstable();
        NodeStatus {
            node: self.me.node,
            incarnation: self.me.incarnation,
            name: self.name.clone(),
            address: self.address.clone(),
            socket: self.socket.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            keeper: self.keeper.pid(),
            referee: self.names.referee(),
            peers,
            processes: self.programs(),
            counters: self.counters.read(),
            refused: self.refused.counts(),
        }
    }

    /// How all nodes are.
    pub(super) fn status_of_cluster(&self) -> Vec<NodeStatus> {
        let mut all = vec![self.status()];
        all.extend(self.ask_all::<NodeStatus>(|tag| Message::Status { tag }));
        all.sort_by_key(|status| status.node);
        all
    }

    fn programs(&self) -> Vec<Process> {
        let mut programs: Vec<Process> = self
            .processes
            .list()
            .iter()
            .map(|process| Process {
                pid: process.pid,
                login: self.home.users.login(process.uid).to_string(),
                command: process.command(),
                attachments: self.spaces.attachments(process.pid) as u32,
                waiting: process.waiting.load(Ordering::Relaxed),
            })
            .collect();
        programs.sort_by_key(|program| program.pid);
        programs
    }

    /// Asks all peers and collects their rows.
    fn ask_all<T: DeserializeOwned>(&self, question: impl Fn(u64) -> Message<'static>) -> Vec<T> {
        let mut rows = Vec::new();
        self.ask_peers(question, |_, bytes| {
            rows.extend(frame::decode::<Vec<T>>(bytes)?);
            Ok(())
        });
        rows
    }

    /// Asks all peers at once, and has `hear` take the rows of each. A peer that
    /// dies meanwhile, or does not answer within the time-out, has none.
    pub(super) fn ask_peers(
        &self,
        question: impl Fn(u64) -> Message<'static>,
        mut hear: impl FnMut(NodeId, &[u8]) -> Result<(), FrameError>,
    ) {
        let deadline = Instant::now() + self.timeout;
        let ask = |link: Arc<Link>| {
            let (sender, receiver) = bounded(1);
            link.ask_rows(&question, sender);
            (link.node, receiver)
        };
        let asked: Vec<_> = self.peers.links().into_iter().map(ask).collect();
        for (node, receiver) in asked {
            if let Ok(bytes) = receiver.recv_deadline(deadline)
                && let Err(error) = hear(node, &bytes)
            {
                tracing::warn!(%node, %error, "a peer's list cannot be read");
            }
        }
    }
}

fn describe(stat: &Reply<'static>) -> Option<(Kind, Perm<'static>, Detail)> {
    Some(match stat {
        Reply::Sem(s) => (
            Kind::Sem,
            s.perm,
            Detail::Sem {
                nsems: s.nsems,
                otime: s.otime,
            },
        ),
        Reply::Msg(s) => {
            let (bytes, messages) = (s.cbytes, s.qnum);
            let detail = Detail::Msg {
                bytes,
                messages,
                lspid: s.lspid,
                lrpid: s.lrpid,
            };
            (Kind::Msg, s.perm, detail)
        }
        Reply::Shm(s) => {
            let detail = Detail::Shm {
                size: s.size,
                nattch: s.nattch,
                cpid: s.cpid,
                lpid: s.lpid,
                granule: s.granule,
                quantum: s.quantum,
            };
            (Kind::Shm, s.perm, detail)
        }
        _ => return None,
    })
}

/// Whether a daemon serves at this connected socket, for whoever finds one there.
pub(super) fn peer_pid(stream: impl AsFd) -> Option<i32> {
    getsockopt(&stream, sockopt::PeerCredentials)
        .ok()
        .map(|peer| peer.pid())
}
