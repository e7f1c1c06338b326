//! A segment's pages on this node: what the coherence protocol decides is done
//! to memory here.
//!
//! | the protocol says | every process of the node |
//! |---|---|
//! | protect | may no longer write the granule; who tries waits |
//! | copy | (nothing: its bytes are put aside, to be sent) |
//! | drop | no longer has the granule; who touches it waits |
//! | install, permit | who waits for it goes on |
//! | poison | gets SIGBUS |
//!
//! The order protect → copy → drop → answer loses nothing: after the first no
//! write can happen, and after the third no read, so the answer is true.
//!
//! A process that may only read has a **private view**: a memfd of its own, into
//! which granules are copied. A private copy exists only while the shared memory
//! is write-protected; both rules that see to it are in [`SegmentMemory::resolve`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use dipc_wire::ObjectId;
use dipc_wire::coherence::Access;

use super::spaces::{Births, Fault, Mapping, News, Space, Spaces, View};
use super::uffd::{Error, Range, Uffd};
use super::{Backing, PAGE, whole_pages};

/// Where the events go that are read in passing, because a space was changing.
pub trait Passing: Births {
    /// To be handled by another thread: the caller holds a segment's lock.
    fn pass(&self, news: News);
}

/// The pages of one segment, and the threads that wait for them.
pub struct SegmentMemory {
    id: ObjectId,
    len: u64,
    granule: u64,
    shared: Option<Backing>,
    private: HashMap<u64, PrivateView>,
    views: u64,
    waiting: HashMap<u64, Vec<Fault>>,
    aside: Vec<u8>,
}

struct PrivateView {
    memory: Backing,
    present: HashSet<u64>,
}

/// What a fault asks of the protocol. A process with a private view writes, if
/// it finds a way to, what only itself can see.
pub fn access_of(fault: &Fault) -> Access {
    if fault.write && fault.mapping.view == View::Shared {
        Access::Write
    } else {
        Access::Read
    }
}

impl SegmentMemory {
    /// Of a segment of `size` bytes; it takes no memory before it is used.
    pub fn new(id: ObjectId, size: u64, granule: u64) -> Self {
        SegmentMemory {
            id,
            len: whole_pages(size),
            granule,
            shared: None,
            private: HashMap::new(),
            views: 0,
            waiting: HashMap::new(),
            aside: Vec::new(),
        }
    }

    /// How many bytes to map.
    pub fn mapped_len(&self) -> u64 {
        self.len
    }

    /// The granule that holds this byte.
    pub fn granule_at(&self, offset: u64) -> u64 {
        offset / self.granule
    }

    fn span(&self, granule: u64) -> (u64, u64) {
        let start = granule * self.granule;
        (start, self.granule.min(self.len - start))
    }

    /// Where a mapping shows the granule, if it shows any of it.
    fn range(&self, mapping: &Mapping, granule: u64) -> Option<Range> {
        let (start, len) = self.span(granule);
        let shown = Range {
            start: mapping.offset,
            len: mapping.range.len,
        };
        let common = shown.common(Range { start, len })?;
        Some(Range {
            start: mapping.range.start + (common.start - mapping.offset),
            ..common
        })
    }

    /// The same, if it shows all of it.
    fn whole_range(&self, mapping: &Mapping, granule: u64) -> Option<Range> {
        let range = self.range(mapping, granule)?;
        (range.len == self.span(granule).1).then_some(range)
    }

    /// How many bytes this granule has; the last one may be shorter. `None`
    /// beyond the segment's end.
    pub fn granule_len_checked(&self, granule: u64) -> Option<usize> {
        let start = granule.checked_mul(self.granule)?;
        (start < self.len).then(|| self.span(granule).1 as usize)
    }

