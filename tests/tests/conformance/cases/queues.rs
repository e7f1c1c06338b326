//! Message queues.

use nix::sys::signal::Signal;

use super::{ALICE, BOB, CREATE, IPC_RMID, NOWAIT, assert_now, queue};
use crate::case::{Case, case};
use crate::stage::{Participant, Stage};

/// `MSG_NOERROR`, `MSG_EXCEPT`, `MSG_COPY`
const NOERROR: &str = "010000";
const EXCEPT: &str = "020000";
const COPY: u32 = 0o40000 | 0o4000;
/// All capabilities but CAP_SYS_RESOURCE.
const WITHOUT_RESOURCE: u64 = u64::MAX >> 1 & !(1 << 24);

pub(crate) const CASES: &[Case] = &[
    case(
        69,
        "msgsnd: EFAULT first, then EINVAL for size, type and id, all before permission",
        send_errors,
    )
    .by_root(),
    case(
        70,
        "a full queue without write permission is EACCES",
        permission_before_fullness,
    )
    .by_root(),
    case(
        71,
        "full is more bytes than qbytes, or more messages than qbytes",
        fullness,
    ),
    case(
        72,
        "IPC_SET that takes the permission away ends waiting receivers by EACCES, and senders when there is room",
        permission_lost,
    )
    .by_root(),
    case(
        73,
        "more qbytes wake senders; less than there is now are allowed",
        qbytes_changes,
    ),
    case(
        74,
        "qbytes above MSGMNB take CAP_SYS_RESOURCE, also of root: EPERM",
        qbytes_limit,
    )
    .by_root(),
    case(
        75,
        "with IPC_NOWAIT a full queue is EAGAIN and no message ENOMSG",
        nowait,
    ),
    case(
        76,
        "a small message may pass a large one that waits",
        small_passes,
    ),
    case(
        77,
        "a message that is too long is E2BIG and stays, though a later one would fit; MSG_NOERROR cuts it",
        too_long,
    ),
    case(
        78,
        "a waiting receiver gets E2BIG by a message that is too long; the sender succeeds",
        too_long_later,
    ),
    case(
        79,
        "type 0 takes the first, n the first of type n, -n the lowest type up to n; LONG_MIN any",
        types,
    ),
    case(80, "MSG_EXCEPT counts only with a positive type", except),
    case(
        81,
        "MSG_COPY takes an ordinal, needs IPC_NOWAIT, changes nothing",
        copy,
    ),
    case(82, "a message may be empty", empty),
    case(83, "a negative size is EINVAL", negative_size),
    case(
        84,
        "a caught signal ends both waits by EINTR, SA_RESTART or not; SIGSTOP and SIGCONT do not",
        signals,
    ),
    case(
        85,
        "removal ends waiting senders and receivers by EIDRM; later calls are EINVAL",
        removal,
    ),
    case(
        86,
        "a message for a waiting receiver is never in the queue",
        hand_off,
    ),
    case(
        87,
        "receivers are served in the order in which they came",
        order,
    ),
    case(
        88,
        "sending sets lspid and stime, receiving lrpid and rtime; only creation and IPC_SET set ctime",
        traces,
    ),
    case(89, "a type has 64 bits, on every node the same", type_width).ours(),
    case(
        90,
        "a queue that may only be written takes messages and gives none: EACCES",
        write_only,
    )
    .by_root(),
];

fn send_errors(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = a.must(format!("msgget 0 {CREATE}"));
    b.fails(format!("raw_msgsnd {id} 1 -1 0"), "EFAULT");
    b.fails("raw_msgsnd -1 1 9999 0", "EFAULT");
    for size in [-1, 8193] {
        b.fails(format!("msgsnd_sized {id} 1 {size} 0"), "EINVAL");
    }
    for wrong_type in [0, -1] {
        b.fails(format!("msgsnd {id} {wrong_type} 0 text"), "EINVAL");
    }
    b.fails("msgsnd -1 1 0 text", "EINVAL");
    b.fails(format!("msgsnd {id} 1 0 text"), "EACCES");
}

fn permission_before_fullness(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = a.must("msgget 0 01604");
    a.must(format!("msgsnd_sized {id} 1 8192 0"));
    a.must(format!("msgsnd_sized {id} 1 8192 0"));
    a.fails(format!("msgsnd_sized {id} 1 1 {NOWAIT}"), "EAGAIN");
    b.fails(format!("msgsnd_sized {id} 1 1 {NOWAIT}"), "EACCES");
}

