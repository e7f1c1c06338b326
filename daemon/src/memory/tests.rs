//! The memory module on real userfaultfds, of this very process: its threads
//! are the programs, and the test is the daemon.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};

use dipc_wire::coherence::Access;
use dipc_wire::{NodeId, ObjectId};
use nix::poll::PollTimeout;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::changes::Gone;
use super::spaces::{Births, News, View};
use super::uffd::{Range, Uffd};
use super::{Mapping, PAGE, Passing, SegmentMemory, Space, Spaces};

const PAGES: u64 = 4;
/// What a thread finds at an address that raised SIGBUS.
const BUS: u8 = 0xb5;
const ID: ObjectId = ObjectId::new(NodeId::SOLO, 1);

/// A segment, and this process's address space.
struct Daemon {
    spaces: Spaces,
    space: Arc<Space>,
    memory: SegmentMemory,
    forks: Forks,
}

/// Takes what is read in passing; counts the children.
#[derive(Default)]
struct Forks(AtomicUsize);

impl Births for Forks {
    fn born(&self, _: &Space, _: &[Mapping]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn spare(&self, read: &mut dyn FnMut()) {
        read();
    }

    fn admits(&self, _: BorrowedFd<'_>) -> bool {
        true
    }

    fn stillborn(&self, _: Uffd) {
        panic!("there are descriptors enough");
    }
}

impl Passing for Forks {
    fn pass(&self, news: News) {
        assert!(news.faults.is_empty(), "nobody touches anything meanwhile");
    }
}

fn userfaultfd() -> OwnedFd {
    let flags = libc::O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */;
    // SAFETY: a plain system call; the descriptor is new.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, flags);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

impl Daemon {
    fn new() -> Self {
        Self::with(Uffd::begin(userfaultfd(), false).unwrap())
    }

    /// One that is told of forks; `None` without the rights for it.
    fn told_of_forks() -> Option<Self> {
        Uffd::begin(userfaultfd(), true).ok().map(Self::with)
    }

    fn with(uffd: Uffd) -> Self {
        die_of_no_bus_error();
        let spaces = Spaces::default();
        let space = spaces.add(uffd, std::process::id()).unwrap();
        let memory = SegmentMemory::new(ID, PAGES * PAGE, PAGE);
        let forks = Forks::default();
        Daemon {
            spaces,
            space,
            memory,
            forks,
        }
    }

    fn map(&mut self, view: View) -> Place {
        let memfd = self.memory.memory_of(view).unwrap();
        let (prot, len) = (libc::PROT_READ | libc::PROT_WRITE, (PAGES * PAGE) as usize);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                memfd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let range = Range {
            start: start as u64,
            len: len as u64,
        };
        self.space.uffd.register(range).unwrap();
        let known = self.spaces.map(Mapping {
            space: self.space.clone(),
            segment: ID,
            view,
            range,
            offset: 0,
            readonly: view != View::Shared,
            inherited: true,
        });
        assert!(known);
        Place(range.start)
    }

    fn shared(&mut self) -> Place {
        self.memory.shared().unwrap();
        self.map(View::Shared)
    }

    fn private(&mut self) -> Place {
        let (view, _) = self.memory.private().unwrap();
        self.map(view)
    }

    /// Waits for one fault and says of what kind it is. Its thread waits.
    fn fault(&mut self) -> (Access, bool) {
        let space = self.space.clone();
        self.fault_in(&space)
    }

    fn fault_in(&mut self, space: &Arc<Space>) -> (Access, bool) {
        space.uffd.await_event(None, PollTimeout::NONE);
        let mut news = self.spaces.read(space, &self.forks);
        let fault = news.faults.pop().expect("a fault");
        assert!(news.faults.is_empty() && news.children.is_empty());
        let kind = (super::access_of(&fault), fault.protected);
        self.memory.wait(fault);
        kind
    }

    fn install(&mut self, access: Access, byte: u8) {
        let bytes = [byte; PAGE as usize];
        self.memory
            .install(0, access, Some(&bytes), &self.spaces, &self.forks)
            .unwrap();
    }

    fn permit(&mut self, access: Access) {
        self.memory.permit(0, access, &self.spaces, &self.forks);
    }

    fn protect(&mut self) {
        self.memory.protect(0, &self.spaces, &self.forks);
    }
}

/// A mapping of the segment. It stays mapped for as long as the process lives.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn byte(self) -> &'static AtomicU8 {
        // SAFETY: mapped for good, and touched by atomic accesses only.
        unsafe { AtomicU8::from_ptr(self.0 as *mut u8) }
    }

