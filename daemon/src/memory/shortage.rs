//! What is done when the kernel has no memory for what coherence asks of it.
//!
//! | no memory for | then | lost |
//! |---|---|---|
//! | a page that has come | the threads that wait for it get SIGBUS; its bytes are **stranded** | nothing |
//! | a page of a granule of many that has come | the daemon ends, see [`beyond_control`] | what only this node had |
//! | mapping a page that is here | the thread gets SIGBUS | nothing |
//! | a mark that forbids writing | nothing: see [`forbid_writing`] | nothing |
//! | the mark that a page is lost | the daemon ends, see [`beyond_control`] | what only this node had |
//!
//! Nothing is freed and tried again behind a program's back. But a later access,
//! by whatever process, asks anew, and finds the page when there is memory by then.
//! A page that has raised SIGBUS in a process stays so there until it detaches, as
//! one with a memory error does.
//!
//! Stranded bytes are in the daemon's own memory. They are as good as a page: other
//! nodes get them when they ask, and they are the granule's only content if this
//! node owns it.

use std::collections::HashMap;
use std::io;

use dipc_wire::ObjectId;

use super::uffd::{Error, Range, Uffd};
use super::{PAGE, pages};

/// Granules of a segment that are here, but not in its memory.
#[derive(Default)]
pub(super) struct Stranded(HashMap<u64, Vec<u8>>);

impl Stranded {
    /// There is no memory for these bytes.
    pub(super) fn keep(&mut self, id: ObjectId, granule: u64, bytes: &[u8], error: &io::Error) {
        if self.0.is_empty() {
            tracing::error!(
                segment = %id, granule, %error,
                "no memory for a page of shared memory: the programs that wait for it get \
                 SIGBUS. Nothing is lost. Free memory, or raise the limit of its control group"
            );
        }
        self.0.insert(granule, bytes.to_vec());
    }

    /// What was taken out has found no memory again.
    pub(super) fn put_back(&mut self, granule: u64, bytes: Vec<u8>) {
        self.0.insert(granule, bytes);
    }

    pub(super) fn bytes(&self, granule: u64) -> Option<&[u8]> {
        self.0.get(&granule).map(Vec::as_slice)
    }

    pub(super) fn take(&mut self, granule: u64) -> Option<Vec<u8>> {
        self.0.remove(&granule)
    }

    pub(super) fn forget(&mut self, granule: u64) {
        self.0.remove(&granule);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

/// Forbids to write a range of an address space.
///
/// The kernel needs memory for that only where the space has no page table yet
/// (ENOMEM). There it maps nothing, so nobody can write; and as every first access
/// to a page of ours is a fault (`MISSING` or `MINOR`), nobody will without asking.
/// So that is as good as done, page by page.
pub(super) fn forbid_writing(uffd: &Uffd, range: Range) -> Result<(), Error> {
    page_by_page(range, |range| pages::protect(uffd, range, true))
}

fn page_by_page(
    range: Range,
    mut forbid: impl FnMut(Range) -> Result<(), Error>,
) -> Result<(), Error> {
    match forbid(range) {
        Err(Error::Other(error)) if lacks_memory(&error) => {}
        other => return other,
    }
    for start in (range.start..range.end()).step_by(PAGE as usize) {
        match forbid(Range { start, len: PAGE }) {
            Err(Error::Other(error)) if lacks_memory(&error) => {}
            Ok(()) => {}
            other => return other,
        }
    }
    Ok(())
}

fn lacks_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// The kernel refuses what coherence rests on: a thread could go on with what it
/// must not see, or wait for ever. So this daemon ends at once, and its keeper takes
/// away all that its programs have. The other nodes go on.
pub(super) fn beyond_control(what: &str, id: ObjectId, error: &io::Error) -> ! {
    tracing::error!(
        segment = %id, %error,
        "this node ends: the kernel refuses to change {what}. Its programs get errors; restart \
         dipcd"
    );
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(errno: i32) -> Error {
        Error::Other(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn without_memory_each_page_that_can_be_is_forbidden() {
        let range = Range {
            start: 4 * PAGE,
            len: 3 * PAGE,
        };
        let mut asked = Vec::new();
        let done = page_by_page(range, |range| {
            asked.push((range.start / PAGE, range.len / PAGE));
            match range.start / PAGE {
                _ if range.len > PAGE => Err(errno(libc::ENOMEM)),
                5 => Err(errno(libc::ENOMEM)),
                _ => Ok(()),
            }
        });
        assert!(done.is_ok());
        assert_eq!(asked, [(4, 3), (4, 1), (5, 1), (6, 1)]);
    }

    #[test]
    fn any_other_refusal_is_passed_on() {
        let range = Range {
            start: 0,
            len: PAGE,
        };
        let refusal = page_by_page(range, |_| Err(errno(libc::EINVAL)));
        assert!(matches!(refusal, Err(Error::Other(_))));
        let changing = page_by_page(range, |_| Err(Error::Changing));
        assert!(matches!(changing, Err(Error::Changing)));
    }
}
