//! One thread at a time changes what is attached where.
//!
//! The kernel has a lock of its own for this, and so do we: two `munmap`s that cut
//! one attachment must not both edit its entry. While a thread is at it its
//! signals wait: a handler that calls `munmap`, or leaves by `siglongjmp`, would
//! find the lock held for ever.
//!
//! A forked child has none of the other threads, so a lock that it inherited
//! held counts as free: the word says which generation took it.

use core::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{generation, raw};

/// 0 when free; else who holds it, [`HELD`] and perhaps [`AWAITED`].
static LOCK: AtomicU32 = AtomicU32::new(0);
const HELD: u32 = 1;
const AWAITED: u32 = 2;
const STATE: u32 = HELD | AWAITED;

/// Runs `change` while no other thread does, and no signal handler.
pub(crate) fn exclusively<T>(change: impl FnOnce() -> T) -> T {
    let _quiet = Quiet::begin();
    let _held = Held::take();
    change()
}

/// All signals are blocked.
struct Quiet(libc::sigset_t);

impl Quiet {
    fn begin() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset writes all of `all`, and pthread_sigmask, which
        // cannot fail with these arguments, all of `before`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Quiet(before.assume_init())
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: a mask that the kernel gave.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, core::ptr::null_mut())
        };
    }
}

struct Held;

impl Held {
    fn take() -> Self {
        let ours = (generation::current().0 as u32) << 2;
        let mut state = HELD;
        loop {
            let now = LOCK.load(Ordering::Relaxed);
            if now == 0 || now & !STATE != ours {
                let taken =
                    LOCK.compare_exchange(now, ours | state, Ordering::Acquire, Ordering::Relaxed);
                if taken.is_ok() {
                    return Held;
                }
            } else if now & AWAITED != 0
                || LOCK
                    .compare_exchange(now, now | AWAITED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                futex(libc::FUTEX_WAIT, now | AWAITED);
                // Others may wait too: who gives it back shall wake one.
                state = STATE;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if LOCK.swap(0, Ordering::Release) & AWAITED != 0 {
            futex(libc::FUTEX_WAKE, 1);
        }
    }
}

fn futex(operation: libc::c_int, value: u32) {
    // SAFETY: a static word; no time-out.
    unsafe {
        raw::syscall(
            libc::SYS_futex,
            LOCK.as_ptr(),
            operation | libc::FUTEX_PRIVATE_FLAG,
            value,
            core::ptr::null::<libc::timespec>(),
        )
    };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn of_many_threads_one_at_a_time_is_inside() {
        // Loaded and stored apart: two inside at once would lose additions.
        static SUM: AtomicUsize = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        exclusively(|| {
                            let sum = SUM.load(Ordering::Relaxed);
                            std::thread::yield_now();
                            SUM.store(sum + 1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(SUM.load(Ordering::Relaxed), 8000);
        assert_eq!(LOCK.load(Ordering::Relaxed), 0);
    }
}