    fn read(self) -> JoinHandle<u8> {
        thread::spawn(move || self.byte().load(Ordering::SeqCst))
    }

    fn write(self, byte: u8) -> JoinHandle<()> {
        thread::spawn(move || self.byte().store(byte, Ordering::SeqCst))
    }
}

/// Makes SIGBUS put a page of [`BUS`] where it was raised.
fn die_of_no_bus_error() {
    extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's siginfo of a SIGBUS; mmap and plain stores are
        // async-signal-safe, and the page is one that could not be used.
        unsafe {
            let page = (*info).si_addr() as u64 & !(PAGE - 1);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(page as *mut _, PAGE as usize, prot, flags, -1, 0);
            std::ptr::write_bytes(page as *mut u8, BUS, PAGE as usize);
        }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a handler of the right form, as SA_SIGINFO says.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut())
        };
        assert_eq!(done, 0);
    });
}

#[test]
fn an_installed_page_lets_go_on_all_who_wait_in_every_mapping() {
    let mut daemon = Daemon::new();
    let (a, b) = (daemon.shared(), daemon.shared());
    let reader = a.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    let other = b.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.install(Access::Read, 7);
    assert_eq!((reader.join().unwrap(), other.join().unwrap()), (7, 7));
}

#[test]
fn a_read_copy_stops_writers_until_writing_is_permitted() {
    let mut daemon = Daemon::new();
    let (a, b) = (daemon.shared(), daemon.shared());
    let reader = a.read();
    daemon.fault();
    daemon.install(Access::Read, 7);
    assert_eq!(reader.join().unwrap(), 7);
    let writer = a.write(8);
    assert_eq!(daemon.fault(), (Access::Write, true));
    daemon.permit(Access::Read);
    assert!(!writer.is_finished(), "reading is not enough");
    daemon.permit(Access::Write);
    writer.join().unwrap();
    let other = b.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.permit(Access::Write);
    assert_eq!(other.join().unwrap(), 8);
}

#[test]
fn protect_stops_writers_copy_keeps_the_bytes_and_discard_stops_readers() {
    let mut daemon = Daemon::new();
    let a = daemon.shared();
    let writer = a.write(8);
    assert_eq!(daemon.fault(), (Access::Write, false));
    daemon.install(Access::Write, 7);
    writer.join().unwrap();
    daemon.protect();
    let writer = a.write(9);
    assert_eq!(daemon.fault(), (Access::Write, true));
    daemon.memory.copy(0).unwrap();
    daemon.memory.discard(0);
    assert_eq!(daemon.memory.aside()[..2], [8, 7]);
    // The protection of the absent page must not confuse what comes.
    daemon.install(Access::Write, 3);
    writer.join().unwrap();
    assert_eq!(a.read().join().unwrap(), 9);
    daemon.memory.discard(0);
    let reader = a.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.install(Access::Read, 4);
    assert_eq!(reader.join().unwrap(), 4);
}

#[test]
fn a_poisoned_page_is_sigbus_for_who_waits_and_for_who_comes_later() {
    let mut daemon = Daemon::new();
    let (a, b) = (daemon.shared(), daemon.shared());
    let waiting = a.read();
    daemon.fault();
    daemon.memory.poison(0, &daemon.spaces, &daemon.forks);
    assert_eq!(waiting.join().unwrap(), BUS);
    assert_eq!(b.read().join().unwrap(), BUS);
    let elsewhere = Place(a.0 + PAGE).read();
    assert_eq!(
        daemon.fault(),
        (Access::Read, false),
        "another page is fine"
    );
    daemon
        .memory
        .install(1, Access::Read, None, &daemon.spaces, &daemon.forks)
        .unwrap();
    assert_eq!(elsewhere.join().unwrap(), 0);
}

#[test]
fn an_access_to_a_segment_that_is_no_more_is_sigbus() {
    let mut daemon = Daemon::new();
    let a = daemon.shared();
    let reader = a.read();
    daemon.space.uffd.await_event(None, PollTimeout::NONE);
    let news = daemon.spaces.read(&daemon.space, &daemon.forks);
    super::poison_page(&news.faults[0], &daemon.spaces, &daemon.forks);
    assert_eq!(reader.join().unwrap(), BUS);
}

