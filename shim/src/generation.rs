//! Which process this is, without asking the kernel at each call.
//!
//! A page marked `MADV_WIPEONFORK` holds a number. In a forked child the kernel
//! has zeroed the page, however the child was made, raw `clone` included. What
//! remembers a number (a thread's connection) and finds another one there was
//! made by an ancestor. A `vfork` child shares the memory, and so the number:
//! that it is another process is seen when it sends ([`crate::sender`]).

use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use crate::sys;

/// One process image in a line of forks. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Generation(pub(crate) u64);

/// What the kernel wipes.
struct Page {
    generation: AtomicU64,
    pid: AtomicI32,
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(core::ptr::null_mut());
/// The last number given in this line of forks; inherited.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The last process id seen in this line of forks; inherited.
static LAST_PID: AtomicI32 = AtomicI32::new(0);
/// The process before that.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Makes the page. Called at load; calls before that go by process id.
pub(crate) fn prepare() {
    let len = sys::page_size();
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let Ok(page) = (unsafe { sys::map(0, len, prot, flags, -1) }) else {
        return;
    };
    // SAFETY: the whole of the mapping just made.
    if unsafe { libc::madvise(page as *mut _, len, libc::MADV_WIPEONFORK) } == 0 {
        PAGE.store(page as *mut Page, Ordering::Release);
        current();
    }
}

/// The number of this process image.
pub(crate) fn current() -> Generation {
    let Some(page) = page() else {
        // Linux before 4.14 cannot wipe: one more system call, same meaning.
        return Generation(sys::getpid() as u64);
    };
    match page.generation.load(Ordering::Acquire) {
        0 => renew(page),
        generation => Generation(generation),
    }
}

/// This process's id.
pub(crate) fn pid() -> i32 {
    current();
    match page().map(|page| page.pid.load(Ordering::Relaxed)) {
        None | Some(0) => sys::getpid(),
        Some(pid) => pid,
    }
}

/// The process that this one was forked from, if it was forked from one that
/// had this library loaded.
pub(crate) fn parent() -> i32 {
    PARENT.load(Ordering::Relaxed)
}

fn page() -> Option<&'static Page> {
    // SAFETY: null, or the page made by `prepare`, which is never unmapped, large
    // and aligned enough, and valid when all its bytes are zero.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// The first call in a new process.
fn renew(page: &Page) -> Generation {
    let (pid, next) = (sys::getpid(), LAST.fetch_add(1, Ordering::Relaxed) + 1);
    page.pid.store(pid, Ordering::Relaxed);
    match page
        .generation
        .compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire)
    {
        Ok(_) => {
            PARENT.store(LAST_PID.swap(pid, Ordering::Relaxed), Ordering::Relaxed);
            Generation(next)
        }
        Err(other_threads) => Generation(other_threads),
    }
}
