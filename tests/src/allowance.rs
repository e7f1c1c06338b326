//! What the kernel allows a running process to have, changed from outside.

use std::fs;
use std::io;

/// How many descriptors a process has open.
#[must_use]
pub fn descriptors(pid: u32) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    open.map_or(0, |open| open.count() as u64)
}

/// A limit on open files that is lowered for a while, prlimit(2).
#[derive(Debug)]
pub struct FewDescriptors {
    pid: u32,
    before: libc::rlimit,
}

impl FewDescriptors {
    /// Lets a process open so many more at most.
    ///
    /// # Panics
    /// If it is not ours.
    #[must_use]
    pub fn of(pid: u32, more: u64) -> Self {
        let before = swap(pid, None);
        let limit = libc::rlimit {
            // Its descriptors have the lowest numbers, as far as none was closed.
            rlim_cur: lowest_free(pid, more),
            ..before
        };
        swap(pid, Some(&limit));
        FewDescriptors { pid, before }
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        swap(self.pid, Some(&self.before));
    }
}

/// The number that is the limit if so many of those that are free may be used.
fn lowest_free(pid: u32, more: u64) -> u64 {
    let open = |number: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    let mut free = (0..).filter(|number| !open(number));
    free.nth(more as usize).expect("there is no end of numbers")
}

fn swap(pid: u32, new: Option<&libc::rlimit>) -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: prlimit reads `new`, if there is one, and writes `old`; both outlive it.
    let done = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_NOFILE, new, &raw mut old) };
    assert_eq!(done, 0, "prlimit: {}", io::Error::last_os_error());
    old
}
