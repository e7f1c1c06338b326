//! `*_INFO`, `*_STAT` by index and `/proc/sysvipc`, with a daemon that lists
//! well, badly, or not at all. In a namespace of its own the kernel has no set:
//! one line, the header, and index 0 unused.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use dipc_wire::Limits;
use dipc_wire::call::{Call, Reply, SemStat};
use dipc_wire::census::{Census, Totals};
use dipc_wire::local::{Request, Response};
use dipc_wire::{Errno, Kind, ObjectId};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::calls::id;
use crate::fake::{Connection, Fake, directory, nobody};
use crate::probe::{Probe, isolated};

const KIND: Kind = Kind::Sem;
const SWEEP: bool = false;
/// What the program prints when the answers are the kernel's.
const KERNELS: [&str; 4] = [
    "lines 1, descriptor the lowest",
    "highest 0, sets 0",
    "at EINVAL",
    "at EINVAL",
];

fn census(objects: u32) -> Response<'static> {
    Response::Census(Census {
        objects,
        totals: Totals::Sem { semaphores: 6 },
        limits: Limits::LINUX,
    })
}

fn expect(connection: &mut Connection, request: Request) {
    assert_eq!(connection.request().0, request);
}

#[test]
fn the_daemons_objects_stand_behind_the_kernels() {
    if !isolated() {
        return;
    }
    let fake = Fake::new("listing");
    let probe = Probe::start("listing", &fake.dir, &fake.socket(), &[], &[]);
    let mut daemon = fake.accept();
    expect(
        &mut daemon,
        Request::Lines {
            kind: KIND,
            sweep: SWEEP,
        },
    );
    let mut lines = File::from(memfd_create("lines", MFdFlags::empty()).unwrap());
    lines.write_all(b"one\ntwo\n").unwrap();
    daemon.respond(&Response::Lines { len: 8 }, &[], &[lines.as_raw_fd()]);
    expect(
        &mut daemon,
        Request::Census {
            kind: KIND,
            sweep: SWEEP,
        },
    );
    daemon.respond(&census(1), &[], &[]);
    // Index 0 is the kernel's; 1 is the daemon's first.
    let object: ObjectId = id();
    for place in [0, 1] {
        expect(
            &mut daemon,
            Request::Entry {
                kind: KIND,
                place,
                sweep: SWEEP,
            },
        );
        if place == 0 {
            daemon.reply(Reply::Id(object));
            let stat = Call::Stat {
                kind: KIND,
                id: object,
                any: false,
            };
            assert_eq!(daemon.call().0, stat);
            daemon.reply(Reply::Sem(SemStat::default()));
        } else {
            daemon.reply(Reply::Failed(Errno::EINVAL));
        }
    }
    let found = format!("at {}", object.raw());
    probe.prints(&[
        "lines 3, descriptor the lowest",
        "highest 1, sets 1",
        "at EINVAL",
        &found,
        "at EINVAL",
    ]);
}

#[test]
fn a_daemon_that_has_nothing_or_cannot_list_leaves_the_kernels_answers() {
    if !isolated() {
        return;
    }
    let no_memory = Response::Reply(Reply::Failed(Errno::ENOMEM));
    for answer in [Response::Lines { len: 0 }, Response::Rows, no_memory] {
        let fake = Fake::new("unlisted");
        let probe = Probe::start("listing", &fake.dir, &fake.socket(), &[], &[]);
        let mut daemon = fake.accept();
        expect(
            &mut daemon,
            Request::Lines {
                kind: KIND,
                sweep: SWEEP,
            },
        );
        daemon.respond(&answer, &[], &[]);
        expect(
            &mut daemon,
            Request::Census {
                kind: KIND,
                sweep: SWEEP,
            },
        );
        daemon.respond(&census(0), &[], &[]);
        expect(
            &mut daemon,
            Request::Entry {
                kind: KIND,
                place: 0,
                sweep: SWEEP,
            },
        );
        daemon.reply(Reply::Failed(Errno::EINVAL));
        probe.prints(&KERNELS);
    }
}

#[test]
fn without_a_daemon_lists_are_the_kernels() {
    if !isolated() {
        return;
    }
    let dir = directory("unserved");
    Probe::start("listing", &dir, &nobody(&dir), &[], &[]).prints(&KERNELS);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_daemon_that_goes_away_in_the_middle_leaves_the_kernels_file() {
    if !isolated() {
        return;
    }
    let fake = Fake::new("halfway");
    let probe = Probe::start("listing", &fake.dir, &fake.socket(), &[], &[]);
    let mut daemon = fake.accept();
    expect(
        &mut daemon,
        Request::Lines {
            kind: KIND,
            sweep: SWEEP,
        },
    );
    drop((daemon, fake));
    probe.prints(&KERNELS);
}

#[test]
fn a_thread_may_be_cancelled_while_it_opens_a_file() {
    let dir = directory("cancelling");
    let fifo = dir.join("fifo");
    let arguments = [fifo.to_str().unwrap()];
    Probe::start("cancelling", &dir, &nobody(&dir), &arguments, &[]).prints(&[
        "open is tidied up",
        "cancelled",
        "fopen is tidied up",
        "cancelled",
    ]);
    std::fs::remove_dir_all(dir).unwrap();
}
