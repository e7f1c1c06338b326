//! What `munmap`, `mprotect`, `madvise` and an `mmap` over it do to attachments.
//!
//! The kernel keeps an attachment as mappings, at first one. A call on a part of
//! a mapping cuts it, each piece counts in `nattch`, and pieces are never joined
//! again. So do we, here for `shmdt`, in the daemon for everybody to see:
//!
//! ```text
//!   attached              ████████████████    nattch 1
//!   mprotect(a + 2, 2)    ████│███│███████           3
//!   munmap(a + 8, 2)      ████│███│███  ██           4
//!   shmdt(a)                                         0
//! ```
//!
//! The order is that of `shmdt`: memory is closed off, its entry is changed, the
//! daemon is told, and only then the range is free for others.
//!
//! These calls are made all the time by every program, for memory that has
//! nothing to do with us: [`attachments::may_lie_in`] lets them go on at once.

use libc::c_int;

use crate::attachments::{self, Attachment, Entry};
use crate::exclusive::exclusively;
use crate::outcome::{Detour, Escape};
use crate::session::Session;
use crate::span::Span;
use crate::{fork, mapping, sys};
use dipc_wire::local::Request;

/// `munmap(2)`: detaches what lies in the range (behaviour 105). The range itself
/// is left to the real function.
pub(crate) fn unmap(addr: usize, len: usize) -> Detour<c_int> {
    let span = ours(addr, len)?;
    exclusively(|| vacate(span, Memory::Ours))?;
    Err(Escape::Bypass)
}

/// Something else was mapped over the range: what lay there is detached.
pub(crate) fn replaced(addr: usize, len: usize) {
    if let Ok(span) = ours(addr, len) {
        // Without memory for an entry, what is left behind the range is lost to
        // shmdt; it is detached with the process.
        let _ = exclusively(|| vacate(span, Memory::Replaced));
    }
}

/// `mprotect(2)`: what was attached with `SHM_RDONLY` never becomes writable
/// (behaviour 98); the kernel finds out when it comes to it, so what lies before
/// that is changed.
pub(crate) fn protect(addr: usize, len: usize, prot: c_int) -> Detour<c_int> {
    let span = ours(addr, len)?;
    exclusively(|| {
        let refused = |part: &Attachment| part.readonly && prot & libc::PROT_WRITE != 0;
        let barrier = attachments::within(span)
            .map(|(part, _)| part)
            .filter(refused)
            .map(|part| part.addr.max(span.start))
            .min();
        let allowed = Span {
            end: barrier.unwrap_or(span.end),
            ..span
        };
        if allowed.len() > 0 {
            // SAFETY: the program's call, or the first part of it.
            unsafe { sys::protect(allowed.start, allowed.len(), prot) }.map_err(Escape::Errno)?;
            divide(allowed, None, |part| Attachment {
                prot: prot & 7,
                ..part
            })?;
        }
        match barrier {
            Some(_) => Err(Escape::Errno(libc::EACCES)),
            None => Ok(0),
        }
    })
}

/// `madvise(2)`, as far as the advice means something for attachments.
pub(crate) fn advise(addr: usize, len: usize, advice: c_int) -> Detour<c_int> {
    let span = ours(addr, len)?;
    match advice {
        libc::MADV_DONTFORK => exclusively(|| let_inherit(span, false)).map(|()| 0),
        libc::MADV_DOFORK => exclusively(|| let_inherit(span, true)).map(|()| 0),
        libc::MADV_REMOVE => remove(span),
        // A huge page would join granules that travel apart. It is but advice.
        libc::MADV_HUGEPAGE | libc::MADV_COLLAPSE => Ok(0),
        // The rest leaves memory as it is, or is refused for shared memory.
        _ => Err(Escape::Bypass),
    }
}

/// `MADV_DOFORK`, `MADV_DONTFORK` (behaviour 108). Call it exclusively.
pub(crate) fn let_inherit(span: Span, inherited: bool) -> Detour<()> {
    let advice = if inherited {
        libc::MADV_DOFORK
    } else {
        libc::MADV_DONTFORK
    };
    // SAFETY: says what fork does, and changes no bytes.
    unsafe { sys::advise(span.start, span.len(), advice) }.map_err(Escape::Errno)?;
    divide(span, Some(inherited), |part| Attachment {
        inherited,
        ..part
    })?;
    fork::keep_from_unseen(span);
    Ok(())
}

/// `MADV_REMOVE`: zeros, for everybody. To punch a hole, as the kernel does, would
/// make zeros of this node's copy only; so they are written.
fn remove(span: Span) -> Detour<c_int> {
    let mut next = span.start;
    while next < span.end {
        let rest = Span {
            start: next,
            ..span
        };
        let part = attachments::first_within(rest);
        let upto = part.map_or(span.end, |part| part.addr.clamp(next, span.end));
        if upto > next {
            // SAFETY: the program's call, on its own memory.
            unsafe { sys::advise(next, upto - next, libc::MADV_REMOVE) }.map_err(Escape::Errno)?;
        }
        next = upto;
        if let Some(part) = part {
            let inside = part.span().cut(rest).inside;
            if part.prot & libc::PROT_WRITE == 0 {
                return Err(Escape::Errno(libc::EACCES));
            }
            // SAFETY: writable memory of the program, which wants it zero. Pages
            // that are lost raise SIGBUS, as any access to them.
            unsafe { core::ptr::write_bytes(inside.start as *mut u8, 0, inside.len()) };
            next = inside.end;
        }
    }
    Ok(0)
}

