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
//! A granule has pages, and of one that is here some may be in no memory: they are
//! zeros that nobody has touched. They are made when a thread does, so that a large
//! granule takes no more memory than is used of it. Nobody sees a granule half
//! there: each page of it is right, or absent, and who touches an absent one waits
//! until all is.
//!
//! A process that may only read has a **private view**: a memfd of its own, into
//! which pages are copied when it touches them. Private copies of a granule's pages
//! exist only while its shared memory is write-protected; both rules that see to it
//! are in [`SegmentMemory::resolve`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use dipc_wire::ObjectId;
use dipc_wire::coherence::Access;
use dipc_wire::peer::PIECE;

use super::pages::{AROUND, Mapped, ZEROS};
use super::shortage::{Stranded, beyond_control, forbid_writing};
use super::spaces::{Births, Fault, Mapping, News, Space, Spaces, View};
use super::uffd::{Error, Range};
use super::{Backing, PAGE, contents, pages, whole_pages};

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
    stranded: Stranded,
    aside: Vec<u8>,
    /// A part of a granule that is being put aside.
    part: Vec<u8>,
}

struct PrivateView {
    memory: Backing,
    /// The granules of which it may have pages.
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
            stranded: Stranded::default(),
            aside: Vec::new(),
            part: Vec::new(),
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
        show(mapping, self.span(granule))
    }

    /// How many bytes this granule has; the last one may be shorter. `None`
    /// beyond the segment's end.
    fn granule_len(&self, granule: u64) -> Option<u64> {
        let start = granule.checked_mul(self.granule)?;
        (start < self.len).then(|| self.span(granule).1)
    }

    /// Whether these can be the granule's bytes, as they travel.
    pub fn accepts(&self, granule: u64, bytes: &[u8]) -> bool {
        self.granule_len(granule)
            .is_some_and(|len| contents::are_sound(len, bytes))
    }

    /// The most bytes that travel for any of its granules.
    pub fn longest_payload(&self) -> usize {
        contents::longest(self.span(0).1)
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
        match list.iter_mut().find(|f| f.is_same(&fault)) {
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
                    Err(Error::Other(error)) => beyond_control("a process's page", self.id, &error),
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
                View::Shared => forbid_writing(&mapping.space.uffd, range),
                View::Private(_) => Ok(()),
            }
        });
    }

    /// Puts the granule's bytes aside, as they travel.
    pub fn copy(&mut self, granule: u64) -> io::Result<()> {
        let (offset, len) = self.span(granule);
        if len > PAGE {
            return self.copy_pages(offset, offset + len);
        }
        self.aside.clear();
        match (self.stranded.bytes(granule), &self.shared) {
            (Some(bytes), _) => self.aside.extend_from_slice(bytes),
            (None, Some(memory)) => memory.read(offset, len as usize, &mut self.aside)?,
            (None, None) => self.aside.resize(len as usize, 0),
        }
        Ok(())
    }

    fn copy_pages(&mut self, offset: u64, end: u64) -> io::Result<()> {
        contents::begin(end - offset, &mut self.aside);
        let Some(memory) = &self.shared else {
            return Ok(());
        };
        let mut at = offset;
        while at < end
            && let Some(start) = memory.next_data(at).filter(|&start| start < end)
        {
            at = end.min(start + AROUND);
            self.part.clear();
            memory.read_sparse(start, (at - start) as usize, &mut self.part)?;
            let first = (start - offset) / PAGE;
            for (page, bytes) in self.part.chunks(PAGE as usize).enumerate() {
                contents::add(first as usize + page, bytes, &mut self.aside);
            }
        }
        Ok(())
    }

    /// What was put aside last.
    pub fn aside(&self) -> &[u8] {
        &self.aside
    }

    /// It is on its way: a large granule's memory is given back.
    pub fn sent(&mut self) {
        if self.aside.capacity() > PIECE {
            self.aside = Vec::new();
        }
    }

    /// No process has the granule any more.
    pub fn discard(&mut self, granule: u64) {
        let (offset, len) = self.span(granule);
        if let Some(memory) = &self.shared
            && let Err(error) = memory.punch(offset, len)
        {
            beyond_control("a page that cannot be taken away", self.id, &error);
        }
        self.stranded.forget(granule);
        self.discard_private(granule);
    }

    fn discard_private(&mut self, granule: u64) {
        let (offset, len) = self.span(granule);
        for view in self.private.values_mut() {
            if view.present.remove(&granule)
                && let Err(error) = view.memory.punch(offset, len)
            {
                beyond_control("a page that cannot be taken away", self.id, &error);
            }
        }
    }

    /// The granule's bytes have come, as they travel (`None`: zeros). Who waited for
    /// no more than `access` goes on. Where there is no memory for a page, it is
    /// kept aside, and who waited gets SIGBUS (see `shortage`).
    pub fn install(
        &mut self,
        granule: u64,
        access: Access,
        bytes: Option<&[u8]>,
        spaces: &Spaces,
        passing: &dyn Passing,
    ) {
        let len = self.span(granule).1;
        // One page of zeros is made at once; of more, what is touched.
        let bytes = bytes.or((len == PAGE).then_some(&ZEROS[..PAGE as usize]));
        match self.place(granule, access, bytes, spaces) {
            Ok(()) => self.permit(granule, access, spaces, passing),
            Err(error) if len == PAGE => {
                let bytes = bytes.unwrap_or_default();
                self.stranded.keep(self.id, granule, bytes, &error);
                self.refuse(granule, access, spaces, passing);
            }
            // Threads may be writing to the pages that are here already.
            Err(error) => beyond_control("a granule's pages", self.id, &error),
        }
    }

    fn place(
        &mut self,
        granule: u64,
        access: Access,
        bytes: Option<&[u8]>,
        spaces: &Spaces,
    ) -> io::Result<()> {
        self.backing()?;
        let (offset, len) = self.span(granule);
        let first = self.waiting.get(&granule).and_then(|list| {
            let fits = |f: &&Fault| f.mapping.view == View::Shared && access_of(f) <= access;
            list.iter().find(fits).cloned()
        });
        let mut served = false;
        for (at, part) in bytes.iter().flat_map(|bytes| contents::parts(len, bytes)) {
            served |= self.fill(
                first.as_ref(),
                offset + at,
                part,
                access == Access::Read,
                spaces,
            )?;
        }
        if let (true, Some(first)) = (served, &first)
            && let Some(list) = self.waiting.get_mut(&granule)
        {
            list.retain(|fault| !fault.is_same(first));
        }
        Ok(())
    }

    /// There is no memory for the granule: who waits for no more than `access`
    /// gets SIGBUS.
    fn refuse(&mut self, granule: u64, access: Access, spaces: &Spaces, passing: &dyn Passing) {
        for fault in self.take_waiting(granule, access) {
            poison_page(&fault, spaces, passing);
        }
    }

    /// Those who wait for no more than `access`; the others stay.
    fn take_waiting(&mut self, granule: u64, access: Access) -> Vec<Fault> {
        let list = self.waiting.remove(&granule).unwrap_or_default();
        let (served, kept): (Vec<_>, Vec<_>) = list
            .into_iter()
            .partition(|fault| access_of(fault) <= access);
        if !kept.is_empty() {
            self.waiting.insert(granule, kept);
        }
        served
    }

    /// Fills absent pages; where a thread waits, it maps them in the same step. True
    /// if that lets the thread go on.
    fn fill(
        &mut self,
        waiter: Option<&Fault>,
        offset: u64,
        bytes: &[u8],
        protect: bool,
        spaces: &Spaces,
    ) -> io::Result<bool> {
        let part = (offset, bytes.len() as u64);
        let progress = waiter.and_then(|fault| {
            spaces.as_it_is(fault, |mapping| {
                let range = show(mapping, part).filter(|range| range.len == part.1)?;
                Some(mapping.space.uffd.copy(range.start, bytes, protect))
            })
        });
        // What is not done, for whatever reason, is filled without being mapped.
        let done = progress.flatten().map_or(0, |progress| progress.done);
        let served = waiter.is_some_and(|f| (offset..offset + done).contains(&f.offset()));
        // Threads that map what is done may be writing there: only the rest.
        let rest = &bytes[done as usize..];
        if !rest.is_empty() {
            self.backing()?.write(offset + done, rest)?;
        }
        Ok(served)
    }

    /// The granule is here, and may be used as far as `access` goes: who waits
    /// for no more than that goes on.
    pub fn permit(&mut self, granule: u64, access: Access, spaces: &Spaces, passing: &dyn Passing) {
        if !self.waiting.contains_key(&granule) {
            return;
        }
        if let Err(error) = self.bring_ashore(granule) {
            tracing::debug!(segment = %self.id, granule, %error, "still no memory for a page");
            return self.refuse(granule, access, spaces, passing);
        }
        let served = self.take_waiting(granule, access);
        // Private copies first: they protect the shared memory again, and what
        // follows must find it as it stays.
        let (private, shared): (Vec<_>, Vec<_>) = served
            .into_iter()
            .partition(|fault| fault.mapping.view != View::Shared);
        for fault in private.iter().chain(&shared) {
            self.let_go(fault, granule, access, spaces, passing);
        }
    }

    /// One thread goes on, or gets SIGBUS if there is no memory for it to do so.
    fn let_go(
        &mut self,
        fault: &Fault,
        granule: u64,
        access: Access,
        spaces: &Spaces,
        passing: &dyn Passing,
    ) {
        match self.resolve(fault, granule, access, spaces, passing) {
            // A space that forks without end may be changing for ever, and nobody
            // else shall wait for it: its thread tries again, and is a new fault,
            // which comes behind the events that must be read first.
            Err(Error::Changing) => fault.mapping.space.uffd.wake(Range {
                start: fault.addr,
                len: PAGE,
            }),
            Err(Error::Other(error)) => {
                tracing::error!(segment = %self.id, granule, %error, "no memory to map a page");
                poison_page(fault, spaces, passing);
            }
            // Gone or unmapped: nobody is left there.
            _ => {}
        }
    }

    /// Puts the bytes of a granule where they belong, if there was no memory for
    /// them till now.
    fn bring_ashore(&mut self, granule: u64) -> io::Result<()> {
        let (offset, _) = self.span(granule);
        if let Some(bytes) = self.stranded.take(granule) {
            let back = self
                .backing()
                .and_then(|memory| memory.write(offset, &bytes));
            if let Err(error) = back {
                self.stranded.put_back(granule, bytes);
                return Err(error);
            }
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        fault: &Fault,
        granule: u64,
        access: Access,
        spaces: &Spaces,
        passing: &dyn Passing,
    ) -> Result<(), Error> {
        let view = match fault.mapping.view {
            View::Shared => return self.resolve_shared(fault, granule, access, spaces),
            View::Private(view) => self.private.get_mut(&view),
        };
        let copied = !view.is_some_and(|view| view.present.insert(granule));
        if !copied && access == Access::Write {
            self.protect(granule, spaces, passing);
        }
        let done = spaces.as_it_is(fault, |mapping| {
            let Some(range) = self.range(mapping, granule) else {
                return Ok(());
            };
            let uffd = &mapping.space.uffd;
            let (mut part, mut mapped) = (range, Mapped::Partly);
            if copied {
                mapped = pages::map(uffd, range, false)?;
            }
            if mapped == Mapped::Partly {
                part = around(fault, range);
                let offset = fault.offset() - (fault.addr - part.start);
                self.read(offset, part.len).map_err(Error::Other)?;
                mapped = pages::supply(uffd, part, &self.aside, false)?;
            }
            go_on(fault, part, mapped, false)
        });
        done.unwrap_or(Ok(()))
    }

    fn resolve_shared(
        &mut self,
        fault: &Fault,
        granule: u64,
        access: Access,
        spaces: &Spaces,
    ) -> Result<(), Error> {
        // A thread that only reads is given no more than that while private
        // copies exist: then the next write comes by here.
        let write = access == Access::Write && fault.write;
        if write {
            self.discard_private(granule);
        }
        let mut private = self.private.values();
        let copied = private.any(|view| view.present.contains(&granule));
        let protect = access == Access::Read || copied;
        let done = spaces.as_it_is(fault, |mapping| {
            let Some(range) = self.range(mapping, granule) else {
                return Ok(());
            };
            let uffd = &mapping.space.uffd;
            if write && fault.protected {
                return pages::protect(uffd, range, false);
            }
            let (mut part, mut mapped) = (range, pages::map(uffd, range, protect)?);
            if mapped == Mapped::Partly {
                part = around(fault, range);
                let zeros = &ZEROS[..part.len as usize];
                mapped = pages::supply(uffd, part, zeros, protect)?;
            }
            go_on(fault, part, mapped, protect)
        });
        done.unwrap_or(Ok(()))
    }

    /// Puts aside some bytes of a granule that is here, as they are.
    fn read(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.aside.clear();
        match &self.shared {
            Some(memory) if self.granule == PAGE => {
                memory.read(offset, len as usize, &mut self.aside)
            }
            Some(memory) => memory.read_sparse(offset, len as usize, &mut self.aside),
            None => {
                self.aside.resize(len as usize, 0);
                Ok(())
            }
        }
    }

    /// The granule's content is lost: who touches it gets SIGBUS.
    pub fn poison(&mut self, granule: u64, spaces: &Spaces, passing: &dyn Passing) {
        self.discard(granule);
        self.waiting.remove(&granule);
        self.each(spaces, passing, granule, |mapping, range| {
            pages::poison(&mapping.space.uffd, range)
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
                beyond_control("pages that cannot be taken away", self.id, &error);
            }
        }
        self.stranded.forget_all();
        for view in self.private.values_mut() {
            view.present.clear();
        }
        for granule in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.poison(granule, spaces, passing);
        }
    }
}

