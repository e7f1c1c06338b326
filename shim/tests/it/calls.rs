//! Each hook: handled by the daemon, or bypassed to the kernel.

use dipc_wire::call::{Call, MsgStat, Perm, Reply, SemCommand, SemOp, SemStat, ShmStat, flags};
use dipc_wire::frame::Encoded;
use dipc_wire::local::{Request, Response};
use dipc_wire::{Errno, Kind, Limits, NodeId, ObjectId, Pid};

use crate::fake::{Connection, Fake};
use crate::probe::{Probe, isolated};

pub(crate) fn id() -> ObjectId {
    ObjectId::new(NodeId::SOLO, 7)
}

/// The next call must be `expected`; answers it.
#[track_caller]
fn serve(connection: &mut Connection, expected: Call, reply: Reply<'_>) -> Vec<u8> {
    let (call, payload) = connection.call();
    assert_eq!(call, expected);
    connection.reply(reply);
    payload
}

fn get(kind: Kind, size: u64) -> Call {
    Call::Get {
        kind,
        key: 0x4449,
        size,
        flags: flags::CREAT | flags::DIPC | 0o600,
    }
}

fn sem(command: SemCommand) -> Call {
    Call::Sem { id: id(), command }
}

fn stat(kind: Kind, any: bool) -> Call {
    Call::Stat {
        kind,
        id: id(),
        any,
    }
}

fn serve_set(c: &mut Connection) {
    let here = NodeId::SOLO;
    serve(c, get(Kind::Sem, 3), Reply::Id(id()));
    let payload = serve(
        c,
        Call::SemOp {
            id: id(),
            timeout: None,
        },
        Reply::Done,
    );
    let operations: Vec<_> = SemOp::decode_all(&payload).unwrap().collect();
    let undo = (flags::NOWAIT | flags::UNDO) as u16;
    let expected = [
        SemOp {
            num: 0,
            op: 1,
            flags: 0,
        },
        SemOp {
            num: 2,
            op: -1,
            flags: undo,
        },
    ];
    assert_eq!(operations, expected);
    serve(
        c,
        Call::SemOp {
            id: id(),
            timeout: Some(1_000_000_005),
        },
        Reply::Done,
    );
    serve(c, sem(SemCommand::GetValue(1)), Reply::Value(3));
    serve(
        c,
        sem(SemCommand::GetPid(1)),
        Reply::Process(Some(Pid {
            node: here,
            pid: 99,
        })),
    );
    serve(c, sem(SemCommand::GetNcnt(1)), Reply::Value(4));
    serve(c, sem(SemCommand::GetZcnt(1)), Reply::Value(5));
    serve(c, sem(SemCommand::SetValue(1, 42)), Reply::Done);
    let about = SemStat {
        nsems: 3,
        otime: 11,
        ..SemStat::default()
    };
    serve(c, stat(Kind::Sem, true), Reply::Sem(about));
    let values = serve(c, sem(SemCommand::SetAll), Reply::Done);
    assert_eq!(values, [7, 0, 8, 0, 9, 0]);
    assert_eq!(c.call().0, sem(SemCommand::GetAll));
    c.reply_with(Reply::Values, &[1, 0, 2, 0, 3, 1]);
    let perm = Perm {
        uid: 12,
        gid: 13,
        mode: 0o640,
        owner: "somebody",
        ..Perm::default()
    };
    serve(
        c,
        stat(Kind::Sem, false),
        Reply::Sem(SemStat { perm, ..about }),
    );
    let set = Call::Set {
        kind: Kind::Sem,
        id: id(),
        uid: 12,
        gid: 13,
        mode: 0o640,
        qbytes: None,
    };
    serve(c, set, Reply::Done);
    serve(
        c,
        Call::Remove {
            kind: Kind::Sem,
            id: id(),
        },
        Reply::Done,
    );
}

