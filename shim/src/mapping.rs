//! How a segment gets into the address space and out of it.
//!
//! Attaching, in two halves:
//!
//! ```text
//!   shim                                      dipcd
//!    │ Attach{id} ───────────────────────────▶ │ asks the home, counts
//!    │ ◀──────────────── Attached + memfd      │
//!    │ mmap(PROT_NONE): nobody can touch it    │
//!    │ Map{addr} + userfaultfd ──────────────▶ │ registers the range
//!    │ ◀──────────────────────────── Done      │
//!    │ mprotect: open                          │
//! ```
//!
//! At no moment is the segment accessible without its faults being served.

use dipc_wire::ObjectId;
use dipc_wire::call::{Reply, flags};
use dipc_wire::local::{Request, Response};
use libc::c_int;

use crate::attachments::{self, Attachment};
use crate::changes::{self, Memory};
use crate::control::out_of_step;
use crate::exchange::{self, Patience, SMALL};
use crate::exclusive::exclusively;
use crate::outcome::{Detour, Escape, Family, Trouble, escape, refused_by_id};
use crate::session::Session;
use crate::span::Span;
use crate::user_memory::UserBytes;
use crate::{faults, fork, sys};

/// Attaches the segment `id` and gives its address.
pub(crate) fn enter(id: ObjectId, addr: usize, flags: u32) -> Detour<usize> {
    let place = Place::wanted(addr, flags)?;
    let request = Request::Attach {
        id,
        flags: flags & (flags::RDONLY | flags::EXEC),
        need_uffd: faults::needed(),
    };
    let like = Attachment {
        id,
        readonly: flags & flags::RDONLY != 0,
        inherited: true,
        prot: protection(flags),
        addr: 0,
        len: 0,
        offset: 0,
    };
    if place.fixed == libc::MAP_FIXED {
        exclusively(|| enter_by(&request, like, place))
    } else {
        enter_by(&request, like, place)
    }
}

/// The same by another first request. What is mapped is `like` that in all but
/// its place and length. Call it exclusively if it may replace something.
pub(crate) fn enter_by(request: &Request, like: Attachment, place: Place) -> Detour<usize> {
    let mut session = exchange::begin(request, UserBytes::NONE).map_err(trouble)?;
    let entered = Segment::receive(&mut session, like)
        .and_then(|segment| segment.map(&mut session, place, asks_for_uffd(request)));
    match entered {
        Ok(addr) => Ok(addr),
        Err(Failure::BeforeMap(errno)) => {
            // The daemon has counted us already. What it answers changes nothing.
            let mut room = [0; SMALL];
            let _ = session
                .send(&Request::Abandon, UserBytes::NONE, None)
                .and_then(|()| session.answer(Patience::Steady, &mut room).map(drop));
            Err(Escape::Errno(errno))
        }
        Err(Failure::AtMap(escape)) => Err(escape),
    }
}

fn asks_for_uffd(request: &Request) -> bool {
    matches!(
        request,
        Request::Attach { need_uffd, .. } | Request::Remap { need_uffd, .. } if *need_uffd
    )
}

fn trouble(trouble: Trouble) -> Escape {
    escape(trouble, Family::Operation)
}

/// Where to map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    addr: usize,
    /// `MAP_FIXED`, `MAP_FIXED_NOREPLACE` or 0.
    fixed: c_int,
}

impl Place {
    /// Judges the address (behaviours 92, 93).
    fn wanted(addr: usize, flags: u32) -> Detour<Self> {
        let page = sys::page_size();
        let rounded = if flags & flags::RND != 0 {
            addr & !(page - 1)
        } else {
            addr
        };
        let replace = flags & flags::REMAP != 0;
        if rounded % page != 0 || replace && rounded == 0 {
            return Err(Escape::Errno(libc::EINVAL));
        }
        let fixed = match addr {
            0 => 0,
            _ if replace => libc::MAP_FIXED,
            _ => libc::MAP_FIXED_NOREPLACE,
        };
        Ok(Place {
            addr: rounded,
            fixed,
        })
    }

    /// At `addr`, over whatever lies there; or near it, if it is not `fixed`.
    pub(crate) fn at(addr: usize, fixed: bool) -> Self {
        let fixed = if fixed { libc::MAP_FIXED } else { 0 };
        Place { addr, fixed }
    }
}

