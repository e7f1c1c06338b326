//! Descriptors that this library keeps open in somebody else's process.
//!
//! The program may close them (`closefrom`, a daemon's loop over all numbers)
//! and the number may then be a file of its own. So a kept descriptor is known
//! by the file behind it, and is looked at before each use: we never read,
//! write or close what is not ours.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use libc::c_int;

use crate::sys;

/// Kept descriptors are moved up here, out of the way of programs that count on
/// low numbers, if the limit of open files allows.
const HIGH: c_int = 512;

/// A descriptor and the identity of the file behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor {
    fd: c_int,
    device: u64,
    inode: u64,
}

impl Descriptor {
    /// Takes over `fd`, moving it up. It is closed on exec. Closes it on failure.
    pub(crate) fn keep(fd: c_int) -> sys::Result<Self> {
        let kept = match sys::duplicate(fd, HIGH) {
            Ok(high) => {
                sys::close(fd);
                high
            }
            Err(_) => fd,
        };
        // Device and inode; on Linux each socket and userfaultfd has its own inode.
        let (device, inode) = sys::identity(kept).inspect_err(|_| sys::close(kept))?;
        Ok(Descriptor {
            fd: kept,
            device,
            inode,
        })
    }

    /// The number, if it still is our file.
    pub(crate) fn get(self) -> Option<c_int> {
        (sys::identity(self.fd) == Ok((self.device, self.inode))).then_some(self.fd)
    }

    /// Closes it, if it still is our file.
    pub(crate) fn close(self) {
        if let Some(fd) = self.get() {
            sys::close(fd);
        }
    }
}

/// A place for one descriptor of the whole process.
pub(crate) struct Shelf {
    /// The number plus one; 0 when empty.
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Shelf {
    pub(crate) const fn new() -> Self {
        Shelf {
            fd: AtomicI32::new(0),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }

    /// The number, if there is one and it still is the file that was put here.
    pub(crate) fn get(&self) -> Option<c_int> {
        self.descriptor().and_then(Descriptor::get)
    }

    /// Puts one here and closes the one before it. Threads that race for it
    /// leave one open too many or take another's file for a stranger's, which
    /// is then left alone: neither does harm.
    pub(crate) fn put(&self, new: Descriptor) {
        if let Some(old) = self.descriptor() {
            old.close();
        }
        self.device.store(new.device, Ordering::Relaxed);
        self.inode.store(new.inode, Ordering::Relaxed);
        self.fd.store(new.fd + 1, Ordering::Release);
    }

    fn descriptor(&self) -> Option<Descriptor> {
        let fd = self
            .fd
            .load(Ordering::Acquire)
            .checked_sub(1)
            .filter(|fd| *fd >= 0)?;
        let (device, inode) = (
            self.device.load(Ordering::Relaxed),
            self.inode.load(Ordering::Relaxed),
        );
        Some(Descriptor { fd, device, inode })
    }
}
