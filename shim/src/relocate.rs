//! `mremap(2)` of an attachment.
//!
//! The kernel would move it, but not the userfaultfd's registration: what was not
//! there yet would read as zeros. So the segment is mapped a second time where
//! it shall be, served, and then the old place is given up. Between the two it
//! lies in both: one memory, as after `shmat` twice.
//!
//! ```text
//!   shim                                      dipcd
//!    │ Remap{from} ──────────────────────────▶ │ counts one more
//!    │ ◀──────────────── Attached + memfd      │
//!    │ mmap(PROT_NONE) at the new place        │
//!    │ Map{to} ──────────────────────────────▶ │ registers it
//!    │ mprotect as the old one                 │
//!    │ Detach or Unmapped{from} ─────────────▶ │ counts one less
//! ```
//!
//! So it counts as in the kernel, and `shmdt` finds the new place, by its base
//! (behaviour 107). What differs: an attachment grows only by moving, and not
//! beyond its segment's end, where the kernel would raise SIGBUS.

use dipc_wire::local::Request;
use libc::c_int;

use crate::attachments::{self, Attachment};
use crate::changes::{self, Memory};
use crate::exclusive::exclusively;
use crate::mapping::{self, Place};
use crate::outcome::{Detour, Escape};
use crate::span::Span;
use crate::{faults, fork, sys};

const INVALID: Escape = Escape::Errno(libc::EINVAL);
const KNOWN: c_int = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;

/// The arguments, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    /// Where it lies; empty for a second mapping of the same.
    old: Span,
    /// How many bytes it shall have, whole pages.
    len: usize,
    may_move: bool,
    /// Where to, with `MREMAP_FIXED`; else 0.
    to: usize,
    fixed: bool,
    /// What lies at the old place shall stay.
    stays: bool,
}

impl Wanted {
    /// As the kernel checks them, see mremap(2).
    fn checked(old: usize, old_len: usize, len: usize, flags: c_int, to: usize) -> Detour<Self> {
        let page = sys::page_size();
        let may_move = flags & libc::MREMAP_MAYMOVE != 0;
        let fixed = flags & libc::MREMAP_FIXED != 0;
        let keeps = flags & libc::MREMAP_DONTUNMAP != 0;
        let stays = keeps || old_len == 0;
        let rounded = |len: usize| len.checked_next_multiple_of(page).ok_or(INVALID);
        let (old_len, len) = (rounded(old_len)?, rounded(len)?);
        let end = old.checked_add(old_len).ok_or(INVALID)?;
        let sound = flags & !KNOWN == 0
            && old.is_multiple_of(page)
            && len > 0
            && (may_move || !(fixed || keeps))
            && (!keeps || old_len == len);
        if !sound {
            return Err(INVALID);
        }
        let old = Span { start: old, end };
        if fixed {
            let new = Span::of_pages(to, len).ok_or(INVALID)?;
            if new.meets(old) {
                return Err(INVALID);
            }
        }
        Ok(Wanted {
            old,
            len,
            may_move,
            // The kernel takes a hint with MREMAP_DONTUNMAP too, but not every libc
            // passes it on, so callers need not have given it.
            to: if fixed { to } else { 0 },
            fixed,
            stays,
        })
    }
}

/// `mremap(2)`: the new address. Memory that is not ours is moved by the real
/// function, also when it replaces an attachment: see [`changes::replaced`].
pub(crate) fn remap(
    old: usize,
    old_len: usize,
    len: usize,
    flags: c_int,
    to: usize,
) -> Detour<usize> {
    let first_page = Span::of_pages(old, 1).ok_or(Escape::Bypass)?;
    if !attachments::may_lie_in(first_page) {
        return Err(Escape::Bypass);
    }
    fork::settle();
    let Some(part) = attachments::first_within(first_page) else {
        return Err(Escape::Bypass);
    };
    let wanted = Wanted::checked(old, old_len, len, flags, to)?;
    if wanted.old.end > part.span().end {
        return Err(Escape::Errno(libc::EFAULT));
    }
    let in_place = !wanted.fixed && !wanted.stays;
    if in_place && wanted.len <= wanted.old.len() {
        return shrink(wanted);
    }
    if !wanted.may_move {
        return Err(Escape::Errno(libc::ENOMEM));
    }
    exclusively(|| relocate(part, wanted))
}

fn shrink(wanted: Wanted) -> Detour<usize> {
    let tail = Span {
        start: wanted.old.start + wanted.len,
        ..wanted.old
    };
    if tail.len() > 0 {
        exclusively(|| give_up(tail))?;
    }
    Ok(wanted.old.start)
}

/// Closes a range off, detaches what lay there, and unmaps it.
fn give_up(span: Span) -> Detour<()> {
    changes::vacate(span, Memory::Ours)?;
    // SAFETY: what `vacate` closed off, at the program's wish.
    unsafe { sys::unmap(span.start, span.len()) };
    Ok(())
}

fn relocate(part: Attachment, wanted: Wanted) -> Detour<usize> {
    if wanted.fixed {
        let new = Span {
            start: wanted.to,
            end: wanted.to + wanted.len,
        };
        changes::vacate(new, Memory::Ours)?;
    }
    let request = Request::Remap {
        addr: wanted.old.start as u64,
        len: wanted.len as u64,
        need_uffd: faults::needed(),
    };
    let like = Attachment {
        offset: part.offset + (wanted.old.start - part.addr),
        inherited: true,
        ..part
    };
    let place = Place::at(wanted.to, wanted.fixed);
    let addr = mapping::enter_by(&request, like, place).map_err(|escape| match escape {
        // Never the real function: what it moved would not be served.
        Escape::Bypass => Escape::Errno(libc::ENOMEM),
        errno => errno,
    })?;
    if !part.inherited {
        let new = Span {
            start: addr,
            end: addr + wanted.len,
        };
        changes::let_inherit(new, false)?;
    }
    if !wanted.stays {
        give_up(wanted.old)?;
    }
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_the_kernel_refuses_are_refused() {
        let page = sys::page_size();
        let [may_move, fixed, stays] = [
            libc::MREMAP_MAYMOVE,
            libc::MREMAP_FIXED,
            libc::MREMAP_DONTUNMAP,
        ];
        let at = 64 * page;
        for (old, old_len, len, flags, to) in [
            (at + 1, page, page, 0, 0),
            (at, page, 0, 0, 0),
            (at, page, page, 8, 0),
            (at, page, page, fixed, 0),
            (at, page, page, stays, 0),
            (at, page, 2 * page, may_move | stays, 0),
            (at, page, page, may_move | fixed, at),
            (at, page, page, may_move | fixed, 8 * page + 1),
            (at, page, usize::MAX, may_move, 0),
        ] {
            let wanted = Wanted::checked(old, old_len, len, flags, to);
            assert_eq!(wanted, Err(INVALID), "{old:#x} {old_len} {len} {flags}");
        }
    }

    #[test]
    fn a_fifth_argument_that_nobody_passed_is_not_looked_at() {
        let page = sys::page_size();
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
        let wanted = Wanted::checked(64 * page, page, page, flags, 12_345).unwrap();
        assert!(wanted.stays && wanted.to == 0);
    }

    #[test]
    fn nothing_to_move_means_a_second_mapping() {
        let page = sys::page_size();
        let wanted = Wanted::checked(page, 0, 1, libc::MREMAP_MAYMOVE, 0).unwrap();
        assert!(wanted.stays && wanted.len == page && wanted.old.len() == 0);
    }
}
