//! shmat, shmdt, and what else happens to attachments.

use dipc_tests::{cluster, wait};

use super::{ALICE, BOB, CREATE, IPC_RMID, PUBLIC, assert_now, segment};
use crate::case::{Case, case};
use crate::stage::{Participant, Stage};

/// `SHM_RDONLY`, `SHM_RND`, `SHM_REMAP`
const RDONLY: &str = "010000";
const RND: &str = "020000";
const REMAP: &str = "040000";
const REMAP_RND: &str = "060000";
/// What munmap and its like are told, in bytes.
const PAGE: u32 = 4096;
/// `PROT_READ`, `PROT_READ | PROT_WRITE`
const READ: u32 = 1;
const WRITE: u32 = 3;

pub(crate) const CASES: &[Case] = &[
    case(
        91,
        "attaching takes read and write, SHM_RDONLY read, SHM_EXEC execute: EACCES",
        permissions,
    )
    .by_root(),
    case(
        92,
        "an unaligned address is EINVAL; with SHM_RND it is rounded down",
        alignment,
    ),
    case(
        93,
        "over a mapping is EINVAL, and replaces it with SHM_REMAP; SHM_REMAP without address is EINVAL",
        remap,
    ),
    case(
        94,
        "an address is taken exactly or not at all",
        exact_address,
    ),
    case(
        95,
        "a bad or removed id is EINVAL, with a bad address too",
        bad_id,
    ),
    case(
        96,
        "a segment that is marked for destruction can still be attached by its id",
        attach_after_removal,
    ),
    case(
        97,
        "a segment may be attached several times, read-only and not; nattch counts each",
        several_times,
    ),
    case(
        98,
        "a write through a read-only attachment is SIGSEGV, and mprotect to writable EACCES",
        read_only,
    ),
    case(
        99,
        "shmat sets atime and lpid, shmdt dtime and lpid",
        traces,
    ),
    case(
        100,
        "shmdt wants the address that shmat gave: EINVAL inside, unaligned, NULL and twice",
        detach_address,
    ),
    case(
        101,
        "what is detached cannot be touched any more: SIGSEGV",
        detached,
    ),
    case(
        102,
        "fork doubles the attachments; atime is set, and lpid to the parent",
        fork,
    ),
    case(
        103,
        "exec and exit detach, and set lpid to that process and dtime",
        exec_and_exit,
    ),
    case(
        104,
        "children of vfork and posix_spawn are not counted",
        vfork,
    ),
    case(
        105,
        "munmap of all detaches, of a part does not; shmdt works after the head is unmapped",
        unmapped,
    ),
    case(
        106,
        "mprotect of the middle makes nattch rise from 1 to 3; shmdt detaches all three",
        protected_part,
    ),
    case(
        107,
        "mremap moves an attachment: shmdt wants the new address",
        moved,
    ),
    case(
        108,
        "MADV_DONTFORK attachments are not inherited",
        not_forked,
    ),
    case(109, "attachments leave the break alone", brk),
    case(
        110,
        "children share the parent's attachments without a call",
        children_share,
    ),
    case(
        111,
        "the kernel's own reads and writes of an attachment work",
        kernel_access,
    )
    .by_root(),
];

fn permissions(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    for (mode, flags, may) in [
        ("01604", "0", false),
        ("01604", RDONLY, true),
        ("01602", "0", false),
        ("01602", RDONLY, false),
        ("01606", "0", true),
        ("01606", "0100000", false),
        ("01607", "0100000", true),
        ("01605", "0110000", true),
        ("01604", "0110000", false),
    ] {
        let id = a.must(format!("shmget 0 4096 {mode}"));
        let answer = b.ask(format!("shmat {id} {flags}"));
        assert_eq!(answer.succeeded(), may, "{mode} {flags}: {answer:?}");
        assert!(may || answer == "! EACCES", "{mode} {flags}: {answer:?}");
    }
}

fn alignment(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let free = b.must(format!("reserve {}", 2 * PAGE));
    b.must(format!("munmap {free} 0 {}", 2 * PAGE));
    b.fails(format!("shmat_at {id} {free} 4097 0"), "EINVAL");
    let slot = b.must(format!("shmat_at {id} {free} 5000 {RND}"));
    b.gives(format!("apart {free} {slot}"), "= 4096");
    b.gives(format!("aligned {slot}"), "= 1");
    b.must(format!("poke {slot} 0 1"));
    // Rounding down does not make an occupied place free.
    b.fails(format!("shmat_at {id} {free} 4104 {RND}"), "EINVAL");
}

