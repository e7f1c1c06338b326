//! What is hard for a library that stands between program and kernel.

use dipc_tests::apart::apart;
use dipc_tests::{artifacts, wait};
use nix::sys::signal::Signal;

use super::{IPC_RMID, KINDS, PUBLIC, UNDO, get, queue, remove, segment, set};
use crate::case::{Case, case};
use crate::stage::Stage;

pub(crate) const CASES: &[Case] = &[
    case(
        125,
        "the calls work by libc's syscall(), and from libraries loaded with RTLD_DEEPBIND",
        other_doors,
    ),
    case(
        126,
        "semctl takes its argument in every form that its command has; semtimedop is there",
        variadic_semctl,
    ),
    case(
        127,
        "threads that end, forks in threads, _exit and SIGKILL leave nothing behind",
        sudden_ends,
    ),
    case(
        128,
        "a signal and a grant at once: one of them wins, and no token is lost",
        signal_against_grant,
    ),
    case(
        129,
        "exec keeps the process's adjustments and drops its attachments",
        exec_keeps_identity,
    ),
    case(
        130,
        "ids of distributed objects are none of the kernel's: a process may use both",
        ids_apart,
    )
    .ours()
    .by_root(),
];

fn other_doors(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    let plugin = artifacts::plugin();
    b.must(format!("syscall_semop {id} 2"));
    b.must(format!("plugin {} {id} 3", plugin.display()));
    a.gives(format!("getval {id} 0"), "= 5");
    b.fails(format!("plugin {} -1 3", plugin.display()), "EINVAL");
    b.fails("syscall_semop -1 1", "EINVAL");
}

fn variadic_semctl(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    b.must(format!("setval {id} 1 7"));
    b.must(format!("setall {id} 3 7"));
    b.gives(format!("getall {id} 2"), "= 3 7");
    b.gives(format!("short_semctl {id} 1 12"), "= 7");
    assert_eq!(b.stat("sem", id, "nsems"), 2);
    b.must(format!("semtimedop {id} 1000 0:-3"));
    b.must(format!("short_semctl {id} 0 {IPC_RMID}"));
}

fn sudden_ends(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 2);
    let shm = segment(&mut a);
    b.must(format!("shmat {shm} 0"));
    b.must(format!("thread semop {id} 0:1:{UNDO}"));
    b.must("join");
    b.must(format!("thread fork_semop {id} 5"));
    b.gives("join", "= 0");
    let child = b.fork();
    b.must(format!("child 0 semop {id} 1:2:{UNDO}"));
    b.must(format!("send 0 semop {id} 0:-9"));
    b.until_blocked(child);
    wait::until("the child that is gone is undone", || {
        a.ask(format!("getall {id} 2")) == "= 1 2"
    });
    b.kill();
    wait::until("both are gone", || {
        a.ask(format!("getall {id} 2")) == "= 0 0"
            && a.must(format!("getncnt {id} 0")) == 0
            && a.stat("shm", shm, "nattch") == 0
    });
}

fn signal_against_grant(s: &mut Stage<'_>) {
    let [mut a, mut b, mut c] = s.participants();
    let id = set(&mut a, 1);
    let queue = queue(&mut a);
    b.must(format!("handle {} 0", libc::SIGUSR1));
    for _ in 0..20 {
        b.block(format!("semop {id} 0:-1"));
        b.signal(Signal::SIGUSR1);
        c.must(format!("semop {id} 0:1"));
        let granted = b.answer() == "= 0";
        a.gives(
            format!("getval {id} 0"),
            if granted { "= 0" } else { "= 1" },
        );
        a.must(format!("setval {id} 0 0"));
        b.block(format!("msgrcv {queue} 9 0 0"));
        b.signal(Signal::SIGUSR1);
        c.must(format!("msgsnd {queue} 1 0 x"));
        if b.answer() != "= 1 1 x" {
            a.gives(format!("msgrcv {queue} 9 0 04000"), "= 1 1 x");
        }
        assert_eq!(a.stat("msg", queue, "qnum"), 0);
    }
}

fn exec_keeps_identity(s: &mut Stage<'_>) {
    let [mut a, mut b] = s.participants();
    let id = set(&mut a, 1);
    let shm = segment(&mut a);
    b.must(format!("semop {id} 0:1:{UNDO}"));
    b.must(format!("shmat {shm} 0"));
    b.must("exec");
    wait::until("the attachment has ended", || {
        a.stat("shm", shm, "nattch") == 0
    });
    a.gives(format!("getval {id} 0"), "= 1");
    // The new image goes on with the same list of adjustments.
    b.must(format!("semop {id} 0:-1:{UNDO}"));
    a.must(format!("semop {id} 0:5"));
    b.must(format!("semop {id} 0:2:{UNDO}"));
    b.exit();
    wait::until("what is left is undone", || {
        a.must(format!("getval {id} 0")) == 5
    });
}

fn ids_apart(s: &mut Stage<'_>) {
    let mut a = s.participant();
    // Both kinds in one process, whose local ones are in a namespace of its own.
    let mut b = s.participant_with(|command| {
        apart(command).env("DIPC_KEYS", "none");
    });
    let key = s.key();
    for kind in KINDS {
        let distributed = a.must(get(kind, key, PUBLIC));
        assert_eq!(b.must(get(kind, key, "010666")), distributed);
        let local = [0, 0].map(|_| b.must(get(kind, 0, "01640")));
        assert!(
            local.iter().all(|id| *id < 1 << 30),
            "{local:?} are the kernel's"
        );
        assert!(
            distributed >= 1 << 30,
            "{distributed} is none of the kernel's"
        );
        assert_eq!(b.stat(kind, local[1], "mode"), 0o640);
        assert_eq!(b.stat(kind, distributed, "mode"), 0o666);
        b.must(remove(kind, local[1]));
        assert_eq!(b.stat(kind, distributed, "mode"), 0o666);
        b.must(remove(kind, distributed));
        a.fails(format!("stat {kind} {distributed} mode"), "EINVAL");
        assert_eq!(b.stat(kind, local[0], "mode"), 0o640);
    }
}
