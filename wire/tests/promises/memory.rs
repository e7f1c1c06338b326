//! A global allocator that tells how much a piece of code allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread asked of the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Allocated {
    /// How often.
    pub(crate) count: usize,
    /// The most at once, in bytes.
    pub(crate) largest: usize,
}

impl Allocated {
    const NOTHING: Self = Allocated {
        count: 0,
        largest: 0,
    };
}

thread_local! {
    /// Constant and without destructor, so that reaching it allocates nothing.
    static ALLOCATED: Cell<Allocated> = const { Cell::new(Allocated::NOTHING) };
}

/// Runs `work` and tells what it allocated on this thread.
pub(crate) fn allocated_by<R>(work: impl FnOnce() -> R) -> (R, Allocated) {
    ALLOCATED.set(Allocated::NOTHING);
    let result = work();
    (result, ALLOCATED.get())
}

struct Counting;

fn count(size: usize) {
    let before = ALLOCATED.get();
    ALLOCATED.set(Allocated {
        count: before.count + 1,
        largest: before.largest.max(size),
    });
}

// SAFETY: every request goes to `System` unchanged, which keeps the contract.
// Counting neither allocates nor panics: the cell needs no destructor, so it is
// there as long as its thread is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: `block` came from `System`, as all blocks of this allocator
        // do; the caller keeps the rest of `realloc`'s contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System`, as all blocks of this allocator
        // do, with this layout, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_counter_sees_every_way_to_allocate() {
    let (kept, allocated) = allocated_by(|| {
        let mut bytes = Vec::<u8>::with_capacity(100);
        bytes.reserve_exact(1000);
        (bytes, vec![0u8; 500])
    });
    assert_eq!(
        allocated,
        Allocated {
            count: 3,
            largest: 1000
        }
    );
    drop(kept);
    assert_eq!(allocated_by(|| 7).1, Allocated::default());
}
