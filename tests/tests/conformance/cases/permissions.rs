//! Who may do what, and who is said to have done it.

use super::{ALICE, BOB, CAROL, KINDS, object, queue, remove, segment, set};
use crate::case::{Case, case};
use crate::stage::{Participant, Stage};

/// Bits of capability sets, as `<linux/capability.h>` numbers them.
const IPC_LOCK: u64 = 1 << 14;
const IPC_OWNER: u64 = 1 << 15;
const SYS_ADMIN: u64 = 1 << 21;
/// A command of shmctl.
const SHM_LOCK: u32 = 11;

pub(crate) const CASES: &[Case] = &[
    case(121, "uid or cuid: owner bits; else gid or cgid, supplementary groups too: group bits; else other. The class is final", classes).by_root(),
    case(122, "CAP_IPC_OWNER passes mode bits, CAP_SYS_ADMIN the owner checks, CAP_IPC_LOCK that of SHM_LOCK", capabilities).by_root(),
    case(123, "the owner of an object with mode 000 may still use IPC_SET and IPC_RMID", mode_zero).by_root(),
    case(124, "a process of another node has a pid that no process of this one has, and that names it", foreign_pids).between_nodes(),
];

/// What of reading and writing this one may do.
fn may(who: &mut Participant<'_>, kind: &str, id: i64) -> (bool, bool) {
    let (read, write) = match kind {
        "sem" => (format!("getval {id} 0"), format!("setval {id} 0 1")),
        "msg" => (
            format!("stat msg {id} qnum"),
            format!("msgsnd {id} 1 04000"),
        ),
        _ => (format!("shmat {id} 010000"), format!("shmat {id} 0")),
    };
    let mut allowed = |command: String| {
        let answer = who.ask(&command);
        assert!(
            answer.succeeded() || answer == "! EACCES",
            "{command}: {answer:?}"
        );
        answer.succeeded()
    };
    (allowed(read), allowed(write))
}

fn classes(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    // Of Alice's group too, though not the owner; on two nodes one of each.
    let mut c = s.user(CAROL, &[ALICE], 0);
    let mut d = s.user(CAROL, &[ALICE], 0);
    let (none, all) = ((false, false), (true, true));
    for kind in KINDS {
        let id = object(&mut a, kind, 0o066);
        assert_eq!(may(&mut a, kind, id), none, "{kind}: its owner");
        assert_eq!(may(&mut b, kind, id), all, "{kind}: another");
        let id = object(&mut a, kind, 0o606);
        assert_eq!(may(&mut a, kind, id), all, "{kind}: its owner");
        assert_eq!(may(&mut c, kind, id), none, "{kind}: one of its group");
        let id = object(&mut a, kind, 0o660);
        assert_eq!(may(&mut b, kind, id), none, "{kind}: another");
        assert_eq!(may(&mut c, kind, id), all, "{kind}: one of its group");
        // Where Alice's home is, Carol's login is no member of that group.
        let member = if d.is_abroad() { none } else { all };
        assert_eq!(may(&mut d, kind, id), member, "{kind}: one of its group");
        // Given away, to Bob and Carol's group: its creator keeps both classes.
        a.must(format!("set {kind} {id} {BOB} {CAROL} 0600"));
        assert_eq!(may(&mut a, kind, id), all, "{kind}: its creator");
        assert_eq!(may(&mut b, kind, id), all, "{kind}: its new owner");
        assert_eq!(may(&mut c, kind, id), none, "{kind}: one of its groups");
        b.must(format!("set {kind} {id} {BOB} {BOB} 0060"));
        assert_eq!(may(&mut c, kind, id), all, "{kind}: its creator's group");
    }
    if d.is_abroad() {
        s.differs(
            "a process of another node has the groups that its login has at the object's home, \
             not those that setgroups gave it: group numbers mean nothing elsewhere",
        );
    }
}

fn capabilities(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut none = s.user(BOB, &[], 0);
    let mut owner = s.user(BOB, &[], IPC_OWNER);
    let mut abroad = s.user(BOB, &[], IPC_OWNER | SYS_ADMIN | IPC_LOCK);
    let mut admin = s.user(BOB, &[], SYS_ADMIN);
    if abroad.is_abroad() {
        s.differs(
            "an ordinary user's capabilities count on his own node only: a node answers for its \
             own users, not for those of others. Root's travel with the call",
        );
        for kind in KINDS {
            let id = object(&mut a, kind, 0o600);
            assert_eq!(may(&mut abroad, kind, id), (false, false), "{kind}");
            abroad.fails(remove(kind, id), "EPERM");
        }
    }
    for kind in KINDS {
        let id = object(&mut a, kind, 0o600);
        assert_eq!(may(&mut none, kind, id), (false, false), "{kind}");
        assert_eq!(may(&mut owner, kind, id), (true, true), "{kind}");
        owner.fails(remove(kind, id), "EPERM");
        assert_eq!(may(&mut admin, kind, id), (false, false), "{kind}");
        admin.must(format!("set {kind} {id} {ALICE} {ALICE} 0640"));
        admin.must(remove(kind, id));
    }
    let id = object(&mut a, "shm", 0o600);
    none.fails(lock(id), "EPERM");
    admin.fails(lock(id), "EPERM");
    // Two, since every other participant is on the second node.
    let [_, mut locker] = [0, IPC_LOCK].map(|capability| s.user(BOB, &[], capability));
    locker.must(lock(id));
}

/// The command for SHM_LOCK.
fn lock(id: i64) -> String {
    format!("control shm {id} 0 {SHM_LOCK} 0")
}

fn mode_zero(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(ALICE, &[], 0);
    for kind in KINDS {
        let id = object(&mut a, kind, 0);
        b.fails(format!("stat {kind} {id} mode"), "EACCES");
        b.must(format!("set {kind} {id} {ALICE} {ALICE} 0400"));
        assert_eq!(a.stat(kind, id, "mode"), 0o400);
        b.must(format!("set {kind} {id} {ALICE} {ALICE} 0"));
        b.must(remove(kind, id));
    }
}

fn foreign_pids(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let set = set(&mut a, 1);
    let queue = queue(&mut a);
    let segment = segment(&mut a);
    b.must(format!("semop {set} 0:1"));
    b.must(format!("msgsnd {queue} 1 0 x"));
    b.must(format!("shmat {segment} 0"));
    for who in [&mut a, &mut c] {
        let foreign = who.must(format!("sempid {set} 0"));
        assert!(foreign > 1 << 22, "{foreign}: Linux has no such pid");
        assert_eq!(foreign & ((1 << 22) - 1), i64::from(b.pid()));
        assert_eq!(foreign, who.knows(&b));
        assert_eq!(who.stat("msg", queue, "lspid"), foreign);
        assert_eq!(who.stat("shm", segment, "lpid"), foreign);
        who.fails(format!("kill {foreign} 0"), "ESRCH");
    }
    assert_eq!(b.must(format!("sempid {set} 0")), i64::from(b.pid()));
    assert_eq!(b.stat("shm", segment, "cpid"), b.knows(&a));
}
