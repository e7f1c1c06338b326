//! shmctl, and the lists of what there is.

use super::{
    ALICE, BOB, CREATE, IPC_INFO, IPC_SET, IPC_STAT, KINDS, get, object, queue, remove, segment,
    set,
};
use crate::case::{Case, case};
use crate::stage::Stage;

/// `SHM_LOCK`, `SHM_UNLOCK`
const LOCK: u32 = 11;
const UNLOCK: u32 = 12;
/// `SHM_DEST` and `SHM_LOCKED`, in a mode.
const DEST: i64 = 0o1000;
const LOCKED: i64 = 0o2000;

pub(crate) const CASES: &[Case] = &[
    case(112, "IPC_RMID marks an attached segment; it lives on until the last detach, also through IPC_SET and a second IPC_RMID", marked),
    case(113, "a stranger's IPC_RMID, IPC_SET, SHM_LOCK and SHM_UNLOCK are EPERM, IPC_STAT without read EACCES", strangers).by_root(),
    case(114, "a stranger's IPC_SET with a bad pointer is EFAULT; IPC_STAT of a bad id is EINVAL first", pointer_order).by_root(),
    case(115, "SHM_LOCK and SHM_UNLOCK toggle 02000 in the mode", locking).by_root(),
    case(116, "a segment that was never attached survives its creator, but with shm_rmid_forced, which also destroys it at the last detach", survives_creator).by_root(),
    case(117, "xxx_STAT takes an index and returns the id, and needs read; xxx_STAT_ANY does not", by_index).by_root(),
    case(118, "the four INFO commands return the highest index, whatever the id, and count what there is", info),
    case(119, "shmmin is 1 and shmseg is shmmni", shminfo),
    case(120, "/proc/sysvipc and IPC_STAT agree", proc_lists),
];

fn marked(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    let at_a = a.must(format!("shmat {id} 0"));
    let at_b = b.must(format!("shmat {id} 0"));
    a.must(format!("shmrm {id}"));
    assert_eq!(b.stat("shm", id, "mode"), DEST | 0o666);
    b.must(format!("shmrm {id}"));
    let [uid, gid] = ["uid", "gid"].map(|field| b.stat("shm", id, field));
    b.must(format!("set shm {id} {uid} {gid} 0640"));
    assert_eq!(a.stat("shm", id, "mode"), DEST | 0o640);
    a.must(format!("shmdt {at_a}"));
    assert_eq!(a.stat("shm", id, "nattch"), 1);
    b.must(format!("poke {at_b} 0 1"));
    b.must(format!("shmdt {at_b}"));
    for who in [&mut a, &mut b] {
        who.fails(format!("stat shm {id} nattch"), "EINVAL");
        who.fails(format!("shmrm {id}"), "EINVAL");
    }
}

fn strangers(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let id = a.must("shmget 0 4096 01602");
    b.fails(format!("shmrm {id}"), "EPERM");
    b.fails(format!("set shm {id} {BOB} {BOB} 0666"), "EPERM");
    for command in [LOCK, UNLOCK] {
        b.fails(format!("control shm {id} 0 {command} 0"), "EPERM");
    }
    b.fails(format!("stat shm {id} mode"), "EACCES");
    a.must(format!("shmrm {id}"));
}

fn pointer_order(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    for kind in KINDS {
        let id = object(&mut a, kind, 0o600);
        b.fails(format!("control {kind} {id} 0 {IPC_SET} 1"), "EFAULT");
        b.fails(format!("control {kind} {id} 0 {IPC_STAT} 1"), "EACCES");
        a.fails(format!("control {kind} {id} 0 {IPC_STAT} 1"), "EFAULT");
        b.fails(format!("control {kind} -1 0 {IPC_STAT} 0"), "EINVAL");
    }
}

fn locking(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    b.must(format!("control shm {id} 0 {LOCK} 0"));
    assert_eq!(a.stat("shm", id, "mode"), LOCKED | 0o666);
    a.must(format!("control shm {id} 0 {UNLOCK} 0"));
    assert_eq!(b.stat("shm", id, "mode"), 0o666);
}

fn survives_creator(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let key = s.key();
    let id = b.must(format!("shmget {key} 4096 {CREATE}"));
    b.exit();
    assert_eq!(a.must(format!("shmget {key} 4096 0600")), id);
    assert_eq!(a.stat("shm", id, "nattch"), 0);
    if s.is_distributed() {
        return s.differs(
            "`shm_rmid_forced` is a switch of one machine's kernel for the segments of that \
             machine; a segment that many machines use never goes with its creator",
        );
    }
    a.must("write_text /proc/sys/kernel/shm_rmid_forced 1");
    let [alone, attached] = [0, 0].map(|_| c.must(format!("shmget 0 4096 {CREATE}")));
    let slot = a.must(format!("shmat {attached} 0"));
    c.exit();
    a.fails(format!("stat shm {alone} mode"), "EINVAL");
    assert_eq!(a.stat("shm", attached, "nattch"), 1);
    a.must(format!("shmdt {slot}"));
    a.fails(format!("stat shm {attached} mode"), "EINVAL");
}

