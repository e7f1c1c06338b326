//! A segment's memory on one node: a memfd that every process of the node maps.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use nix::unistd::Whence;
use parking_lot::Mutex;

/// The unit of everything here, in bytes.
pub const PAGE: u64 = 4096;

/// `size` rounded up to whole pages.
pub const fn whole_pages(size: u64) -> u64 {
    size.div_ceil(PAGE) * PAGE
}

/// How many bytes of a memfd are not holes.
pub fn resident(memfd: BorrowedFd<'_>) -> io::Result<u64> {
    /// The unit of `st_blocks`, stat(3type).
    const BLOCK: u64 = 512;
    let stat = nix::sys::stat::fstat(memfd)?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK)
}

/// Bytes of addresses that all mappings together may take: a quarter of what a
/// process has on x86-64. Segments can be as large as anybody says, and a process
/// without addresses can start no thread.
const ADDRESSES: usize = 32 << 40;
/// How many there are: half of what the kernel allows a process (`vm.max_map_count`),
/// whose threads take two each.
const MAPPINGS: usize = 32_000;

/// What the mappings of all segments take.
static TAKEN: Mutex<(usize, usize)> = Mutex::new((0, 0));

/// A sealed memfd and, as far as there is room for it, this daemon's own mapping of
/// it, which saves a system call for each granule that is sent.
///
/// The seals keep a client from truncating it, which would kill the daemon by
/// SIGBUS. The daemon's mapping is registered with no userfaultfd: it reads
/// pages that no process can write at that moment.
#[derive(Debug)]
pub struct Backing {
    memfd: OwnedFd,
    len: usize,
    mapping: Option<OwnMapping>,
}

/// A mapping of a whole memfd.
#[derive(Debug)]
struct OwnMapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: `base` is a shared mapping that lives as long as the OwnMapping, and is
// only read through.
unsafe impl Send for OwnMapping {}

impl OwnMapping {
    /// `None` where there is no room; the memfd can be read without.
    fn of(memfd: BorrowedFd<'_>, len: usize) -> Option<Self> {
        let taken = &mut *TAKEN.lock();
        let (addresses, mappings) = (taken.0.checked_add(len)?, taken.1 + 1);
        if addresses > ADDRESSES || mappings > MAPPINGS {
            return None;
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                memfd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        // A huge page would join granules that travel apart. Where the kernel
        // has none, the advice fails and is not needed.
        // SAFETY: advice on our own mapping.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        *taken = (addresses, mappings);
        let base = NonNull::new(base.cast())?;
        Some(OwnMapping { base, len })
    }
}

impl Drop for OwnMapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `of` mapped; no reference to its bytes
        // outlives a method call.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        let taken = &mut *TAKEN.lock();
        *taken = (taken.0 - self.len, taken.1 - 1);
    }
}

impl Backing {
    /// Memory of `len` bytes, a multiple of [`PAGE`], all holes.
    pub fn create(name: &str, len: u64) -> io::Result<Self> {
        let name = CString::new(name).map_err(io::Error::other)?;
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a plain call with a valid C string.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: memfd_create just gave us this descriptor.
        let memfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let size = libc::off_t::try_from(len).map_err(io::Error::other)?;
        // SAFETY: plain calls on our own descriptor.
        let sealed = unsafe {
            libc::ftruncate(fd, size) == 0
                && libc::fcntl(
                    fd,
                    libc::F_ADD_SEALS,
                    libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL,
                ) == 0
        };
        if !sealed {
            return Err(io::Error::last_os_error());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mapping = OwnMapping::of(memfd.as_fd(), len);
        Ok(Backing {
            memfd,
            len,
            mapping,
        })
    }

    fn check(&self, offset: u64, len: usize) -> usize {
        let offset = offset as usize;
        assert!(
            offset <= self.len && len <= self.len - offset,
            "outside the segment"
        );
        offset
    }

    /// Appends `len` bytes from `offset` to `into`. Call it only for pages that
    /// are present: reading a hole would fill it.
    pub fn read(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let offset = self.check(offset, len);
        let Some(mapping) = &self.mapping else {
            let begin = into.len();
            into.resize(begin + len, 0);
            return self.read_through_kernel(offset, &mut into[begin..]);
        };
        into.reserve(len);
        // SAFETY: source lies in our mapping by `check`, the destination was
        // reserved, and they cannot overlap. Other processes may map these
        // bytes, but they are write-protected by the caller before.
        unsafe {
            let end = into.as_mut_ptr().add(into.len());
            std::ptr::copy_nonoverlapping(mapping.base.as_ptr().add(offset), end, len);
            into.set_len(into.len() + len);
        }
        Ok(())
    }

    fn read_through_kernel(&self, offset: usize, mut into: &mut [u8]) -> io::Result<()> {
        let mut offset = offset as libc::off_t;
        while !into.is_empty() {
            let count = nix::sys::uio::pread(&self.memfd, into, offset)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            into = &mut into[count..];
            offset += count as libc::off_t;
        }
        Ok(())
    }

    /// Reads `len` bytes from `offset`, holes as zeros, which stay holes.
    pub fn read_sparse(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let offset = self.check(offset, len);
        let (begin, mut done) = (into.len(), 0);
        into.resize(begin + len, 0);
        while done < len {
            let place = &mut into[begin + done..];
            let at = (offset + done) as libc::off_t;
            match nix::sys::uio::pread(&self.memfd, place, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Where the first byte from `offset` on is that lies in no hole, if there is one.
    ///
    /// There is no such question for the next hole: to find it the kernel looks at
    /// every page before it, in all of the file.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        // ENXIO, the only error there can be, is the end.
        let found =
            nix::unistd::lseek(&self.memfd, offset as libc::off_t, Whence::SeekData).ok()?;
        u64::try_from(found).ok()
    }

    /// Fills pages that no process maps at this moment. It is a system call and
    /// no store: where memory is short that is an error, a store would be SIGBUS.
    pub fn write(&self, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let mut offset = self.check(offset, bytes.len()) as libc::off_t;
        while !bytes.is_empty() {
            let written = nix::sys::uio::pwrite(&self.memfd, bytes, offset)?;
            bytes = &bytes[written..];
            offset += written as libc::off_t;
        }
        Ok(())
    }

    /// Takes pages away from every process of the node and frees them.
    pub fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        punch(self.memfd.as_fd(), offset, len)
    }
}

/// Makes a hole in a memfd; see fallocate(2).
pub fn punch(memfd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    loop {
        // SAFETY: a plain call on a borrowed descriptor.
        let result = unsafe {
            libc::fallocate(
                memfd.as_raw_fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                offset,
                len,
            )
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_for_which_there_are_no_addresses_is_read_without() {
        let large = Backing::create("dipc-test", 2 * ADDRESSES as u64).unwrap();
        assert!(large.mapping.is_none());
        let place = ADDRESSES as u64 + 3 * PAGE;
        large.write(place, b"there").unwrap();
        let mut found = Vec::new();
        large.read(place, 5, &mut found).unwrap();
        assert_eq!(found, b"there");
    }
}