fn remap(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let other = segment(&mut a);
    let taken = b.must(format!("reserve {}", 3 * PAGE));
    b.fails(format!("shmat {id} {REMAP}"), "EINVAL");
    b.fails(format!("shmat_at {id} {taken} {PAGE} 0"), "EINVAL");
    let slot = b.must(format!("shmat_at {id} {taken} {PAGE} {REMAP}"));
    b.gives(format!("apart {taken} {slot}"), "= 4096");
    b.must(format!("poke {taken} {PAGE} 7"));
    let at_a = a.must(format!("shmat {id} 0"));
    a.gives(format!("peek {at_a} 0"), "= 7");
    // One attachment over another: the first has ended.
    b.fails(format!("shmat_at {other} {taken} {PAGE} 0"), "EINVAL");
    let over = b.must(format!("shmat_at {other} {taken} 4097 {REMAP_RND}"));
    b.gives(format!("apart {slot} {over}"), "= 0");
    b.gives(format!("peek {taken} {PAGE}"), "= 0");
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    assert_eq!(a.stat("shm", other, "nattch"), 1);
}

fn exact_address(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = a.must(format!("shmget 0 {} {PUBLIC}", 2 * PAGE));
    let place = b.must(format!("reserve {}", 4 * PAGE));
    b.must(format!("munmap {place} {PAGE} {}", 2 * PAGE));
    let slot = b.must(format!("shmat_at {id} {place} {PAGE} 0"));
    b.gives(format!("apart {place} {slot}"), "= 4096");
    // One page is not room for two, and no other place is chosen instead.
    b.must(format!("shmdt_at {place} {PAGE}"));
    b.fails(format!("shmat_at {id} {place} {} 0", 2 * PAGE), "EINVAL");
    assert_eq!(a.stat("shm", id, "nattch"), 0);
}

fn bad_id(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let gone = segment(&mut a);
    a.must(format!("shmrm {gone}"));
    let place = b.must(format!("reserve {PAGE}"));
    for id in [-1, gone] {
        b.fails(format!("shmat {id} 0"), "EINVAL");
        b.fails(format!("shmat_at {id} {place} 1 0"), "EINVAL");
        a.fails(format!("shmat {id} {RDONLY}"), "EINVAL");
    }
}

fn attach_after_removal(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let at_a = a.must(format!("shmat {id} 0"));
    a.must(format!("shmrm {id}"));
    let at_b = b.must(format!("shmat {id} 0"));
    b.must(format!("poke {at_b} 0 7"));
    a.gives(format!("peek {at_a} 0"), "= 7");
    assert_eq!(a.stat("shm", id, "nattch"), 2);
    a.must(format!("shmdt {at_a}"));
    b.must(format!("shmdt {at_b}"));
    b.fails(format!("shmat {id} 0"), "EINVAL");
}

fn several_times(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let slots = ["0", RDONLY, "0"].map(|flags| b.must(format!("shmat {id} {flags}")));
    let at_a = a.must(format!("shmat {id} 0"));
    assert_eq!(a.stat("shm", id, "nattch"), 4);
    b.must(format!("poke {} 8 5", slots[0]));
    for slot in slots {
        b.gives(format!("peek {slot} 8"), "= 5");
    }
    a.must(format!("poke {at_a} 8 6"));
    for slot in slots {
        b.gives(format!("peek {slot} 8"), "= 6");
    }
    b.must(format!("shmdt {}", slots[1]));
    assert_eq!(b.stat("shm", id, "nattch"), 3);
    b.gives(format!("peek {} 8", slots[2]), "= 6");
}

fn read_only(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let slot = b.must(format!("shmat {id} {RDONLY}"));
    b.gives(format!("peek {slot} 0"), "= 0");
    b.fails(format!("poke {slot} 0 1"), "SIGSEGV");
    b.fails(format!("protect {slot} 0 {PAGE} {WRITE}"), "EACCES");
    b.fails(format!("poke {slot} 0 1"), "SIGSEGV");
    let at_a = a.must(format!("shmat {id} 0"));
    a.gives(format!("peek {at_a} 0"), "= 0");
}

fn traces(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let slot = b.must(format!("shmat {id} 0"));
    assert_eq!(a.stat("shm", id, "lpid"), a.knows(&b));
    let atime = a.stat("shm", id, "atime");
    assert_now(&mut a, atime);
    assert_eq!(a.stat("shm", id, "dtime"), 0);
    let at_a = a.must(format!("shmat {id} 0"));
    assert_eq!(b.stat("shm", id, "lpid"), b.knows(&a));
    b.must(format!("shmdt {slot}"));
    assert_eq!(a.stat("shm", id, "lpid"), a.knows(&b));
    let dtime = a.stat("shm", id, "dtime");
    assert_now(&mut a, dtime);
    assert_eq!(a.stat("shm", id, "cpid"), a.knows(&a));
    a.must(format!("shmdt {at_a}"));
    assert_eq!(a.stat("shm", id, "lpid"), a.knows(&a));
}