#[test]
fn a_page_that_is_present_and_protected_can_be_poisoned() {
    let mut daemon = Daemon::new();
    let a = daemon.shared();
    let reader = a.read();
    daemon.fault();
    daemon.install(Access::Read, 7);
    assert_eq!(reader.join().unwrap(), 7);
    daemon.memory.poison(0, &daemon.spaces, &daemon.forks);
    assert_eq!(a.read().join().unwrap(), BUS);
}

#[test]
fn when_all_is_lost_who_waits_gets_sigbus_and_nothing_stays() {
    let mut daemon = Daemon::new();
    let a = daemon.shared();
    let reader = a.read();
    daemon.fault();
    daemon.install(Access::Read, 7);
    assert_eq!(reader.join().unwrap(), 7);
    let waiting = Place(a.0 + PAGE).read();
    daemon.fault();
    daemon.memory.poison_all(&daemon.spaces, &daemon.forks);
    assert_eq!(waiting.join().unwrap(), BUS);
    let later = a.read();
    assert_eq!(
        daemon.fault(),
        (Access::Read, false),
        "the old byte is gone"
    );
    daemon.memory.poison(0, &daemon.spaces, &daemon.forks);
    assert_eq!(later.join().unwrap(), BUS);
}

#[test]
fn a_private_view_sees_each_write_and_its_own_writes_are_seen_by_nobody() {
    let mut daemon = Daemon::new();
    let (shared, private) = (daemon.shared(), daemon.private());
    let writer = shared.write(1);
    daemon.fault();
    daemon.install(Access::Write, 0);
    writer.join().unwrap();
    let reader = private.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.permit(Access::Write);
    assert_eq!(reader.join().unwrap(), 1);

    private.write(66).join().unwrap();
    assert_eq!(shared.read().join().unwrap(), 1);

    let writer = shared.write(2);
    assert_eq!(
        daemon.fault(),
        (Access::Write, true),
        "a private copy exists"
    );
    daemon.permit(Access::Write);
    writer.join().unwrap();
    let reader = private.read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.permit(Access::Write);
    assert_eq!(reader.join().unwrap(), 2);
}

#[test]
fn a_page_that_a_program_freed_itself_is_zeros_as_in_the_kernels_own_segments() {
    let mut daemon = Daemon::new();
    let (a, b) = (daemon.shared(), daemon.shared());
    let writer = a.write(1);
    daemon.fault();
    daemon.install(Access::Write, 7);
    writer.join().unwrap();
    // SAFETY: advice on a mapping of ours.
    let freed = unsafe { libc::madvise(a.0 as *mut _, PAGE as usize, libc::MADV_REMOVE) };
    assert_eq!(freed, 0);
    for place in [a, b] {
        let reader = place.read();
        daemon.fault();
        daemon.permit(Access::Write);
        assert_eq!(reader.join().unwrap(), 0);
    }
}

