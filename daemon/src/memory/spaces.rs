//! Which address spaces map which segment, and where.
//!
//! An address space is known by its userfaultfd. It comes with the first
//! `shmat` of a process, or by a fork event with all the mappings of its parent.
//!
//! **The fork race.** The kernel copies a parent's page tables before this
//! daemon hears of the child. A write protection that ran in between would miss
//! the child and leave it a writable page. Two rules close the gap:
//!
//! 1. A call on a space answers [`Error::Changing`] while one of its fork
//!    events is unread. Whoever gets that answer reads the events
//!    ([`Spaces::read`]) and starts again from the first mapping.
//! 2. Events are read, and a child is entered with all its mappings, under the
//!    write lock; mappings are visited under the read lock ([`Spaces::visit`]).
//!    So a visitor sees the fork either unread, and is stopped by rule 1, or
//!    with the child among the mappings.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use dipc_wire::ObjectId;
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::RwLock;

use super::uffd::{Error, Event, Range, Uffd};
use crate::kernel::is_shortage;

/// How long to wait for the event of a fork that is under way, in milliseconds.
const FORK: u8 = 10;

/// Names a space in this daemon.
pub type SpaceId = u64;

/// One address space.
#[derive(Debug)]
pub struct Space {
    /// Its name.
    pub id: SpaceId,
    /// Its faults.
    pub uffd: Uffd,
    /// Its process; unknown at first for a forked child, whose pid no event tells.
    pid: OnceLock<u32>,
    /// The process that it was forked from, or that is known to be its nearest
    /// ancestor.
    parent: Option<u32>,
    /// Readable once the space is dropped: ends the thread that reads its faults.
    ended: EventFd,
    /// Its process, which is not known, has shown itself.
    met: AtomicBool,
}

impl Space {
    /// Whether its process, which is not known, shows itself for the first time.
    pub fn is_new_acquaintance(&self) -> bool {
        self.pid().is_none() && !self.met.swap(true, Ordering::Relaxed)
    }

    /// The process, if it is known.
    pub fn pid(&self) -> Option<u32> {
        self.pid.get().copied()
    }

    /// For a forked child, its nearest ancestor that is known.
    pub fn parent(&self) -> Option<u32> {
        self.parent
    }

    /// Becomes readable when the space is dropped.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Whether the page at `start`, which was ours, was taken out of a space that
    /// still lives.
    ///
    /// The probe write-protects one page: at worst that costs one more fault.
    pub(super) fn has_unmapped(&self, start: u64) -> Result<bool, Error> {
        let page = Range {
            start,
            len: super::PAGE,
        };
        match self.uffd.protect(page, true) {
            Err(Error::Unmapped) => Ok(true),
            Err(Error::Changing) => Err(Error::Changing),
            _ => Ok(false),
        }
    }

    /// Whether the process of this space ended or executed another program.
    pub(super) fn is_gone(&self) -> bool {
        // Any page will do: the kernel looks for the address space first.
        let page = Range {
            start: super::PAGE * 16,
            len: super::PAGE,
        };
        matches!(self.uffd.protect(page, true), Err(Error::Gone))
    }
}

/// Which memory of the node a mapping shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum View {
    /// The segment's memfd, which all processes share that may write it.
    Shared,
    /// A memfd of its own, for a process that may only read: whatever it does
    /// to it, nobody else sees.
    Private(u64),
}

/// A segment in an address space.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Whose.
    pub space: Arc<Space>,
    /// Of what.
    pub segment: ObjectId,
    /// Through which memory.
    pub view: View,
    /// Where.
    pub range: Range,
    /// Which byte of the segment is the first.
    pub offset: u64,
    /// Attached with `SHM_RDONLY`.
    pub readonly: bool,
    /// Not given `MADV_DONTFORK`.
    pub inherited: bool,
}

/// A thread that waits for a page.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where it touched what.
    pub mapping: Mapping,
    /// The page's start in the space.
    pub addr: u64,
    /// It wants to write.
    pub write: bool,
    /// The page is there, but write-protected.
    pub protected: bool,
    /// The thread's id, in its own pid namespace.
    pub thread: u32,
}

impl Fault {
    /// Whether it is of the same page in the same space.
    pub fn is_same(&self, other: &Fault) -> bool {
        self.mapping.space.id == other.mapping.space.id && self.addr == other.addr
    }

