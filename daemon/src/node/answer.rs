//! To whom an answer goes.

use std::sync::Arc;

use crossbeam::channel::{Sender, bounded};
use dipc_wire::call::{Call, MsgStat, Reply, SemStat, ShmStat};
use dipc_wire::peer::Message;
use dipc_wire::{Errno, ObjectId};

use super::client::Client;
use super::identity::Abroad;
use super::link::Link;
use super::users;

/// Who made a call.
#[derive(Clone)]
pub(crate) enum Asker {
    /// A thread of a local program.
    Client(Arc<Client>),
    /// Another node, for one of its programs.
    Peer {
        /// The way back.
        link: Arc<Link>,
        /// Its name for the call.
        tag: u64,
    },
    /// A thread of this daemon, which waits.
    Thread(Sender<Reply<'static>>),
    /// A program that is gone: what was counted for it is taken back.
    Late {
        /// The way to the segment's home.
        link: Arc<Link>,
        /// The process.
        pid: u32,
        /// The segment.
        id: ObjectId,
    },
}

/// A reply that outlives the buffer it came in. Names are left out: who needs
/// them has looked them up before.
pub(crate) fn without_names(reply: &Reply<'_>) -> Reply<'static> {
    match reply {
        Reply::Done => Reply::Done,
        Reply::Failed(errno) => Reply::Failed(*errno),
        Reply::Id(id) => Reply::Id(*id),
        Reply::Value(value) => Reply::Value(*value),
        Reply::Process(pid) => Reply::Process(*pid),
        Reply::Values => Reply::Values,
        Reply::Message { mtype } => Reply::Message { mtype: *mtype },
        Reply::Sem(stat) => Reply::Sem(SemStat {
            perm: users::without_names(&stat.perm),
            ..*stat
        }),
        Reply::Msg(stat) => Reply::Msg(MsgStat {
            perm: users::without_names(&stat.perm),
            ..*stat
        }),
        Reply::Shm(stat) => Reply::Shm(ShmStat {
            perm: users::without_names(&stat.perm),
            ..*stat
        }),
        Reply::Attached {
            size,
            granule,
            quantum,
            may_write,
        } => Reply::Attached {
            size: *size,
            granule: *granule,
            quantum: *quantum,
            may_write: *may_write,
        },
    }
}

impl Asker {
    /// To whom it does not matter.
    pub(super) fn nobody() -> Self {
        Asker::Thread(bounded(1).0)
    }

    /// Passes the answer on. Whoever is gone meanwhile gets none, and what was
    /// done for a program that is gone is taken back (see `client`).
    pub(crate) fn answer(&self, reply: &Reply<'_>, payload: &[u8]) {
        match self {
            Asker::Client(client) => client.answer(reply, payload),
            Asker::Peer { link, tag } => {
                if let Reply::Message { .. } = reply {
                    link.gives(payload.len());
                }
                // A link that is lost takes its node's calls with it: their
                // processes are undone when that node is declared dead.
                let _ = link.send(
                    &Message::Reply {
                        tag: *tag,
                        reply: reply.clone(),
                    },
                    payload,
                );
            }
            Asker::Thread(sender) => {
                // It asks for nothing that has a payload.
                let _ = sender.send(without_names(reply));
            }
            Asker::Late { .. } if matches!(reply, Reply::Failed(_)) => {}
            Asker::Late { link, pid, id } => abandon_unheard(link, *pid, *id),
        }
    }

    /// The same for an error.
    pub(crate) fn fail(&self, errno: Errno) {
        self.answer(&Reply::Failed(errno), &[]);
    }
}

/// A process has not mapped what its home has counted. Nobody waits.
pub(super) fn abandon_unheard(link: &Link, pid: u32, id: ObjectId) {
    let process = Abroad::process(pid);
    // A home that is dead counts nothing.
    let _ = link.ask(process.caller(), Call::Abandon { id }, &[], Asker::nobody());
}