#[test]
fn a_program_that_makes_its_userfaultfd_block_does_not_block_the_daemon() {
    let fd = userfaultfd();
    let theirs = fd.try_clone().unwrap();
    let daemon = Daemon::with(Uffd::begin(fd, false).unwrap());
    // SAFETY: a plain call on our own descriptor.
    let cleared = unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_SETFL, 0) };
    assert_eq!(cleared, 0);
    let news = daemon.spaces.read(&daemon.space, &daemon.forks);
    assert!(news.faults.is_empty());
    // Nor does its thread spin: after one look it can be polled again.
    daemon.space.uffd.await_event(None, PollTimeout::ZERO);
    let mut ready = [nix::poll::PollFd::new(
        daemon.space.uffd.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    assert_eq!(nix::poll::poll(&mut ready, PollTimeout::ZERO), Ok(0));
}

/// A child that waits for a byte, writes to `place` and ends with what it finds.
struct Child {
    pid: JoinHandle<i32>,
    go: OwnedFd,
}

impl Child {
    /// The thread that forks is blocked until the daemon has read the event.
    fn begin(place: Place) -> Self {
        let (wait, go) = nix::unistd::pipe().unwrap();
        let theirs = go.as_raw_fd();
        let pid = thread::spawn(move || {
            // SAFETY: the child makes system calls and plain accesses only.
            match unsafe { libc::fork() } {
                // SAFETY: as above; the descriptors are the child's own copies.
                0 => unsafe {
                    libc::close(theirs);
                    let mut byte = 0u8;
                    libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
                    if byte != 0 {
                        place.byte().store(byte, Ordering::SeqCst);
                    }
                    libc::_exit(place.byte().load(Ordering::SeqCst).into())
                },
                pid => pid,
            }
        });
        Child { pid, go }
    }

    fn go(&self, byte: u8) {
        assert_eq!(nix::unistd::write(&self.go, &[byte]), Ok(1));
    }

    fn ended(self) -> i32 {
        let pid = Pid::from_raw(self.pid.join().unwrap());
        match waitpid(pid, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_protection_during_a_fork_reaches_the_child() {
    let Some(mut daemon) = Daemon::told_of_forks() else {
        return eprintln!("not run: fork events need CAP_SYS_PTRACE");
    };
    let a = daemon.shared();
    let writer = a.write(1);
    daemon.fault();
    daemon.install(Access::Write, 0);
    writer.join().unwrap();
    let child = Child::begin(a);
    daemon.space.uffd.await_event(None, PollTimeout::NONE);
    // The event is not read: the daemon does not know of the child yet.
    daemon.protect();
    assert_eq!(daemon.forks.0.load(Ordering::Relaxed), 1);
    let space = daemon
        .spaces
        .visit(ID, |all| {
            all.iter().map(|m| m.space.clone()).max_by_key(|s| s.id)
        })
        .unwrap();
    assert_ne!(space.id, daemon.space.id);
    child.go(5);
    assert_eq!(daemon.fault_in(&space), (Access::Write, true));
    daemon.permit(Access::Write);
    assert_eq!(child.ended(), 5);
    assert_eq!(a.read().join().unwrap(), 5);
}

#[test]
fn a_detach_ends_the_programs_own_mapping_and_not_that_of_a_child_that_is_gone() {
    let Some(mut daemon) = Daemon::told_of_forks() else {
        return eprintln!("not run: fork events need CAP_SYS_PTRACE");
    };
    let a = daemon.shared();
    for _ in 0..4 {
        let child = Child::begin(a);
        daemon.space.uffd.await_event(None, PollTimeout::NONE);
        let news = daemon.spaces.read(&daemon.space, &daemon.forks);
        assert_eq!(news.children.len(), 1);
        // It dies without a word.
        let pid = child.pid.join().unwrap();
        // SAFETY: a signal to a child of ours that waits.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        waitpid(Pid::from_raw(pid), None).unwrap();
    }
    let (me, all) = (std::process::id(), Gone::Mapping(a.0));
    assert!(
        daemon.spaces.unmap(all, me, |_| {}).unwrap().is_none(),
        "it is mapped"
    );
    // SAFETY: replaces a mapping of ours by one that cannot be accessed, as the
    // shim does.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let len = (PAGES * PAGE) as usize;
        libc::mmap(a.0 as *mut _, len, libc::PROT_NONE, flags, -1, 0);
    }
    let found = daemon
        .spaces
        .unmap(all, me, |_| {})
        .unwrap()
        .expect("unmapped");
    assert_eq!(found.before.space.id, daemon.space.id);
    let reaped = daemon.spaces.reap(me, || true);
    assert_eq!(reaped.len(), 4);
    assert!(reaped.iter().all(|(_, mappings)| mappings.len() == 1));
    assert!(!daemon.spaces.is_mapped(ID, None));
}

#[test]
fn a_space_that_is_gone_is_reaped_even_if_it_maps_nothing() {
    let Some(mut daemon) = Daemon::told_of_forks() else {
        return eprintln!("not run: fork events need CAP_SYS_PTRACE");
    };
    // Registered, or there would be no event; but not entered.
    let a = daemon.shared();
    let mapping = daemon.spaces.mappings(daemon.space.id).remove(0);
    daemon.spaces.remove(daemon.space.id);
    daemon.space = mapping.space;
    let child = Child::begin(a);
    daemon.space.uffd.await_event(None, PollTimeout::NONE);
    let news = daemon.spaces.read(&daemon.space, &daemon.forks);
    let space = news.children[0].id;
    let pid = child.pid.join().unwrap();
    // SAFETY: a signal to a child of ours that waits.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    waitpid(Pid::from_raw(pid), None).unwrap();
    let reaped = daemon.spaces.reap(std::process::id(), || true);
    assert!(matches!(&reaped[..], [(id, mappings)] if *id == space && mappings.is_empty()));
}