fn serve_queue(c: &mut Connection) {
    let there = NodeId::new(2).unwrap();
    serve(c, get(Kind::Msg, 0), Reply::Id(id()));
    let text = serve(
        c,
        Call::MsgSnd {
            id: id(),
            mtype: 5,
            flags: 0,
        },
        Reply::Done,
    );
    assert_eq!(text, b"hello");
    let (call, _) = c.call();
    let flags = flags::NOERROR;
    assert_eq!(
        call,
        Call::MsgRcv {
            id: id(),
            mtype: -3,
            size: 200_000,
            flags
        }
    );
    c.reply_with(Reply::Message { mtype: 2 }, b"world");
    let about = MsgStat {
        qnum: 2,
        qbytes: 16384,
        lspid: Some(Pid {
            node: there,
            pid: 7,
        }),
        ..MsgStat::default()
    };
    serve(c, stat(Kind::Msg, false), Reply::Msg(about));
    let qbytes = Some(16384);
    let set = Call::Set {
        kind: Kind::Msg,
        id: id(),
        uid: 0,
        gid: 0,
        mode: 0,
        qbytes,
    };
    serve(c, set, Reply::Done);
    serve(
        c,
        Call::Remove {
            kind: Kind::Msg,
            id: id(),
        },
        Reply::Done,
    );
}

fn serve_segment(c: &mut Connection) {
    serve(c, get(Kind::Shm, 5000), Reply::Id(id()));
    let cpid = Some(Pid {
        node: NodeId::SOLO,
        pid: 55,
    });
    let about = ShmStat {
        size: 5000,
        nattch: 2,
        cpid,
        ..ShmStat::default()
    };
    serve(c, stat(Kind::Shm, false), Reply::Shm(about));
    serve(
        c,
        Call::Lock {
            id: id(),
            lock: true,
        },
        Reply::Done,
    );
    serve(
        c,
        Call::Lock {
            id: id(),
            lock: false,
        },
        Reply::Done,
    );
    let set = Call::Set {
        kind: Kind::Shm,
        id: id(),
        uid: 0,
        gid: 0,
        mode: 0,
        qbytes: None,
    };
    serve(c, set, Reply::Done);
    serve(
        c,
        Call::Remove {
            kind: Kind::Shm,
            id: id(),
        },
        Reply::Done,
    );
}

