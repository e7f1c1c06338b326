//! What a forked child does about the attachments it inherited.
//!
//! The first connection that a child opens reports them, whatever it was opened
//! for. After `fork` that is at once, in a `pthread_atfork` handler, and so it is
//! after a fork that libc's `syscall` made; after an inline `clone`, which nobody
//! sees, it is at the child's first call. A child without attachments does
//! nothing.
//!
//! Until the report is answered by `Done`, nobody may be serving the child's
//! faults: where the daemon gets no fork events (it said `adopt`), because the
//! report itself brings a userfaultfd of the child's own; and elsewhere, because
//! a daemon that died in the middle of the fork took with it the one that the
//! kernel had made. What the child would read then is zeros, and they would
//! enter the segment: so its inherited attachments are closed off instead. It
//! gets SIGSEGV, and `shmdt` of them EINVAL.
//!
//! Where the daemon gets no fork events, a child that nobody sees come must not
//! have the memory at all, since it would read zeros before its first call. So
//! attachments are kept from children (`MADV_DONTFORK`), except while a thread is
//! in `fork`:
//!
//! | the child comes by | fork events | no fork events |
//! |---|---|---|
//! | `fork`, `_Fork`, `daemon` | served at once | served once it has reported |
//! | `vfork`, `posix_spawn`, `system` | shares its parent's memory | the same |
//! | `clone` that was not seen | served at once | SIGSEGV |
//!
//! That costs two `madvise` an attachment and fork, about a microsecond.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dipc_wire::call::Reply;
use dipc_wire::local::{Inherited, Request};

use crate::attachments;
use crate::exchange::{Patience, SMALL};
use crate::exclusive::exclusively;
use crate::outcome::Trouble;
use crate::session::Session;
use crate::span::Span;
use crate::user_memory::UserBytes;
use crate::{faults, generation, mapping, notice, sys};