    /// The memory that all share who may write.
    pub fn shared(&mut self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.backing()?.as_fd())
    }

    fn backing(&mut self) -> io::Result<&Backing> {
        if self.shared.is_none() {
            self.shared = Some(Backing::create(&format!("dipc-{}", self.id), self.len)?);
        }
        Ok(self.shared.as_ref().expect("made above"))
    }

    /// New memory for a process that may only read.
    pub fn private(&mut self) -> io::Result<(View, BorrowedFd<'_>)> {
        let memory = Backing::create(&format!("dipc-{}-read", self.id), self.len)?;
        self.views += 1;
        let number = self.views;
        let view = self.private.entry(number).or_insert(PrivateView {
            memory,
            present: HashSet::new(),
        });
        Ok((View::Private(number), view.memory.as_fd()))
    }

    /// The memory behind a view, for the keeper.
    pub fn memory_of(&self, view: View) -> Option<BorrowedFd<'_>> {
        match view {
            View::Shared => self.shared.as_ref().map(AsFd::as_fd),
            View::Private(number) => self.private.get(&number).map(|v| v.memory.as_fd()),
        }
    }

    /// All views that have memory.
    pub fn views(&self) -> Vec<View> {
        let private = self.private.keys().copied().map(View::Private);
        let shared = self.shared.iter().map(|_| View::Shared);
        shared.chain(private).collect()
    }

    /// How many bytes of memory it takes on this node, in all views.
    pub fn resident(&self) -> u64 {
        let memories = self.views().into_iter().filter_map(|v| self.memory_of(v));
        memories
            .map(|memory| super::backing::resident(memory).unwrap_or(0))
            .sum()
    }

    /// The last mapping of a private view is gone.
    pub fn end_view(&mut self, view: View) {
        if let View::Private(number) = view {
            self.private.remove(&number);
        }
    }

    /// A thread waits from now on, until a later call lets it go on.
    pub fn wait(&mut self, fault: Fault) {
        let list = self
            .waiting
            .entry(fault.offset() / self.granule)
            .or_default();
        // A signal handler makes a thread fault again on the same page.
        let same = |f: &Fault| f.mapping.space.id == fault.mapping.space.id && f.addr == fault.addr;
        match list.iter_mut().find(|f| same(f)) {
            Some(known) => *known = fault,
            None => list.push(fault),
        }
    }

    /// Runs `act` on each mapping that shows any of the granule, and where it does;
    /// again from the first one when a space was changing (see `spaces`).
    fn each(
        &self,
        spaces: &Spaces,
        passing: &dyn Passing,
        granule: u64,
        act: impl Fn(&Mapping, Range) -> Result<(), Error>,
    ) {
        let act = |mapping: &Mapping| match self.range(mapping, granule) {
            Some(range) => act(mapping, range),
            None => Ok(()),
        };
        loop {
            let changing = spaces.visit(self.id, |mappings| {
                mappings.iter().find_map(|mapping| match act(mapping) {
                    Err(Error::Changing) => Some(mapping.space.clone()),
                    Err(Error::Other(error)) => {
                        tracing::error!(segment = %self.id, %error, "a process's page");
                        None
                    }
                    // Gone or unmapped: nothing left to do there. Absent is an
                    // answer to UFFDIO_CONTINUE only.
                    _ => None,
                })
            });
            match changing {
                Some(space) => catch_up(&space, spaces, passing),
                None => return,
            }
        }
    }

    /// No process may write the granule any more.
    pub fn protect(&mut self, granule: u64, spaces: &Spaces, passing: &dyn Passing) {
        self.each(spaces, passing, granule, |mapping, range| {
            match mapping.view {
                View::Shared => mapping.space.uffd.protect(range, true),
                View::Private(_) => Ok(()),
            }
        });
    }

    /// Puts the granule's bytes aside.
    pub fn copy(&mut self, granule: u64) -> io::Result<()> {
        let (offset, len) = self.span(granule);
        self.aside.clear();
        match &self.shared {
            Some(memory) => memory.read(offset, len as usize, &mut self.aside)?,
            None => self.aside.resize(len as usize, 0),
        }
        Ok(())
    }

    /// What was put aside last.
    pub fn aside(&self) -> &[u8] {
        &self.aside
    }

    /// No process has the granule any more.
    pub fn discard(&mut self, granule: u64) {
        let (offset, len) = self.span(granule);
        if let Some(memory) = &self.shared
            && let Err(error) = memory.punch(offset, len)
        {
            tracing::error!(segment = %self.id, granule, %error, "a page cannot be taken away");
        }
        self.discard_private(granule);
    }

    fn discard_private(&mut self, granule: u64) {
        let (offset, len) = self.span(granule);
        for view in self.private.values_mut() {
            if view.present.remove(&granule)
                && let Err(error) = view.memory.punch(offset, len)
            {
                tracing::error!(segment = %self.id, granule, %error, "a page cannot be taken away");
            }
        }
    }

    /// The granule's bytes have come (`None`: zeros). Who waited for no more
    /// than `access` goes on.
    pub fn install(
        &mut self,
        granule: u64,
        access: Access,
        bytes: Option<&[u8]>,
        spaces: &Spaces,
        passing: &dyn Passing,
    ) -> io::Result<()> {
        let zeros;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => {
                zeros = vec![0; self.span(granule).1 as usize];
                &zeros
            }
        };
        self.backing()?;
        let first = self.waiting.get(&granule).and_then(|list| {
            let fits = |f: &&Fault| f.mapping.view == View::Shared && access_of(f) <= access;
            list.iter().find(fits).cloned()
        });
        let protect = access == Access::Read;
        let placed = first.is_some_and(|fault| self.place(&fault, granule, bytes, protect));
        if !placed {
            let (offset, _) = self.span(granule);
            self.backing()?.write(offset, bytes)?;
        }
        self.permit(granule, access, spaces, passing);
        Ok(())
    }

    /// Fills and maps the granule where one thread waits for it, in one step, if
    /// its space is not changing.
    fn place(&self, fault: &Fault, granule: u64, bytes: &[u8], protect: bool) -> bool {
        let uffd = &fault.mapping.space.uffd;
        let range = self.whole_range(&fault.mapping, granule);
        range.is_some_and(|range| uffd.copy(range.start, bytes, protect).is_ok())
    }

    /// The granule is here, and may be used as far as `access` goes: who waits
    /// for no more than that goes on.
    pub fn permit(&mut self, granule: u64, access: Access, spaces: &Spaces, passing: &dyn Passing) {
        let Some(list) = self.waiting.remove(&granule) else {
            return;
        };
        let (served, kept): (Vec<_>, Vec<_>) = list
            .into_iter()
            .partition(|fault| access_of(fault) <= access);
        if !kept.is_empty() {
            self.waiting.insert(granule, kept);
        }
        // Private copies first: they protect the shared memory again, and what
        // follows must find it as it stays.
        let (private, shared): (Vec<_>, Vec<_>) = served
            .into_iter()
            .partition(|fault| fault.mapping.view != View::Shared);
        for fault in private.iter().chain(&shared) {
            let done = self.resolve(fault, granule, access, spaces, passing);
            // A space that forks without end may be changing for ever, and nobody
            // else shall wait for it: its thread tries again, and is a new fault,
            // which comes behind the events that must be read first.
            if let (Err(Error::Changing), Some(range)) = (done, self.range(&fault.mapping, granule))
            {
                fault.mapping.space.uffd.wake(range);
            }
        }
    }

    fn resolve(
        &mut self,
        fault: &Fault,
        granule: u64,
        access: Access,
        spaces: &Spaces,
        passing: &dyn Passing,
    ) -> Result<(), Error> {
        let uffd = &fault.mapping.space.uffd;
        let Some(range) = self.range(&fault.mapping, granule) else {
            return Ok(());
        };
        let View::Private(view) = fault.mapping.view else {
            // A thread that only reads is given no more than that while private
            // copies exist: then the next write comes by here.
            let write = access == Access::Write && fault.write;
            if write {
                self.discard_private(granule);
            }
            if write && fault.protected {
                return uffd.protect(range, false);
            }
            let copied = self
                .private
                .values()
                .any(|view| view.present.contains(&granule));
            let protect = access == Access::Read || copied;
            return match proceed(fault, range, protect) {
                // A program has freed it (MADV_REMOVE), which makes it zeros.
                Err(Error::Absent) => uffd.copy(range.start, &vec![0; range.len as usize], protect),
                other => other,
            };
        };
        if self
            .private
            .get(&view)
            .is_some_and(|view| view.present.contains(&granule))
        {
            return proceed(fault, range, false);
        }
        if access == Access::Write {
            self.protect(granule, spaces, passing);
        }
        self.copy(granule).map_err(Error::Other)?;
        let whole = self.whole_range(&fault.mapping, granule).is_some();
        if whole {
            uffd.copy(range.start, &self.aside, false)?;
        }
        let offset = self.span(granule).0;
        if let Some(view) = self.private.get_mut(&view) {
            if !whole {
                view.memory
                    .write(offset, &self.aside)
                    .map_err(Error::Other)?;
            }
            view.present.insert(granule);
        }
        if whole {
            Ok(())
        } else {
            proceed(fault, range, false)
        }
    }

    /// The granule's content is lost: who touches it gets SIGBUS.
    pub fn poison(&mut self, granule: u64, spaces: &Spaces, passing: &dyn Passing) {
        self.discard(granule);
        self.waiting.remove(&granule);
        self.each(spaces, passing, granule, |mapping, range| {
            poison(&mapping.space.uffd, range)
        });
    }
}

