//! The objects of one kind in the whole cluster, for programs: `*_INFO`,
//! `*_STAT` by index, `/proc/sysvipc`.
//!
//! ```text
//!   program          its dipcd                               the other homes
//!     │ Census kind ──▶ own objects, and Census ─────────────▶ their objects
//!     ◀── totals ────── in the order of their ids ◀── Entry … ──┘
//!     │                 kept for this process ([`super::listed`])
//!     │ Entry 0, 1 … ─▶ an id each, for an ordinary Stat
//! ```
//!
//! A list costs one question to each peer and is linear in the objects; an
//! entry of it costs no traffic between nodes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use dipc_wire::call::Reply;
use dipc_wire::census::{Census, Entry, Totals};
use dipc_wire::frame;
use dipc_wire::local::Response;
use dipc_wire::peer::Message;
use dipc_wire::{Errno, Kind, ObjectId};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::answer::without_names;
use super::attach::parent_of;
use super::client::{Client, ClientError};
use super::link::Link;
use super::process::Process;
use super::{Node, sysvipc};
use crate::semantics::limits::weight;

/// An object and what `IPC_STAT` says of it, in this node's numbers.
type Described = (ObjectId, Reply<'static>);

impl Node {
    /// `*_INFO`
    pub(super) fn tell_census(
        &self,
        client: &Client,
        kind: Kind,
        sweep: bool,
    ) -> Result<(), ClientError> {
        let objects = self.objects_of_cluster(kind);
        let census = Census {
            objects: u32::try_from(objects.len()).unwrap_or(u32::MAX),
            totals: self.totals(kind, &objects),
            limits: self.limits(),
        };
        let ids = objects.iter().map(|(id, _)| *id).collect();
        client.process.listed.lock().census(kind, ids, sweep);
        client.respond(&Response::Census(census), &[], &[])
    }

    /// `*_STAT` by index, first half.
    pub(super) fn tell_entry(
        &self,
        client: &Client,
        kind: Kind,
        place: u32,
        sweep: bool,
    ) -> Result<(), ClientError> {
        let listed = &client.process.listed;
        let known = listed.lock().at(kind, place);
        let id = known.or_else(|| {
            let objects = self.objects_of_cluster(kind);
            let mut listed = listed.lock();
            listed.refresh(kind, objects.iter().map(|(id, _)| *id), sweep);
            listed.at(kind, place)
        });
        let reply = id.map_or(Reply::Failed(Errno::EINVAL), Reply::Id);
        client.respond(&Response::Reply(reply), &[], &[])
    }

    /// `/proc/sysvipc`: a file, since all lines together may be longer than any
    /// frame.
    pub(super) fn tell_lines(
        &self,
        client: &Client,
        kind: Kind,
        sweep: bool,
    ) -> Result<(), ClientError> {
        let objects = self.objects_of_cluster(kind);
        let mut text = String::new();
        for (id, stat) in &objects {
            let resident = self.segments.resident(*id);
            sysvipc::line(*id, stat, resident, self.me.node, &mut text);
        }
        let ids = objects.iter().map(|(id, _)| *id);
        client.process.listed.lock().saw(kind, ids, sweep);
        if text.is_empty() {
            return client.respond(&Response::Lines { len: 0 }, &[], &[]);
        }
        let mut file = File::from(memfd_create("dipc-sysvipc", MFdFlags::MFD_CLOEXEC)?);
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!(%error, "no memory for a list of objects");
            let failed = Reply::Failed(Errno::ENOMEM);
            return client.respond(&Response::Reply(failed), &[], &[]);
        }
        let len = text.len() as u64;
        client.respond(&Response::Lines { len }, &[], &[file.as_raw_fd()])
    }

    /// What a peer asks for: the objects of this home.
    pub(super) fn answer_census(&self, link: &Link, tag: u64, kind: Kind) {
        let objects = self.home.list(kind);
        let users = &self.home.users;
        let names: Vec<_> = objects
            .iter()
            .map(|(_, stat)| stat.perm().map(|perm| users.names(perm)))
            .collect();
        let entries: Vec<_> = objects
            .into_iter()
            .zip(&names)
            .map(|((id, mut stat), names)| {
                if let (Some(perm), Some(names)) = (stat.perm_mut(), names) {
                    *perm = names.put(perm);
                }
                Entry { id, stat }
            })
            .collect();
        self.answer_rows(link, tag, &entries);
    }

    /// Whether this process has an object's id from a list, and neither it nor
    /// one of its living ancestors has made the object or asked for its key.
    pub(super) fn knows_from_list_only(&self, process: &Process, kind: Kind, id: ObjectId) -> bool {
        if !process.listed.lock().only_lists(kind, id) {
            return false;
        }
        let mut ancestors = std::iter::successors(parent_of(process.pid), |pid| {
            parent_of(*pid).filter(|p| *p > 1)
        });
        !ancestors.any(|pid| {
            let ancestor = self.processes.get(pid);
            ancestor.is_some_and(|ancestor| ancestor.listed.lock().has_got(kind, id))
        })
    }

    /// All objects of a kind, in the order of their ids.
    fn objects_of_cluster(&self, kind: Kind) -> Vec<Described> {
        let mut all = self.home.list(kind);
        let question = |tag| Message::Census { tag, kind };
        self.ask_peers(question, |node, bytes| {
            let entries = frame::decode::<Vec<Entry<'_>>>(bytes)?;
            // A home speaks for its own objects only.
            let own = entries
                .into_iter()
                .filter(|entry| entry.id.home() == node && entry.stat.kind() == Some(kind));
            all.extend(own.map(|Entry { id, mut stat }| {
                if let Some(perm) = stat.perm_mut() {
                    self.home.users.localize(perm);
                }
                (id, without_names(&stat))
            }));
            Ok(())
        });
        all.sort_by_key(|(id, _)| *id);
        all
    }

    fn totals(&self, kind: Kind, objects: &[Described]) -> Totals {
        let sum = |of: fn(&Reply<'_>) -> u64| -> u64 {
            let each = objects.iter().map(|(_, stat)| of(stat));
            each.fold(0, u64::saturating_add)
        };
        match kind {
            Kind::Sem => Totals::Sem {
                semaphores: sum(|stat| match stat {
                    Reply::Sem(stat) => weight(Kind::Sem, stat.nsems.into()),
                    _ => 0,
                }),
            },
            Kind::Msg => Totals::Msg {
                messages: sum(|stat| match stat {
                    Reply::Msg(stat) => stat.qnum,
                    _ => 0,
                }),
                bytes: sum(|stat| match stat {
                    Reply::Msg(stat) => stat.cbytes,
                    _ => 0,
                }),
            },
            Kind::Shm => Totals::Shm {
                pages: sum(|stat| match stat {
                    Reply::Shm(stat) => weight(Kind::Shm, stat.size),
                    _ => 0,
                }),
                resident: objects
                    .iter()
                    .map(|(id, _)| weight(Kind::Shm, self.segments.resident(*id)))
                    .sum(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;
    use std::thread;

    use dipc_wire::NodeId;
    use dipc_wire::call::{MsgStat, SemStat};
    use dipc_wire::frame::FrameBuffer;

    use super::super::link::Pending;
    use super::super::testing::{link_to, solo_node};
    use super::*;

    fn entry(home: u8, stat: Reply<'static>) -> Entry<'static> {
        let home = NodeId::new(home).unwrap();
        let id = ObjectId::new(home, 5);
        Entry { id, stat }
    }

    /// What the node makes of a peer's answer.
    fn heard(node: &Arc<Node>, answer: Vec<u8>) -> Vec<Described> {
        let (link, mut peer) = link_to(node, 2, 1);
        let asking = thread::spawn({
            let node = node.clone();
            move || node.objects_of_cluster(Kind::Sem)
        });
        let mut buffer = FrameBuffer::new();
        let tag = loop {
            if let Some(frame) = buffer.next_frame().unwrap() {
                match frame.message().unwrap() {
                    Message::Census { tag, kind } => {
                        assert_eq!(kind, Kind::Sem);
                        break tag;
                    }
                    other => panic!("{other:?}"),
                }
            }
            let count = peer.read(buffer.space()).unwrap();
            buffer.filled(count);
        };
        let Some(Pending::Rows(sender)) = link.take(tag) else {
            panic!("nobody waits")
        };
        sender.send(answer).unwrap();
        asking.join().unwrap()
    }

    #[test]
    fn a_peer_speaks_for_its_own_objects_of_the_kind_asked_for_only() {
        let own = entry(2, Reply::Sem(SemStat::default()));
        let answer = [
            entry(3, Reply::Sem(SemStat::default())),
            entry(2, Reply::Msg(MsgStat::default())),
            entry(2, Reply::Done),
            own.clone(),
        ];
        let node = solo_node();
        let objects = heard(&node, postcard::to_stdvec(&answer[..]).unwrap());
        assert_eq!(objects, [(own.id, own.stat)]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_empty() {
        let node = solo_node();
        assert_eq!(heard(&node, vec![0xff; 20]), []);
    }

    #[test]
    fn names_of_a_peers_users_become_this_nodes_numbers() {
        let perm = dipc_wire::call::Perm {
            uid: 77,
            owner: "root",
            cuid: 78,
            creator: "nobody has this login",
            ..Default::default()
        };
        let stat = SemStat {
            perm,
            ..SemStat::default()
        };
        let answer = [entry(2, Reply::Sem(stat))];
        let node = solo_node();
        let objects = heard(&node, postcard::to_stdvec(&answer[..]).unwrap());
        let perm = objects[0].1.perm().unwrap();
        assert_eq!((perm.uid, perm.cuid), (0, 78));
    }
}