/// The generation whose attachments the daemon knows.
static REPORTED: AtomicU64 = AtomicU64::new(0);
/// The daemon gets no fork events.
static ADOPT: AtomicBool = AtomicBool::new(false);
/// The generation that has looked through what it inherited.
static SETTLED: AtomicU64 = AtomicU64::new(0);
/// The last generation that began with a fork that was seen.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// How many threads are in `fork`.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Called at load.
pub(crate) fn prepare() {
    // SAFETY: the handlers are functions of this library, which is never unloaded
    // (it was preloaded).
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

/// Runs a fork that runs no `pthread_atfork` handlers, and gives its result: 0 in
/// the child. Not for one that shares memory (`CLONE_VM`).
pub(crate) fn forking(fork: impl FnOnce() -> libc::pid_t) -> libc::pid_t {
    // SAFETY: as the handlers of the fork that follows.
    unsafe { before() };
    let pid = fork();
    // SAFETY: as above.
    unsafe {
        if pid == 0 {
            in_child();
        } else {
            in_parent();
        }
    }
    pid
}

/// Something was attached there, or given other advice.
pub(crate) fn keep_from_unseen(span: Span) {
    if ADOPT.load(Ordering::Relaxed) && FORKING.load(Ordering::Relaxed) == 0 {
        for (part, _) in attachments::within(span) {
            // SAFETY: says what fork does, and changes no bytes.
            let _ = unsafe { sys::advise(part.addr, part.len, libc::MADV_DONTFORK) };
        }
    }
}

/// In a child, forgets the entries of what it did not inherit. To be called
/// before the table is looked at.
pub(crate) fn settle() {
    let now = generation::current().0;
    if REPORTED.load(Ordering::Relaxed) == now || SETTLED.swap(now, Ordering::Relaxed) == now {
        return;
    }
    let unseen = ADOPT.load(Ordering::Relaxed) && SEEN.load(Ordering::Relaxed) != now;
    for (part, entry) in attachments::entered() {
        if unseen || !part.inherited {
            entry.release();
        }
    }
}

/// This process has attached a segment, and the daemon knows.
pub(crate) fn attached(adopt: bool) {
    ADOPT.store(adopt, Ordering::Relaxed);
    REPORTED.store(generation::current().0, Ordering::Relaxed);
}

/// Reports inherited attachments on a new connection, if that is to be done.
pub(crate) fn report(session: &mut Session) -> Result<(), Trouble> {
    settle();
    if !has_unreported() {
        return Ok(());
    }
    let served = tell(session, ADOPT.load(Ordering::Relaxed));
    if served != Ok(true) {
        cut_off();
    }
    served.map(drop)
}

/// No connection could be opened: what was not reported by now stays so.
pub(crate) fn not_served() {
    settle();
    if has_unreported() {
        cut_off();
    }
}

/// Whether this process has attachments to report. To be asked once: from then
/// on, somebody is at it.
fn has_unreported() -> bool {
    let now = generation::current().0;
    attachments::all().next().is_some() && REPORTED.swap(now, Ordering::Relaxed) != now
}

/// Whether the daemon serves the child.
fn tell(session: &mut Session, adopt: bool) -> Result<bool, Trouble> {
    let uffd = match adopt.then(|| faults::make(None)) {
        None => None,
        Some(Ok(fd)) => Some(fd),
        Some(Err(_)) => return Ok(false),
    };
    let parent = generation::parent() as u32;
    let told = with_report(|report| {
        let mut room = [0; SMALL];
        session.send(&Request::Forked { parent }, UserBytes::of(report), uffd)?;
        Ok(session.answer(Patience::Steady, &mut room)?.reply()? == Reply::Done)
    });
    match (uffd, &told) {
        (Some(fd), Ok(true)) => faults::given(fd),
        (Some(fd), _) => sys::close(fd),
        (None, _) => {}
    }
    told
}

/// Writes the report into pages of its own, since a child of a threaded process
/// must not call `malloc`.
fn with_report(
    send: impl FnOnce(&[[u8; Inherited::BYTES]]) -> Result<bool, Trouble>,
) -> Result<bool, Trouble> {
    let count = attachments::all().count();
    let len = (count * Inherited::BYTES).next_multiple_of(sys::page_size());
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let pages = unsafe { sys::map(0, len, prot, flags, -1) }.map_err(|_| Trouble::Exhausted)?;
    // SAFETY: the mapping just made holds `count` of them, zero is a value, and
    // it lives until the unmap below.
    let rows =
        unsafe { core::slice::from_raw_parts_mut(pages as *mut [u8; Inherited::BYTES], count) };
    let mut filled = 0;
    for (row, attachment) in rows.iter_mut().zip(attachments::all()) {
        *row = attachment.reported().encode();
        filled += 1;
    }
    let sent = send(&rows[..filled]);
    // SAFETY: nothing refers to the rows any more.
    unsafe { sys::unmap(pages, len) };
    sent
}

/// Whether `fork` duplicates what it should, or nothing: for a daemon without
/// fork events.
fn let_inherit(on: bool) {
    let advice = if on {
        libc::MADV_DOFORK
    } else {
        libc::MADV_DONTFORK
    };
    for part in attachments::all().filter(|part| part.inherited) {
        // SAFETY: says what fork does, and changes no bytes.
        let _ = unsafe { sys::advise(part.addr, part.len, advice) };
    }
}

/// Before `fork`.
unsafe extern "C" fn before() {
    if !ADOPT.load(Ordering::Relaxed) {
        return;
    }
    let errno = sys::errno();
    settle();
    exclusively(|| {
        if FORKING.fetch_add(1, Ordering::Relaxed) == 0 {
            let_inherit(true);
        }
    });
    sys::set_errno(errno);
}

/// The parent's half of `fork`, also when it failed.
unsafe extern "C" fn in_parent() {
    if !ADOPT.load(Ordering::Relaxed) {
        return;
    }
    let errno = sys::errno();
    exclusively(|| {
        // Another thread may have learnt only now that there are no fork events.
        let before = FORKING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |threads| {
            threads.checked_sub(1)
        });
        if before == Ok(1) {
            let_inherit(false);
        }
    });
    sys::set_errno(errno);
}

/// The child's half of `fork`.
unsafe extern "C" fn in_child() {
    FORKING.store(0, Ordering::Relaxed);
    SEEN.store(generation::current().0, Ordering::Relaxed);
    settle();
    if attachments::all().next().is_none() {
        return;
    }
    let errno = sys::errno();
    if ADOPT.load(Ordering::Relaxed) {
        let_inherit(false);
    }
    if std::panic::catch_unwind(|| drop(Session::open())).is_err() {
        cut_off();
    }
    sys::set_errno(errno);
}

/// Nobody serves this child's faults: better no memory than a wrong one.
fn cut_off() {
    let mut any = false;
    for (part, entry) in attachments::entered() {
        mapping::close_off(part.span());
        entry.release();
        any = true;
    }
    if any {
        notice::child_is_cut_off();
    }
}
