//! semget, msgget and shmget.

use dipc_tests::{Cluster, Options};

use super::{
    ALICE, BOB, CREATE, CREATE_NEW, KINDS, PUBLIC, assert_now, get, object, queue, remove, segment,
    set,
};
use crate::case::{Case, case};
use crate::stage::Stage;

pub(crate) const CASES: &[Case] = &[
    case(
        1,
        "a new key without IPC_CREAT is ENOENT, also with IPC_EXCL",
        absent_key,
    ),
    case(
        2,
        "IPC_CREAT with IPC_EXCL on a key in use is EEXIST, whatever size and permission",
        exclusive,
    )
    .by_root(),
    case(
        3,
        "shmget of an existing key: more bytes than it has are EINVAL, fewer or 0 find it",
        shm_size,
    ),
    case(
        4,
        "semget of an existing key: more semaphores than it has are EINVAL, fewer or 0 find it",
        sem_size,
    ),
    case(
        5,
        "a size that does not fit is EINVAL before a permission that is missing is EACCES",
        size_before_permission,
    )
    .by_root(),
    case(
        6,
        "flags without permission bits ask for nothing: anybody gets the id of a 0600 object",
        no_bits,
    )
    .by_root(),
    case(
        7,
        "permission bits in the flags that the caller's class lacks are EACCES",
        bits_asked_for,
    )
    .by_root(),
    case(
        8,
        "a new segment of 0, of more than SHMMAX or of (size_t)-1 bytes is EINVAL",
        shm_size_limits,
    ),
    case(
        9,
        "shm_segsz is what was asked for; the rest of the last page can be used",
        shm_tail,
    ),
    case(
        10,
        "a new set of 0 semaphores is EINVAL; less than 0 or more than SEMMSL are, even for a look-up",
        sem_size_limits,
    ),
    case(
        11,
        "IPC_PRIVATE always makes an object, with and without IPC_CREAT and IPC_EXCL",
        private,
    ),
    case(
        12,
        "sets, queues and segments have separate keys",
        separate_keys,
    ),
    case(13, "unknown flag bits are ignored", unknown_flags),
    case(
        14,
        "the mode is the low 9 bits of the flags, execute bits included",
        mode_bits,
    ),
    case(
        15,
        "the creator's effective ids become uid, gid, cuid and cgid",
        creator,
    )
    .by_root(),
    case(
        16,
        "more objects than SHMMNI, SHMALL, SEMMNI, SEMMNS or MSGMNI allow are ENOSPC; more semaphores in a set than SEMMSL are EINVAL",
        limits,
    ).by_root(),
    case(
        17,
        "a new segment is zero, with cpid and ctime set and no attachment in its history",
        new_segment,
    ),
    case(
        18,
        "a new set is zero, with ctime set; otime stays 0 until the first semop",
        new_set,
    ),
    case(
        19,
        "a new queue is empty, with ctime set and MSGMNB (16384) as its limit",
        new_queue,
    ),
    case(
        20,
        "after removal the old id is EINVAL, and the next object has another one",
        ids_are_not_reused,
    ),
    case(
        21,
        "the key of a removed segment that is still attached is free at once, and shows as 0",
        removed_key,
    ),
    case(
        22,
        "/proc/sys/kernel/sem_next_id chooses the next id",
        next_id,
    )
    .by_root(),
];

fn absent_key(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for kind in KINDS {
        let key = s.key();
        a.fails(get(kind, key, "0600"), "ENOENT");
        b.fails(get(kind, key, "02600"), "ENOENT");
    }
}

fn exclusive(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let key = s.key();
    for kind in KINDS {
        a.must(get(kind, key, CREATE));
        b.fails(get(kind, key, CREATE_NEW), "EEXIST");
    }
    b.fails(format!("shmget {key} 999999 {CREATE_NEW}"), "EEXIST");
    b.fails(format!("semget {key} 99 {CREATE_NEW}"), "EEXIST");
}

fn shm_size(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let key = s.key();
    let id = a.must(format!("shmget {key} 4096 {CREATE}"));
    for who in [&mut a, &mut b] {
        who.fails(format!("shmget {key} 4097 0600"), "EINVAL");
        for size in [4096, 4095, 1, 0] {
            assert_eq!(who.must(format!("shmget {key} {size} 0600")), id);
        }
    }
}

fn sem_size(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let key = s.key();
    let id = a.must(format!("semget {key} 3 {CREATE}"));
    for who in [&mut a, &mut b] {
        who.fails(format!("semget {key} 4 0600"), "EINVAL");
        for nsems in [3, 1, 0] {
            assert_eq!(who.must(format!("semget {key} {nsems} 0600")), id);
        }
    }
}

fn size_before_permission(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    let key = s.key();
    a.must(format!("shmget {key} 4096 {CREATE}"));
    a.must(format!("semget {key} 3 {CREATE}"));
    b.fails(format!("shmget {key} 4097 0600"), "EINVAL");
    b.fails(format!("semget {key} 4 0600"), "EINVAL");
    b.fails(format!("shmget {key} 4096 0600"), "EACCES");
    b.fails(format!("semget {key} 3 0600"), "EACCES");
}

