//! One userfaultfd: the faults of one address space, and the calls that answer
//! them. See ioctl_userfaultfd(2).
//!
//! The descriptor belongs to the address space of the process that made it;
//! every call here acts on that space, whoever holds the descriptor.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use linux_raw_sys::general as sys;
use linux_raw_sys::ioctl as request;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// `UFFDIO_POISON`, Linux 6.6: `_IOWR(0xAA, 8, struct uffdio_poison)`.
const UFFDIO_POISON: u32 = 3 << 30
    | (size_of::<sys::uffdio_poison>() as u32) << 16
    | sys::UFFDIO << 8
    | sys::_UFFDIO_POISON;
/// `UFFDIO_WRITEPROTECT_MODE_WP`
const PROTECT: u64 = 1;
/// `UFFDIO_CONTINUE_MODE_WP`, Linux 6.4.
const CONTINUE_WP: u64 = 2;
/// Bytes of one event.
const MESSAGE: usize = size_of::<sys::uffd_msg>();
/// Events that one read takes at most.
const BATCH: usize = 16;
/// Without these there is no coherence: faults on absent and on present pages
/// of shared memory, protection of both, a way to say that a page is lost, and who
/// is waiting.
const REQUIRED: u64 = (sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | sys::UFFD_FEATURE_MISSING_SHMEM
    | sys::UFFD_FEATURE_MINOR_SHMEM
    | sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    | sys::UFFD_FEATURE_WP_UNPOPULATED
    | sys::UFFD_FEATURE_POISON
    | sys::UFFD_FEATURE_THREAD_ID) as u64;

/// A range of a process's addresses, whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

impl Range {
    /// The byte behind the last. Ranges of the kernel's addresses have one.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// What is in both.
    pub fn common(self, other: Range) -> Option<Range> {
        let start = self.start.max(other.start);
        let len = self.end().min(other.end()).checked_sub(start)?;
        (len > 0).then_some(Range { start, len })
    }

    fn raw(self) -> sys::uffdio_range {
        sys::uffdio_range {
            start: self.start,
            len: self.len,
        }
    }
}

/// Why a call on an address space failed.
#[derive(Debug)]
pub enum Error {
    /// The space changes at this moment (fork, mremap, munmap): read its events,
    /// then try again.
    Changing,
    /// The space is gone: its process ended or executed another program.
    Gone,
    /// Nothing of ours is mapped there any more.
    Unmapped,
    /// The page is there already.
    Present,
    /// The page is not there.
    Absent,
    /// Anything else: a missing kernel feature, or a bug.
    Other(io::Error),
}

impl Error {
    fn last() -> Self {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Error::Changing,
            Some(libc::ESRCH) => Error::Gone,
            Some(libc::ENOENT) => Error::Unmapped,
            Some(libc::EEXIST) => Error::Present,
            Some(libc::EFAULT) => Error::Absent,
            _ => Error::Other(error),
        }
    }
}

/// How far a call came that goes through a range page by page.
#[derive(Debug)]
#[must_use]
pub struct Progress {
    /// So many bytes from the range's start are done.
    pub done: u64,
    /// What is the matter with the page behind them, if there is one.
    pub result: Result<(), Error>,
}

/// Calls `act` for a range, and again for what is left as long as it does a part
/// of it. It says how many bytes it did: the kernel answers EAGAIN then, which
/// without a part done is [`Error::Changing`].
fn in_parts(range: Range, mut act: impl FnMut(Range) -> (Result<(), Error>, i64)) -> Progress {
    let mut done = 0;
    loop {
        let rest = Range {
            start: range.start + done,
            len: range.len - done,
        };
        match act(rest) {
            (Err(Error::Changing), part @ 1..) => done += part as u64,
            (Ok(()), _) => {
                return Progress {
                    done: range.len,
                    result: Ok(()),
                };
            }
            (result, _) => return Progress { done, result },
        }
    }
}

/// What an address space tells.
#[derive(Debug)]
pub enum Event {
    /// A thread waits for the page at `addr`.
    Fault {
        /// Start of the page.
        addr: u64,
        /// It wants to write.
        write: bool,
        /// The page is there, but write-protected.
        protected: bool,
        /// The thread's id, in its own pid namespace.
        thread: u32,
    },
    /// The process forked; the child's userfaultfd.
    Fork(OwnedFd),
}

