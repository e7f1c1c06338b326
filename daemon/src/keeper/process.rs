//! A keeper's life: it collects notes as long as the daemon lives, fences when it
//! does not or must not any more, and stays until nobody is left to read.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::fence::Held;
use super::{FOR_EVER, LONGEST, Note, say};
use crate::clock::{Alarm, Clock};
use crate::kernel;
use crate::memory::word::Word;

/// The keeper's life: collects notes until the daemon is gone, then sees that
/// nobody reads what is not there, until nobody can.
pub fn run() -> io::Result<()> {
    // The daemon's end must not be ours: not by the terminal, not by a signal to
    // the group.
    let _ = nix::unistd::setsid();
    for which in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        ignore(which)?;
    }
    nix::sys::prctl::set_name(c"dipc-keeper")?;
    // Others go on when the lease is over, whether our turn has come or not.
    kernel::hurry();
    let notes = io::stdin();
    let mut life = Life::default();
    loop {
        if life.await_note(notes.as_fd()) {
            if !life.hear(notes.as_fd())? {
                break;
            }
        } else {
            life.look_at_lease()?;
        }
    }
    // Again if the lease was over: what the daemon was about to do is done now.
    life.held.take_away();
    life.held.announce();
    while life.held.guards() {
        life.held.guard();
    }
    Ok(())
}

fn ignore(which: Signal) -> nix::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(which, SigHandler::SigIgn) }.map(drop)
}

#[derive(Default)]
struct Life {
    held: Held,
    daemon: Option<Daemon>,
    lease: Option<Lease>,
}

struct Daemon {
    pid: u32,
    pidfd: OwnedFd,
}

struct Lease {
    until: Word,
    clock: Clock,
    alarm: Alarm,
}

impl Lease {
    fn open(word: OwnedFd, clock: Clock) -> io::Result<Self> {
        Ok(Lease {
            until: Word::open(word)?,
            clock,
            alarm: clock.alarm()?,
        })
    }

    fn until(&self) -> Option<Duration> {
        match self.until.get() {
            FOR_EVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

impl Life {
    /// Waits for a note, or for the end of the lease: false. What was said before
    /// it ended counts.
    fn await_note(&self, notes: BorrowedFd<'_>) -> bool {
        let alarm = self.lease.as_ref().map(|lease| lease.alarm.as_fd());
        let mut ready = [
            PollFd::new(notes, PollFlags::POLLIN),
            PollFd::new(alarm.unwrap_or(notes), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                // To hear is to wait as well.
                Err(_) => return true,
                Ok(_) => return ready[0].any() == Some(true),
            }
        }
    }

    /// Takes one note; false when the daemon is gone.
    fn hear(&mut self, notes: BorrowedFd<'_>) -> io::Result<bool> {
        let mut bytes = [0; LONGEST];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(notes.as_raw_fd(), &mut slices, Some(&mut control), flags)
        {
            Err(Errno::EINTR) => return Ok(true),
            other => other?,
        };
        let mut descriptor = None;
        // ENOBUFS: there was no room for the descriptor; the note says what it was.
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just put this descriptor into our table.
                descriptor = fds.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        let count = message.bytes;
        if count == 0 {
            return Ok(false);
        }
        match (postcard::from_bytes(&bytes[..count]), descriptor) {
            (Ok(Note::Daemon { pid }), Some(pidfd)) => self.daemon = Some(Daemon { pid, pidfd }),
            (Ok(Note::Lease { clock }), Some(word)) => {
                self.lease = Some(Lease::open(word, clock)?);
                self.look_at_lease()?;
            }
            (Ok(Note::Sooner), _) => self.look_at_lease()?,
            (Ok(note), descriptor) => self.held.note(note, descriptor),
            (Err(error), _) => say(format_args!("a note that cannot be read: {error}")),
        }
        Ok(true)
    }

    /// Sleeps until the lease ends, as it is now; if it has ended, so does the
    /// daemon.
    fn look_at_lease(&mut self) -> io::Result<()> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        match lease.until() {
            Some(until) if until <= lease.clock.now() => {
                let late = lease.clock.now() - until;
                self.lease = None;
                self.end_daemon(late);
                Ok(())
            }
            until => lease.alarm.set(until),
        }
    }

    /// Nothing of the daemon has the other nodes heard for so long that they are
    /// about to go on without this one.
    fn end_daemon(&mut self, late: Duration) {
        let pid = self.daemon.as_ref().map_or(0, |daemon| daemon.pid);
        // It could wake up and bring back a page that was sent long ago.
        let killed = self.daemon.as_ref().map(|d| kernel::kill(d.pidfd.as_fd()));
        self.held.take_away();
        say(format_args!(
            "dipcd (pid {pid}) has exchanged no sign of life with the other nodes \
             for so long that they are about to declare this one dead: it was stopped, or got no \
             processor. It is killed, and its programs get errors and SIGBUS; restart dipcd \
             (the lease had been over for {late:?})"
        ));
        if let Some(Err(error)) = killed {
            say(format_args!(
                "dipcd (pid {pid}) cannot be killed: {error}. Kill it"
            ));
        }
    }
}
