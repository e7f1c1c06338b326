//! A program that speaks to its daemon by itself, and lies.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use dipc_tests::raw::Raw;
use dipc_tests::{Cost, Node, wait};
use dipc_wire::call::{Call, SemCommand, flags};
use dipc_wire::frame::{Encoded, MAX_PAYLOAD};
use dipc_wire::local::{Hello, Inherited, Request};
use dipc_wire::{Kind, NodeId, ObjectId};

use crate::honest::Honest;

/// Numbers that look random and are the same in each run (a linear congruence).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as u32
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }
}

fn object(serial: u32) -> ObjectId {
    ObjectId::new(NodeId::new(1).expect("not 0"), serial)
}

/// Requests of every kind, with whatever numbers the dice say.
fn requests(dice: &mut Dice) -> Vec<Request> {
    let id = object(dice.roll() % ObjectId::SERIALS);
    let (addr, len) = (u64::from(dice.roll()) << 12, u64::MAX - 0xfff);
    let kind = Kind::ALL[dice.roll() as usize % 3];
    let (number, place) = (dice.roll() as i32, dice.roll());
    let (need_uffd, sweep) = (true, true);
    vec![
        Request::Call(Call::Get {
            kind,
            key: number,
            size: u64::MAX,
            flags: place,
        }),
        Request::Call(Call::SemOp {
            id,
            timeout: Some(u64::MAX),
        }),
        Request::Call(Call::Sem {
            id,
            command: SemCommand::SetValue(number, i32::MIN),
        }),
        Request::Call(Call::Sem {
            id,
            command: SemCommand::SetAll,
        }),
        Request::Call(Call::MsgSnd {
            id,
            mtype: i64::MIN,
            flags: place,
        }),
        Request::Call(Call::MsgRcv {
            id,
            mtype: i64::MIN,
            size: u64::MAX,
            flags: place,
        }),
        Request::Call(Call::Stat {
            kind,
            id,
            any: true,
        }),
        Request::Call(Call::Set {
            kind,
            id,
            uid: place,
            gid: place,
            mode: 0xffff,
            qbytes: Some(u64::MAX),
        }),
        Request::Call(Call::Remove { kind, id }),
        Request::Call(Call::Lock { id, lock: true }),
        Request::Call(Call::Attach { id, flags: 0 }),
        Request::Call(Call::Detach {
            id,
            count: u32::MAX,
        }),
        Request::Call(Call::Inherit {
            id,
            count: u32::MAX,
        }),
        Request::Call(Call::Remap { id }),
        Request::Call(Call::Abandon { id }),
        Request::Withdraw,
        Request::Attach {
            id,
            flags: place,
            need_uffd,
        },
        Request::Map { addr },
        Request::Map { addr: u64::MAX },
        Request::Abandon,
        Request::Detach { addr },
        Request::Forked { parent: 1 },
        Request::Forked { parent: u32::MAX },
        Request::List,
        Request::Status,
        Request::Census { kind, sweep },
        Request::Entry { kind, place, sweep },
        Request::Lines { kind, sweep },
        Request::Thread { tid: place },
        Request::Unmapped { addr, len },
        Request::Unmapped { addr: 0, len: 0 },
        Request::Changed {
            addr,
            len,
            inherited: Some(true),
        },
        Request::Remap {
            addr,
            len,
            need_uffd,
        },
        Request::Remap {
            addr: u64::MAX - 0xfff,
            len: 4096,
            need_uffd,
        },
        Request::Limits,
    ]
}

fn header(request: &Request, payload: usize) -> Vec<u8> {
    let header = Encoded::new(request, payload).expect("it is short");
    header.as_ref().to_vec()
}

fn hello() -> Vec<u8> {
    let hello = Encoded::new(&Hello::ours(), 0).expect("it is short");
    hello.as_ref().to_vec()
}

fn come_in(node: &Node) -> Raw {
    Raw::greeted(&node.socket).expect("it may come in")
}

/// Who goes away leaves nothing behind: the daemon is as it was before.
pub(crate) struct Before {
    pid: u32,
    descriptors: usize,
    threads: usize,
}