/// An owned userfaultfd.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
}

impl Uffd {
    /// Takes a descriptor that a process made and begins to serve it.
    ///
    /// With `forks`, children are announced by events; that needs
    /// CAP_SYS_PTRACE of this daemon, so EPERM means: without.
    pub fn begin(fd: OwnedFd, forks: bool) -> io::Result<Self> {
        let features = REQUIRED
            | if forks {
                u64::from(sys::UFFD_FEATURE_EVENT_FORK)
            } else {
                0
            };
        let mut api = sys::uffdio_api {
            api: u64::from(sys::UFFD_API),
            features,
            ioctls: 0,
        };
        let uffd = Uffd { fd };
        uffd.ioctl(request::UFFDIO_API, &mut api)?;
        uffd.make_nonblocking()?;
        Ok(uffd)
    }

    /// A child's descriptor from a fork event: it has its parent's features.
    pub fn inherited(fd: OwnedFd) -> Self {
        let uffd = Uffd { fd };
        // The kernel gives it the flags with which the program made its own. If
        // they cannot be changed it is polled too often, and that is all.
        let _ = uffd.make_nonblocking();
        uffd
    }

    fn ioctl<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: every caller passes the struct that belongs to `request`, and
        // the kernel writes within it. A descriptor that is no userfaultfd
        // answers ENOTTY or EINVAL.
        let result = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                request as libc::Ioctl,
                std::ptr::from_mut(argument),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn act<T>(&self, request: u32, argument: &mut T) -> Result<(), Error> {
        self.ioctl(request, argument).map_err(|_| Error::last())
    }

    /// From now on every access to the range that finds no page, a page it does
    /// not map yet, or a protected one, waits for us.
    pub fn register(&self, range: Range) -> io::Result<()> {
        let mode = sys::UFFDIO_REGISTER_MODE_MISSING
            | sys::UFFDIO_REGISTER_MODE_MINOR
            | sys::UFFDIO_REGISTER_MODE_WP;
        self.ioctl(
            request::UFFDIO_REGISTER,
            &mut sys::uffdio_register {
                range: range.raw(),
                mode: u64::from(mode),
                ioctls: 0,
            },
        )
    }

    /// Fills absent pages at `start` and maps them in one step; other threads
    /// never see them half filled. All of them must lie in one of the kernel's
    /// mappings.
    pub fn copy(&self, start: u64, bytes: &[u8], protect: bool) -> Progress {
        let mode = if protect {
            u64::from(sys::UFFDIO_COPY_MODE_WP)
        } else {
            0
        };
        let range = Range {
            start,
            len: bytes.len() as u64,
        };
        in_parts(range, |part| {
            let mut argument = sys::uffdio_copy {
                dst: part.start,
                src: bytes[(part.start - start) as usize..].as_ptr() as u64,
                len: part.len,
                mode,
                copy: 0,
            };
            let result = self.act(request::UFFDIO_COPY, &mut argument);
            (result, argument.copy)
        })
    }

    /// Maps pages that are in the segment's memory already. As for
    /// [`copy`](Self::copy), in one of the kernel's mappings.
    pub fn proceed(&self, range: Range, protect: bool) -> Progress {
        let mode = if protect { CONTINUE_WP } else { 0 };
        in_parts(range, |part| {
            let mut argument = sys::uffdio_continue {
                range: part.raw(),
                mode,
                mapped: 0,
            };
            let result = self.act(request::UFFDIO_CONTINUE, &mut argument);
            (result, argument.mapped)
        })
    }

    /// Forbids (`true`) or allows writing. Allowing wakes who waits to write. Other
    /// mappings of ours in the range are taken along; behind one that is not ours,
    /// nothing is done.
    pub fn protect(&self, range: Range, on: bool) -> Result<(), Error> {
        let mode = if on { PROTECT } else { 0 };
        self.act(
            request::UFFDIO_WRITEPROTECT,
            &mut sys::uffdio_writeprotect {
                range: range.raw(),
                mode,
            },
        )
    }

    /// Accesses to these absent pages raise SIGBUS. As for [`copy`](Self::copy),
    /// in one of the kernel's mappings.
    pub fn poison(&self, range: Range) -> Progress {
        in_parts(range, |part| {
            let mut argument = sys::uffdio_poison {
                range: part.raw(),
                mode: 0,
                updated: 0,
            };
            let result = self.act(UFFDIO_POISON, &mut argument);
            (result, argument.updated)
        })
    }

