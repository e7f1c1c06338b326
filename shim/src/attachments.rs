//! The process's attachments to distributed segments.
//!
//! A table of atomics in pages of its own: it grows without `malloc`, and is
//! whole in a forked child whatever the other threads were doing. Looking needs
//! no lock; who changes it holds [`crate::exclusive`], except for new entries.
//!
//! `munmap`, `mprotect` and `mremap` of a part make several mappings of one
//! attachment, each with an entry. They belong together, as in the kernel, by
//! the place where the segment's first byte would lie: their *base*.
//!
//! An entry's address is also its state:
//!
//! ```text
//!   FREE ──reserve──▶ BUSY ──fill──▶ address
//!     ▲                │                │
//!     └────release─────┴─────release────┘
//! ```
//!
//! What can be touched has an entry: it is filled before the memory is opened,
//! and released after that is closed.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use dipc_wire::ObjectId;
use dipc_wire::local::Inherited;
use libc::c_int;

use crate::span::Span;
use crate::sys;

/// One mapping of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    pub(crate) id: ObjectId,
    /// Attached with `SHM_RDONLY`: it never becomes writable.
    pub(crate) readonly: bool,
    /// Not given `MADV_DONTFORK`.
    pub(crate) inherited: bool,
    /// `PROT_*`, as last set.
    pub(crate) prot: c_int,
    pub(crate) addr: usize,
    pub(crate) len: usize,
    /// Which byte of the segment is the first.
    pub(crate) offset: usize,
}

impl Attachment {
    /// As a forked child reports it.
    pub(crate) fn reported(self) -> Inherited {
        Inherited {
            id: self.id.raw(),
            readonly: self.readonly,
            addr: self.addr as u64,
            len: self.len as u64,
        }
    }

    /// What `shmdt` knows it by.
    pub(crate) fn base(self) -> usize {
        self.addr.wrapping_sub(self.offset)
    }

    /// Where it lies.
    pub(crate) fn span(self) -> Span {
        Span {
            start: self.addr,
            end: self.addr + self.len,
        }
    }

    /// The same, but of these addresses only, which lie within it.
    pub(crate) fn narrowed(self, to: Span) -> Self {
        Attachment {
            addr: to.start,
            len: to.len(),
            offset: self.offset + (to.start - self.addr),
            ..self
        }
    }
}

const FREE: usize = 0;
/// No mapping lies here, so no attachment has this address.
const BUSY: usize = 1;
const READONLY: u64 = 1 << 32;
const INHERITED: u64 = 1 << 33;
/// Where the three bits of `PROT_*` begin.
const PROT: u32 = 34;
/// As many as fill a page together with the link to the next.
const ENTRIES: usize = 127;

/// A place in the table.
pub(crate) struct Entry {
    addr: AtomicUsize,
    len: AtomicUsize,
    offset: AtomicUsize,
    /// The id, [`READONLY`], [`INHERITED`] and the protection.
    about: AtomicU64,
}

#[repr(C)]
struct Chunk {
    next: AtomicPtr<Chunk>,
    entries: [Entry; ENTRIES],
}

const _: () = assert!(size_of::<Chunk>() <= 4096);

static FIRST: Chunk = Chunk {
    next: AtomicPtr::new(core::ptr::null_mut()),
    entries: [const {
        Entry {
            addr: AtomicUsize::new(FREE),
            len: AtomicUsize::new(0),
            offset: AtomicUsize::new(0),
            about: AtomicU64::new(0),
        }
    }; ENTRIES],
};

/// All attachments that there ever were lay between these two.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// Whether an attachment may lie in `span`: two loads, for calls that every
/// program makes all the time. Always false where nothing was ever attached.
pub(crate) fn may_lie_in(span: Span) -> bool {
    span.start < HIGHEST.load(Ordering::Relaxed) && LOWEST.load(Ordering::Relaxed) < span.end
}

/// A place for one more attachment; `None` when there is no memory.
pub(crate) fn reserve() -> Option<&'static Entry> {
    let mut chunk = &FIRST;
    loop {
        let free = chunk.entries.iter().find(|entry| entry.turn(FREE, BUSY));
        if free.is_some() {
            return free;
        }
        chunk = chunk.following().or_else(|| chunk.extend())?;
    }
}

/// All attachments.
pub(crate) fn all() -> impl Iterator<Item = Attachment> {
    entered().map(|(attachment, _)| attachment)
}

/// All attachments, with their places.
pub(crate) fn entered() -> impl Iterator<Item = (Attachment, &'static Entry)> {
    core::iter::successors(Some(&FIRST), |chunk| chunk.following())
        .flat_map(|chunk| chunk.entries.iter())
        .filter_map(|entry| Some((entry.attachment()?, entry)))
}

