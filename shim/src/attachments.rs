//! The process's attachments to distributed segments.
//!
//! A table of atomics in pages of its own: it grows without `malloc`, needs no
//! lock, and is whole in a forked child whatever the other threads were doing.
//!
//! An entry's address is also its state:
//!
//! ```text
//!   FREE ──reserve──▶ BUSY ──fill──▶ address
//!     ▲                │ ▲              │
//!     └────release─────┘ └─────take─────┘
//! ```

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use dipc_wire::ObjectId;
use dipc_wire::local::Inherited;

use crate::sys;

/// One attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    pub(crate) id: ObjectId,
    pub(crate) readonly: bool,
    pub(crate) addr: usize,
    pub(crate) len: usize,
}

impl Attachment {
    /// As a forked child reports it.
    pub(crate) fn inherited(self) -> Inherited {
        Inherited {
            id: self.id.raw(),
            readonly: self.readonly,
            addr: self.addr as u64,
            len: self.len as u64,
        }
    }
}

const FREE: usize = 0;
/// No mapping lies here, so no attachment has this address.
const BUSY: usize = 1;
const READONLY: u64 = 1 << 32;
/// As many as fill a page together with the link to the next.
const ENTRIES: usize = 170;

/// A place in the table.
pub(crate) struct Entry {
    addr: AtomicUsize,
    len: AtomicUsize,
    /// The id, and [`READONLY`].
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
            about: AtomicU64::new(0),
        }
    }; ENTRIES],
};

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

/// Takes the attachment at exactly `addr` out of the table. Of two threads that
/// detach the same one, one gets it. Its place is to be released.
pub(crate) fn take(addr: usize) -> Option<(Attachment, &'static Entry)> {
    if addr <= BUSY {
        return None;
    }
    let entry = entries().find(|entry| entry.turn(addr, BUSY))?;
    entry.attachment(addr).map(|attachment| (attachment, entry))
}

/// All attachments.
pub(crate) fn all() -> impl Iterator<Item = Attachment> {
    entries().filter_map(|entry| entry.attachment(entry.addr.load(Ordering::Acquire)))
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    core::iter::successors(Some(&FIRST), |chunk| chunk.following())
        .flat_map(|chunk| chunk.entries.iter())
}

impl Entry {
    /// Makes a reserved place hold `attachment`.
    pub(crate) fn fill(&self, attachment: Attachment) {
        self.len.store(attachment.len, Ordering::Relaxed);
        let readonly = if attachment.readonly { READONLY } else { 0 };
        self.about
            .store(attachment.id.raw() as u64 | readonly, Ordering::Relaxed);
        self.addr.store(attachment.addr, Ordering::Release);
    }

    /// Gives back a place that was reserved or taken from.
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

    fn attachment(&self, addr: usize) -> Option<Attachment> {
        let about = self.about.load(Ordering::Relaxed);
        (addr > BUSY).then_some(())?;
        Some(Attachment {
            id: ObjectId::from_raw(about as u32 as i32)?,
            readonly: about & READONLY != 0,
            addr,
            len: self.len.load(Ordering::Relaxed),
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
    fn the_table_grows_and_each_attachment_is_taken_once_and_by_its_exact_address() {
        let many = 3 * ENTRIES;
        let attachment = |i: usize| Attachment {
            id: ObjectId::new(NodeId::SOLO, i as u32),
            readonly: i % 2 == 1,
            addr: 0x10000 * (i + 1),
            len: 4096,
        };
        for i in 0..many {
            reserve().unwrap().fill(attachment(i));
        }
        let reserved = reserve().unwrap();
        assert_eq!(all().count(), many, "a reserved place is no attachment");
        reserved.release();

        for nowhere in [FREE, BUSY, 0x10001, 0x10000 * (many + 1)] {
            assert!(take(nowhere).is_none(), "{nowhere:#x}");
        }
        for i in 0..many {
            let (taken, entry) = take(attachment(i).addr).unwrap();
            assert_eq!(taken, attachment(i));
            assert!(take(taken.addr).is_none());
            entry.release();
        }
        assert_eq!(all().count(), 0);
    }
}
