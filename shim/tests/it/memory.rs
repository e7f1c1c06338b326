//! Attachments: the two halves of `shmat`, `shmdt`, and forked children.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use dipc_wire::call::{Reply, flags};
use dipc_wire::local::{HelloReply, Inherited, Request, Response, VERSION};
use dipc_wire::{Errno, NodeId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::calls::id;
use crate::fake::{Connection, Fake};
use crate::probe::Probe;

/// The node's memory of the segment.
fn segment(len: u64) -> File {
    let file = File::from(memfd_create(c"segment", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    file
}

/// Plays the first half of an attach; returns whether a userfaultfd is needed.
#[track_caller]
fn first_half(connection: &mut Connection, memory: &File, adopt: bool, flags: u32) -> bool {
    let (request, _) = connection.request();
    let Request::Attach {
        id: asked,
        flags: told,
        need_uffd,
    } = request
    else {
        panic!("{request:?}")
    };
    assert_eq!((asked, told), (id(), flags));
    let len = memory.metadata().unwrap().len();
    let attached = Response::Attached {
        len,
        device: false,
        adopt,
    };
    connection.respond(&attached, &[], &[memory.as_raw_fd()]);
    need_uffd
}

/// Plays the second half; returns where the segment lies and what came with it.
#[track_caller]
fn second_half(connection: &mut Connection, reply: Reply<'_>) -> (u64, Option<OwnedFd>) {
    let (request, _) = connection.request();
    let Request::Map { addr } = request else {
        panic!("{request:?}")
    };
    connection.reply(reply);
    (addr, connection.descriptor())
}

/// Whether this test may run: it needs userfaultfd, which some sandboxes forbid.
fn possible() -> bool {
    // SAFETY: no memory is passed; 1 is UFFD_USER_MODE_ONLY.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, 1 | libc::O_CLOEXEC) };
    if fd < 0 {
        println!("left out: userfaultfd is forbidden here");
        return false;
    }
    // SAFETY: just made, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    true
}

/// Whether this user may serve faults inside system calls without the device.
fn may_serve_the_kernel() -> bool {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    if fd < 0 {
        println!("left out: this user's userfaultfd does not serve the kernel");
        return false;
    }
    // SAFETY: just made, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    true
}

/// Has missing pages from `addr` on served by a program's userfaultfd; the
/// structures of `<linux/userfaultfd.h>`, word by word.
fn register(uffd: &OwnedFd, addr: u64, len: u64) {
    const API: libc::Ioctl = 0xc018_aa3f;
    const REGISTER: libc::Ioctl = 0xc020_aa00;
    const VERSION: u64 = 0xaa;
    const MISSING: u64 = 1;
    // SAFETY: each structure has as many words as the kernel reads and writes.
    unsafe {
        let mut api = [VERSION, 0, 0];
        assert_eq!(libc::ioctl(uffd.as_raw_fd(), API, &raw mut api), 0);
        let mut range = [addr, len, MISSING, 0];
        assert_eq!(libc::ioctl(uffd.as_raw_fd(), REGISTER, &raw mut range), 0);
    }
}

/// Serves one fault by zeros.
fn serve(uffd: &OwnedFd, addr: u64, len: u64) {
    const ZEROPAGE: libc::Ioctl = 0xc020_aa04;
    let mut fds = [PollFd::new(uffd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut fds, PollTimeout::from(10_000u16)),
        Ok(1),
        "nothing faults"
    );
    let mut zeros = [addr, len, 0, 0];
    // SAFETY: as many words as the kernel reads and writes.
    let served = unsafe { libc::ioctl(uffd.as_raw_fd(), ZEROPAGE, &raw mut zeros) };
    assert_eq!(served, 0);
}

#[test]
fn a_fault_inside_a_system_call_is_served_where_the_user_may_without_the_device() {
    if !may_serve_the_kernel() {
        return;
    }
    let fake = Fake::new("reading");
    let memory = segment(4096);
    let probe = Probe::start("reading", &fake.dir, &fake.socket(), &[], &[]);
    let mut c = fake.accept();
    got(&mut c);
    first_half(&mut c, &memory, false, 0);
    let (request, _) = c.request();
    let Request::Map { addr } = request else {
        panic!("{request:?}")
    };
    let uffd = c.descriptor().unwrap();
    register(&uffd, addr, 4096);
    c.reply(Reply::Done);
    serve(&uffd, addr, 4096);
    probe.prints(&["read 4", "byte r"]);
}

fn got(connection: &mut Connection) {
    connection.call();
    connection.reply(Reply::Id(id()));
}

#[test]
fn a_segment_is_shared_with_the_daemon_attached_at_will_and_detached_by_its_exact_address() {
    if !possible() {
        return;
    }
    attaches("attaching");
    attaches("attaching_by_number");
}

fn attaches(program: &str) {
    let fake = Fake::new(program);
    let memory = segment(8192);
    memory.write_all_at(&[4], 4999).unwrap();
    let probe = Probe::start(program, &fake.dir, &fake.socket(), &[], &[]);
    let mut c = fake.accept();
    got(&mut c);

    assert!(
        first_half(&mut c, &memory, false, 0),
        "the first attach brings a userfaultfd"
    );
    let (addr, uffd) = second_half(&mut c, Reply::Done);
    assert!(uffd.is_some() && addr % 4096 == 0);

    assert!(
        !first_half(&mut c, &memory, false, flags::RDONLY),
        "one is enough"
    );
    let (readable, uffd) = second_half(&mut c, Reply::Done);
    assert!(uffd.is_none());

    // Something else lies there.
    first_half(&mut c, &memory, false, 0);
    assert_eq!(c.request().0, Request::Abandon);
    c.reply(Reply::Done);

    first_half(&mut c, &memory, false, 0);
    second_half(&mut c, Reply::Done);

    // Over an attachment, which is thereby detached.
    first_half(&mut c, &memory, false, 0);
    let mut beside = fake.accept();
    assert_eq!(beside.request().0, Request::Detach { addr: readable });
    beside.reply(Reply::Done);
    assert!(beside.is_over());
    assert_eq!(second_half(&mut c, Reply::Done).0, readable);

    first_half(&mut c, &memory, false, 0);
    second_half(&mut c, Reply::Failed(Errno::ENOMEM));

    assert_eq!(c.request().0, Request::Detach { addr });
    c.reply(Reply::Done);
    assert!(c.is_over());
    let mut byte = [0];
    memory.read_exact_at(&mut byte, 1).unwrap();
    assert_eq!(byte, [9], "what the program wrote");
    probe.prints(&[
        "byte 4",
        "other byte 9",
        "taken EINVAL",
        "remapped 1, byte 9",
        "replaced 1",
        "refused ENOMEM",
        "inside EINVAL",
        "shmdt 0",
        "again EINVAL",
        "unmapped 1",
        "unaligned EINVAL",
    ]);
}

/// Starts the fork probe and attaches its parent.
fn attached(test: &str, how: &str, adopt: bool) -> (Fake, Probe, Connection, u64) {
    let fake = Fake::new(test);
    let memory = segment(4096);
    memory.write_all_at(&[4], 0).unwrap();
    let probe = Probe::start("inheriting", &fake.dir, &fake.socket(), &[how], &[]);
    let mut parent = fake.accept();
    got(&mut parent);
    first_half(&mut parent, &memory, adopt, 0);
    let (addr, _) = second_half(&mut parent, Reply::Done);
    (fake, probe, parent, addr)
}

/// The child's first request: what it inherited.
#[track_caller]
fn reported(child: &mut Connection, addr: u64) {
    let (request, payload) = child.request();
    assert!(
        matches!(request, Request::Forked { parent } if parent > 1),
        "{request:?}"
    );
    let rows: Vec<_> = Inherited::decode_all(&payload).unwrap().collect();
    assert_eq!(
        rows,
        [Inherited {
            id: id().raw(),
            readonly: false,
            addr,
            len: 4096
        }]
    );
}

/// Both processes detach, the child first.
fn detached(child: &mut Connection, parent: &mut Connection, addr: u64) {
    for connection in [child, parent] {
        assert_eq!(connection.request().0, Request::Detach { addr });
        connection.reply(Reply::Done);
        assert!(connection.is_over());
    }
}

const INHERITED: [&str; 5] = [
    "child reads 4",
    "child shmdt 0",
    "child exit 0",
    "parent reads 4",
    "parent shmdt 0",
];

/// libc's `fork`, and the same by its number.
const FORKS: &[&str] = if cfg!(target_arch = "x86_64") {
    &["fork", "SYS_fork", "SYS_clone", "SYS_clone3"]
} else {
    &["fork"]
};

#[test]
fn a_forked_child_reports_what_it_inherited_before_anything_else() {
    if !possible() {
        return;
    }
    for how in FORKS {
        let test = format!("inheriting-{how}");
        let (fake, probe, mut parent, addr) = attached(&test, how, false);
        let mut child = fake.accept();
        reported(&mut child, addr);
        assert!(child.descriptor().is_none(), "the daemon has fork events");
        child.reply(Reply::Done);
        detached(&mut child, &mut parent, addr);
        probe.prints(&INHERITED);
    }
}

#[test]
fn a_child_brings_a_userfaultfd_of_its_own_to_a_daemon_without_fork_events() {
    if !possible() {
        return;
    }
    for how in FORKS {
        let test = format!("adopting-{how}");
        let (fake, probe, mut parent, addr) = attached(&test, how, true);
        let mut child = fake.accept();
        reported(&mut child, addr);
        assert!(child.descriptor().is_some());
        child.reply(Reply::Done);
        detached(&mut child, &mut parent, addr);
        probe.prints(&INHERITED);
    }
}

#[test]
fn a_child_of_an_inline_clone_reports_at_its_first_call() {
    if !possible() {
        return;
    }
    let (fake, probe, mut parent, addr) = attached("cloning", "inline", false);
    let mut child = fake.accept();
    reported(&mut child, addr);
    child.reply(Reply::Done);
    child.call();
    child.reply(Reply::Value(3));
    detached(&mut child, &mut parent, addr);
    let lines: Vec<_> = ["call 3"].into_iter().chain(INHERITED).collect();
    probe.prints(&lines);
}

/// The child of `how` touches what it inherited, and must not read zeros that
/// nobody wrote. Returns what it was told.
fn gets_sigsegv(
    test: &str,
    how: &str,
    adopt: bool,
    refuse: impl FnOnce(&Fake, u64),
) -> Option<String> {
    if !possible() {
        return None;
    }
    let (fake, probe, mut parent, addr) = attached(test, how, adopt);
    refuse(&fake, addr);
    assert_eq!(parent.request().0, Request::Detach { addr });
    parent.reply(Reply::Done);
    let output = probe.finish();
    let after: Vec<_> = output.stdout.lines().rev().take(3).collect();
    assert_eq!(
        after,
        ["parent shmdt 0", "parent reads 4", "child signal 11"]
    );
    assert!(!output.stdout.contains("child reads"), "{}", output.stdout);
    Some(output.stderr)
}

#[track_caller]
fn told_of_the_child(stderr: Option<String>) {
    assert!(stderr.is_none_or(|told| told.contains("forked child")));
}

#[test]
fn a_child_that_the_daemon_does_not_serve_gets_sigsegv_and_no_zeros() {
    for adopt in [true, false] {
        let test = format!("refused-{adopt}");
        told_of_the_child(gets_sigsegv(&test, "fork", adopt, |fake, addr| {
            let mut child = fake.accept();
            reported(&mut child, addr);
            child.reply(Reply::Failed(Errno::ENOMEM));
            assert!(child.is_over());
        }));
    }
}

#[test]
fn a_child_whose_report_dies_with_the_daemon_gets_sigsegv_and_no_zeros() {
    for adopt in [true, false] {
        let test = format!("died-{adopt}");
        told_of_the_child(gets_sigsegv(&test, "fork", adopt, |fake, addr| {
            reported(&mut fake.accept(), addr);
        }));
    }
}

#[test]
fn a_child_of_an_inline_clone_whose_report_dies_with_the_daemon_gets_sigsegv_and_no_zeros() {
    told_of_the_child(gets_sigsegv("died-clone", "inline", false, |fake, addr| {
        reported(&mut fake.accept(), addr);
    }));
}

#[test]
fn a_child_that_the_daemon_does_not_even_greet_gets_sigsegv_and_no_zeros() {
    let stderr = gets_sigsegv("not-greeted", "fork", false, |fake, _| {
        fake.greet(HelloReply {
            version: VERSION + 1,
            accepted: false,
            node: NodeId::SOLO,
        });
    });
    // One line a process, and the version comes first.
    assert!(stderr.is_none_or(|told| told.contains("start dipcd again")));
}

#[test]
fn without_its_daemon_a_process_can_still_detach() {
    if !possible() {
        return;
    }
    let (fake, probe, parent, addr) = attached("orphan", "fork", false);
    let mut child = fake.accept();
    reported(&mut child, addr);
    std::fs::remove_file(fake.socket()).unwrap();
    child.reply(Reply::Done);
    drop((parent, child));
    probe.prints(&INHERITED);
}