fn fullness(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgset {id} 3"));
    b.fails(format!("msgsnd {id} 1 {NOWAIT} four"), "EAGAIN");
    b.must(format!("msgsnd {id} 1 {NOWAIT} two"));
    // The bytes are full, yet empty messages fit while they are at most three.
    b.must(format!("msgsnd {id} 1 {NOWAIT}"));
    a.must(format!("msgsnd {id} 1 {NOWAIT}"));
    b.fails(format!("msgsnd {id} 1 {NOWAIT}"), "EAGAIN");
    assert_eq!(a.stat("msg", id, "qnum"), 3);
    assert_eq!(a.stat("msg", id, "cbytes"), 3);
}

fn permission_lost(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = queue(&mut a);
    let full = queue(&mut a);
    a.must(format!("msgset {full} 1"));
    a.must(format!("msgsnd {full} 1 0 x"));
    b.block(format!("msgrcv {id} 9 0 0"));
    a.must(format!("set msg {id} {ALICE} {ALICE} 0600"));
    b.answers("! EACCES");
    // A sender is woken when there is room, and looks then.
    b.block(format!("msgsnd {full} 1 0 y"));
    a.must(format!("set msg {full} {ALICE} {ALICE} 0600 1"));
    b.until_blocked(b.pid());
    a.gives(format!("msgrcv {full} 9 0 0"), "= 1 1 x");
    b.answers("! EACCES");
}

fn qbytes_changes(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgset {id} 4"));
    a.must(format!("msgsnd {id} 1 0 four"));
    b.block(format!("msgsnd {id} 2 0 more"));
    a.must(format!("msgset {id} 8"));
    b.answers("= 0");
    a.must(format!("msgset {id} 2"));
    assert_eq!(b.stat("msg", id, "cbytes"), 8);
    b.gives(format!("msgrcv {id} 9 0 0"), "= 4 1 four");
    b.fails(format!("msgsnd {id} 1 {NOWAIT} x"), "EAGAIN");
}

fn qbytes_limit(s: &mut Stage<'_>) {
    let mut a = s.user(0, &[], WITHOUT_RESOURCE);
    let mut b = s.user(0, &[], WITHOUT_RESOURCE);
    let id = a.must(format!("msgget 0 {CREATE}"));
    for who in [&mut a, &mut b] {
        who.must(format!("set msg {id} 0 0 0600 16384"));
        who.fails(format!("set msg {id} 0 0 0600 16385"), "EPERM");
    }
    assert_eq!(a.stat("msg", id, "qbytes"), 16384);
}

fn nowait(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    b.fails(format!("msgrcv {id} 9 0 {NOWAIT}"), "ENOMSG");
    a.must(format!("msgset {id} 1"));
    b.must(format!("msgsnd {id} 2 {NOWAIT} x"));
    b.fails(format!("msgsnd {id} 2 {NOWAIT} y"), "EAGAIN");
    b.fails(format!("msgrcv {id} 9 1 {NOWAIT}"), "ENOMSG");
}

fn small_passes(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgset {id} 10"));
    a.must(format!("msgsnd {id} 1 0 seven77"));
    b.block(format!("msgsnd {id} 2 0 five5"));
    a.must(format!("msgsnd {id} 3 {NOWAIT} ab"));
    a.gives(format!("msgrcv {id} 9 1 0"), "= 7 1 seven77");
    b.answers("= 0");
    a.gives(format!("msgrcv {id} 9 0 0"), "= 2 3 ab");
    a.gives(format!("msgrcv {id} 9 0 0"), "= 5 2 five5");
}

fn too_long(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgsnd {id} 1 0 longer"));
    a.must(format!("msgsnd {id} 1 0 ab"));
    b.fails(format!("msgrcv {id} 3 1 0"), "E2BIG");
    b.fails(format!("msgrcv {id} 3 0 {NOWAIT}"), "E2BIG");
    assert_eq!(a.stat("msg", id, "qnum"), 2);
    b.gives(format!("msgrcv {id} 3 1 {NOERROR}"), "= 3 1 lon");
    assert_eq!(a.stat("msg", id, "cbytes"), 2);
    b.gives(format!("msgrcv {id} 3 1 0"), "= 2 1 ab");
}

