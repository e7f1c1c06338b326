//! Who may only read a segment changes it for nobody, and stops nobody: not on its
//! own node, not on another; with system calls, with what the daemon hands out,
//! and with messages that the library would not send.
//!
//! Beside each attempt an honest writer and readers on two nodes look at every
//! byte. `docs/security.md` has the list.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use dipc_tests::raw::{Raw, as_user};
use dipc_tests::{Cluster, FIND, Options, Program, skip};
use dipc_wire::call::{Call, Reply, flags};
use dipc_wire::local::{Inherited, Request, Response};
use dipc_wire::{Errno, Kind, ObjectId};
use nix::sys::signal::Signal;

/// Of the attacker.
const EVE: u32 = 1000;
const PAGE: i64 = 4096;
const LENGTH: i64 = 3 * PAGE;
/// `IPC_CREAT | IPC_DIPC | 0644`
const READABLE: u32 = 0o11644;
const RDONLY: u32 = flags::RDONLY;

/// Two nodes; on each somebody who may write a segment, and somebody who reads it.
struct World {
    cluster: Cluster,
    id: i64,
    writers: [Program; 2],
    readers: [Program; 2],
    /// What is in the segment now.
    byte: u8,
}

impl World {
    /// The segment's home is node 1. Others than its writers may only read it: as
    /// root by being another user, else since nobody may write it any more.
    fn new() -> Self {
        let cluster = Cluster::with(Options {
            // Nothing here waits for it.
            quantum: "0",
            ..Options::nodes(2)
        });
        let mut writers = [1, 2].map(|node| cluster.program(node));
        let id = writers[0].must(format!("shmget 0x5e17 {LENGTH} {READABLE}"));
        writers[1].must(format!("shmget 0x5e17 {LENGTH} {FIND}"));
        for writer in &mut writers {
            assert_eq!(writer.must(format!("shmat {id} 0")), 0);
        }
        let me = nix::unistd::getuid();
        if !me.is_root() {
            let group = nix::unistd::getgid();
            writers[0].must(format!("set shm {id} {me} {group} 0444"));
        }
        let mut world = World {
            readers: [1, 2].map(|node| cluster.program(node)),
            cluster,
            id,
            writers,
            byte: 0,
        };
        for reader in &mut world.readers {
            assert_eq!(reader.must(format!("shmat {id} {RDONLY}")), 0);
        }
        world
    }

    /// A program on a node that may read the segment and has it attached as slot 0.
    fn attacker(&self, node: usize) -> Program {
        let mut eve = self.cluster.program(node);
        if nix::unistd::getuid().is_root() {
            eve.must(format!("setuid {EVE}"));
        }
        let id = self.id;
        assert_eq!(eve.ask(format!("shmat {id} 0")), "! EACCES");
        assert_eq!(eve.must(format!("shmat {id} {RDONLY}")), 0);
        eve
    }

    /// Runs what the attacker does without the library.
    fn by_hand<R: Send>(&self, node: usize, act: impl FnOnce(ObjectId, Raw) -> R + Send) -> R {
        let (socket, id) = (&self.cluster.node(node).socket, self.object());
        let run = || act(id, Raw::greeted(socket).expect("it may come in"));
        match nix::unistd::getuid().is_root() {
            true => as_user(EVE, run),
            false => run(),
        }
    }

    fn object(&self) -> ObjectId {
        ObjectId::from_raw(self.id as i32).expect("an id of ours")
    }

    /// Everybody honest sees what was written last, and what is written next.
    #[track_caller]
    fn check(&mut self, after: &str) {
        self.unchanged(after);
        for writer in 0..2 {
            self.byte = self.byte % 250 + 1;
            let (byte, now) = (self.byte, &mut self.writers[writer]);
            now.must(format!("fill 0 0 {LENGTH} {byte}"));
            self.unchanged(after);
        }
    }

    #[track_caller]
    fn unchanged(&mut self, after: &str) {
        let byte = self.byte;
        for program in self.readers.iter_mut().chain(&mut self.writers) {
            let wrong = program.must(format!("differ 0 0 {LENGTH} {byte}"));
            assert_eq!(wrong, 0, "bytes are not {byte} after {after}");
        }
    }
}

