//! The keeper: a small process that outlives the daemon.
//!
//! When the last copy of a userfaultfd is closed its registration vanishes, and
//! a program that waits for a page reads zeros. So this process holds a copy of
//! every userfaultfd and memfd of the daemon. It does nothing with them until
//! the daemon is gone, however that went; then it takes all pages away and turns
//! every access to them into SIGBUS. Pages that are still there are taken too:
//! the rest of the cluster goes on without this node, and they would be stale.
//!
//! ```text
//! dipcd ──── notes, with descriptors (SOCK_SEQPACKET) ───▶ dipc-keeper
//!   ✗  end of file                                          │ punch, poison
//!                                                           ▼
//!                                     programs get SIGBUS; it ends with them
//! ```

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use dipc_wire::ObjectId;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::memory::spaces::{SpaceId, View};
use crate::memory::uffd::{Error, Event, Range, Uffd};
use crate::memory::{backing, poison};

/// The argument that makes `dipcd` a keeper.
pub const ARGUMENT: &str = "--keeper";
/// How often a keeper without a daemon looks whether its programs have ended;
/// no event tells the end of an address space.
const LOOK_MILLIS: u16 = 1000;

/// What the daemon tells its keeper.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Note {
    /// Comes with a memfd.
    Memory { segment: i32, view: u64, len: u64 },
    /// It is no longer used.
    EndMemory { segment: i32, view: u64 },
    /// Comes with a userfaultfd.
    Space { space: SpaceId },
    /// It is no longer used.
    EndSpace { space: SpaceId },
    /// What lies where.
    Map {
        space: SpaceId,
        start: u64,
        len: u64,
    },
    /// It lies there no more.
    Unmap { space: SpaceId, start: u64 },
}

fn view_number(view: View) -> u64 {
    match view {
        View::Shared => 0,
        View::Private(number) => number,
    }
}

/// The daemon's end.
#[derive(Debug)]
pub struct Keeper {
    notes: OwnedFd,
    /// Its process id.
    pub pid: u32,
}

impl Keeper {
    /// Starts a keeper for this process.
    pub fn spawn() -> std::io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Keeper {
            notes: ours,
            pid: child.id(),
        })
    }

    /// One that is not there, for tests.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (notes, _) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        Keeper { notes, pid: 0 }
    }

    fn tell(&self, note: Note, descriptor: Option<BorrowedFd<'_>>) {
        let mut room = [0; 64];
        let bytes = match postcard::to_slice(&note, &mut room) {
            Ok(bytes) => &*bytes,
            Err(error) => return tracing::error!(%error, "a note that cannot be written"),
        };
        let descriptors = descriptor.map(|fd| [fd.as_raw_fd()]);
        let rights = descriptors
            .as_ref()
            .map(|fds| [ControlMessage::ScmRights(fds)]);
        let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<()>(
            self.notes.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags,
            None,
        );
        if let Err(error) = sent {
            tracing::error!(
                %error,
                keeper = self.pid,
                "the keeper is gone: should dipcd be killed now, programs would read zeros \
                 from shared memory. End them, then restart dipcd"
            );
        }
    }

    /// Holds a segment's memory from now on.
    pub fn memory(&self, segment: ObjectId, view: View, len: u64, memfd: BorrowedFd<'_>) {
        let note = Note::Memory {
            segment: segment.raw(),
            view: view_number(view),
            len,
        };
        self.tell(note, Some(memfd));
    }

    /// Lets it go.
    pub fn end_memory(&self, segment: ObjectId, view: View) {
        self.tell(
            Note::EndMemory {
                segment: segment.raw(),
                view: view_number(view),
            },
            None,
        );
    }

    /// Holds an address space from now on.
    pub fn space(&self, space: SpaceId, uffd: BorrowedFd<'_>) {
        self.tell(Note::Space { space }, Some(uffd));
    }

    /// Lets it go.
    pub fn end_space(&self, space: SpaceId) {
        self.tell(Note::EndSpace { space }, None);
    }

    /// Something of ours lies there.
    pub fn map(&self, space: SpaceId, range: Range) {
        self.tell(
            Note::Map {
                space,
                start: range.start,
                len: range.len,
            },
            None,
        );
    }

    /// It lies there no more.
    pub fn unmap(&self, space: SpaceId, start: u64) {
        self.tell(Note::Unmap { space, start }, None);
    }
}

/// What a keeper holds.
#[derive(Default)]
struct Held {
    memories: HashMap<(i32, u64), (OwnedFd, u64)>,
    spaces: HashMap<SpaceId, (Uffd, Vec<Range>)>,
}

/// The keeper's life: collects notes until the daemon is gone, then sees that
/// nobody reads what is not there, until nobody can.
pub fn run() -> std::io::Result<()> {
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
    let notes = std::io::stdin();
    let mut held = Held::default();
    while held.hear(notes.as_fd())? {}
    held.take_away();
    while !held.spaces.is_empty() {
        held.guard();
    }
    Ok(())
}

/// For people. A log that cannot be written must not end the keeper, as the panic of
/// `eprintln` would.
fn say(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "dipc-keeper: {what}");
}