    /// The page's place in the segment, in bytes.
    pub fn offset(&self) -> u64 {
        self.addr - self.mapping.range.start + self.mapping.offset
    }
}

/// Who must know of a forked child before anything else happens to its mappings:
/// an end of one that was not counted would end somebody else's.
pub trait Births {
    /// Called with the spaces locked; must not wait, nor ask about spaces.
    fn born(&self, child: &Space, mappings: &[Mapping]);

    /// The events of a space need a descriptor and there is none: calls `read`
    /// with one to be had.
    fn spare(&self, read: &mut dyn FnMut());

    /// Whether there are descriptors enough to serve one more child.
    fn admits(&self, child: BorrowedFd<'_>) -> bool;

    /// There are no descriptors to serve a child, whose own is given up here: it
    /// must not run on as if it had the memory.
    fn stillborn(&self, child: Uffd);
}

/// What was read from a space.
#[derive(Debug, Default)]
pub struct News {
    /// Threads that wait.
    pub faults: Vec<Fault>,
    /// Children, entered already.
    pub children: Vec<Arc<Space>>,
}

/// All address spaces of the node.
#[derive(Debug, Default)]
pub struct Spaces {
    pub(super) inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    next: SpaceId,
    spaces: HashMap<SpaceId, Entry>,
    segments: HashMap<ObjectId, Vec<Mapping>>,
}

#[derive(Debug)]
struct Entry {
    space: Arc<Space>,
    mappings: Vec<Mapping>,
}

impl Inner {
    fn add(
        &mut self,
        uffd: Uffd,
        pid: Option<u32>,
        parent: Option<u32>,
    ) -> Result<Arc<Space>, (nix::Error, Uffd)> {
        self.next += 1;
        let ended = match EventFd::from_flags(EfdFlags::EFD_CLOEXEC) {
            Ok(ended) => ended,
            Err(error) => return Err((error, uffd)),
        };
        let space = Arc::new(Space {
            id: self.next,
            uffd,
            pid: pid.map(OnceLock::from).unwrap_or_default(),
            parent,
            ended,
            met: AtomicBool::new(false),
        });
        self.spaces.insert(
            space.id,
            Entry {
                space: space.clone(),
                mappings: Vec::new(),
            },
        );
        Ok(space)
    }

    pub(super) fn mappings(&self, space: SpaceId) -> &[Mapping] {
        self.spaces
            .get(&space)
            .map_or(&[], |entry| entry.mappings.as_slice())
    }

    fn map(&mut self, mapping: Mapping) {
        if let Some(entry) = self.spaces.get_mut(&mapping.space.id) {
            entry.mappings.push(mapping.clone());
            self.segments
                .entry(mapping.segment)
                .or_default()
                .push(mapping);
        }
    }

    fn forget(&mut self, mapping: &Mapping) {
        if let Some(list) = self.segments.get_mut(&mapping.segment) {
            let same = |m: &Mapping| m.space.id == mapping.space.id && m.range == mapping.range;
            if let Some(at) = list.iter().position(same) {
                list.swap_remove(at);
            }
            if list.is_empty() {
                self.segments.remove(&mapping.segment);
            }
        }
    }

    /// What all spaces of a process map; those of no known process for `None`.
    pub(super) fn mapped_by(&self, pid: Option<u32>) -> impl Iterator<Item = &Mapping> {
        let of = move |entry: &&Entry| entry.space.pid() == pid;
        self.spaces.values().filter(of).flat_map(|e| &e.mappings)
    }

    /// Enters `pieces` instead of a mapping.
    pub(super) fn replace(&mut self, mapping: &Mapping, pieces: &[Mapping]) {
        if let Some(entry) = self.spaces.get_mut(&mapping.space.id) {
            entry.mappings.retain(|m| m.range != mapping.range);
        }
        self.forget(mapping);
        for piece in pieces {
            self.map(piece.clone());
        }
    }

    /// Forgets a space and ends the thread that serves it. Returns what it had
    /// mapped.
    fn remove(&mut self, id: SpaceId) -> Vec<Mapping> {
        let Some(Entry { space, mappings }) = self.spaces.remove(&id) else {
            return Vec::new();
        };
        // Cannot overflow: one write to a fresh counter.
        let _ = space.ended.write(1);
        for mapping in &mappings {
            self.forget(mapping);
        }
        mappings
    }