impl Before {
    /// Once this process was seen, of which the daemon has a pidfd to its end.
    pub(crate) fn of(node: &Node) -> Self {
        let cost = Cost::of(node.pid());
        drop(come_in(node));
        let before = Before {
            pid: node.pid(),
            descriptors: cost.descriptors + 1,
            threads: cost.threads,
        };
        before.again();
        before
    }

    /// Fewer is fine: whoever was there before may have gone too.
    #[track_caller]
    pub(crate) fn again(&self) {
        wait::until(
            "the daemon has as many descriptors and threads as before",
            || {
                let now = Cost::of(self.pid);
                now.descriptors <= self.descriptors && now.threads <= self.threads
            },
        );
    }
}

#[test]
fn random_packets_cost_their_sender_its_connection() {
    let mut honest = Honest::new();
    honest.go_on();
    let before = Before::of(honest.cluster.node(1));
    let mut dice = Dice(1);
    for round in 0..300 {
        let node = honest.cluster.node(1);
        let raw = match round % 2 {
            0 => come_in(node),
            _ => Raw::connect(&node.socket).expect("it may connect"),
        };
        let length = 1 + dice.roll() as usize % 200;
        // Half of them claim the length that they have.
        let mut packet = dice.bytes(length + 8);
        if round % 4 < 2 {
            packet[..8].copy_from_slice(&(length as u64).to_le_bytes());
        }
        let _ = raw.send(&packet, &[]);
        if round % 50 == 0 {
            honest.go_on();
        }
    }
    before.again();
    honest.go_on();
}

#[test]
fn requests_with_any_numbers_are_answered_or_refused() {
    let mut honest = Honest::new();
    honest.go_on();
    let before = Before::of(honest.cluster.node(1));
    let mut dice = Dice(2);
    for _ in 0..6 {
        for request in requests(&mut dice) {
            for payload in [0, 1, 6, 24, 8192] {
                let raw = come_in(honest.cluster.node(1));
                let payload = dice.bytes(payload);
                let _ = raw.begin(&request, &payload, &[]);
                // A call that waits is ended; what has no answer gets none.
                let _ = raw.ask_nothing(&Request::Withdraw);
            }
        }
        honest.go_on();
    }
    before.again();
    honest.newcomer(1);
}

#[test]
fn a_connection_that_ends_at_any_byte_leaves_nothing_behind() {
    let mut honest = Honest::new();
    honest.go_on();
    let before = Before::of(honest.cluster.node(1));
    let whole = hello();
    let request = header(
        &Request::Call(Call::SemOp {
            id: object(1),
            timeout: None,
        }),
        6,
    );
    let node = honest.cluster.node(1);
    for cut in 1..whole.len() {
        let raw = Raw::connect(&node.socket).expect("it may connect");
        raw.send(&whole[..cut], &[]).expect("it listens");
    }
    for cut in 1..request.len() + 5 {
        let raw = come_in(node);
        let packet = [&request[..], &[0; 6]].concat();
        raw.send(&packet[..cut], &[]).expect("it listens");
    }
    before.again();
    honest.go_on();
}

#[test]
fn half_a_request_and_then_silence_keeps_nobody_else_waiting() {
    let mut honest = Honest::new();
    let before = Before::of(honest.cluster.node(1));
    let long = header(
        &Request::Call(Call::MsgSnd {
            id: object(1),
            mtype: 1,
            flags: 0,
        }),
        8000,
    );
    let silent: Vec<Raw> = (0..200)
        .map(|n| {
            let raw = match n % 3 {
                0 => Raw::connect(&honest.cluster.node(1).socket).expect("it may connect"),
                _ => come_in(honest.cluster.node(1)),
            };
            let packet = match n % 3 {
                0 => hello()[..3].to_vec(),
                _ => long.clone(),
            };
            raw.send(&packet, &[]).expect("it listens");
            raw
        })
        .collect();
    honest.go_on();
    honest.newcomer(1);
    drop(silent);
    before.again();
}