fn too_long_later(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    b.block(format!("msgrcv {id} 3 0 0"));
    a.must(format!("msgsnd {id} 1 0 longer"));
    b.answers("! E2BIG");
    assert_eq!(a.stat("msg", id, "qnum"), 1);
    b.gives(format!("msgrcv {id} 9 0 0"), "= 6 1 longer");
}

/// Sends a message of each type in this order, with its place as its text.
fn send_types(who: &mut Participant<'_>, id: i64, types: &[i64]) {
    for (place, message_type) in types.iter().enumerate() {
        who.must(format!("msgsnd {id} {message_type} 0 {place}"));
    }
}

fn types(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    send_types(&mut a, id, &[5, 3, 9, 3, 2, 2, 7, 1 << 40]);
    for (wanted, found) in [
        (0, "= 1 5 0"),
        (3, "= 1 3 1"),
        (-3, "= 1 2 4"),
        (-2, "= 1 2 5"),
        (-7, "= 1 3 3"),
        (-7, "= 1 7 6"),
        (i64::MIN, "= 1 9 2"),
    ] {
        b.gives(format!("msgrcv {id} 9 {wanted} {NOWAIT}"), found);
    }
    b.fails(format!("msgrcv {id} 9 -100 {NOWAIT}"), "ENOMSG");
    b.gives(
        format!("msgrcv {id} 9 {} 0", i64::MIN),
        "= 1 1099511627776 7",
    );
}

fn except(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    send_types(&mut a, id, &[4, 4, 6, 8, 8]);
    b.gives(format!("msgrcv {id} 9 4 {EXCEPT}"), "= 1 6 2");
    b.gives(format!("msgrcv {id} 9 0 {EXCEPT}"), "= 1 4 0");
    b.gives(format!("msgrcv {id} 9 -4 {EXCEPT}"), "= 1 4 1");
    b.fails(format!("msgrcv {id} 9 8 024000"), "ENOMSG");
    b.block(format!("msgrcv {id} 9 8 {EXCEPT}"));
    a.must(format!("msgsnd {id} 8 0 not"));
    assert!(b.is_silent());
    a.must(format!("msgsnd {id} 1 0 this"));
    b.answers("= 4 1 this");
}

fn copy(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    send_types(&mut a, id, &[4, 6]);
    a.must(format!("msgsnd {id} 1 0 longer"));
    b.gives(format!("msgrcv {id} 9 0 {COPY}"), "= 1 4 0");
    b.gives(format!("msgrcv {id} 9 1 {COPY}"), "= 1 6 1");
    b.gives(format!("msgrcv {id} 9 2 {COPY}"), "= 6 1 longer");
    b.fails(format!("msgrcv {id} 9 3 {COPY}"), "ENOMSG");
    b.fails(format!("msgrcv {id} 3 2 {COPY}"), "E2BIG");
    b.fails(format!("msgrcv {id} 3 2 {}", COPY | 0o10000), "EINVAL");
    b.fails(format!("msgrcv {id} 9 0 040000"), "EINVAL");
    b.fails(format!("msgrcv {id} 9 0 {}", COPY | 0o20000), "EINVAL");
    for field in ["lrpid", "rtime"] {
        assert_eq!(a.stat("msg", id, field), 0, "{field}");
    }
    assert_eq!(a.stat("msg", id, "qnum"), 3);
}

fn empty(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgsnd {id} 5 0"));
    assert_eq!(a.stat("msg", id, "qnum"), 1);
    assert_eq!(b.ask(format!("msgrcv {id} 0 0 0")).numbers(), [0, 5]);
    b.block(format!("msgrcv {id} 0 0 0"));
    a.must(format!("msgsnd {id} 6 0"));
    assert_eq!(b.answer().numbers(), [0, 6]);
}

fn negative_size(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    b.fails(format!("msgsnd_sized {id} 1 -1 0"), "EINVAL");
    b.fails(format!("raw_msgrcv {id} buffer -1 0 0"), "EINVAL");
}

