//! A thread's connection to its daemon.
//!
//! Each thread has one, opened at its first call and closed when the thread
//! ends. It is *held* during a call. A call that finds it held runs in a signal
//! handler that interrupted the holder, and opens a connection for itself alone.
//!
//! Before use a kept connection is looked at: one of an ancestor (see
//! [`crate::generation`]) is dropped, and one whose number the program has
//! closed or used otherwise (see [`crate::descriptor`]) is forgotten.
//!
//! A handler that leaves by `siglongjmp` never gives back what it interrupted.
//! The next call notices that the holder's frame is no more on the stack, and
//! closes the connection, by which the daemon withdraws what was pending.

use core::cell::Cell;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering, compiler_fence};

use dipc_wire::NodeId;
use dipc_wire::frame::{self, Encoded};
use dipc_wire::local::{Hello, HelloReply, Request, VERSION};
use libc::c_int;

use crate::descriptor::Descriptor;
use crate::exchange::FirstPacket;
use crate::generation::{self, Generation};
use crate::outcome::Trouble;
use crate::socket::{Received, Socket};
use crate::user_memory::UserBytes;
use crate::{fork, notice, settings, sys};

/// What a thread keeps.
struct Slot {
    /// Stack address of the holder; 0 when not held. The only field that a
    /// signal handler looks at while another call of its thread holds the slot.
    holder: AtomicUsize,
    kept: Cell<Option<Kept>>,
}

#[derive(Clone, Copy)]
struct Kept {
    descriptor: Descriptor,
    generation: Generation,
    node: NodeId,
}

thread_local! {
    // No destructor, and so usable for as long as the thread runs: a pthread key
    // ends the connection instead.
    static SLOT: Slot = const { Slot { holder: AtomicUsize::new(0), kept: Cell::new(None) } };
}

/// The pthread key whose destructor closes an ending thread's connection; -1
/// before [`prepare`].
static KEY: AtomicI32 = AtomicI32::new(-1);
/// The socket that served this process, as an index into the settings plus one:
/// from then on no other is tried.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Called at load.
pub(crate) fn prepare() {
    let mut key: libc::pthread_key_t = 0;
    // SAFETY: `key` is written before the call returns 0.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) } == 0 {
        KEY.store(key as i32, Ordering::Relaxed);
    }
}

/// Runs in the ending thread. Calls from later destructors open a connection
/// anew, which sets the key again.
unsafe extern "C" fn thread_ends(_: *mut libc::c_void) {
    SLOT.with(|slot| {
        if slot.holder.load(Ordering::Relaxed) == 0
            && let Some(kept) = slot.kept.take()
        {
            kept.end();
        }
    });
}

impl Kept {
    /// Closes the connection. Forked children may hold copies: the daemon shall
    /// hear of the end all the same, unless it is an ancestor's connection.
    fn end(self) {
        if let Some(fd) = self.descriptor.get() {
            if self.generation == generation::current() {
                Socket(fd).shut_down();
            }
            sys::close(fd);
        }
    }
}

/// A connection for the length of one call.
///
/// When it is dropped in the middle of an exchange, it is closed: what follows
/// would be taken for an answer to something else.
pub(crate) struct Session {
    pub(crate) socket: Socket,
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    /// As whose requests are sent.
    pub(crate) pid: i32,
    /// A request or a part of it was sent, or a part of the answer is to come.
    pub(crate) unfinished: bool,
    kept: Kept,
    /// The thread's connection, and not one for this call alone.
    holds_slot: bool,
}

impl Session {
    /// The thread's connection, or a new one.
    pub(crate) fn open() -> Result<Session, Trouble> {
        if !SLOT.with(hold) {
            return Session::separate();
        }
        let hold = Hold;
        if let Some(kept) = SLOT.with(|slot| slot.kept.get()) {
            if kept.generation == generation::current()
                && let Some(fd) = kept.descriptor.get()
            {
                core::mem::forget(hold);
                return Ok(Session::of(kept, fd, generation::pid(), true));
            }
            SLOT.with(|slot| slot.kept.set(None));
            kept.end();
        }
        if sys::getpid() != generation::pid() {
            // A `vfork` child shares the slot, but its parent could do nothing
            // with this connection.
            drop(hold);
            return Session::separate();
        }
        let (kept, fd) = connect()?;
        SLOT.with(|slot| slot.kept.set(Some(kept)));
        close_with_thread();
        core::mem::forget(hold);
        Ok(Session::of(kept, fd, generation::pid(), true))
    }

    /// A connection for this call alone.
    pub(crate) fn separate() -> Result<Session, Trouble> {
        connect().map(|(kept, fd)| Session::of(kept, fd, sys::getpid(), false))
    }

    fn of(kept: Kept, fd: c_int, pid: i32, holds_slot: bool) -> Session {
        Session {
            socket: Socket(fd),
            node: kept.node,
            generation: kept.generation,
            pid,
            unfinished: false,
            kept,
            holds_slot,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Not `then_some`, which would make a `Hold` in any case, and so give back
        // what the interrupted call holds.
        let _hold = self.holds_slot.then(|| Hold);
        if self.unfinished || !self.holds_slot {
            if self.holds_slot {
                SLOT.with(|slot| slot.kept.set(None));
            }
            self.kept.end();
        }
    }
}

/// Gives the slot back when dropped.
struct Hold;

impl Drop for Hold {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        SLOT.with(|slot| slot.holder.store(0, Ordering::Relaxed));
    }
}

