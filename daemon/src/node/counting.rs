//! What a segment's home is told of attachments, by itself or over a link: it
//! counts them, and knows who touched the segment last.
//!
//! ```text
//!   begin     shmat, mremap     waits for the home's verdict
//!   mapped    shmat, mremap     nobody waits
//!   abandon   instead of it     waits: nothing is left when the program goes on;
//!                               of a program that has ended, nobody waits
//!   inherit   fork, cutting     nobody waits
//!   detach    shmdt, munmap     waits
//!   dropped   exit, exec        nobody waits
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use dipc_wire::call::{Call, Reply};
use dipc_wire::peer::Message;
use dipc_wire::sharing::{MAX_QUANTUM, is_granule};
use dipc_wire::{Errno, ObjectId, Pid};

use super::answer::{Asker, abandon_unheard};
use super::client::Client;
use super::identity::Abroad;
use super::link::Link;
use super::{Node, Shape};

/// What the home says to the first half.
pub(super) struct Granted {
    pub(super) shape: Shape,
    /// The caller may write, whatever it asked for.
    pub(super) may_write: bool,
    /// The way to the home's life that counted the attachment; none for this node.
    pub(super) home: Option<Arc<Link>>,
}

impl Node {
    /// `shmat` begins: [`mapped_at_home`](Self::mapped_at_home) or
    /// [`abandon_at_home`](Self::abandon_at_home) follows.
    pub(super) fn attach_at_home(
        &self,
        client: &Client,
        id: ObjectId,
        flags: u32,
    ) -> Result<Granted, Errno> {
        if id.home() == self.me.node {
            let attached = self.home.attach(&client.caller(), id, flags)?;
            return Ok(Granted {
                shape: Shape {
                    size: attached.size,
                    granule: attached.granule,
                    quantum: attached.quantum,
                },
                may_write: attached.may_write,
                home: None,
            });
        }
        self.counters.remote_call();
        let call = Call::Attach { id, flags };
        match self.ask_home(client, &client.abroad(), id, call)? {
            (
                Reply::Attached {
                    size,
                    granule,
                    quantum,
                    may_write,
                },
                home,
            ) if (1..=i64::MAX as u64).contains(&size)
                && is_granule(granule)
                && quantum <= MAX_QUANTUM =>
            {
                Ok(Granted {
                    shape: Shape {
                        size,
                        granule,
                        quantum,
                    },
                    may_write,
                    home: Some(home),
                })
            }
            _ => Err(Errno::EPROTO),
        }
    }

    /// What was begun is mapped. Nobody waits: it shows already.
    pub(super) fn mapped_at_home(&self, client: &Client, id: ObjectId) {
        if id.home() == self.me.node {
            // A segment that is gone has no times.
            let _ = self.home.mapped(self.pid(client.pid()), id);
        } else if let Some(link) = self.peers.link(id.home()) {
            let pid = client.pid();
            let _ = link.send(&Message::Mapped { id, pid }, &[]);
        }
    }

    /// What was begun has failed.
    pub(super) fn abandon_at_home(&self, client: &Client, id: ObjectId) {
        let gone = self.tell_home(client, id, Call::Abandon { id }, |pid| {
            self.abandoned(pid, id)
        });
        note_gone(id, gone);
    }

    /// What was begun has failed, and its program is gone. Nobody waits.
    pub(super) fn abandon_for_dead(&self, client: &Client, id: ObjectId) {
        let pid = client.pid();
        if id.home() == self.me.node {
            note_gone(id, self.abandoned(self.pid(pid), id));
        } else if let Some(link) = self.peers.link(id.home()) {
            abandon_unheard(&link, pid, id);
        }
    }

    pub(super) fn detach_at_home(&self, client: &Client, id: ObjectId) {
        let call = Call::Detach { id, count: 1 };
        let gone = self.tell_home(client, id, call, |pid| self.detached(pid, id, 1));
        note_gone(id, gone);
    }

    /// A fork, or a cut, has made `count` more of them. Nobody waits.
    pub(super) fn inherit(&self, parent: u32, id: ObjectId, count: u32) {
        if id.home() == self.me.node {
            // A segment that is gone has no one to count.
            let _ = self.home.inherit(self.pid(parent), id, count);
        } else if let Some(link) = self.peers.link(id.home()) {
            let parent = Abroad::process(parent);
            let call = Call::Inherit { id, count };
            let _ = link.ask(parent.caller(), call, &[], Asker::nobody());
        }
    }

    /// Attachments have ended without a call.
    pub(super) fn dropped(&self, pid: u32, counts: BTreeMap<ObjectId, u32>) {
        for (id, count) in counts {
            if id.home() == self.me.node {
                // A segment that is gone has no one to count.
                let _ = self.detached(self.pid(pid), id, count);
            } else if let Some(link) = self.peers.link(id.home()) {
                let _ = link.send(&Message::Dropped { id, pid, count }, &[]);
            }
        }
    }

    /// The home has counted what it was told before.
    pub(super) fn await_counts(&self, client: &Client, id: ObjectId) -> Result<(), Errno> {
        let call = Call::Inherit { id, count: 0 };
        self.tell_home(client, id, call, |pid| self.home.inherit(pid, id, 0))
    }

    /// The home counts one more mapping, until it is mapped or abandoned.
    pub(super) fn remap_at_home(&self, client: &Client, id: ObjectId) -> Result<(), Errno> {
        let call = Call::Remap { id };
        self.tell_home(client, id, call, |pid| self.home.remap(pid, id))
    }

    /// Says `call` to the segment's home, or does it `here`, and waits.
    fn tell_home(
        &self,
        client: &Client,
        id: ObjectId,
        call: Call,
        here: impl FnOnce(Pid) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if id.home() == self.me.node {
            return here(self.pid(client.pid()));
        }
        match self.ask_home(client, &Abroad::process(client.pid()), id, call)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(Errno::EPROTO),
        }
    }

    /// A process has not mapped a segment of this home, that was counted.
    pub(super) fn abandoned(&self, pid: Pid, id: ObjectId) -> Result<(), Errno> {
        if self.home.abandon(pid, id)? {
            self.destroy(id);
        }
        Ok(())
    }

    /// Attachments to a segment of this home have ended.
    pub(crate) fn detached(&self, pid: Pid, id: ObjectId, count: u32) -> Result<(), Errno> {
        if self.home.detach(pid, id, count)? {
            self.destroy(id);
        }
        Ok(())
    }

    /// Asks another home for a program, and waits. EINVAL: the home is dead, and
    /// the object with it. EIDRM: it has just died, or the program has.
    fn ask_home(
        &self,
        client: &Client,
        caller: &Abroad,
        id: ObjectId,
        call: Call,
    ) -> Result<(Reply<'static>, Arc<Link>), Errno> {
        let link = self.peers.link(id.home()).ok_or(Errno::EINVAL)?;
        let answer = client.errand.run(&link, caller, call);
        match answer.ok_or(Errno::EIDRM)? {
            Reply::Failed(errno) => Err(errno),
            reply => Ok((reply, link)),
        }
    }
}

fn note_gone(id: ObjectId, told: Result<(), Errno>) {
    if let Err(errno) = told {
        tracing::debug!(segment = %id, ?errno, "detached from a segment that is gone");
    }
}

pub(super) fn count(segments: impl Iterator<Item = ObjectId>) -> BTreeMap<ObjectId, u32> {
    let mut counts = BTreeMap::new();
    for segment in segments {
        *counts.entry(segment).or_default() += 1;
    }
    counts
}