fn ours(addr: usize, len: usize) -> Detour<Span> {
    let span = Span::of_pages(addr, len).filter(|span| attachments::may_lie_in(*span));
    let span = span.ok_or(Escape::Bypass)?;
    fork::settle();
    let any = attachments::within(span).next().is_some();
    any.then_some(span).ok_or(Escape::Bypass)
}

/// What is in a range that is being left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The attachment, still accessible.
    Ours,
    /// Something else already.
    Replaced,
}

/// Ends what attachments have in `span`. Call it exclusively. What was
/// [`Memory::Ours`] is inaccessible afterwards, and still to be unmapped.
pub(crate) fn vacate(span: Span, memory: Memory) -> Detour<()> {
    for (part, entry) in attachments::within(span) {
        let rest = entry_behind(part, span)?;
        if memory == Memory::Ours {
            mapping::close_off(part.span().cut(span).inside);
        }
        let request = take_out(part, entry, rest, span);
        mapping::tell(&request);
    }
    Ok(())
}

/// The same for what was replaced by an attachment that is under way: this
/// thread's connection is in use, so another one tells of it.
pub(crate) fn vacate_beside(span: Span) {
    for (part, entry) in attachments::within(span) {
        // Without memory for an entry: see `replaced`.
        let rest = entry_behind(part, span).unwrap_or(None);
        let request = take_out(part, entry, rest, span);
        if let Ok(mut beside) = Session::separate() {
            mapping::tell_on(&mut beside, &request);
        }
    }
}

/// A place for the piece that will be left behind `span`, if there will be one.
fn entry_behind(part: Attachment, span: Span) -> Detour<Option<&'static Entry>> {
    match part.span().cut(span).behind {
        None => Ok(None),
        Some(_) => attachments::reserve()
            .map(Some)
            .ok_or(Escape::Errno(libc::ENOMEM)),
    }
}

/// Takes `span` out of a part. Returns what the daemon is to be told.
fn take_out(part: Attachment, entry: &Entry, rest: Option<&'static Entry>, span: Span) -> Request {
    let cut = part.span().cut(span);
    if let (Some(rest), Some(behind)) = (rest, cut.behind) {
        rest.fill(part.narrowed(behind));
    }
    match cut.before {
        Some(before) => entry.fill(part.narrowed(before)),
        None => entry.release(),
    }
    let (addr, len) = (cut.inside.start as u64, cut.inside.len() as u64);
    if cut.is_whole() {
        Request::Detach { addr }
    } else {
        Request::Unmapped { addr, len }
    }
}

/// Gives what attachments have in `span` the new state that `alter` says, cutting
/// off what keeps the old one. `inherited` is for the daemon.
fn divide(
    span: Span,
    inherited: Option<bool>,
    alter: impl Fn(Attachment) -> Attachment,
) -> Detour<()> {
    let changes = |part: &Attachment| alter(*part) != *part;
    // One after the other: each adds entries that are looked at again, and are as
    // they should be then.
    while let Some((part, entry)) = attachments::within(span).find(|(part, _)| changes(part)) {
        let cut = part.span().cut(span);
        let behind = entry_behind(part, span)?;
        let inside = match cut.before {
            None => None,
            Some(_) => match (attachments::reserve(), behind) {
                (Some(entry), _) => Some(entry),
                (None, behind) => {
                    if let Some(behind) = behind {
                        behind.release();
                    }
                    return Err(Escape::Errno(libc::ENOMEM));
                }
            },
        };
        if let (Some(entry), Some(behind)) = (behind, cut.behind) {
            entry.fill(part.narrowed(behind));
        }
        let altered = alter(part.narrowed(cut.inside));
        if let (Some(inside), Some(before)) = (inside, cut.before) {
            inside.fill(altered);
            entry.fill(part.narrowed(before));
        } else {
            entry.fill(altered);
        }
        if !cut.is_whole() || inherited.is_some() {
            mapping::tell(&Request::Changed {
                addr: altered.addr as u64,
                len: altered.len as u64,
                inherited,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_on_memory_without_attachments_and_malformed_ones_are_the_kernels() {
        let page = sys::page_size();
        for (addr, len) in [(page, page), (page + 1, page), (page, 0)] {
            assert_eq!(unmap(addr, len), Err(Escape::Bypass));
            assert_eq!(protect(addr, len, libc::PROT_READ), Err(Escape::Bypass));
            assert_eq!(advise(addr, len, libc::MADV_REMOVE), Err(Escape::Bypass));
        }
    }
}