#[test]
fn who_may_only_read_changes_nothing_by_system_calls_on_its_own_memory() {
    let mut world = World::new();
    for node in [1, 2] {
        let mut eve = world.attacker(node);
        assert_eq!(eve.ask("poke 0 0 1"), "! SIGSEGV");
        assert_eq!(eve.ask(format!("mprotect 0 {LENGTH}")), "! EACCES");
        // The kernel itself forces no write into a shared mapping that is read-only.
        let forced = [
            format!("mem_write 0 {} 119", PAGE + 1),
            format!("ptrace_write 0 {} 119", 2 * PAGE),
        ];
        for attempt in &forced {
            assert_eq!(eve.ask(attempt), "! EIO");
            world.check(attempt);
        }
        // Each of these shall succeed, or the attempt shows nothing.
        let writable = [
            format!("raw_protect 0 {LENGTH}"),
            format!("fill 0 0 {LENGTH} 119"),
        ];
        for attempt in writable.iter().chain(&forced) {
            world.check("nothing");
            eve.must(format!("peek 0 {PAGE}"));
            eve.must(attempt);
            world.check(attempt);
        }
        // MADV_DONTNEED, MADV_REMOVE, and the attachment at another place: whether
        // the kernel lets it or not.
        for attempt in [
            format!("madvise 0 0 {LENGTH} 4"),
            format!("madvise 0 0 {LENGTH} 9"),
            format!("mremap 0 0 {PAGE} {PAGE} 1"),
            format!("fill 0 0 {PAGE} 120"),
            format!("reopen_files 0 {LENGTH} 121"),
        ] {
            eve.ask(&attempt);
            world.check(&attempt);
        }
    }
}

#[test]
fn a_forked_child_of_who_may_only_read_changes_nothing_either() {
    let mut world = World::new();
    let mut eve = world.attacker(2);
    world.check("nothing");
    eve.must("fork");
    for attempt in [
        format!("child 0 raw_protect 0 {LENGTH}"),
        format!("child 0 fill 0 0 {LENGTH} 119"),
        format!("raw_protect 0 {LENGTH}"),
        format!("fill 0 0 {LENGTH} 118"),
        format!("child 0 peek 0 {PAGE}"),
    ] {
        eve.must(&attempt);
        world.check(&attempt);
    }
}