fn no_bits(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    for kind in KINDS {
        let key = s.key();
        let id = a.must(get(kind, key, CREATE));
        assert_eq!(b.must(get(kind, key, "0")), id);
        assert_eq!(b.must(get(kind, key, "01000")), id, "with IPC_CREAT");
    }
}

fn bits_asked_for(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.user(BOB, &[], 0);
    for kind in KINDS {
        let key = s.key();
        let id = a.must(get(kind, key, "01604"));
        b.fails(get(kind, key, "0600"), "EACCES");
        b.fails(get(kind, key, "0002"), "EACCES");
        // The three digits are one question to the caller's class.
        assert_eq!(b.must(get(kind, key, "0400")), id);
        a.fails(get(kind, key, "0001"), "EACCES");
    }
}

fn shm_size_limits(s: &mut Stage<'_>) {
    let [_, mut b] = s.participants();
    let shmmax = b.ask("totals shm 3 0").numbers()[1] as u64;
    for size in [0, u64::MAX, shmmax + 1] {
        let key = s.key();
        b.fails(format!("shmget {key} {} {CREATE}", size as i64), "EINVAL");
        b.fails(format!("shmget 0 {} {CREATE}", size as i64), "EINVAL");
    }
}

fn shm_tail(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for (size, last) in [(1, 4088), (4097, 8184)] {
        let id = a.must(format!("shmget 0 {size} {PUBLIC}"));
        let [at_a, at_b] = [&mut a, &mut b].map(|who| {
            assert_eq!(who.stat("shm", id, "segsz"), size);
            who.must(format!("shmat {id} 0"))
        });
        a.must(format!("poke {at_a} {last} 7"));
        assert_eq!(b.must(format!("peek {at_b} {last}")), 7);
    }
}

fn sem_size_limits(s: &mut Stage<'_>) {
    let [_, mut b] = s.participants();
    let key = s.key();
    b.fails(format!("semget {key} 0 {CREATE}"), "EINVAL");
    b.fails(format!("semget {key} 0 0"), "ENOENT");
    for nsems in [-1, 32_001] {
        b.fails(format!("semget {key} {nsems} {CREATE}"), "EINVAL");
        b.fails(format!("semget {key} {nsems} 0"), "EINVAL");
    }
    b.must(format!("semget {key} 32000 {CREATE}"));
}

fn private(s: &mut Stage<'_>) {
    let [_, mut b] = s.participants();
    for kind in KINDS {
        let ids = ["0600", "01600", "02600", "03600"].map(|flags| b.must(get(kind, 0, flags)));
        for (n, id) in ids.iter().enumerate() {
            assert!(!ids[..n].contains(id), "{kind}: {ids:?}");
        }
    }
}

fn separate_keys(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let key = s.key();
    a.must(get("shm", key, CREATE));
    b.fails(get("sem", key, "0600"), "ENOENT");
    b.fails(get("msg", key, "0600"), "ENOENT");
    b.must(get("sem", key, CREATE_NEW));
    a.must(get("msg", key, CREATE_NEW));
}

fn unknown_flags(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for kind in KINDS {
        let key = s.key();
        let id = a.must(get(kind, key, "0131600"));
        assert_eq!(b.must(get(kind, key, "0130600")), id);
        assert_eq!(b.stat(kind, id, "mode"), 0o600);
    }
}

fn mode_bits(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for kind in KINDS {
        let id = a.must(get(kind, 0, "01777"));
        assert_eq!(b.stat(kind, id, "mode"), 0o777);
        let id = a.must(get(kind, 0, "01640"));
        assert_eq!(a.stat(kind, id, "mode"), 0o640);
    }
}

fn creator(s: &mut Stage<'_>) {
    let mut a = s.user(ALICE, &[], 0);
    let mut b = s.participant();
    for kind in KINDS {
        let id = object(&mut a, kind, 0o600);
        for field in ["uid", "gid", "cuid", "cgid"] {
            assert_eq!(a.stat(kind, id, field), i64::from(ALICE), "{kind} {field}");
            assert_eq!(b.stat(kind, id, field), i64::from(ALICE), "{kind} {field}");
        }
    }
}

fn limits(s: &mut Stage<'_>) {
    if s.is_distributed() {
        let cluster = Cluster::with(Options {
            limits: &[
                "semmsl=10",
                "semmns=25",
                "semmni=4",
                "msgmni=3",
                "shmmni=3",
                "shmall=8",
            ],
            ..Options::nodes(2)
        });
        return reach_limits(&mut s.on(&cluster));
    }
    let mut a = s.participant();
    for (name, value) in [
        ("sem", "10 25 500 4"),
        ("msgmni", "3"),
        ("shmmni", "3"),
        ("shmall", "8"),
    ] {
        a.must(format!("write_text /proc/sys/kernel/{name} {value}"));
    }
    reach_limits(s);
}