/// A descriptor that came with an answer; closed when dropped.
struct Passing(c_int);

impl Passing {
    fn into_inner(self) -> c_int {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// What the first half brought.
struct Segment {
    like: Attachment,
    len: usize,
    memory: Passing,
    device: Option<Passing>,
    adopt: bool,
}

/// Where it failed.
enum Failure {
    /// Between the halves: the daemon has counted what is not mapped.
    BeforeMap(c_int),
    /// Before the first half was done, or in the second.
    AtMap(Escape),
}

impl Segment {
    fn receive(session: &mut Session, like: Attachment) -> Result<Self, Failure> {
        let mut came = [None; 2];
        let mut room = [0; SMALL];
        let answer = session.answer_with(Patience::Steady, &mut room, Some(&mut came));
        let [memory, device] = came.map(|fd| fd.map(Passing));
        match answer.map_err(|it| Failure::AtMap(trouble(it)))?.response {
            Response::Attached {
                len,
                device: promised,
                adopt,
            } => {
                // This process has no descriptors left for what came, recvmsg(2).
                let all = memory.filter(|_| device.is_some() || !promised);
                let (Some(memory), Ok(len)) = (all, usize::try_from(len)) else {
                    return Err(Failure::BeforeMap(libc::ENOMEM));
                };
                let device = device.filter(|_| promised);
                Ok(Segment {
                    like,
                    len,
                    memory,
                    device,
                    adopt,
                })
            }
            Response::Reply(Reply::Failed(errno)) => Err(Failure::AtMap(refused_by_id(errno))),
            _ => Err(Failure::AtMap(out_of_step(Family::Operation))),
        }
    }

    /// The second half.
    fn map(self, session: &mut Session, place: Place, need_uffd: bool) -> Result<usize, Failure> {
        let uffd = need_uffd
            .then(|| faults::make(self.device.as_ref().map(|device| device.0)).map(Passing))
            .transpose()
            .map_err(|_| Failure::BeforeMap(libc::ENOMEM))?;
        let entry = attachments::reserve().ok_or(Failure::BeforeMap(libc::ENOMEM))?;
        let attachment = self.reserve_range(place).map_err(|errno| {
            entry.release();
            Failure::BeforeMap(errno)
        })?;
        let told = tell_mapped(session, attachment.addr, uffd.as_ref());
        if let Err(escape) = told {
            // SAFETY: our mapping, which nobody could touch yet.
            unsafe { sys::unmap(attachment.addr, attachment.len) };
            entry.release();
            return Err(Failure::AtMap(escape));
        }
        if let Some(uffd) = uffd {
            faults::given(uffd.into_inner());
        }
        fork::attached(self.adopt);
        if let (true, Some(device)) = (self.adopt, self.device) {
            faults::keep_device(device.into_inner());
        }
        // Before it can be touched: a child that is forked in between must know it.
        entry.fill(attachment);
        fork::keep_from_unseen(attachment.span());
        // SAFETY: our mapping.
        let opened = unsafe { sys::protect(attachment.addr, attachment.len, attachment.prot) };
        opened.map_err(|errno| {
            close_off(attachment.span());
            entry.release();
            let addr = attachment.addr as u64;
            tell_on(session, &Request::Detach { addr });
            // SAFETY: our reservation, made by `close_off`.
            unsafe { sys::unmap(attachment.addr, attachment.len) };
            Failure::AtMap(Escape::Errno(errno))
        })?;
        Ok(attachment.addr)
    }

    /// Maps the segment, inaccessible.
    fn reserve_range(&self, place: Place) -> sys::Result<Attachment> {
        if place.addr.checked_add(self.len).is_none() {
            return Err(libc::EINVAL);
        }
        let flags = libc::MAP_SHARED | place.fixed;
        // SAFETY: replaces something only if the caller said SHM_REMAP or
        // MREMAP_FIXED, and then it vouches for the range.
        let mapped = unsafe {
            sys::map_from(
                place.addr,
                self.len,
                libc::PROT_NONE,
                flags,
                self.memory.0,
                self.like.offset,
            )
        };
        let addr = mapped.map_err(|errno| match errno {
            libc::EEXIST => libc::EINVAL,
            other => other,
        })?;
        let attachment = Attachment {
            addr,
            len: self.len,
            ..self.like
        };
        if place.fixed == libc::MAP_FIXED {
            // This thread's connection is between the halves of an attach.
            changes::vacate_beside(attachment.span());
        }
        Ok(attachment)
    }
}

/// Tells the daemon where the segment lies.
fn tell_mapped(session: &mut Session, addr: usize, uffd: Option<&Passing>) -> Detour<()> {
    let mut room = [0; SMALL];
    session
        .send(
            &Request::Map { addr: addr as u64 },
            UserBytes::NONE,
            uffd.map(|fd| fd.0),
        )
        .map_err(|_| trouble(Trouble::Lost))?;
    match session
        .answer(Patience::Steady, &mut room)
        .and_then(|a| a.reply())
        .map_err(trouble)?
    {
        Reply::Done => Ok(()),
        Reply::Failed(errno) => Err(errno.into()),
        _ => Err(out_of_step(Family::Operation)),
    }
}

fn protection(flags: u32) -> c_int {
    let write = if flags & flags::RDONLY == 0 {
        libc::PROT_WRITE
    } else {
        0
    };
    let execute = if flags & flags::EXEC != 0 {
        libc::PROT_EXEC
    } else {
        0
    };
    libc::PROT_READ | write | execute
}

/// `shmdt` of what has this base: all that is left of the attachment (behaviours
/// 100, 105). False when there is none.
///
/// The range stays reserved until the daemon knows: else another thread's shmat
/// could get the same address, and its Map overtake our Detach.
pub(crate) fn leave(base: usize) -> bool {
    exclusively(|| {
        let Some(first) = attachments::first_of(base) else {
            return false;
        };
        let all = attachments::all().filter(|part| part.base() == base && part.id == first.id);
        for part in all {
            // Cannot fail: nothing is left of a part, so no entry is needed.
            if changes::vacate(part.span(), Memory::Ours).is_ok() {
                // SAFETY: our reservation, made by `vacate`.
                unsafe { sys::unmap(part.addr, part.len) };
            }
        }
        true
    })
}

/// Replaces an attachment's memory by nothing: to touch it is SIGSEGV.
pub(crate) fn close_off(span: Span) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: replaces our own mapping, at the caller's wish (shmdt, munmap) or
    // because what it shows would be wrong. If it fails the range is unmapped or
    // untouched, and munmap follows.
    let _ = unsafe { sys::map(span.start, span.len(), libc::PROT_NONE, flags, -1) };
}

/// Tells the daemon of what has happened to a mapping.
pub(crate) fn tell(request: &Request) {
    let mut room = [0; SMALL];
    // A daemon that is gone needs no telling.
    let _ = exchange::begin(request, UserBytes::NONE)
        .and_then(|mut session| session.answer(Patience::Steady, &mut room).map(drop));
}

/// The same on a connection that is at hand.
pub(crate) fn tell_on(session: &mut Session, request: &Request) {
    let mut room = [0; SMALL];
    // A daemon that is gone needs no telling.
    let _ = session
        .send(request, UserBytes::NONE, None)
        .and_then(|()| session.answer(Patience::Steady, &mut room).map(drop));
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: Detour<Place> = Err(Escape::Errno(libc::EINVAL));

    #[test]
    fn an_unaligned_address_is_rounded_down_with_rnd_and_refused_without() {
        let page = sys::page_size();
        assert_eq!(Place::wanted(16 * page + 5, 0), INVALID);
        let rounded = Place {
            addr: 16 * page,
            fixed: libc::MAP_FIXED_NOREPLACE,
        };
        assert_eq!(Place::wanted(16 * page + 5, flags::RND), Ok(rounded));
    }

    #[test]
    fn remap_needs_an_address_and_replaces_what_lies_there() {
        let page = sys::page_size();
        assert_eq!(Place::wanted(0, flags::REMAP), INVALID);
        assert_eq!(Place::wanted(5, flags::REMAP | flags::RND), INVALID);
        let fixed = Place {
            addr: 16 * page,
            fixed: libc::MAP_FIXED,
        };
        assert_eq!(Place::wanted(16 * page, flags::REMAP), Ok(fixed));
        assert_eq!(Place::wanted(0, 0), Ok(Place { addr: 0, fixed: 0 }));
    }
}
