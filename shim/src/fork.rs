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

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dipc_wire::call::Reply;
use dipc_wire::local::{Inherited, Request};

use crate::attachments::{self, Attachment};
use crate::exchange::{Patience, SMALL};
use crate::outcome::Trouble;
use crate::session::Session;
use crate::user_memory::UserBytes;
use crate::{faults, generation, mapping, notice, sys};

/// The generation whose attachments the daemon knows.
static REPORTED: AtomicU64 = AtomicU64::new(0);
/// The daemon gets no fork events.
static ADOPT: AtomicBool = AtomicBool::new(false);

/// Called at load.
pub(crate) fn prepare() {
    // SAFETY: the handler is a function of this library, which is never unloaded
    // (it was preloaded).
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

/// This process has attached a segment, and the daemon knows.
pub(crate) fn attached(adopt: bool) {
    ADOPT.store(adopt, Ordering::Relaxed);
    REPORTED.store(generation::current().0, Ordering::Relaxed);
}

/// Reports inherited attachments on a new connection, if that is to be done.
pub(crate) fn report(session: &mut Session) -> Result<(), Trouble> {
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

/// Makes a fork by its number, after which libc runs no handlers: `make` gives 0
/// in the child.
#[cfg(target_arch = "x86_64")]
pub(crate) fn made_by_number(make: impl FnOnce() -> libc::c_long) -> libc::c_long {
    let made = make();
    if made == 0 {
        // SAFETY: this is the child, with a stack and memory of its own.
        unsafe { in_child() };
    }
    made
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
        *row = attachment.inherited().encode();
        filled += 1;
    }
    let sent = send(&rows[..filled]);
    // SAFETY: nothing refers to the rows any more.
    unsafe { sys::unmap(pages, len) };
    sent
}

/// The child's half of `fork`.
unsafe extern "C" fn in_child() {
    if attachments::all().next().is_none() {
        return;
    }
    let errno = sys::errno();
    if std::panic::catch_unwind(|| drop(Session::open())).is_err() {
        cut_off();
    }
    sys::set_errno(errno);
}

/// Nobody serves this child's faults: better no memory than a wrong one.
fn cut_off() {
    let mut any = false;
    while let Some(Attachment { addr, .. }) = attachments::all().next() {
        let Some((attachment, entry)) = attachments::take(addr) else {
            continue;
        };
        mapping::close_off(attachment);
        entry.release();
        any = true;
    }
    if any {
        notice::child_is_cut_off();
    }
}