/// `xxx_STAT` and `xxx_STAT_ANY`.
fn stat_commands(kind: &str) -> (u32, u32) {
    match kind {
        "sem" => (18, 20),
        "msg" => (11, 13),
        _ => (13, 15),
    }
}

/// `xxx_INFO`
fn info_command(kind: &str) -> u32 {
    match kind {
        "sem" => 19,
        "msg" => 12,
        _ => 14,
    }
}

fn by_index(s: &mut Stage<'_>) {
    let mut a = s.participant();
    let mut b = s.user(BOB, &[], 0);
    for kind in KINDS {
        let id = object(&mut a, kind, 0o600);
        let (stat, stat_any) = stat_commands(kind);
        let highest = a.must(format!("totals {kind} {} 0", info_command(kind)));
        let index = (0..=highest)
            .find(|index| {
                a.ask(format!("stat_index {kind} {stat} {index}")) == format!("= {id}").as_str()
            })
            .unwrap_or_else(|| panic!("{kind} {id} has no index up to {highest}"));
        b.fails(format!("stat_index {kind} {stat} {index}"), "EACCES");
        b.gives(
            format!("stat_index {kind} {stat_any} {index}"),
            &format!("= {id}"),
        );
        for command in [stat, stat_any] {
            a.fails(
                format!("stat_index {kind} {command} {}", highest + 1),
                "EINVAL",
            );
            a.fails(format!("stat_index {kind} {command} -1"), "EINVAL");
        }
        a.must(remove(kind, id));
    }
}

fn info(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    a.must(format!("msgsnd {id} 1 0 four"));
    set(&mut a, 1);
    segment(&mut a);
    let [sets, semaphores] = counted(&mut b, "sem", [8, 10]);
    let [queues, messages, bytes] = counted(&mut b, "msg", [1, 2, 7]);
    let [segments, pages] = counted(&mut b, "shm", [1, 2]);
    set(&mut a, 5);
    queue(&mut a);
    a.must(format!("msgsnd {id} 1 0 fifth"));
    a.must("shmget 0 8193 01600");
    assert_eq!(counted(&mut b, "sem", [8, 10]), [sets + 1, semaphores + 5]);
    assert_eq!(
        counted(&mut b, "msg", [1, 2, 7]),
        [queues + 1, messages + 1, bytes + 5]
    );
    assert_eq!(counted(&mut b, "shm", [1, 2]), [segments + 1, pages + 3]);
    for kind in KINDS {
        for command in [IPC_INFO, info_command(kind)] {
            let highest = a.must(format!("totals {kind} {command} 0"));
            assert!(highest >= 1, "{kind}: there are two");
            assert_eq!(b.must(format!("totals {kind} {command} 12345")), highest);
        }
    }
}

/// What `xxx_INFO` says, by place in the interpreter's answer.
fn counted<const N: usize>(
    who: &mut crate::stage::Participant<'_>,
    kind: &str,
    places: [usize; N],
) -> [i64; N] {
    let fields = who
        .ask(format!("totals {kind} {} 0", info_command(kind)))
        .numbers();
    places.map(|place| fields[place])
}

fn shminfo(s: &mut Stage<'_>) {
    let [_, mut b] = s.participants();
    let fields = b.ask(format!("totals shm {IPC_INFO} 0")).numbers();
    let [_, _shmmax, shmmin, shmmni, shmseg] = fields[..] else {
        panic!("{fields:?}");
    };
    assert_eq!((shmmin, shmseg), (1, shmmni));
    assert_eq!(shmmni, 4096);
}

fn proc_lists(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for kind in KINDS {
        let key = s.key();
        let id = a.must(get(kind, key, "01640"));
        for who in [&mut a, &mut b] {
            who.gives(format!("listed {kind} {id} 0"), &format!("= {key}"));
            who.gives(format!("listed {kind} {id} 2"), &format!("= {}", 0o640));
        }
        a.must(remove(kind, id));
        b.gives(format!("listed {kind} {id} 1"), "= -1");
    }
    let id = segment(&mut a);
    b.must(format!("shmat {id} 0"));
    let nattch = 6;
    a.gives(format!("listed shm {id} {nattch}"), "= 1");
    let (cpid, lpid) = (4, 5);
    let known = (a.knows(&a), a.knows(&b));
    a.gives(format!("listed shm {id} {cpid}"), &format!("= {}", known.0));
    a.gives(format!("listed shm {id} {lpid}"), &format!("= {}", known.1));
    a.must(format!("shmrm {id}"));
    a.gives(format!("listed shm {id} 2"), &format!("= {}", 0o1666));
}
