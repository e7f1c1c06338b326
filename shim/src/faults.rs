//! The process's userfaultfd, by which its daemon serves page faults.
//!
//! It belongs to the address space of whoever makes it, so the program makes it
//! and the daemon gets a copy. Ours stays open: should every other copy be
//! closed, the registration would vanish and a fault would read zeros; with ours
//! open the thread waits instead, for the daemon's keeper to tell it the truth.

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use crate::descriptor::{Descriptor, Shelf};
use crate::{generation, notice, raw, sys};

/// `USERFAULTFD_IOC_NEW`: `_IO(0xAA, 0x00)`, `<linux/userfaultfd.h>`.
const IOC_NEW: libc::Ioctl = 0xaa00;
/// `UFFD_USER_MODE_ONLY`
const USER_MODE_ONLY: c_int = 1;

/// The generation whose userfaultfd the daemon has; 0 for none.
static GIVEN: AtomicU64 = AtomicU64::new(0);
/// The first userfaultfd of the generation [`OWNER`].
static OURS: Shelf = Shelf::new();
static OWNER: AtomicU64 = AtomicU64::new(0);
/// `/dev/userfaultfd`, kept for forked children that must make their own.
static DEVICE: Shelf = Shelf::new();

/// The daemon has no userfaultfd of this process yet.
pub(crate) fn needed() -> bool {
    GIVEN.load(Ordering::Relaxed) != generation::current().0
}

/// Another daemon may be serving from now on, which has none.
pub(crate) fn daemon_changed() {
    GIVEN.store(0, Ordering::Relaxed);
}

/// Makes a userfaultfd of this process: one that serves faults inside system
/// calls too, by the device or by right, if this process may have it. Says on
/// stderr why there is none at all.
pub(crate) fn make(device: Option<c_int>) -> sys::Result<c_int> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    device
        .or_else(|| DEVICE.get())
        .ok_or(libc::ENODEV)
        .and_then(|device| by_device(device, flags))
        .or_else(|_| by_right(flags))
        .or_else(|_| by_right(flags | USER_MODE_ONLY))
        .inspect_err(|errno| notice::no_userfaultfd(*errno))
}

fn by_device(device: c_int, flags: c_int) -> sys::Result<c_int> {
    // SAFETY: takes no memory.
    let made = unsafe { raw::syscall(libc::SYS_ioctl, device, IOC_NEW, flags) };
    sys::checked(made).map(|fd| fd as c_int)
}

/// As root, or where `vm.unprivileged_userfaultfd` is 1, or by
/// [`USER_MODE_ONLY`] as anybody.
fn by_right(flags: c_int) -> sys::Result<c_int> {
    // SAFETY: takes no memory.
    let made = unsafe { raw::syscall(libc::SYS_userfaultfd, flags) };
    sys::checked(made).map(|fd| fd as c_int)
}

/// The daemon has got `fd`, of this process: keep it open. An ancestor's is
/// closed; an earlier one of ours still serves what was attached with it, and so
/// stays open for good.
pub(crate) fn given(fd: c_int) {
    let now = generation::current().0;
    if let Ok(kept) = Descriptor::keep(fd)
        && OWNER.swap(now, Ordering::Relaxed) != now
    {
        OURS.put(kept);
    }
    GIVEN.store(now, Ordering::Relaxed);
}

/// Children will need the device.
pub(crate) fn keep_device(fd: c_int) {
    if let Ok(kept) = Descriptor::keep(fd) {
        DEVICE.put(kept);
    }
}
