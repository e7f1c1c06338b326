//! The keeper: a small process that sees to programs when the daemon cannot.
//!
//! When the last copy of a userfaultfd is closed its registration vanishes, and
//! a program that waits for a page reads zeros. So this process holds a copy of
//! every userfaultfd and memfd of the daemon. It does nothing with them until
//! the daemon is gone, however that went; then it **fences**: it takes all pages
//! away and turns every access to them into SIGBUS. Pages that are still there
//! are taken too: the rest of the cluster goes on without this node, and they
//! would be stale.
//!
//! ```text
//! dipcd ──── notes, with descriptors (SOCK_SEQPACKET) ───▶ dipc-keeper
//!   ✗  end of file                                          │ punch, poison
//!                                                           ├──▶ programs: SIGBUS
//!                                                           └──▶ peers: end of stream
//! ```
//!
//! **The death is announced when the fence stands.** The keeper also holds the
//! sockets of all links, and a TCP connection ends with its last descriptor. So
//! when dipcd is killed its peers hear nothing; they hear the end of the stream
//! from the keeper, after it has fenced, and can go on at that moment.
//!
//! **A daemon that is stopped is dead too,** as soon as its peers may take it for
//! dead (see `node::lease`). dipcd writes into a word of shared memory until when
//! its lease runs; the keeper sleeps until then. If the lease has not been renewed
//! by that time it kills dipcd, so that it cannot bring a page back, and fences.
//!
//! **Who keeps the keeper?** dipcd waits for its end (`node::guard`), starts
//! another and hands it everything. Between the two, some milliseconds, programs
//! are unguarded. If both are killed at once, threads that wait for a page wait
//! for ever (the shim has a copy of the userfaultfd), and no one reads zeros; but
//! pages that are there stay readable.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use dipc_wire::{Incarnation, ObjectId};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::memory::spaces::{SpaceId, View};
use crate::memory::uffd::Range;
use crate::memory::word::Word;

mod fence;
mod process;

pub use process::run;

/// The argument that makes `dipcd` a keeper.
pub const ARGUMENT: &str = "--keeper";
/// In the word that says until when the lease runs, in nanoseconds: for ever.
/// Nobody waits for a sign of life of a node that has no peers.
pub const FOR_EVER: u64 = u64::MAX;
/// A note is no longer than this many bytes.
const LONGEST: usize = 64;

/// What the daemon tells its keeper. Each may be said twice: a keeper that comes
/// in another's place is told all that there is while the daemon goes on.
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
    /// Comes with the socket of the link to this life of a peer.
    Link { life: Incarnation },
    /// That life is over.
    EndLink { life: Incarnation },
    /// Comes with the daemon's pidfd.
    Daemon { pid: u32 },
    /// Comes with the word that says until when the lease runs, by this clock.
    Lease { clock: Clock },
    /// The lease ends earlier than it did.
    Sooner,
}

fn view_number(view: View) -> u64 {
    match view {
        View::Shared => 0,
        View::Private(number) => number,
    }
}

/// The daemon's end.
///
/// Whoever tells something has changed what is so before: when a keeper is
/// replaced, what its predecessor was not told any more is found there.
#[derive(Debug)]
pub struct Keeper {
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    notes: OwnedFd,
    pid: u32,
}

impl Current {
    fn start() -> std::io::Result<(Self, Child)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // The file may have been replaced meanwhile; this is the one that runs.
        let child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        Ok((Current { notes: ours, pid }, child))
    }
}

impl Keeper {
    /// Starts a keeper for this process; also the child, to be waited for.
    pub fn spawn() -> std::io::Result<(Self, Child)> {
        let (current, child) = Current::start()?;
        let current = RwLock::new(current);
        Ok((Keeper { current }, child))
    }

    /// Starts another in the place of one that has ended. It knows nothing yet.
    pub(crate) fn replace(&self) -> std::io::Result<Child> {
        let (new, child) = Current::start()?;
        *self.current.write() = new;
        Ok(child)
    }

    /// One that is not there, for tests.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (notes, _) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let current = RwLock::new(Current { notes, pid: 0 });
        Keeper { current }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.current.read().pid
    }

    fn tell(&self, note: Note, descriptor: Option<BorrowedFd<'_>>) {
        let mut room = [0; LONGEST];
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
        let current = self.current.read();
        let sent = sendmsg::<()>(
            current.notes.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags,
            None,
        );
        if let Err(error) = sent {
            // Its successor is told everything.
            tracing::debug!(%error, keeper = current.pid, ?note, "the keeper does not hear");
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

    /// Holds the link to this life of a peer open from now on.
    pub fn link(&self, life: Incarnation, socket: BorrowedFd<'_>) {
        self.tell(Note::Link { life }, Some(socket));
    }

    /// Lets it go.
    pub fn end_link(&self, life: Incarnation) {
        self.tell(Note::EndLink { life }, None);
    }

    /// Kills this daemon when its lease has run out.
    pub(crate) fn watch(&self, daemon: BorrowedFd<'_>, lease: &Word, clock: Clock) {
        let pid = std::process::id();
        self.tell(Note::Daemon { pid }, Some(daemon));
        self.tell(Note::Lease { clock }, Some(lease.as_fd()));
    }

    /// The lease ends earlier than it did: the keeper may have to wake up earlier.
    pub(crate) fn sooner(&self) {
        self.tell(Note::Sooner, None);
    }
}

/// For people. A log that cannot be written must not end the keeper, as the panic of
/// `eprintln` would.
fn say(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "dipc-keeper: {what}");
}