#[test]
fn who_never_reads_its_answers_is_given_up() {
    let mut honest = Honest::new();
    let mut many = honest.newcomer(2);
    // So that a list is long.
    assert_eq!(many.must("many sem 0 2000 011600"), 2000);
    let before = Before::of(honest.cluster.node(1));
    let memory = Cost::of(honest.cluster.node(1).pid()).memory;
    let deaf: Vec<Raw> = (0..20)
        .map(|_| {
            let raw = come_in(honest.cluster.node(1));
            let asked = (0..1000).take_while(|_| raw.ask_nothing(&Request::List).is_ok());
            assert!(asked.count() < 1000, "it may ask on for ever");
            raw
        })
        .collect();
    honest.go_on();
    let more = Cost::of(honest.cluster.node(1).pid())
        .memory
        .saturating_sub(memory);
    assert!(more < 64 << 10, "{more} KiB are kept for who does not read");
    drop(deaf);
    before.again();
    many.must("many_rm sem");
}

#[test]
fn half_sent_requests_of_one_user_take_bounded_memory() {
    let mut honest = Honest::new();
    let node = honest.cluster.node(1);
    let before = Before::of(node);
    let memory = Cost::of(node.pid()).memory;
    let long = header(
        &Request::Call(Call::MsgSnd {
            id: object(1),
            mtype: 1,
            flags: 0,
        }),
        MAX_PAYLOAD,
    );
    let part = vec![0; 16 << 10];
    let mut greedy = Vec::new();
    let mut closed = false;
    while !closed && greedy.len() < 40 {
        let raw = come_in(node);
        raw.send(&long, &[]).expect("it listens");
        for _ in 0..MAX_PAYLOAD / part.len() - 1 {
            if raw.send(&part, &[]).is_err() {
                closed = true;
                break;
            }
        }
        greedy.push(raw);
    }
    assert!(closed, "40 connections may keep 16 MiB each");
    let more = Cost::of(node.pid()).memory.saturating_sub(memory);
    assert!(more < 600 << 10, "{more} KiB");
    honest.go_on();
    drop(greedy);
    before.again();
}

#[test]
fn descriptors_that_do_not_fit_close_the_connection_and_are_closed() {
    let mut honest = Honest::new();
    let segment = honest.newcomer(1).must("shmget 0 4096 011600");
    let id = ObjectId::from_raw(segment as i32).expect("an id of ours");
    let before = Before::of(honest.cluster.node(1));
    let node = honest.cluster.node(1);
    let (pipe, _writer) = nix::unistd::pipe().expect("a pipe");
    let file = |path| OwnedFd::from(File::open(path).expect("it is there"));
    let memory = nix::sys::memfd::memfd_create(c"eve", nix::sys::memfd::MFdFlags::empty());
    let strangers = [
        pipe,
        file("/dev/null"),
        file("/"),
        file("/proc/self/mem"),
        memory.expect("a memfd"),
        OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket")),
    ];
    let attach = Request::Attach {
        id,
        flags: flags::RDONLY,
        need_uffd: true,
    };
    for stranger in &strangers {
        for request in [
            Request::Map { addr: 0x7000_0000 },
            Request::Forked { parent: 1 },
            Request::Limits,
        ] {
            let raw = come_in(node);
            assert!(raw.ask(&attach, &[], &[]).is_some(), "the first half");
            let answer = raw.ask(&request, &[], &[stranger.as_fd()]);
            assert!(answer.is_none(), "{request:?}: {answer:?}");
        }
    }
    // None, more than one, and many.
    for count in [0, 2, 4, 5, 250] {
        let raw = come_in(node);
        assert!(raw.ask(&attach, &[], &[]).is_some(), "the first half");
        let descriptors = vec![strangers[0].as_fd(); count];
        let answer = raw.ask(&Request::Map { addr: 0x7000_0000 }, &[], &descriptors);
        assert_eq!(answer.is_some(), count == 0, "{count} descriptors");
    }
    let nothing = Inherited {
        id: id.raw(),
        readonly: false,
        addr: 0,
        len: 4096,
    };
    let raw = come_in(node);
    let _ = raw.ask(&Request::Forked { parent: 1 }, &nothing.encode(), &[]);
    drop(raw);
    honest.go_on();
    before.again();
    assert!(
        honest
            .cluster
            .node(1)
            .log()
            .contains("descriptors do not fit"),
        "it is said"
    );
}