    /// Threads that wait in the range try their access again.
    pub fn wake(&self, range: Range) {
        // It fails for a malformed range only, and ours are whole pages.
        let _ = self.act(request::UFFDIO_WAKE, &mut range.raw());
    }

    /// Hands over the events that have happened, in one system call; never waits.
    pub fn read_events(&self, mut each: impl FnMut(Event)) -> io::Result<()> {
        let mut messages = [[0u8; MESSAGE]; BATCH];
        let count = match self.read(messages.as_flattened_mut()) {
            Ok(count) => count,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                    _ => Err(error),
                };
            }
        };
        messages[..count / MESSAGE]
            .iter()
            .filter_map(decode)
            .for_each(&mut each);
        Ok(())
    }
}

impl Uffd {
    /// Reads without waiting. The flag O_NONBLOCK does not see to that: the
    /// program shares it with us, and could clear it.
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let slice = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        // SAFETY: one slice, writable and as long as it says; -1 reads a stream.
        let count = unsafe { libc::preadv2(self.fd.as_raw_fd(), &slice, 1, -1, libc::RWF_NOWAIT) };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.read_old(into),
                error => Err(error),
            },
        }
    }

    /// The same before Linux 6.10, where a userfaultfd does not know RWF_NOWAIT.
    fn read_old(&self, into: &mut [u8]) -> io::Result<usize> {
        self.make_nonblocking()?;
        // SAFETY: the buffer is writable and as long as we say.
        let count =
            unsafe { libc::read(self.fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Without O_NONBLOCK a userfaultfd cannot be polled.
    fn make_nonblocking(&self) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: plain fcntl calls on a descriptor that we own.
        let done = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits for an event, or until `other` is readable, or until `patience` is
    /// over. Returns whether `other` is.
    pub fn await_event(&self, other: Option<BorrowedFd<'_>>, patience: PollTimeout) -> bool {
        let events = self.fd.as_fd();
        let mut ready = [
            PollFd::new(events, PollFlags::POLLIN),
            PollFd::new(other.unwrap_or(events), PollFlags::POLLIN),
        ];
        // Interrupted or not, the caller looks.
        let _ = poll(&mut ready, patience);
        if ready[0]
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLERR))
        {
            // The program has cleared the flag. If it cannot be set again the
            // caller looks too often, and that is all.
            let _ = self.make_nonblocking();
        }
        other.is_some() && ready[1].any() == Some(true)
    }
}

/// `struct uffd_msg` is packed and holds a union; its fields lie at fixed places.
fn decode(bytes: &[u8; MESSAGE]) -> Option<Event> {
    let word = |at: usize| {
        let mut b = [0; 8];
        b.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(b)
    };
    match u32::from(bytes[0]) {
        sys::UFFD_EVENT_PAGEFAULT => {
            let (flags, addr) = (word(8), word(16));
            let protected = flags & u64::from(sys::UFFD_PAGEFAULT_FLAG_WP) != 0;
            let write = protected || flags & u64::from(sys::UFFD_PAGEFAULT_FLAG_WRITE) != 0;
            Some(Event::Fault {
                addr: addr & !0xfff,
                write,
                protected,
                thread: word(24) as u32,
            })
        }
        sys::UFFD_EVENT_FORK => {
            let fd = word(8) as u32 as RawFd;
            // SAFETY: the kernel has just put this descriptor into our table
            // for this event, so nobody else owns it.
            Some(Event::Fork(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        _ => None,
    }
}

impl From<Uffd> for OwnedFd {
    fn from(uffd: Uffd) -> Self {
        uffd.fd
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ranges_have_in_common_is_in_both_and_never_empty() {
        let range = |start, len| Range { start, len };
        let one = range(10, 10);
        for (other, common) in [
            (range(0, 30), Some(one)),
            (range(0, 11), Some(range(10, 1))),
            (range(19, 9), Some(range(19, 1))),
            (range(12, 3), Some(range(12, 3))),
            (range(0, 10), None),
            (range(20, 5), None),
            (range(15, 0), None),
            (range(u64::MAX - 3, 10), None),
        ] {
            assert_eq!(one.common(other), common, "{other:?}");
            assert_eq!(other.common(one), common, "{other:?}");
        }
    }
}
