//! Ranges whose pages are not all alike.
//!
//! A granule of many pages is in one state for the protocol, and in many for the
//! kernel: some pages are mapped, some only in memory, some nowhere; a program may
//! have unmapped some, or put something else in their place, and told so or not
//! yet. The kernel's calls stop at the first page that they are not for:
//!
//! | call | stops at |
//! |---|---|
//! | `UFFDIO_COPY` | a page in memory (EEXIST), the mapping's end (ENOENT, before it begins) |
//! | `UFFDIO_CONTINUE` | one not in memory (EFAULT), one mapped (EEXIST), the mapping's end |
//! | `UFFDIO_POISON` | one mapped or protected (EEXIST), the mapping's end |
//! | `UFFDIO_WRITEPROTECT` | something that is not ours (ENOENT); passes over gaps |
//!
//! What the kernel calls a mapping may be a part of ours: `mlock` of a page cuts it.
//! So each call is tried on all, which does where all pages are alike, and as they
//! are in a granule of one page; then page by page.

use super::PAGE;
use super::uffd::{Error, Progress, Range, Uffd};

/// So many bytes around a page are supplied with it: what else of a granule is in
/// memory comes at once, and what is not is not made without need.
pub(super) const AROUND: u64 = 64 << 10;

/// As many zeros as are ever supplied at once.
pub(super) static ZEROS: [u8; AROUND as usize] = [0; AROUND as usize];

impl Range {
    fn pages(self) -> impl Iterator<Item = Range> {
        let starts = (self.start..self.end()).step_by(PAGE as usize);
        starts.map(|start| Range { start, len: PAGE })
    }

    fn behind(self, done: u64) -> Range {
        Range {
            start: self.start + done,
            len: self.len - done,
        }
    }
}

/// What is the matter with a page only, and not with its whole space.
fn of_a_page(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Unmapped | Error::Present | Error::Absent) => Ok(()),
        other => other,
    }
}

/// Forbids or allows writing, wherever in the range something is ours.
pub(super) fn protect(uffd: &Uffd, range: Range, on: bool) -> Result<(), Error> {
    match uffd.protect(range, on) {
        Err(Error::Unmapped) if range.len > PAGE => range
            .pages()
            .try_for_each(|page| of_a_page(uffd.protect(page, on))),
        other => of_a_page(other),
    }
}

/// What [`map`] and [`supply`] have found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mapped {
    /// All of it is mapped now, and none of it was; who waits goes on.
    Now,
    /// It is one page, which was mapped before.
    Before,
    /// Some pages, or none: the others are mapped, or not in memory, or not ours.
    Partly,
}

/// Maps what of the range is in memory already.
pub(super) fn map(uffd: &Uffd, range: Range, protect: bool) -> Result<Mapped, Error> {
    let Progress { result, .. } = uffd.proceed(range, protect);
    match result {
        Ok(()) => Ok(Mapped::Now),
        Err(Error::Present) if range.len == PAGE => Ok(Mapped::Before),
        other => of_a_page(other).map(|()| Mapped::Partly),
    }
}

/// Maps each page that is not: as it is in memory, or else with these bytes. If some
/// were there before, who waits is not woken.
pub(super) fn supply(
    uffd: &Uffd,
    range: Range,
    bytes: &[u8],
    protect: bool,
) -> Result<Mapped, Error> {
    let Progress { done, result } = uffd.copy(range.start, bytes, protect);
    if result.is_ok() {
        return Ok(Mapped::Now);
    }
    of_a_page(result)?;
    let rest = range.behind(done);
    let bytes = bytes[done as usize..].chunks(PAGE as usize);
    for (page, bytes) in rest.pages().zip(bytes) {
        match uffd.copy(page.start, bytes, protect).result {
            Err(Error::Present) => of_a_page(uffd.proceed(page, protect).result)?,
            other => of_a_page(other)?,
        }
    }
    Ok(Mapped::Partly)
}

/// Makes SIGBUS of every later access to pages that are absent, and of those that
/// wait.
pub(crate) fn poison(uffd: &Uffd, range: Range) -> Result<(), Error> {
    // A left-over protection marker would be in the way.
    protect(uffd, range, false)?;
    let Progress { done, result } = uffd.poison(range);
    let result = match of_a_page(result) {
        Ok(()) => range
            .behind(done)
            .pages()
            .try_for_each(|page| of_a_page(uffd.poison(page).result)),
        other => other,
    };
    uffd.wake(range);
    result
}