/// Those of which something lies in `span`.
pub(crate) fn within(span: Span) -> impl Iterator<Item = (Attachment, &'static Entry)> {
    entered().filter(move |(attachment, _)| attachment.span().meets(span))
}

/// The first one, by address, of which something lies in `span`.
pub(crate) fn first_within(span: Span) -> Option<Attachment> {
    within(span)
        .map(|(attachment, _)| attachment)
        .min_by_key(|attachment| attachment.addr)
}

/// Where `shmdt(base)` finds its attachment: the first mapping that is left of
/// it. `None` when there is none (behaviours 100, 105).
pub(crate) fn first_of(base: usize) -> Option<Attachment> {
    all()
        .filter(|attachment| attachment.base() == base)
        .min_by_key(|attachment| attachment.addr)
}

impl Entry {
    /// Makes a place hold `attachment`: one that was reserved, or one that held
    /// what begins at the same address.
    pub(crate) fn fill(&self, attachment: Attachment) {
        LOWEST.fetch_min(attachment.addr, Ordering::Relaxed);
        HIGHEST.fetch_max(attachment.addr + attachment.len, Ordering::Relaxed);
        self.len.store(attachment.len, Ordering::Relaxed);
        self.offset.store(attachment.offset, Ordering::Relaxed);
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        let about = u64::from(attachment.id.raw() as u32)
            | flag(attachment.readonly, READONLY)
            | flag(attachment.inherited, INHERITED)
            | ((attachment.prot & 7) as u64) << PROT;
        self.about.store(about, Ordering::Relaxed);
        self.addr.store(attachment.addr, Ordering::Release);
    }

    /// Gives the place back.
    pub(crate) fn release(&self) {
        self.addr.store(FREE, Ordering::Release);
    }

    fn turn(&self, from: usize, to: usize) -> bool {
        self.addr.load(Ordering::Relaxed) == from
            && self
                .addr
                .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    fn attachment(&self) -> Option<Attachment> {
        let addr = self.addr.load(Ordering::Acquire);
        let about = self.about.load(Ordering::Relaxed);
        (addr > BUSY).then_some(())?;
        Some(Attachment {
            id: ObjectId::from_raw(about as u32 as i32)?,
            readonly: about & READONLY != 0,
            inherited: about & INHERITED != 0,
            prot: (about >> PROT & 7) as c_int,
            addr,
            len: self.len.load(Ordering::Relaxed),
            offset: self.offset.load(Ordering::Relaxed),
        })
    }
}

impl Chunk {
    fn following(&self) -> Option<&'static Chunk> {
        // SAFETY: null, or a chunk made by `extend`, which is never unmapped.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// Adds a chunk behind this one, unless another thread was faster.
    fn extend(&self) -> Option<&'static Chunk> {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, at an address of the kernel's choice. Its zeros
        // are a chunk of free entries.
        let new = unsafe { sys::map(0, size_of::<Chunk>(), prot, flags, -1) }.ok()?;
        let null = core::ptr::null_mut();
        let won = self.next.compare_exchange(
            null,
            new as *mut Chunk,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if won.is_err() {
            // SAFETY: the mapping just made, which nobody else has seen.
            unsafe { sys::unmap(new, size_of::<Chunk>()) };
        }
        self.following()
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::NodeId;

    use super::*;

    /// One test, because the table is the process's.
    #[test]
    fn the_table_grows_and_finds_what_lies_where() {
        let many = 3 * ENTRIES;
        let attachment = |i: usize| Attachment {
            id: ObjectId::new(NodeId::SOLO, i as u32),
            readonly: i % 2 == 1,
            inherited: !i.is_multiple_of(3),
            prot: (i % 8) as c_int,
            addr: 0x10000 * (i + 2),
            len: 0x2000,
            offset: 0x1000 * (i % 4),
        };
        let everywhere = Span {
            start: 0,
            end: usize::MAX,
        };
        assert!(!may_lie_in(everywhere));
        for i in 0..many {
            reserve().unwrap().fill(attachment(i));
        }
        assert!(may_lie_in(everywhere));
        let reserved = reserve().unwrap();
        assert_eq!(all().count(), many, "a reserved place is no attachment");
        reserved.release();

        let span = Span {
            start: 0x11ffff + 1 - 0xffff,
            end: 0x121001,
        };
        let found: Vec<_> = within(span).map(|(attachment, _)| attachment).collect();
        assert_eq!(found, [attachment(15), attachment(16)]);
        assert_eq!(first_within(span), Some(attachment(15)));
        for i in 0..many {
            assert_eq!(first_of(attachment(i).base()), Some(attachment(i)));
        }
        assert_eq!(first_of(attachment(1).addr), None, "not its base");
        for (_, entry) in entered() {
            entry.release();
        }
        assert_eq!(all().count(), 0);
    }
}
