//! What local programs do to their attachments after `shmat`: `shmdt`, `munmap`,
//! `mprotect`, `madvise`, `mremap`.
//!
//! The kernel counts mappings in `nattch`. When one is cut, each piece is opened
//! and the whole closed, so a part that goes makes `shm_atime` as well as
//! `shm_dtime` now, and `shm_lpid` the caller. The home is told the same, in the
//! same order, before the program goes on.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use dipc_wire::Errno;
use dipc_wire::call::flags;

use super::Node;
use super::attach::{Attaching, parent_of};
use super::client::{Client, ClientError};
use crate::memory::changes::{Change, Gone, Sayer};
use crate::memory::uffd::Range;
use crate::memory::{Mapping, PAGE};

impl Node {
    /// The program has unmapped something.
    pub(super) fn detach(self: &Arc<Self>, client: &Client, gone: Gone) -> Result<(), Errno> {
        if let Gone::Part(range) = gone {
            whole_pages(range)?;
        }
        let change = loop {
            match self
                .spaces
                .unmap(gone, client.pid(), |new| self.count_new(client, new))
            {
                Ok(found) => break found.ok_or(Errno::EINVAL)?,
                Err(changing) => self.news(self.spaces.changed(&changing, &**self)),
            }
        };
        self.note_pieces(&change);
        let Mapping { segment, view, .. } = change.before;
        self.settle_detached(segment, view);
        self.detach_at_home(client, segment);
        Ok(())
    }

    /// The program has changed a part of a mapping.
    pub(super) fn changed(
        &self,
        client: &Client,
        range: Range,
        inherited: Option<bool>,
    ) -> Result<(), Errno> {
        whole_pages(range)?;
        let change = self
            .spaces
            .divide(range, inherited, sayer(client), |new| {
                self.count_new(client, new);
            })
            .ok_or(Errno::EINVAL)?;
        self.note_pieces(&change);
        self.await_counts(client, change.before.segment)
    }

    /// `mremap`, first half. Answers the program, as [`Node::attach`] does.
    pub(super) fn remap(
        &self,
        client: &Client,
        range: Range,
        need_uffd: bool,
    ) -> Result<Option<Attaching>, ClientError> {
        match self.second_mapping(client, range) {
            Ok((half, memfd)) => self.offer(client, half, &memfd, need_uffd).map(Some),
            Err(errno) => {
                client.done(Err(errno))?;
                Ok(None)
            }
        }
    }

    fn second_mapping(&self, client: &Client, range: Range) -> Result<(Attaching, OwnedFd), Errno> {
        whole_pages(range)?;
        let shown = self
            .spaces
            .showing(range.start, sayer(client))
            .ok_or(Errno::EINVAL)?;
        let id = shown.segment;
        let offset = shown.offset + (range.start - shown.range.start);
        let end = offset.checked_add(range.len).ok_or(Errno::EINVAL)?;
        let segment = self.segments.get(id).ok_or(Errno::EINVAL)?;
        if end > segment.state.lock().memory.mapped_len() {
            return Err(Errno::EINVAL);
        }
        let (view, memfd) = if shown.space.pid() == Some(client.pid()) {
            let memfd = {
                let state = segment.state.lock();
                let memfd = state.memory.memory_of(shown.view).ok_or(Errno::EINVAL)?;
                memfd.try_clone_to_owned().map_err(|_| Errno::ENOMEM)?
            };
            self.remap_at_home(client, id)?;
            (shown.view, memfd)
        } else {
            // Perhaps a sibling's, that may more than this process, or has memory of
            // its own: what this one is given is by its own rights.
            let needed = if shown.readonly { flags::RDONLY } else { 0 };
            let (view, _, memfd) = self.attach_by_rights(client, id, needed)?;
            (view, memfd)
        };
        let half = Attaching {
            id,
            view,
            readonly: shown.readonly,
            len: range.len,
            offset,
        };
        Ok((half, memfd))
    }

    /// Has the keeper guard what there is now.
    fn note_pieces(&self, change: &Change) {
        let space = change.before.space.id;
        self.keeper.unmap(space, change.before.range.start);
        for piece in &change.pieces {
            self.keeper.map(space, piece.range);
        }
    }

    /// The home is told of pieces. Nobody waits: what is told of their end comes
    /// after it.
    fn count_new(&self, client: &Client, new: &[Mapping]) {
        if let Some(first) = new.first() {
            self.inherit(client.pid(), first.segment, new.len() as u32);
        }
    }
}

fn sayer(client: &Client) -> Sayer {
    Sayer {
        pid: client.pid(),
        parent: parent_of(client.pid()),
    }
}

fn whole_pages(range: Range) -> Result<(), Errno> {
    let sound = range.start.is_multiple_of(PAGE)
        && range.len.is_multiple_of(PAGE)
        && range.len > 0
        && range.start.checked_add(range.len).is_some();
    if sound { Ok(()) } else { Err(Errno::EINVAL) }
}