/// With 10 semaphores in a set, 25 in all, 4 sets, 3 queues, 3 segments and 8
/// pages at most.
fn reach_limits(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let set_of = |n: u32| format!("semget 0 {n} {CREATE}");
    b.fails(set_of(11), "EINVAL");
    a.must(set_of(10));
    b.must(set_of(10));
    for who in [&mut a, &mut b] {
        who.fails(set_of(6), "ENOSPC");
    }
    let third = a.must(set_of(5));
    b.fails(set_of(1), "ENOSPC");
    b.must(remove("sem", third));
    let fourth = [&mut a, &mut b].map(|who| who.must(set_of(1)))[1];
    for who in [&mut a, &mut b] {
        who.fails(set_of(1), "ENOSPC");
    }
    a.must(remove("sem", fourth));
    b.must(set_of(1));

    let pages = |n: u32| format!("shmget 0 {} {CREATE}", n * 4096);
    a.must(pages(4));
    let large = b.must(pages(3));
    for who in [&mut a, &mut b] {
        who.fails(pages(2), "ENOSPC");
    }
    a.must(pages(1));
    b.must(remove("shm", large));
    a.must(pages(1));
    for who in [&mut a, &mut b] {
        who.fails(pages(1), "ENOSPC");
    }

    let queues = [&mut a, &mut b].map(|who| who.must(get("msg", 0, CREATE)));
    a.must(get("msg", 0, CREATE));
    for who in [&mut a, &mut b] {
        who.fails(get("msg", s.key(), CREATE), "ENOSPC");
    }
    a.must(remove("msg", queues[1]));
    b.must(get("msg", 0, CREATE));
}

fn new_segment(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = segment(&mut a);
    for field in ["atime", "dtime", "lpid", "nattch"] {
        assert_eq!(b.stat("shm", id, field), 0, "{field}");
    }
    assert_eq!(a.stat("shm", id, "cpid"), a.knows(&a));
    assert_eq!(b.stat("shm", id, "cpid"), b.knows(&a));
    let ctime = b.stat("shm", id, "ctime");
    assert_now(&mut b, ctime);
    let slot = b.must(format!("shmat {id} 0"));
    b.gives(format!("differ {slot} 0 4096 0"), "= 0");
}

fn new_set(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 3);
    b.gives(format!("getall {id} 3"), "= 0 0 0");
    b.gives(format!("sempid {id} 1"), "= 0");
    assert_eq!(b.stat("sem", id, "otime"), 0);
    let ctime = b.stat("sem", id, "ctime");
    assert_now(&mut b, ctime);
    b.must(format!("setval {id} 0 1"));
    assert_eq!(a.stat("sem", id, "otime"), 0, "SETVAL is no semop");
    b.must(format!("semop {id} 0:1"));
    let otime = a.stat("sem", id, "otime");
    assert_now(&mut a, otime);
}

fn new_queue(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = queue(&mut a);
    for field in ["stime", "rtime", "lspid", "lrpid", "qnum", "cbytes"] {
        assert_eq!(b.stat("msg", id, field), 0, "{field}");
    }
    assert_eq!(b.stat("msg", id, "qbytes"), 16384);
    let ctime = b.stat("msg", id, "ctime");
    assert_now(&mut b, ctime);
}

fn ids_are_not_reused(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    for kind in KINDS {
        let old = object(&mut a, kind, 0o600);
        b.must(remove(kind, old));
        let new = object(&mut a, kind, 0o600);
        assert_ne!(new, old);
        for who in [&mut a, &mut b] {
            who.fails(format!("stat {kind} {old} mode"), "EINVAL");
            assert_eq!(who.stat(kind, new, "mode"), 0o600);
        }
    }
}

fn removed_key(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let key = s.key();
    let old = a.must(format!("shmget {key} 4096 {CREATE}"));
    b.must(format!("shmat {old} 0"));
    assert_eq!(b.stat("shm", old, "key"), i64::from(key));
    a.must(remove("shm", old));
    b.fails(format!("shmget {key} 4096 0"), "ENOENT");
    assert_eq!(a.stat("shm", old, "key"), 0);
    let new = b.must(format!("shmget {key} 4096 {CREATE_NEW}"));
    assert_ne!(new, old);
}

fn next_id(s: &mut Stage<'_>) {
    let mut a = s.participant();
    if s.is_distributed() {
        s.differs(
            "ids of distributed objects name their home and are chosen by it; \
             `sem_next_id` and its like, made for restoring checkpoints, are not looked at",
        );
        let id = set(&mut a, 1);
        assert!(id >= 1 << 30, "{id} is none of the kernel's");
        return;
    }
    a.must("write_text /proc/sys/kernel/sem_next_id 4321");
    assert_eq!(set(&mut a, 1), 4321);
    assert_ne!(set(&mut a, 1), 4321);
}