    fn child(&mut self, parent: &Space, uffd: Uffd) -> Result<Arc<Space>, (nix::Error, Uffd)> {
        let child = self.add(uffd, None, parent.pid().or(parent.parent))?;
        for mapping in self.mappings(parent.id).to_vec() {
            // Of those the kernel is asked: `inherited` may be another child's of
            // the same parent, as long as their processes are not known.
            let kept =
                mapping.inherited || !matches!(child.has_unmapped(mapping.range.start), Ok(true));
            if kept {
                self.map(Mapping {
                    space: child.clone(),
                    ..mapping
                });
            }
        }
        Ok(child)
    }
}

impl Spaces {
    /// Enters the space of a process.
    pub fn add(&self, uffd: Uffd, pid: u32) -> nix::Result<Arc<Space>> {
        let added = self.inner.write().add(uffd, Some(pid), None);
        added.map_err(|(error, _)| error)
    }

    /// Enters a mapping, whose range is registered already. False when its space
    /// is known no more: its process has just ended.
    #[must_use]
    pub fn map(&self, mapping: Mapping) -> bool {
        let mut inner = self.inner.write();
        let known = inner.spaces.contains_key(&mapping.space.id);
        inner.map(mapping);
        known
    }

    /// Runs `visit` over all mappings of a segment, while none can appear.
    pub fn visit<R>(&self, segment: ObjectId, visit: impl FnOnce(&[Mapping]) -> R) -> R {
        visit(
            self.inner
                .read()
                .segments
                .get(&segment)
                .map_or(&[], Vec::as_slice),
        )
    }

    /// Runs `act` on the mapping in which a thread waits, as far as the program has
    /// left it since, while none of the space's can go: what lies in the place of a
    /// part that is gone may be another segment. `None`: the thread's own page is
    /// gone. It is woken, and finds what is there now.
    pub fn as_it_is<R>(&self, fault: &Fault, act: impl FnOnce(&Mapping) -> R) -> Option<R> {
        let inner = self.inner.read();
        let was = &fault.mapping;
        let same = |m: &&Mapping| {
            let place = fault.addr.wrapping_sub(m.range.start);
            (m.segment, m.view) == (was.segment, was.view)
                && place < m.range.len
                && place + m.offset == fault.offset()
        };
        let found = inner.mappings(was.space.id).iter().find(same).map(act);
        if found.is_none() {
            was.space.uffd.wake(Range {
                start: fault.addr,
                len: super::PAGE,
            });
        }
        found
    }

    /// For whoever was told that the space is changing: waits until its events
    /// can be read, and reads them. A fork that fails has none, so it waits for
    /// a short time only.
    pub fn changed(&self, space: &Arc<Space>, births: &dyn Births) -> News {
        space.uffd.await_event(None, FORK.into());
        self.read(space, births)
    }

    /// Reads what has happened in a space, and enters its children.
    pub fn read(&self, space: &Arc<Space>, births: &dyn Births) -> News {
        let mut news = News::default();
        let mut inner = self.inner.write();
        let mut raw = Vec::new();
        let mut read = || space.uffd.read_events(|event| raw.push(event));
        let mut done = read();
        let short = done.as_ref().is_err_and(is_shortage);
        if short {
            births.spare(&mut || done = read());
        }
        if let Err(error) = done {
            tracing::warn!(space = space.id, %error, "cannot read the faults of a process");
        }
        for event in raw {
            match event {
                Event::Fault {
                    addr,
                    write,
                    protected,
                    thread,
                } => {
                    let inside = |m: &&Mapping| addr.wrapping_sub(m.range.start) < m.range.len;
                    let mapping = inner
                        .spaces
                        .get(&space.id)
                        .and_then(|entry| entry.mappings.iter().find(inside))
                        .cloned();
                    match mapping {
                        Some(mapping) => news.faults.push(Fault {
                            mapping,
                            addr,
                            write,
                            protected,
                            thread,
                        }),
                        // Detached in this moment: the access shall be tried
                        // again and find nothing.
                        None => space.uffd.wake(Range {
                            start: addr,
                            len: super::PAGE,
                        }),
                    }
                }
                // It may have come by the spare descriptor, which must be kept again.
                Event::Fork(fd) if short || !births.admits(fd.as_fd()) => {
                    births.stillborn(Uffd::inherited(fd))
                }
                Event::Fork(fd) => match inner.child(space, Uffd::inherited(fd)) {
                    Ok(child) => {
                        births.born(&child, inner.mappings(child.id));
                        news.children.push(child);
                    }
                    Err((error, child)) => {
                        tracing::error!(%error, "a forked child cannot be served");
                        births.stillborn(child);
                    }
                },
            }
        }
        news
    }