impl SegmentMemory {
    /// The whole segment is lost: nothing of it stays here, and who waits for
    /// any of it gets SIGBUS. Who touches it later is a fault, and gets it then.
    pub fn poison_all(&mut self, spaces: &Spaces, passing: &dyn Passing) {
        let all = self
            .shared
            .iter()
            .chain(self.private.values().map(|view| &view.memory));
        for memory in all {
            if let Err(error) = memory.punch(0, self.len) {
                tracing::error!(segment = %self.id, %error, "pages cannot be taken away");
            }
        }
        for view in self.private.values_mut() {
            view.present.clear();
        }
        for granule in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.poison(granule, spaces, passing);
        }
    }
}

/// Makes SIGBUS of one thread's access, to a segment that is no more.
pub fn poison_page(fault: &Fault, spaces: &Spaces, passing: &dyn Passing) {
    let page = Range {
        start: fault.addr,
        len: PAGE,
    };
    let space = &fault.mapping.space;
    while let Err(Error::Changing) = poison(&space.uffd, page) {
        catch_up(space, spaces, passing);
    }
}

/// Reads the events of a space that was changing.
fn catch_up(space: &Arc<Space>, spaces: &Spaces, passing: &dyn Passing) {
    passing.pass(spaces.changed(space, passing));
}