fn detach_address(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = a.must(format!("shmget 0 {} {PUBLIC}", 2 * PAGE));
    let slot = b.must(format!("shmat {id} 0"));
    for offset in [PAGE, 1, 8] {
        b.fails(format!("shmdt_at {slot} {offset}"), "EINVAL");
    }
    b.fails("shmdt_null", "EINVAL");
    b.must(format!("shmdt_at {slot} 0"));
    b.fails(format!("shmdt_at {slot} 0"), "EINVAL");
    assert_eq!(a.stat("shm", id, "nattch"), 0);
}

fn detached(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let slot = b.must(format!("shmat {id} 0"));
    b.must(format!("poke {slot} 0 7"));
    b.must(format!("shmdt_at {slot} 0"));
    b.fails(format!("peek {slot} 0"), "SIGSEGV");
    b.fails(format!("poke {slot} 0 1"), "SIGSEGV");
}

/// Waits until a segment has so many attachments.
fn until_attached(who: &mut Participant<'_>, id: i64, nattch: i64) {
    wait::until(&format!("segment {id} has {nattch} attachments"), || {
        who.stat("shm", id, "nattch") == nattch
    });
}

fn fork(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let other = segment(&mut a);
    b.must(format!("shmat {id} 0"));
    b.must(format!("shmat {id} {RDONLY}"));
    b.must(format!("shmat {other} 0"));
    let at_a = a.must(format!("shmat {id} 0"));
    a.must(format!("shmdt {at_a}"));
    assert_eq!(a.stat("shm", id, "lpid"), a.knows(&a));
    let before = a.stat("shm", id, "atime");
    wait::until("the clock goes on", || a.must("now") > before);
    b.fork();
    until_attached(&mut a, id, 4);
    assert!(a.stat("shm", id, "atime") > before);
    until_attached(&mut a, other, 2);
    assert_eq!(a.stat("shm", id, "lpid"), a.knows(&b));
    b.must("send 0 exit");
    b.must("reap 0");
    until_attached(&mut a, id, 2);
    until_attached(&mut a, other, 1);
}

fn exec_and_exit(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    for end in ["exec", "exit"] {
        b.must(format!("shmat {id} 0"));
        let at_a = a.must(format!("shmat {id} 0"));
        assert_eq!(a.stat("shm", id, "lpid"), a.knows(&a));
        if end == "exec" {
            b.must("exec");
        } else {
            b.exit();
        }
        until_attached(&mut a, id, 1);
        assert_eq!(a.stat("shm", id, "lpid"), a.knows(&b), "{end}");
        let dtime = a.stat("shm", id, "dtime");
        assert_now(&mut a, dtime);
        a.must(format!("shmdt {at_a}"));
    }
}

fn vfork(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let slot = b.must(format!("shmat {id} 0"));
    b.begin("vfork_until_line");
    wait::until("the parent waits for its child", || {
        let path = format!("/proc/{0}/task/{0}/children", b.pid());
        std::fs::read_to_string(path).is_ok_and(|pids| !pids.is_empty())
    });
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    let go = "";
    b.begin(go);
    b.answers("= 0");
    b.gives("posix_spawn /bin/true", "= 0");
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    b.must(format!("poke {slot} 0 7"));
    b.must(format!("shmdt {slot}"));
    assert_eq!(a.stat("shm", id, "nattch"), 0);
}

fn unmapped(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = a.must(format!("shmget 0 {} {PUBLIC}", 3 * PAGE));
    let all = 3 * PAGE;
    let slot = b.must(format!("shmat {id} 0"));
    b.must(format!("munmap {slot} 0 {all}"));
    assert_eq!(a.stat("shm", id, "nattch"), 0);
    b.fails(format!("shmdt_at {slot} 0"), "EINVAL");
    let slot = b.must(format!("shmat {id} 0"));
    b.must(format!("munmap {slot} 0 {PAGE}"));
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    b.fails(format!("peek {slot} 0"), "SIGSEGV");
    b.must(format!("poke {slot} {PAGE} 7"));
    b.must(format!("shmdt_at {slot} 0"));
    assert_eq!(a.stat("shm", id, "nattch"), 0);
    b.fails(format!("peek {slot} {PAGE}"), "SIGSEGV");
}