/// Takes the slot, unless a call that this one interrupted has it.
#[inline(never)]
fn hold(slot: &Slot) -> bool {
    let here = 0u8;
    let here = core::ptr::from_ref(core::hint::black_box(&here)).addr();
    let holder = slot.holder.load(Ordering::Relaxed);
    if holder != 0 {
        // The stack grows down: a handler runs below the frame it interrupted,
        // unless it has a stack of its own.
        if here < holder || on_signal_stack() {
            return false;
        }
        if let Some(abandoned) = slot.kept.take() {
            abandoned.end();
        }
    }
    slot.holder.store(here, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    true
}

fn on_signal_stack() -> bool {
    let mut now = core::mem::MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: asks only; the kernel writes all of `now` when it returns 0.
    unsafe {
        libc::sigaltstack(core::ptr::null(), now.as_mut_ptr()) != 0
            || now.assume_init().ss_flags & libc::SS_ONSTACK != 0
    }
}

/// Has [`thread_ends`] run when this thread ends.
fn close_with_thread() {
    let key = KEY.load(Ordering::Relaxed);
    if key >= 0 {
        // SAFETY: the key was made by `prepare`. Any value but null asks for the
        // destructor, which ignores it.
        unsafe { libc::pthread_setspecific(key as libc::pthread_key_t, (&raw const KEY).cast()) };
    }
}

/// Connects and says hello; reports inherited attachments first (see [`crate::fork`]).
#[cold]
fn connect() -> Result<(Kept, c_int), Trouble> {
    connect_and_report().inspect_err(|_| fork::not_served())
}

fn connect_and_report() -> Result<(Kept, c_int), Trouble> {
    let (which, path, descriptor) = find_daemon()?;
    let Some(fd) = descriptor.get() else {
        return Err(Trouble::Lost);
    };
    let node = greet(Socket(fd), path).inspect_err(|_| descriptor.close())?;
    USED.store(which, Ordering::Relaxed);
    let kept = Kept {
        descriptor,
        generation: generation::current(),
        node,
    };
    let mut session = Session::of(kept, fd, sys::getpid(), false);
    name_thread(&mut session)?;
    fork::report(&mut session)?;
    core::mem::forget(session);
    Ok((kept, fd))
}

/// Tells which thread will ask, if it is not the process's first.
fn name_thread(session: &mut Session) -> Result<(), Trouble> {
    let tid = sys::gettid();
    if tid != session.pid {
        let tid = tid as u32;
        session.send(&Request::Thread { tid }, UserBytes::NONE, None)?;
        session.unfinished = false;
    }
    Ok(())
}

/// Tries the sockets in their order.
fn find_daemon() -> Result<(usize, &'static [u8], Descriptor), Trouble> {
    let sockets = &settings::get().sockets;
    let used = USED.load(Ordering::Relaxed);
    for (i, path) in sockets.iter().enumerate() {
        if used != 0 && used != i + 1 {
            continue;
        }
        match Socket::connect(path) {
            Ok(descriptor) => return Ok((i + 1, path, descriptor)),
            Err(libc::ENOENT | libc::ECONNREFUSED | libc::ENOTDIR) => {}
            Err(libc::ENAMETOOLONG) => notice::path_too_long(path),
            Err(libc::EACCES | libc::EPERM) => {
                notice::permission_denied(path);
                return Err(Trouble::Denied);
            }
            Err(libc::EPROTOTYPE) => {
                notice::other_version(path, None);
                return Err(Trouble::OtherVersion);
            }
            Err(_) => return Err(Trouble::Exhausted),
        }
    }
    Err(if used == 0 {
        Trouble::Absent
    } else {
        Trouble::Gone
    })
}

/// Says hello and waits for the answer, which is the same in every version.
fn greet(socket: Socket, path: &[u8]) -> Result<NodeId, Trouble> {
    let hello = Encoded::new(&Hello::ours(), 0).map_err(|_| Trouble::OtherVersion)?;
    socket
        .send(hello.as_ref(), UserBytes::NONE, None, None)
        .map_err(|_| Trouble::Gone)?;
    let mut room = [0u8; 64];
    let reply = loop {
        match socket.receive(UserBytes::room(&mut room)) {
            Received::Packet(count) => break hello_reply(&room[..count]),
            Received::Interrupted => {}
            Received::Closed => return Err(Trouble::Gone),
            Received::CutOff | Received::BadPointer => break None,
        }
    };
    match reply {
        Some(reply) if reply.accepted && reply.version == VERSION => Ok(reply.node),
        Some(HelloReply {
            version: VERSION, ..
        }) => {
            notice::daemon_is_full(path);
            Err(Trouble::Exhausted)
        }
        reply => {
            notice::other_version(path, reply.map(|reply| reply.version));
            Err(Trouble::OtherVersion)
        }
    }
}

fn hello_reply(packet: &[u8]) -> Option<HelloReply> {
    frame::decode(FirstPacket::of(packet)?.header).ok()
}
