//! One word of memory that two processes share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PAGE;

/// A number that whoever has its memfd reads and writes.
#[derive(Debug)]
pub struct Word {
    memfd: OwnedFd,
    at: NonNull<AtomicU64>,
}

// SAFETY: `at` points to an atomic in a mapping that lives as long as the Word.
unsafe impl Send for Word {}
// SAFETY: the same; an atomic may be used by many threads at once.
unsafe impl Sync for Word {}

impl Word {
    /// A new one, which is `value`.
    pub fn new(value: u64) -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a plain call with a valid C string.
        let fd = unsafe { libc::memfd_create(c"dipc-lease".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: memfd_create just gave us this descriptor.
        let memfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: plain calls on our own descriptor.
        let sealed = unsafe {
            libc::ftruncate(fd, PAGE as libc::off_t) == 0
                && libc::fcntl(fd, libc::F_ADD_SEALS, seals) == 0
        };
        if !sealed {
            return Err(io::Error::last_os_error());
        }
        let word = Word::open(memfd)?;
        word.set(value);
        Ok(word)
    }

    /// One that another process has made.
    pub fn open(memfd: OwnedFd) -> io::Result<Self> {
        if nix::sys::stat::fstat(&memfd)?.st_size < PAGE as libc::off_t {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memfd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Word { memfd, at })
    }

    fn atomic(&self) -> &AtomicU64 {
        // SAFETY: a whole page is mapped there, as long as the Word lives, and
        // cannot shrink under its seals; all who share it use it atomically.
        unsafe { self.at.as_ref() }
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.atomic().load(Ordering::SeqCst)
    }

    /// Gives it a value; the one it had.
    pub fn set(&self, value: u64) -> u64 {
        self.atomic().swap(value, Ordering::SeqCst)
    }
}

impl AsFd for Word {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `open` mapped; no reference to it outlives
        // a method call.
        unsafe { libc::munmap(self.at.as_ptr().cast(), PAGE as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let ours = Word::new(7).unwrap();
        let theirs = Word::open(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(theirs.get(), 7);
        assert_eq!(ours.set(u64::MAX), 7);
        assert_eq!(theirs.get(), u64::MAX);
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Word::open(file.into()).is_err());
    }
}