fn protected_part(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = a.must(format!("shmget 0 {} {PUBLIC}", 3 * PAGE));
    let slot = b.must(format!("shmat {id} 0"));
    b.must(format!("protect {slot} {PAGE} {PAGE} {READ}"));
    b.fails(format!("poke {slot} {PAGE} 1"), "SIGSEGV");
    b.must(format!("poke {slot} 0 1"));
    assert_eq!(a.stat("shm", id, "nattch"), 3);
    b.must(format!("protect {slot} {PAGE} {PAGE} {WRITE}"));
    b.must(format!("poke {slot} {PAGE} 1"));
    // The three parts are never joined again, but end as one.
    assert_eq!(a.stat("shm", id, "nattch"), 3);
    b.must(format!("shmdt {slot}"));
    assert_eq!(a.stat("shm", id, "nattch"), 0);
}

fn moved(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let old = b.must(format!("shmat {id} 0"));
    let at_a = a.must(format!("shmat {id} 0"));
    b.must(format!("poke {old} 0 5"));
    let to = b.must(format!("reserve {PAGE}"));
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let new = b.must(format!("mremap {old} 0 {PAGE} {PAGE} {flags} {to} 0"));
    assert_eq!(a.stat("shm", id, "nattch"), 2);
    b.gives(format!("peek {new} 0"), "= 5");
    a.must(format!("poke {at_a} 0 6"));
    b.gives(format!("peek {new} 0"), "= 6");
    b.fails(format!("shmdt_at {old} 0"), "EINVAL");
    b.must(format!("shmdt_at {new} 0"));
    assert_eq!(a.stat("shm", id, "nattch"), 1);
}

fn not_forked(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let shared = segment(&mut a);
    let slot = b.must(format!("shmat {id} 0"));
    let other = b.must(format!("shmat {shared} 0"));
    b.must(format!("madvise {slot} 0 {PAGE} {}", libc::MADV_DONTFORK));
    b.fork();
    b.fails(format!("child 0 peek {slot} 0"), "SIGSEGV");
    b.gives(format!("child 0 peek {other} 0"), "= 0");
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    assert_eq!(a.stat("shm", shared, "nattch"), 2);
}

fn brk(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let before = b.must("brk");
    let slot = b.must(format!("shmat {id} 0"));
    assert_eq!(b.must("brk"), before);
    b.gives("brk 65536", "= 65536");
    b.must(format!("poke {slot} 0 1"));
    b.must(format!("shmdt {slot}"));
    let before = b.must("brk");
    let above = b.must("above_break 1048576");
    b.must(format!("shmat_at {id} {above} 0 0"));
    assert_eq!(b.must("brk"), before);
    b.gives("brk 65536", "= 65536");
    // What is attached above it is not overrun.
    b.fails("brk 2097152", "ENOMEM");
}

fn children_share(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = a.must(format!("shmget 0 {} {PUBLIC}", 2 * PAGE));
    let at_a = a.must(format!("shmat {id} 0"));
    let at_b = b.must(format!("shmat {id} 0"));
    b.fork();
    a.must(format!("poke {at_a} 0 5"));
    b.gives(format!("child 0 peek {at_b} 0"), "= 5");
    // A page that nobody has touched before the child does.
    b.must(format!("child 0 poke {at_b} {PAGE} 6"));
    a.gives(format!("peek {at_a} {PAGE}"), "= 6");
    b.gives(format!("peek {at_b} {PAGE}"), "= 6");
}

fn kernel_access(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let folder = dipc_tests::scratch::Scratch::new();
    let (from, to) = (folder.join("from"), folder.join("to"));
    cluster::create(&from, &[b'x'; 8192]);
    let id = a.must(format!("shmget 0 {} {CREATE}", 2 * PAGE));
    let at_a = a.must(format!("shmat {id} 0"));
    let at_b = b.must(format!("shmat {id} 0"));
    b.gives(format!("read {at_b} 0 8192 {}", from.display()), "= 8192");
    a.gives(format!("differ {at_a} 0 8192 120"), "= 0");
    b.must(format!("fill {at_b} 0 4096 121"));
    a.gives(format!("write {at_a} 0 8192 {}", to.display()), "= 8192");
    let written = std::fs::read(&to).expect("a file of ours");
    assert!(written[..4096].iter().all(|b| *b == 121) && written[4096..].iter().all(|b| *b == 120));
    a.must(format!("fill {at_a} 0 4096 0"));
    b.fails(format!("futex_wait {at_b} 0 1"), "EAGAIN");
    b.gives(format!("futex_wake {at_b} 4096"), "= 0");
    a.must(format!("control shm {id} 0 {IPC_RMID} 0"));
}