/// A mapping of a file, or of nothing.
struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    fn of(file: BorrowedFd<'_>, protection: i32) -> Option<Self> {
        let (length, shared) = (LENGTH as usize, libc::MAP_SHARED);
        let none = std::ptr::null_mut();
        // SAFETY: a fresh mapping, at a place of the kernel's choice.
        let start = unsafe { libc::mmap(none, length, protection, shared, file.as_raw_fd(), 0) };
        (start != libc::MAP_FAILED).then_some(Mapping { start, length })
    }

    fn write(&self, byte: i32) {
        // SAFETY: all of it is mapped, writable, and nobody has a reference to it.
        unsafe { libc::memset(self.start, byte, self.length) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps what `of` has mapped, to which there are no references.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// All that can be done to a memory file by who has it; how much of it went.
fn abuse(file: BorrowedFd<'_>, byte: u8) -> usize {
    let mut done = 0;
    done += usize::from(nix::sys::uio::pwrite(file, &[byte; 64], PAGE).is_ok());
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    let again = File::options().read(true).write(true).open(again);
    let fds = [Some(file), again.as_ref().ok().map(AsFd::as_fd)];
    for fd in fds.into_iter().flatten() {
        if let Some(mapping) = Mapping::of(fd, libc::PROT_READ | libc::PROT_WRITE) {
            mapping.write(i32::from(byte));
            done += 1;
        }
        let raw = fd.as_raw_fd();
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: numbers only.
        let results = unsafe {
            [
                libc::fallocate(raw, hole, 0, PAGE),
                libc::ftruncate(raw, 0),
                libc::ftruncate(raw, 2 * LENGTH),
                libc::fcntl(raw, libc::F_ADD_SEALS, libc::F_SEAL_WRITE),
            ]
        };
        assert_eq!(
            results[1..],
            [-1; 3],
            "the file can be shrunk, grown or sealed"
        );
        done += usize::from(results[0] == 0);
    }
    done
}

fn failed(raw: &Raw, request: &Request, payload: &[u8]) -> Option<Errno> {
    let heard = raw.ask(request, payload, &[]);
    match heard.expect("an answer").response() {
        Response::Reply(Reply::Failed(errno)) => Some(errno),
        _ => None,
    }
}

/// `shmat`, first half, for reading.
fn attach(raw: &Raw, id: ObjectId, need_uffd: bool) -> Vec<OwnedFd> {
    let flags = RDONLY;
    let request = Request::Attach {
        id,
        flags,
        need_uffd,
    };
    let heard = raw.ask(&request, &[], &[]).expect("an answer");
    assert!(
        matches!(heard.response(), Response::Attached { .. }),
        "{heard:?}"
    );
    heard.descriptors
}

#[test]
fn the_file_that_a_reader_is_handed_is_nobody_elses() {
    let mut world = World::new();
    for node in [1, 2] {
        world.check("nothing");
        world.by_hand(node, |id, raw| {
            for flags in [0, flags::EXEC, flags::REMAP] {
                let need_uffd = false;
                let request = Request::Attach {
                    id,
                    flags,
                    need_uffd,
                };
                assert_eq!(failed(&raw, &request, &[]), Some(Errno::EACCES));
            }
            let files = attach(&raw, id, false);
            assert_eq!(files.len(), 1);
            assert!(
                abuse(files[0].as_fd(), 119) > 0,
                "the attempt shows nothing"
            );
        });
        world.check("abuse of the file");
    }
}

/// `USERFAULTFD_IOC_NEW`
const NEW: libc::c_ulong = 0xaa00;

/// A userfaultfd of this process: from the device, as the library does, or else one
/// that any user may have.
fn userfaultfd(device: Option<&OwnedFd>) -> OwnedFd {
    // SAFETY: both take flags only.
    let fd = unsafe {
        match device {
            Some(device) => i64::from(libc::ioctl(device.as_raw_fd(), NEW as _, libc::O_CLOEXEC)),
            None => libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | 1),
        }
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Answers its own faults: `UFFDIO_COPY`, `_ZEROPAGE`, `_CONTINUE`, `_WRITEPROTECT`
/// off, `_WAKE` and `_UNREGISTER` for all of a mapping; how many went.
fn serve_oneself(uffd: &OwnedFd, at: &Mapping, byte: u8) -> usize {
    let page = vec![byte; LENGTH as usize];
    let (start, len) = (at.start as u64, LENGTH as u64);
    let requests: [(libc::c_ulong, [u64; 5]); 6] = [
        (0xc028_aa03, [start, page.as_ptr() as u64, len, 0, 0]),
        (0xc020_aa04, [start, len, 0, 0, 0]),
        (0xc020_aa07, [start, len, 0, 0, 0]),
        (0xc018_aa06, [start, len, 0, 0, 0]),
        (0x8010_aa02, [start, len, 0, 0, 0]),
        (0x8010_aa01, [start, len, 0, 0, 0]),
    ];
    let went = requests.into_iter().filter_map(|(number, mut argument)| {
        // SAFETY: each of these structures has at most five words, which the kernel
        // reads and writes; `page` lives until the call is over.
        let result = unsafe { libc::ioctl(uffd.as_raw_fd(), number as _, argument.as_mut_ptr()) };
        (result == 0).then_some(())
    });
    went.count()
}

#[test]
fn who_serves_its_own_faults_harms_itself() {
    let mut world = World::new();
    for node in [1, 2] {
        world.check("nothing");
        world.by_hand(node, |id, raw| {
            let files = attach(&raw, id, true);
            let own = userfaultfd(files.get(1));
            let mapping = Mapping::of(files[0].as_fd(), libc::PROT_READ | libc::PROT_WRITE);
            let mapping = mapping.expect("its own file");
            let addr = mapping.start as u64;
            let mapped = raw.ask(&Request::Map { addr }, &[], &[own.as_fd()]);
            assert!(matches!(
                mapped.expect("an answer").response(),
                Response::Reply(Reply::Done)
            ));
            assert!(
                serve_oneself(&own, &mapping, 119) > 0,
                "the attempt shows nothing"
            );
            mapping.write(120);
        });
        world.check("own ioctls");
    }
}

#[test]
fn who_may_only_read_gains_nothing_by_messages_of_its_own() {
    let mut world = World::new();
    world.check("nothing");
    for node in [1, 2] {
        let victim = world.writers[node - 1].pid();
        let place = world.writers[node - 1].must("address 0 0") as u64;
        let attached = world.writers[0].ask(format!("shmstat {}", world.id));
        world.by_hand(node, |id, raw| {
            let (addr, len) = (place, LENGTH as u64);
            let kind = Kind::Shm;
            let (uid, gid, mode, qbytes) = (EVE, EVE, 0o666, None);
            let lies = [
                // The rights of others, and what only daemons say.
                Request::Call(Call::Remove { kind, id }),
                Request::Call(Call::Set {
                    kind,
                    id,
                    uid,
                    gid,
                    mode,
                    qbytes,
                }),
                Request::Call(Call::Attach { id, flags: 0 }),
                Request::Call(Call::Detach { id, count: 9 }),
                Request::Call(Call::Inherit { id, count: 9 }),
                Request::Call(Call::Remap { id }),
                Request::Call(Call::Abandon { id }),
                // The mappings of others.
                Request::Detach { addr },
                Request::Unmapped { addr, len },
                Request::Changed {
                    addr,
                    len,
                    inherited: Some(false),
                },
                Request::Remap {
                    addr,
                    len,
                    need_uffd: false,
                },
                Request::Map { addr },
            ];
            let nobody_else = nix::unistd::getuid().is_root();
            for lie in lies {
                // As the same user it is the segment's owner.
                let owners = matches!(lie, Request::Call(Call::Remove { .. } | Call::Set { .. }));
                if nobody_else || !owners {
                    assert!(failed(&raw, &lie, &[]).is_some(), "{lie:?}");
                }
            }
            // The child of somebody else.
            let inherited = Inherited {
                id: id.raw(),
                readonly: false,
                addr,
                len,
            };
            let forked = Request::Forked { parent: victim };
            let _ = failed(&raw, &forked, &inherited.encode());
            let remap = Request::Remap {
                addr,
                len,
                need_uffd: false,
            };
            assert!(failed(&raw, &remap, &[]).is_some(), "a child of the victim");
        });
        world.check("lies");
        let after = world.writers[0].ask(format!("shmstat {}", world.id));
        assert_eq!(after, attached, "attachments are counted as before");
    }
}

#[test]
fn a_reader_that_is_stopped_with_pages_stops_nobody() {
    let mut world = World::new();
    let mut attackers = [1, 2].map(|node| world.attacker(node));
    for round in 0..5 {
        for eve in &mut attackers {
            eve.must("peek 0 0");
            // It waits for a page, or has one, when it is stopped.
            eve.begin(format!("watch 0 {} -1", PAGE * (round % 3)));
            eve.signal(Signal::SIGSTOP);
        }
        world.check("a reader was stopped");
        for eve in &mut attackers {
            eve.signal(Signal::SIGCONT);
            eve.answer();
        }
    }
    attackers.iter_mut().for_each(Program::kill);
    world.check("the readers were killed");
}

#[test]
fn a_reader_that_forks_without_end_stops_nobody() {
    // Where children report themselves no address space is ever "changing".
    if !skip::unless_root("a reader that forks without end") {
        return;
    }
    let mut world = World::new();
    let mut attackers = [1, 2].map(|node| world.attacker(node));
    for eve in &mut attackers {
        eve.must("peek 0 0");
        eve.must("fork_storm 0 0 4");
    }
    for _ in 0..20 {
        world.check("forks");
    }
    attackers.iter_mut().for_each(Program::kill);
    world.check("the end of the forks");
}
