//! Every message of this project fits an [`Encoded`] header, so that nobody
//! who sends one has to think of its length.

use dipc_wire::call::{Call, MsgStat, Perm, Reply, ShmStat};
use dipc_wire::frame::{Encoded, FrameError, MAX_HEADER, MAX_PAYLOAD, PREFIX};
use dipc_wire::peer::{Caller, Capabilities, MAX_NAME, Message};
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode};
use dipc_wire::{Incarnation, Kind, Limits, ObjectId, Pid};
use serde::Serialize;

use crate::golden::node;

const ID: ObjectId = ObjectId::new(node(255), ObjectId::SERIALS - 1);
const PID: Option<Pid> = Some(Pid {
    node: node(255),
    pid: u32::MAX,
});
/// The longest `address:port` without a host name.
const ADDRESS: &str = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295]:65535";

fn assert_fits(message: &impl Serialize) {
    let header = Encoded::new(message, MAX_PAYLOAD).expect("fits");
    assert!(header.as_ref().len() <= PREFIX + MAX_HEADER);
}

/// Numbers that take the most bytes, names of the greatest length.
fn longest_perm(name: &str) -> Perm<'_> {
    Perm {
        key: i32::MIN,
        uid: u32::MAX,
        gid: u32::MAX,
        cuid: u32::MAX,
        cgid: u32::MAX,
        mode: u16::MAX,
        seq: u16::MAX,
        owner: name,
        group: name,
        creator: name,
        creator_group: name,
    }
}

#[test]
fn the_longest_stat_fits_an_encoded_header() {
    let name = "x".repeat(MAX_NAME);
    let (time, number) = (i64::MIN, u64::MAX);
    assert_fits(&Message::Reply {
        tag: u64::MAX,
        reply: Reply::Shm(ShmStat {
            perm: longest_perm(&name),
            size: number,
            atime: time,
            dtime: time,
            ctime: time,
            cpid: PID,
            lpid: PID,
            nattch: number,
            granule: number,
            quantum: number,
        }),
    });
    assert_fits(&Message::Reply {
        tag: u64::MAX,
        reply: Reply::Msg(MsgStat {
            perm: longest_perm(&name),
            stime: time,
            rtime: time,
            ctime: time,
            cbytes: number,
            qnum: number,
            qbytes: number,
            lspid: PID,
            lrpid: PID,
        }),
    });
}

#[test]
fn the_longest_call_fits_an_encoded_header() {
    assert_fits(&Message::Call {
        tag: u64::MAX,
        caller: Caller {
            pid: u32::MAX,
            login: &"x".repeat(MAX_NAME),
            capabilities: Capabilities::ALL,
        },
        call: Call::Set {
            kind: Kind::Shm,
            id: ID,
            uid: u32::MAX,
            gid: u32::MAX,
            mode: u16::MAX,
            qbytes: Some(u64::MAX),
        },
    });
}

#[test]
fn the_longest_introductions_fit_an_encoded_header() {
    let name = "x".repeat(MAX_NAME);
    assert_fits(&Join {
        magic: MAGIC,
        versions: (u16::MAX, u16::MAX),
        name: &name,
        address: ADDRESS,
        member: Some(Membership {
            cluster: u64::MAX,
            node: node(255),
            incarnation: Incarnation(u64::MAX),
        }),
    });
    let most = u64::MAX;
    assert_fits(&Answer::Welcome {
        version: u16::MAX,
        member: Membership {
            cluster: most,
            node: node(255),
            incarnation: Incarnation(most),
        },
        timeout_ms: u32::MAX,
        limits: Limits {
            shmmax: most,
            shmall: most,
            shmmni: most,
            semmsl: most,
            semmns: most,
            semopm: most,
            semmni: most,
            msgmax: most,
            msgmnb: most,
            msgmni: most,
        },
    });
    assert_fits(&ToNode::Member {
        node: node(255),
        incarnation: Incarnation(u64::MAX),
        name: &name,
        address: ADDRESS,
        you_connect: true,
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let login = &"x".repeat(1000);
    let caller = Caller {
        pid: 1,
        login,
        capabilities: Capabilities::NONE,
    };
    assert_eq!(Encoded::new(&caller, 0).unwrap_err(), FrameError::NoRoom);
    let long = Encoded::new(&(), MAX_PAYLOAD + 1).unwrap_err();
    assert_eq!(long, FrameError::PayloadTooLong(MAX_PAYLOAD as u32 + 1));
}
