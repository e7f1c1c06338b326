//! To whom an answer goes.

use std::sync::Arc;

use crossbeam::channel::Sender;
use dipc_wire::Errno;
use dipc_wire::call::{MsgStat, Reply, SemStat, ShmStat};
use dipc_wire::peer::Message;

use super::client::Client;
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
        }
    }

    /// The same for an error.
    pub(crate) fn fail(&self, errno: Errno) {
        self.answer(&Reply::Failed(errno), &[]);
    }
}