/// Maps pages that are present; those that this mapping has already are given
/// the protection that they should have.
fn proceed(fault: &Fault, range: Range, protect: bool) -> Result<(), Error> {
    let uffd = &fault.mapping.space.uffd;
    match uffd.proceed(range, protect) {
        Err(Error::Present) => {}
        other => return other,
    }
    let pages = (range.start..range.start + range.len).step_by(PAGE as usize);
    for page in pages.map(|start| Range { start, len: PAGE }) {
        match uffd.proceed(page, protect) {
            Ok(()) | Err(Error::Present) => {}
            other => return other,
        }
    }
    if protect {
        uffd.wake(range);
        Ok(())
    } else {
        uffd.protect(range, false)
    }
}

/// Makes SIGBUS of every later access to pages that are absent.
pub(crate) fn poison(uffd: &Uffd, range: Range) -> Result<(), Error> {
    // A left-over protection marker would be in the way.
    uffd.protect(range, false)?;
    let result = match uffd.poison(range) {
        Err(Error::Present) => (range.start..range.start + range.len)
            .step_by(PAGE as usize)
            .try_for_each(|start| match uffd.poison(Range { start, len: PAGE }) {
                Err(Error::Present) => Ok(()),
                other => other,
            }),
        other => other,
    };
    uffd.wake(range);
    result
}
