//! Bare page faults: memory whose missing pages another process fills through
//! userfaultfd. Only what the benchmark's floor needs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

use super::check;
use super::ipc::PAGE;

/// Shared memory whose absent pages are served through [`Faults`].
pub(crate) struct Memory {
    file: File,
    base: *mut u8,
    pages: usize,
}

/// Where faults are read and answered; works from a forked child too, and then
/// on the parent's memory.
pub(crate) struct Faults(File);

// linux/userfaultfd.h; not in libc.
const UFFD_USER_MODE_ONLY: i32 = 1;
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// `struct uffd_msg`: the event's number, and at 16 the address of a fault.
const EVENT: usize = 32;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copy: i64,
}

const _: () =
    assert!(size_of::<Api>() == 24 && size_of::<Register>() == 32 && size_of::<Copy>() == 40);

/// Makes shared memory of `pages` absent pages.
pub(crate) fn absent(pages: usize) -> io::Result<(Memory, Faults)> {
    // SAFETY: the name is a C string; memfd_create makes a descriptor or fails.
    let fd = check(i64::from(unsafe {
        libc::memfd_create(c"dipc-bench".as_ptr(), libc::MFD_CLOEXEC)
    }))?;
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    file.set_len((pages * PAGE) as u64)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a null address lets the kernel choose one where nothing lies.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            pages * PAGE,
            access,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    check(base as i64)?;
    let memory = Memory {
        file,
        base: base.cast(),
        pages,
    };

    // Faults inside system calls do not occur here, and without them any user may.
    // SAFETY: userfaultfd takes flags and makes a descriptor or fails.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    let faults = Faults(unsafe { File::from_raw_fd(fd as i32) });
    let mut api = Api {
        api: UFFD_API,
        features: 0,
        ioctls: 0,
    };
    // SAFETY: `api` has the layout that UFFDIO_API reads and writes (asserted above).
    check(i64::from(unsafe {
        libc::ioctl(faults.0.as_raw_fd(), UFFDIO_API, &mut api)
    }))?;
    let len = (pages * PAGE) as u64;
    let mut range = Register {
        start: base as u64,
        len,
        mode: REGISTER_MODE_MISSING,
        ioctls: 0,
    };
    // SAFETY: `range` has the layout of UFFDIO_REGISTER, and names memory of ours.
    check(i64::from(unsafe {
        libc::ioctl(faults.0.as_raw_fd(), UFFDIO_REGISTER, &mut range)
    }))?;
    Ok((memory, faults))
}

impl Memory {
    /// Makes all pages absent again.
    pub(crate) fn punch(&self) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let len = (self.pages * PAGE) as i64;
        // SAFETY: fallocate takes integers; the memory stays mapped.
        check(i64::from(unsafe {
            libc::fallocate(self.file.as_raw_fd(), mode, 0, len)
        }))
        .map(drop)
    }

    /// Reads the first byte of a page.
    pub(crate) fn read(&self, page: usize) -> u8 {
        assert!(page < self.pages);
        // SAFETY: the page lies in the mapping, which lasts until the process
        // ends; volatile, since the handler fills it.
        unsafe { self.base.add(page * PAGE).read_volatile() }
    }
}

impl Faults {
    /// Waits for a fault; where it is.
    pub(crate) fn next(&mut self) -> io::Result<u64> {
        let mut event = [0; EVENT];
        self.0.read_exact(&mut event)?;
        if event[0] != EVENT_PAGEFAULT {
            return Err(io::Error::other("an event that was not asked for"));
        }
        let address: [u8; 8] = event[16..24].try_into().map_err(io::Error::other)?;
        Ok(u64::from_ne_bytes(address) & !(PAGE as u64 - 1))
    }

    /// Fills the page at `address` and wakes whoever waits for it.
    pub(crate) fn fill(&self, address: u64, page: &[u8; PAGE]) -> io::Result<()> {
        let mut copy = Copy {
            dst: address,
            src: page.as_ptr() as u64,
            len: PAGE as u64,
            mode: 0,
            copy: 0,
        };
        // SAFETY: `copy` has the layout of UFFDIO_COPY; it reads `page`, which is
        // as long as it says, and writes only memory that was registered.
        check(i64::from(unsafe {
            libc::ioctl(self.0.as_raw_fd(), UFFDIO_COPY, &mut copy)
        }))
        .map(drop)
    }
}