fn ignore(which: Signal) -> nix::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(which, SigHandler::SigIgn) }.map(drop)
}

impl Held {
    /// Takes one note; false when the daemon is gone.
    fn hear(&mut self, notes: BorrowedFd<'_>) -> std::io::Result<bool> {
        let mut bytes = [0; 64];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(notes.as_raw_fd(), &mut slices, Some(&mut control), flags)
        {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
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
        if let Ok(note) = postcard::from_bytes(&bytes[..count]) {
            self.note(note, descriptor);
        }
        Ok(true)
    }

    fn note(&mut self, note: Note, descriptor: Option<OwnedFd>) {
        match (note, descriptor) {
            (Note::Memory { segment, view, len }, Some(memfd)) => {
                self.memories.insert((segment, view), (memfd, len));
            }
            (Note::EndMemory { segment, view }, _) => drop(self.memories.remove(&(segment, view))),
            (Note::Space { space }, Some(uffd)) => {
                self.spaces
                    .insert(space, (Uffd::inherited(uffd), Vec::new()));
            }
            (Note::EndSpace { space }, _) => drop(self.spaces.remove(&space)),
            (Note::Map { space, start, len }, _) => {
                if let Some((_, ranges)) = self.spaces.get_mut(&space) {
                    ranges.push(Range { start, len });
                }
            }
            (Note::Unmap { space, start }, _) => {
                if let Some((_, ranges)) = self.spaces.get_mut(&space) {
                    ranges.retain(|range| range.start != start);
                }
            }
            (Note::Memory { .. } | Note::Space { .. }, None) => say(format_args!(
                "no descriptor left for {note:?}: should dipcd be killed now, its programs would \
                 read zeros. Raise the hard limit on open files (ulimit -Hn) and restart dipcd"
            )),
        }
    }

    /// The daemon is gone: nobody reads or writes these segments any more.
    fn take_away(&mut self) {
        // First the pages, so that whoever touches one waits: the spaces are
        // still registered. Then poison, which wants them absent.
        for (memfd, len) in self.memories.values() {
            if let Err(error) = backing::punch(memfd.as_fd(), 0, *len) {
                say(format_args!("cannot take away a segment's pages: {error}"));
            }
        }
        for id in self.spaces.keys().copied().collect::<Vec<_>>() {
            self.poison(id);
        }
    }

    /// Poisons all that a space maps, and the spaces of children that were
    /// forked meanwhile.
    fn poison(&mut self, id: SpaceId) {
        let Some((uffd, ranges)) = self.spaces.get(&id) else {
            return;
        };
        for range in ranges {
            loop {
                match poison(uffd, *range) {
                    Err(Error::Changing) => {}
                    Err(Error::Other(error)) => {
                        say(format_args!("cannot poison a lost page: {error}"));
                        break;
                    }
                    _ => break,
                }
                let mut children = Vec::new();
                uffd.await_event(None, LOOK_MILLIS.into());
                let _ = uffd.read_events(|event| children.extend(child(event)));
                if !children.is_empty() {
                    let ranges = ranges.clone();
                    self.adopt(children, &ranges);
                    return self.poison(id);
                }
            }
        }
    }

    fn adopt(&mut self, children: Vec<Uffd>, ranges: &[Range]) {
        for child in children {
            // Above every number that the daemon gave.
            let id = self.spaces.keys().max().copied().unwrap_or(0) + 1;
            self.spaces.insert(id, (child, ranges.to_vec()));
            self.poison(id);
        }
    }

    /// Waits for forks, whose children need the same, and for the last end.
    fn guard(&mut self) {
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        let mut fds: Vec<PollFd<'_>> = ids
            .iter()
            .map(|id| PollFd::new(self.spaces[id].0.as_fd(), PollFlags::POLLIN))
            .collect();
        // Interrupted or not, each space is looked at.
        let _ = poll(&mut fds, LOOK_MILLIS);
        for id in ids {
            let Some((uffd, ranges)) = self.spaces.get(&id) else {
                continue;
            };
            let ranges = ranges.clone();
            let mut children = Vec::new();
            // A fault here is a thread that was about to wait when the page was
            // poisoned: poisoning again wakes it.
            let mut fault = false;
            let _ = uffd.read_events(|event| match event {
                Event::Fault { .. } => fault = true,
                other => children.extend(child(other)),
            });
            if !ranges.iter().any(|range| still_maps(uffd, range)) {
                self.spaces.remove(&id);
            } else if fault {
                self.poison(id);
            }
            self.adopt(children, &ranges);
        }
    }
}

/// Whether a space lives and maps something there. The page is poisoned already.
fn still_maps(uffd: &Uffd, range: &Range) -> bool {
    let page = Range {
        start: range.start,
        len: backing::PAGE,
    };
    !matches!(uffd.poison(page), Err(Error::Gone | Error::Unmapped))
}

fn child(event: Event) -> Option<Uffd> {
    match event {
        Event::Fork(fd) => Some(Uffd::inherited(fd)),
        Event::Fault { .. } => None,
    }
}