#[test]
fn every_call_on_a_distributed_object_goes_to_the_daemon_and_its_answer_to_the_program() {
    handles("handled");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_call_by_its_number_is_the_same_as_by_its_name() {
    handles("handled_by_number");
}

fn handles(program: &str) {
    let fake = Fake::new(program);
    let probe = Probe::start(program, &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    serve_set(&mut connection);
    serve_queue(&mut connection);
    serve_segment(&mut connection);
    assert!(connection.is_over());
    assert!(fake.is_unvisited(), "one thread has one connection");
    probe.prints(&[
        "semget 0",
        "semop 0",
        "semtimedop 0",
        "GETVAL 3",
        "GETPID 99",
        "GETNCNT 4",
        "GETZCNT 5",
        "SETVAL 0",
        "SETALL 0",
        "GETALL 0",
        "values 1 2 259",
        "IPC_STAT 0",
        "set 3 11 640 12",
        "IPC_SET 0",
        "IPC_RMID 0",
        "msgget 0",
        "msgsnd 0",
        "msgrcv 5",
        "message 2 world",
        "IPC_STAT 0",
        "queue 2 16384 8388615 0",
        "IPC_SET 0",
        "IPC_RMID 0",
        "shmget 0",
        "IPC_STAT 0",
        "segment 5000 2 55 0",
        "SHM_LOCK 0",
        "SHM_UNLOCK 0",
        "IPC_SET 0",
        "IPC_RMID 0",
    ]);
}

const LOCAL: [&str; 11] = [
    "SETVAL 0",
    "semop 0",
    "semtimedop 0",
    "GETVAL 43",
    "IPC_RMID 0",
    "msgsnd 0",
    "msgrcv 5",
    "IPC_RMID 0",
    "shmdt 0",
    "shmdt again EINVAL",
    "IPC_RMID 0",
];

/// Runs local calls beside a daemon that must not hear of them.
#[track_caller]
fn stays_local(test: &str, flags: &str, variables: &[(&str, &str)]) {
    if !isolated() {
        return;
    }
    let fake = Fake::new(test);
    for program in ["bypassed", "bypassed_by_number"] {
        Probe::start(program, &fake.dir, &fake.socket(), &[flags], variables).prints(&LOCAL);
        assert!(fake.is_unvisited());
    }
}

#[test]
fn every_call_on_a_local_object_goes_to_the_kernel_and_the_daemon_hears_nothing() {
    stays_local("bypassed", "0", &[]);
}

#[test]
fn a_key_outside_of_dipc_keys_is_local() {
    stays_local(
        "outside",
        "0",
        &[("DIPC_KEYS", "0x1,0x4450-0xffffffff,private")],
    );
}

#[test]
fn the_flag_means_nothing_to_a_program_that_has_it_ignored() {
    stays_local("ignored", "10000", &[("DIPC_FLAG", "ignore")]);
}

#[test]
fn a_key_of_dipc_keys_is_distributed_without_any_flag() {
    let fake = Fake::new("keys");
    let variables = [("DIPC_KEYS", "0x4400-0x4fff"), ("DIPC_FLAG", "ignore")];
    let probe = Probe::start("getting", &fake.dir, &fake.socket(), &[], &variables);
    let mut connection = fake.accept();
    let call = Call::Get {
        kind: Kind::Sem,
        key: 0x4449,
        size: 1,
        flags: flags::DIPC,
    };
    serve(&mut connection, call, Reply::Failed(Errno::ENOENT));
    let call = Call::Get {
        kind: Kind::Shm,
        key: 0x4449,
        size: 4096,
        flags: flags::DIPC,
    };
    serve(&mut connection, call, Reply::Failed(Errno::EACCES));
    connection.call();
    connection.reply(Reply::Value(4));
    probe.prints(&["semget ENOENT", "shmget EACCES", "by id 4"]);
}

#[test]
fn an_id_that_the_daemon_does_not_know_is_looked_for_in_the_kernel() {
    if !isolated() || !nix::unistd::geteuid().is_root() {
        println!("left out: only root chooses the next id");
        return;
    }
    let fake = Fake::new("high-id");
    let probe = Probe::start("high_id", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    for _ in 0..4 {
        connection.call();
        connection.reply(Reply::Failed(Errno::EINVAL));
    }
    probe.prints(&[
        "id 1077936133",
        "SETVAL 0",
        "semop 0",
        "GETVAL 6",
        "IPC_RMID 0",
    ]);
}

#[test]
fn bad_pointers_are_efault_in_the_kernels_order_and_harm_no_later_call() {
    let fake = Fake::new("pointers");
    let probe = Probe::start("pointers", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Id(id()));
    // A call whose bytes cannot be read does not arrive, but what is found before
    // that is asked for.
    for _ in [
        "semop",
        "semop 501",
        "semtimedop odd",
        "msgsnd text",
        "msgsnd 8193",
    ] {
        assert_eq!(connection.request().0, Request::Limits);
        connection.respond(&Response::Limits(Limits::LINUX), &[], &[]);
    }
    // Of all the calls with bad pointers, those that only read arrive.
    serve(
        &mut connection,
        stat(Kind::Sem, false),
        Reply::Sem(SemStat::default()),
    );
    connection.call();
    connection.reply_with(Reply::Message { mtype: 1 }, b"hello");
    serve(
        &mut connection,
        sem(SemCommand::GetValue(0)),
        Reply::Value(8),
    );
    probe.prints(&[
        "semop EFAULT",
        "semop 501 E2BIG",
        "semtimedop EFAULT",
        "semtimedop odd EINVAL",
        "msgsnd EFAULT",
        "msgsnd text EFAULT",
        "msgsnd 8193 EINVAL",
        "IPC_SET EFAULT",
        "IPC_STAT EFAULT",
        "msgrcv EFAULT",
        "GETVAL 8",
    ]);
}

#[test]
fn payloads_longer_than_a_packet_arrive_whole_in_both_directions() {
    let fake = Fake::new("bulk");
    let probe = Probe::start("bulk", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    let c = &mut connection;
    c.call();
    c.reply(Reply::Id(id()));

    c.call();
    let text: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    c.reply_with(Reply::Message { mtype: i64::MAX }, &text);
    let (call, sent) = c.call();
    assert!(matches!(call, Call::MsgSnd { mtype: 3, .. }), "{call:?}");
    assert!(sent == text, "the text comes back as it was received");
    c.reply(Reply::Done);

    assert_eq!(c.call().0, sem(SemCommand::GetAll));
    let values: Vec<u8> = (0..32_000u16).flat_map(u16::to_le_bytes).collect();
    c.reply_with(Reply::Values, &values);
    let about = SemStat {
        nsems: 32_000,
        ..SemStat::default()
    };
    serve(c, stat(Kind::Sem, true), Reply::Sem(about));
    let set = serve(c, sem(SemCommand::SetAll), Reply::Done);
    assert!(set == values, "the values come back as they were read");

    serve(c, sem(SemCommand::GetValue(0)), Reply::Value(1));
    assert!(c.is_over() && fake.is_unvisited());
    probe.prints(&[
        "text 200000 of type 9223372036854775807, wrong 0",
        "msgsnd 0",
        "GETALL 0",
        "values wrong 0",
        "SETALL 0",
        "last 1",
    ]);
}

/// Answers a `msgrcv` of 100 bytes and a `GETALL` by `answer`, each on a
/// connection that is thereby over.
fn refuses(test: &str, answer: impl Fn(&mut Connection, Reply<'_>)) {
    let fake = Fake::new(test);
    let probe = Probe::start("refusing", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    serve(&mut connection, get(Kind::Msg, 0), Reply::Id(id()));
    for reply in [Reply::Message { mtype: 1 }, Reply::Values] {
        connection.call();
        answer(&mut connection, reply);
        assert!(connection.is_over());
        connection = fake.accept();
    }
    serve(
        &mut connection,
        sem(SemCommand::GetValue(0)),
        Reply::Value(1),
    );
    probe.prints(&["msgrcv EIDRM", "GETALL ETIMEDOUT", "untouched 1", "last 1"]);
}

/// The header of a reply that announces so much payload.
fn header(reply: Reply<'_>, payload: usize) -> Encoded {
    Encoded::new(&Response::Reply(reply), payload).unwrap()
}

#[test]
fn an_answer_that_ends_before_its_payload_is_refused() {
    refuses("truncated", |c, reply| {
        c.send(&[header(reply, 80).as_ref(), &[1; 79]], &[]);
    });
}

#[test]
fn an_answer_that_there_is_no_room_for_is_refused() {
    refuses("oversized", |c, reply| {
        c.send(&[header(reply, 20_000).as_ref(), &[1; 20_000]], &[]);
    });
}

/// A `msgrcv` is answered by a header that announces `announced` bytes, then by
/// `packets`; after that the daemon is gone.
fn breaks_off(test: &str, announced: usize, packets: &[&[u8]]) {
    let fake = Fake::new(test);
    let probe = Probe::start("bulk", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Id(id()));
    connection.call();
    // Before the answer: the program goes on as soon as it has seen enough, and
    // must not find a daemon that never answers.
    std::fs::remove_file(fake.socket()).unwrap();
    let reply = header(Reply::Message { mtype: 1 }, announced);
    connection.send(&[reply.as_ref()], &[]);
    packets
        .iter()
        .for_each(|packet| connection.send(&[packet], &[]));
    drop(connection);
    let output = probe.finish();
    let first = output.stdout.lines().next().unwrap();
    assert!(first.starts_with("text -1 of type"), "{first}");
}

#[test]
fn a_daemon_that_ends_inside_a_payload_ends_the_call() {
    breaks_off("ends-inside", 200_000, &[&[1; 60_000], &[1; 60_000]]);
}

#[test]
fn a_payload_longer_than_it_was_announced_ends_the_call() {
    breaks_off("surplus", 100_000, &[&[1; 60_000], &[1; 40_001]]);
}