/// Makes SIGBUS of one thread's access: to a segment that is no more, or to a page
/// for which there is no memory.
pub fn poison_page(fault: &Fault, spaces: &Spaces, passing: &dyn Passing) {
    let page = Range {
        start: fault.addr,
        len: PAGE,
    };
    let Mapping { space, segment, .. } = &fault.mapping;
    loop {
        match pages::poison(&space.uffd, page) {
            Err(Error::Changing) => catch_up(space, spaces, passing),
            Err(Error::Other(error)) => beyond_control("a page that is lost", *segment, &error),
            _ => return,
        }
    }
}

/// Reads the events of a space that was changing.
fn catch_up(space: &Arc<Space>, spaces: &Spaces, passing: &dyn Passing) {
    passing.pass(spaces.changed(space, passing));
}

/// Where a mapping shows these bytes of the segment, as far as it does.
fn show(mapping: &Mapping, (start, len): (u64, u64)) -> Option<Range> {
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

/// The part of a granule's range that is supplied for a fault in it.
fn around(fault: &Fault, range: Range) -> Range {
    let before = fault.offset() % AROUND;
    let start = fault.addr - before.min(fault.addr - range.start);
    let end = range.end().min(fault.addr + (AROUND - before));
    Range {
        start,
        len: end - start,
    }
}

/// The part of a granule in which the fault's page is mapped: pages that were before
/// are given the protection that they should have, and who waits goes on.
fn go_on(fault: &Fault, part: Range, mapped: Mapped, protect: bool) -> Result<(), Error> {
    let uffd = &fault.mapping.space.uffd;
    if mapped == Mapped::Now {
        return Ok(());
    }
    if protect {
        uffd.wake(part);
        Ok(())
    } else {
        pages::protect(uffd, part, false)
    }
}
