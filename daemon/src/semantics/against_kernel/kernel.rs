//! The system calls, safe to use.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use dipc_wire::call::SemOp;

/// What a call gave, or its errno.
pub(super) type Judged<T> = Result<T, i32>;

/// Where the threads of [`Pending`] calls send what they got, by ticket.
pub(super) type Results<T> = (Sender<(u64, Judged<T>)>, Receiver<(u64, Judged<T>)>);

/// Longer than any call that does not wait takes on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn judged(result: i64) -> Judged<i64> {
    if result == -1 {
        Err(io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Ok(result)
    }
}

/// Effective user and group.
pub(super) fn identity() -> (u32, u32) {
    // SAFETY: neither call has arguments or can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

pub(super) fn unshare(what: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; the caller has a single thread.
    if unsafe { libc::unshare(what) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Async-signal-safe.
pub(super) fn write(path: &CStr, content: &[u8]) -> io::Result<()> {
    // SAFETY: `path` ends with a zero, `content` is valid for its length, and
    // the descriptor is this function's own.
    let written = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = libc::write(fd, content.as_ptr().cast(), content.len());
        libc::close(fd);
        written
    };
    if written == content.len() as isize {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Root becomes an ordinary user, in all its threads; others stay who they are.
pub(super) fn become_ordinary(id: u32) {
    if identity().0 == 0 {
        // SAFETY: the calls read no memory: the list of groups is empty.
        let failed = unsafe {
            libc::setgroups(0, std::ptr::null())
                | libc::setresgid(id, id, id)
                | libc::setresuid(id, id, id)
        };
        assert_eq!(failed, 0, "cannot become an ordinary user");
    }
}

/// A call that a thread of its own makes, since it may have to wait.
pub(super) struct Pending {
    thread: Arc<AtomicI32>,
}

impl Pending {
    /// Makes `call`, and sends what it gave under `ticket`.
    pub(super) fn start<T: Send + 'static>(
        ticket: u64,
        results: &Sender<(u64, T)>,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        let thread = Arc::new(AtomicI32::new(0));
        let (shared, results) = (Arc::clone(&thread), results.clone());
        std::thread::spawn(move || {
            // SAFETY: gettid has no arguments and cannot fail.
            shared.store(unsafe { libc::gettid() }, Ordering::Release);
            // Nobody listens any more when the comparison has failed.
            let _ = results.send((ticket, call()));
        });
        Pending { thread }
    }

    /// Waits until the thread sleeps, which from its start to its result it does
    /// nowhere but in its call. The kernel tells nobody when that happens, so
    /// this has to look.
    pub(super) fn sleeps(&self, has_ended: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !has_ended() && Instant::now() < deadline {
            let thread = self.thread.load(Ordering::Acquire);
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
            let state = stat
                .ok()
                .and_then(|stat| stat.rsplit(") ").next()?.chars().next());
            if thread != 0 && state == Some('S') {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

fn sembufs(ops: &[SemOp]) -> Vec<libc::sembuf> {
    let sembuf = |op: &SemOp| libc::sembuf {
        sem_num: op.num,
        sem_op: op.op,
        sem_flg: op.flags as i16,
    };
    ops.iter().map(sembuf).collect()
}

pub(super) fn semop(id: i32, ops: &[SemOp]) -> Judged<()> {
    let mut ops = sembufs(ops);
    // SAFETY: `ops` is valid for its length.
    judged(unsafe { libc::semop(id, ops.as_mut_ptr(), ops.len()) }.into()).map(drop)
}

/// A child that does these operations and exits: its pid, and which succeeded.
pub(super) fn in_a_child(id: i32, arrays: &[Vec<SemOp>]) -> (u32, Vec<bool>) {
    let mut arrays: Vec<Vec<libc::sembuf>> = arrays.iter().map(|ops| sembufs(ops)).collect();
    assert!(arrays.len() <= 7, "an exit status tells of seven");
    // SAFETY: the child calls nothing but semop on memory that was allocated
    // before the fork, and _exit: both are async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut succeeded = 0;
        for (bit, ops) in arrays.iter_mut().enumerate() {
            // SAFETY: as above; `ops` is valid for its length.
            let result = unsafe { libc::semop(id, ops.as_mut_ptr(), ops.len()) };
            succeeded |= i32::from(result == 0) << bit;
        }
        // SAFETY: runs nothing of the parent's.
        unsafe { libc::_exit(succeeded) }
    }
    assert!(child > 0, "fork failed");
    let mut status = 0;
    // SAFETY: `status` is valid, and `child` is a child of this process.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    assert!(
        ended == child && libc::WIFEXITED(status),
        "the child was killed"
    );
    let succeeded = libc::WEXITSTATUS(status);
    (
        child as u32,
        (0..arrays.len())
            .map(|bit| succeeded >> bit & 1 != 0)
            .collect(),
    )
}

/// A set, removed when it is dropped.
pub(super) struct Set {
    pub(super) id: i32,
    pub(super) nsems: u16,
}

impl Set {
    pub(super) fn new(nsems: u16) -> Self {
        // SAFETY: takes numbers only.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, nsems.into(), 0o600) };
        assert!(id >= 0, "semget failed");
        Set { id, nsems }
    }

    /// A command whose argument is a number or nothing.
    pub(super) fn control(&self, num: i32, command: i32, argument: i32) -> Judged<i32> {
        // SAFETY: the callers' commands take no pointer.
        let result = unsafe { libc::semctl(self.id, num, command, argument) };
        judged(result.into()).map(|result| result as i32)
    }

    pub(super) fn get_all(&self) -> Judged<Vec<u16>> {
        let mut values = vec![0; self.nsems.into()];
        // SAFETY: `values` has room for the value of each semaphore of the set.
        judged(unsafe { libc::semctl(self.id, 0, libc::GETALL, values.as_mut_ptr()) }.into())?;
        Ok(values)
    }

    pub(super) fn set_all(&self, values: &[u16]) -> Judged<()> {
        assert_eq!(values.len(), usize::from(self.nsems));
        // SAFETY: `values` has a value for each semaphore of the set.
        judged(unsafe { libc::semctl(self.id, 0, libc::SETALL, values.as_ptr()) }.into()).map(drop)
    }

    pub(super) fn stat(&self) -> Judged<libc::semid_ds> {
        // SAFETY: the struct is of integers only, for which zero is valid.
        let mut stat: libc::semid_ds = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is what IPC_STAT fills.
        judged(unsafe { libc::semctl(self.id, 0, libc::IPC_STAT, &mut stat) }.into())?;
        Ok(stat)
    }

    pub(super) fn set(&self, uid: u32, gid: u32, mode: u16) -> Judged<()> {
        // SAFETY: the struct is of integers only, for which zero is valid.
        let mut new: libc::semid_ds = unsafe { std::mem::zeroed() };
        (new.sem_perm.uid, new.sem_perm.gid, new.sem_perm.mode) = (uid, gid, mode as _);
        // SAFETY: `new` is what IPC_SET reads.
        judged(unsafe { libc::semctl(self.id, 0, libc::IPC_SET, &new) }.into()).map(drop)
    }

    pub(super) fn remove(&self) -> Judged<()> {
        // SAFETY: takes numbers only.
        judged(unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) }.into()).map(drop)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// The longest text that the tests send.
pub(super) const LONGEST: usize = 9000;

#[repr(C)]
struct Buffer {
    mtype: libc::c_long,
    text: [u8; LONGEST],
}

pub(super) fn msgsnd(id: i32, mtype: i64, text: &[u8], flags: u32) -> Judged<()> {
    let mut buffer = Buffer {
        mtype,
        text: [0; LONGEST],
    };
    buffer.text[..text.len()].copy_from_slice(text);
    // SAFETY: `buffer` is a type and at least `text.len()` bytes.
    let result = unsafe { libc::msgsnd(id, (&raw const buffer).cast(), text.len(), flags as i32) };
    judged(result.into()).map(drop)
}

pub(super) fn msgrcv(id: i32, mtype: i64, size: u64, flags: u32) -> Judged<(i64, Vec<u8>)> {
    assert!(size <= LONGEST as u64 || size > i64::MAX as u64, "no room");
    let mut buffer = Buffer {
        mtype: 0,
        text: [0; LONGEST],
    };
    let at = (&raw mut buffer).cast();
    // SAFETY: `buffer` has room for `size` bytes behind the type, or `size` is
    // negative, and then the kernel writes nothing.
    let len = unsafe { libc::msgrcv(id, at, size as usize, mtype, flags as i32) };
    let len = judged(len as i64)?;
    Ok((buffer.mtype, buffer.text[..len as usize].to_vec()))
}

/// A queue, removed when it is dropped.
pub(super) struct Queue {
    pub(super) id: i32,
}

impl Queue {
    pub(super) fn new() -> Self {
        // SAFETY: takes numbers only.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        assert!(id >= 0, "msgget failed");
        Queue { id }
    }

    pub(super) fn stat(&self) -> Judged<libc::msqid_ds> {
        // SAFETY: the struct is of integers only, for which zero is valid.
        let mut stat: libc::msqid_ds = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is what IPC_STAT fills.
        judged(unsafe { libc::msgctl(self.id, libc::IPC_STAT, &mut stat) }.into())?;
        Ok(stat)
    }

    pub(super) fn set(&self, uid: u32, gid: u32, mode: u16, qbytes: u64) -> Judged<()> {
        // SAFETY: the struct is of integers only, for which zero is valid.
        let mut new: libc::msqid_ds = unsafe { std::mem::zeroed() };
        (new.msg_perm.uid, new.msg_perm.gid, new.msg_perm.mode) = (uid, gid, mode as _);
        new.msg_qbytes = qbytes as _;
        // SAFETY: `new` is what IPC_SET reads.
        judged(unsafe { libc::msgctl(self.id, libc::IPC_SET, &mut new) }.into()).map(drop)
    }

    pub(super) fn remove(&self) -> Judged<()> {
        // SAFETY: IPC_RMID reads no buffer.
        let result = unsafe { libc::msgctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) };
        judged(result.into()).map(drop)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
