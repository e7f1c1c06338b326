//! The System V calls as any C program makes them: through libc, and so through
//! libdipc.so when that is preloaded.

use std::io;
use std::ptr;

use dipc_wire::call::flags;

use super::check;

/// A semaphore set of one, 0 if it is new.
pub(crate) struct Semaphore(i32);

/// A queue of messages with 64 bytes of text.
pub(crate) struct Queue(i32);

/// An attached segment of whole pages.
pub(crate) struct Segment {
    id: i32,
    base: *mut u8,
    pages: usize,
}

/// Bytes of a page, as the benchmark counts them.
pub(crate) const PAGE: usize = 4096;
const TEXT: usize = 64;

#[repr(C)]
struct Message {
    mtype: libc::c_long,
    text: [u8; TEXT],
}

/// Creates; `key` 0 makes a local, private object.
fn get_flags(key: i32) -> i32 {
    let distributed = if key == 0 { 0 } else { flags::DIPC };
    0o600 | (flags::CREAT | distributed) as i32
}

impl Semaphore {
    /// Finds or creates it.
    pub(crate) fn get(key: i32) -> io::Result<Self> {
        // SAFETY: semget takes integers.
        check(i64::from(unsafe { libc::semget(key, 1, get_flags(key)) })).map(|id| Self(id as i32))
    }

    /// One operation.
    pub(crate) fn op(&self, change: i16) -> io::Result<()> {
        let mut op = libc::sembuf {
            sem_num: 0,
            sem_op: change,
            sem_flg: 0,
        };
        // SAFETY: `op` is one valid operation that lives through the call.
        check(i64::from(unsafe { libc::semop(self.0, &mut op, 1) })).map(drop)
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // SAFETY: IPC_RMID takes no argument.
        check(i64::from(unsafe {
            libc::semctl(self.0, 0, libc::IPC_RMID)
        }))
        .map(drop)
    }
}

impl Queue {
    /// Finds or creates it.
    pub(crate) fn get(key: i32) -> io::Result<Self> {
        // SAFETY: msgget takes integers.
        check(i64::from(unsafe { libc::msgget(key, get_flags(key)) })).map(|id| Self(id as i32))
    }

    /// Sends a message of this type.
    pub(crate) fn send(&self, mtype: i64) -> io::Result<()> {
        let message = Message {
            mtype,
            text: [0; TEXT],
        };
        // SAFETY: `message` has a type and TEXT bytes behind it, and lives through the call.
        check(i64::from(unsafe {
            libc::msgsnd(self.0, (&raw const message).cast(), TEXT, 0)
        }))
        .map(drop)
    }

    /// Waits for a message of this type.
    pub(crate) fn receive(&self, mtype: i64) -> io::Result<()> {
        let mut message = Message {
            mtype: 0,
            text: [0; TEXT],
        };
        let room = (&raw mut message).cast();
        // SAFETY: `room` has space for a type and TEXT bytes, and lives through the call.
        check(unsafe { libc::msgrcv(self.0, room, TEXT, mtype, 0) } as i64).map(drop)
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // SAFETY: IPC_RMID ignores the buffer, which may be null.
        check(i64::from(unsafe {
            libc::msgctl(self.0, libc::IPC_RMID, ptr::null_mut())
        }))
        .map(drop)
    }
}

impl Segment {
    /// Finds or creates it, and attaches it.
    pub(crate) fn attach(key: i32, pages: usize) -> io::Result<Self> {
        // SAFETY: shmget takes integers.
        let id = check(i64::from(unsafe {
            libc::shmget(key, pages * PAGE, get_flags(key))
        }))? as i32;
        // SAFETY: a null address lets the kernel choose one where nothing lies.
        let base = unsafe { libc::shmat(id, ptr::null(), 0) };
        check(base as i64)?;
        Ok(Segment {
            id,
            base: base.cast(),
            pages,
        })
    }

    /// Reads the first byte of a page.
    pub(crate) fn read(&self, page: usize) -> u8 {
        assert!(page < self.pages);
        // SAFETY: the page lies in the attachment, which lasts as long as `self`;
        // volatile, since other processes write it.
        unsafe { self.base.add(page * PAGE).read_volatile() }
    }

    /// Writes the first byte of a page.
    pub(crate) fn write(&self, page: usize, value: u8) {
        assert!(page < self.pages);
        // SAFETY: as in `read`, and it was attached for writing.
        unsafe { self.base.add(page * PAGE).write_volatile(value) }
    }

    /// Removes it; it goes with its last attachment.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // SAFETY: IPC_RMID ignores the buffer, which may be null.
        check(i64::from(unsafe {
            libc::shmctl(self.id, libc::IPC_RMID, ptr::null_mut())
        }))
        .map(drop)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: `base` came from shmat and is detached nowhere else.
        unsafe { libc::shmdt(self.base.cast()) };
    }
}
