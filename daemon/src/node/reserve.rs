//! A thread in reserve: it does what else would need a thread that cannot be had.
//!
//! Where the limit on processes is reached (`RLIMIT_NPROC`, a `pids` cgroup) or
//! memory is short, pthread_create(3) fails with EAGAIN. A program that has just
//! connected must still be told so, and a forked child must be served like its
//! parent: neither knows of our threads. One thread, made while there are some,
//! does both for all of them. It never waits for any of them alone.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

/// Something that a thread of its own would do.
pub(crate) trait Duty: Send {
    /// It is [attended](Self::attend) to when one of these can be read, or has
    /// ended. The same ones each time.
    fn awaits(&self) -> Vec<BorrowedFd<'_>>;

    /// Does what there is to do, without waiting; false when that was the last.
    fn attend(&mut self) -> bool;
}

/// The thread's work.
pub(crate) struct Reserve {
    epoll: Epoll,
    duties: Mutex<Duties>,
}

#[derive(Default)]
struct Duties {
    last: u64,
    waiting: HashMap<u64, Box<dyn Duty>>,
}

impl Reserve {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Reserve {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            duties: Mutex::default(),
        })
    }

    /// Makes the thread.
    pub(crate) fn run(self: &Arc<Self>) -> io::Result<()> {
        let reserve = self.clone();
        thread::Builder::new()
            .name("reserve".into())
            .spawn(move || {
                loop {
                    reserve.attend(EpollTimeout::NONE);
                }
            })?;
        Ok(())
    }

    /// Hands a duty to the thread.
    pub(crate) fn take(&self, duty: Box<dyn Duty>) -> io::Result<()> {
        let mut duties = self.duties.lock();
        duties.last += 1;
        let number = duties.last;
        for descriptor in duty.awaits() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            if let Err(error) = self.epoll.add(descriptor, event) {
                self.release(duty.as_ref());
                return Err(error.into());
            }
        }
        duties.waiting.insert(number, duty);
        Ok(())
    }

    /// Explicitly: others may hold copies of a descriptor that is closed here, as
    /// the keeper does, and an epoll looks at the file behind them.
    fn release(&self, duty: &dyn Duty) {
        for descriptor in duty.awaits() {
            // One that was never added is none the worse.
            let _ = self.epoll.delete(descriptor);
        }
    }

    /// Waits for what comes next, and does it.
    fn attend(&self, patience: EpollTimeout) {
        let mut events = [EpollEvent::empty(); 32];
        // Interrupted, it looks again.
        let count = self.epoll.wait(&mut events, patience).unwrap_or(0);
        for event in &events[..count] {
            let number = event.data();
            // Two of its descriptors may be ready, and it be done by the first.
            let Some(mut duty) = self.duties.lock().waiting.remove(&number) else {
                continue;
            };
            if duty.attend() {
                self.duties.lock().waiting.insert(number, duty);
            } else {
                self.release(duty.as_ref());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Echoes bytes until it is told to stop by a zero.
    struct Echo(UnixStream);

    impl Duty for Echo {
        fn awaits(&self) -> Vec<BorrowedFd<'_>> {
            vec![self.0.as_fd()]
        }

        fn attend(&mut self) -> bool {
            let mut byte = [0];
            let count = self.0.read(&mut byte).unwrap();
            self.0.write_all(&byte[..count]).unwrap();
            byte[0] != 0
        }
    }

    #[test]
    fn duties_are_attended_to_by_turns_until_each_is_done() {
        let reserve = Arc::new(Reserve::new().unwrap());
        reserve.run().unwrap();
        let mut others = [0; 3].map(|_| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            reserve.take(Box::new(Echo(ours))).unwrap();
            theirs
        });
        let mut exchange = |which: usize, byte: u8| {
            let mut back = [!byte];
            others[which].write_all(&[byte]).unwrap();
            others[which].read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        };
        for (which, byte) in [
            (2, 1),
            (0, 2),
            (0, 3),
            (1, 4),
            (1, 0),
            (2, 5),
            (0, 0),
            (2, 6),
        ] {
            exchange(which, byte);
        }
        // What is done with is closed.
        assert_eq!(others[0].read(&mut [0]).unwrap(), 0);
        assert_eq!(others[1].read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_descriptor_that_somebody_else_holds_too_is_let_go_with_its_duty() {
        let reserve = Reserve::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let _held = ours.try_clone().unwrap();
        reserve.take(Box::new(Echo(ours))).unwrap();
        theirs.write_all(&[0, 7]).unwrap();
        reserve.attend(EpollTimeout::NONE);
        let mut events = [EpollEvent::empty(); 1];
        assert_eq!(reserve.epoll.wait(&mut events, EpollTimeout::ZERO), Ok(0));
    }
}