    /// Drops the spaces of a process, and of children whose process is not
    /// known, as far as they are gone. Returns them with what they had mapped.
    ///
    /// The latter only when it is the `last` of those that ended together: one of
    /// the others may be their process, and it is the last that a segment tells.
    pub fn reap(&self, pid: u32, last: impl Fn() -> bool) -> Vec<(SpaceId, Vec<Mapping>)> {
        let mut inner = self.inner.write();
        let spaces = inner.spaces.values().map(|entry| &entry.space);
        let mut gone: Vec<(SpaceId, bool)> = spaces
            .filter(|space| space.pid().is_none_or(|owner| owner == pid) && space.is_gone())
            .map(|space| (space.id, space.pid().is_some()))
            .collect();
        if gone.iter().any(|(_, known)| !known) && !last() {
            gone.retain(|(_, known)| *known);
        }
        let gone = gone.into_iter().map(|(id, _)| id);
        gone.map(|id| (id, inner.remove(id))).collect()
    }

    /// A child that `parent` has forked is this process. Its space is that of the
    /// one child whose process is not known; of more than one, none is taken.
    pub fn introduce(&self, pid: u32, parent: u32) {
        let inner = self.inner.read();
        let spaces = inner.spaces.values().map(|entry| &entry.space);
        let mut children = spaces.filter(|space| {
            space.pid().is_none() && space.parent == Some(parent) && !space.is_gone()
        });
        if let (Some(child), None) = (children.next(), children.next()) {
            let _ = child.pid.set(pid);
        }
    }

    /// Runs `each` over all spaces, while none can come, go or change.
    pub fn each(&self, mut each: impl FnMut(&Space, &[Mapping])) {
        let inner = self.inner.read();
        for entry in inner.spaces.values() {
            each(&entry.space, &entry.mappings);
        }
    }

    /// Whether there is a space whose process is not known.
    pub fn has_strangers(&self) -> bool {
        let inner = self.inner.read();
        let mut spaces = inner.spaces.values();
        spaces.any(|entry| entry.space.pid().is_none())
    }

    /// Drops a space that cannot be served.
    pub fn remove(&self, space: SpaceId) {
        self.inner.write().remove(space);
    }

    /// What a space maps.
    pub fn mappings(&self, space: SpaceId) -> Vec<Mapping> {
        self.inner.read().mappings(space).to_vec()
    }

    /// What a process maps, in all its spaces.
    pub fn mappings_of(&self, pid: u32) -> Vec<Mapping> {
        let inner = self.inner.read();
        let of = inner.spaces.values();
        of.filter(|entry| entry.space.pid() == Some(pid))
            .flat_map(|entry| entry.mappings.iter().cloned())
            .collect()
    }

    /// The space in which a process registered its mappings last.
    pub fn of_process(&self, pid: u32) -> Option<Arc<Space>> {
        let inner = self.inner.read();
        let of = inner
            .spaces
            .values()
            .filter(|entry| entry.space.pid() == Some(pid));
        of.map(|entry| &entry.space)
            .max_by_key(|space| space.id)
            .cloned()
    }

    /// Returns when every child whose event was read before is entered.
    pub fn await_births(&self) {
        drop(self.inner.read());
    }

    /// Whether any process of this node maps the segment through this view.
    pub fn is_mapped(&self, segment: ObjectId, view: Option<View>) -> bool {
        self.visit(segment, |all| {
            all.iter().any(|m| view.is_none_or(|view| m.view == view))
        })
    }

    /// How many attachments a process is known to have.
    pub fn attachments(&self, pid: u32) -> usize {
        let inner = self.inner.read();
        let of = inner
            .spaces
            .values()
            .filter(|entry| entry.space.pid() == Some(pid));
        of.map(|entry| entry.mappings.len()).sum()
    }
}