fn signals(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = queue(&mut a);
    let full = queue(&mut a);
    a.must(format!("msgset {full} 1"));
    a.must(format!("msgsnd {full} 1 0 x"));
    for flags in [0, libc::SA_RESTART] {
        b.must(format!("handle {} {flags}", libc::SIGUSR1));
        for call in [format!("msgrcv {id} 9 0 0"), format!("msgsnd {full} 1 0 y")] {
            b.block(call);
            b.signal(Signal::SIGUSR1);
            b.answers("! EINTR");
        }
    }
    b.block(format!("msgrcv {id} 9 0 0"));
    c.block(format!("msgsnd {full} 1 0 y"));
    for who in [&mut b, &mut c] {
        who.stop();
        who.signal(Signal::SIGCONT);
        who.until_blocked(who.pid());
    }
    a.must(format!("msgsnd {id} 1 0 x"));
    b.answers("= 1 1 x");
    a.gives(format!("msgrcv {full} 9 0 0"), "= 1 1 x");
    c.answers("= 0");
}

fn removal(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgset {id} 1"));
    a.must(format!("msgsnd {id} 1 0 x"));
    b.block(format!("msgrcv {id} 9 2 0"));
    c.block(format!("msgsnd {id} 1 0 y"));
    a.must(format!("control msg {id} 0 {IPC_RMID} 0"));
    for who in [&mut b, &mut c] {
        who.answers("! EIDRM");
        who.fails(format!("msgsnd {id} 1 0 x"), "EINVAL");
        who.fails(format!("msgrcv {id} 9 0 0"), "EINVAL");
    }
}

fn hand_off(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    b.block(format!("msgrcv {id} 9 0 0"));
    a.must(format!("msgsnd {id} 1 0 x"));
    assert_eq!(a.stat("msg", id, "qnum"), 0);
    assert_eq!(a.stat("msg", id, "lrpid"), a.knows(&b));
    let rtime = a.stat("msg", id, "rtime");
    assert_now(&mut a, rtime);
    a.fails(format!("msgrcv {id} 9 0 {NOWAIT}"), "ENOMSG");
    b.answers("= 1 1 x");
}

fn order(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c, mut d] = s.participants();
    let id = queue(&mut a);
    for who in [&mut b, &mut c, &mut d] {
        who.block(format!("msgrcv {id} 9 0 0"));
    }
    for (text, who) in [("first", &mut b), ("second", &mut c), ("third", &mut d)] {
        a.must(format!("msgsnd {id} 1 0 {text}"));
        who.answers(&format!("= {} 1 {text}", text.len()));
    }
}

fn traces(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    let ctime = a.stat("msg", id, "ctime");
    dipc_tests::wait::until("the clock goes on", || a.must("now") > ctime);
    a.must(format!("msgsnd {id} 1 0 four"));
    assert_eq!(b.stat("msg", id, "lspid"), b.knows(&a));
    assert_eq!(b.stat("msg", id, "lrpid"), 0);
    assert_eq!(b.stat("msg", id, "qnum"), 1);
    assert_eq!(b.stat("msg", id, "cbytes"), 4);
    b.gives(format!("msgrcv {id} 9 0 0"), "= 4 1 four");
    assert_eq!(a.stat("msg", id, "lrpid"), a.knows(&b));
    assert_eq!(a.stat("msg", id, "cbytes"), 0);
    for field in ["stime", "rtime"] {
        assert!(a.stat("msg", id, field) > ctime, "{field}");
    }
    assert_eq!(a.stat("msg", id, "ctime"), ctime);
    b.must(format!("msgset {id} 100"));
    assert!(a.stat("msg", id, "ctime") > ctime);
}

fn type_width(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    for message_type in [1, 1 << 32, i64::MAX] {
        let receive = format!("msgrcv {id} 9 {message_type} 0");
        let found = format!("= 1 {message_type} x");
        a.must(format!("msgsnd {id} {message_type} 0 x"));
        b.gives(&receive, &found);
        b.must(format!("msgsnd {id} {message_type} 0 x"));
        a.gives(&receive, &found);
    }
}

fn write_only(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = a.must("msgget 0 01602");
    b.must(format!("msgsnd {id} 1 0 x"));
    b.fails(format!("msgrcv {id} 9 0 0"), "EACCES");
    b.fails(format!("stat msg {id} qnum"), "EACCES");
    a.gives(format!("msgrcv {id} 9 0 0"), "= 1 1 x");
}
