//! People and processes for the tests.

use dipc_wire::peer::Capabilities;
use dipc_wire::{NodeId, ObjectId, Pid};

use super::{Caller, Credentials, Granted, Permissions, Rights, Wake};

/// When tests begin.
pub(super) const NOW: i64 = 1_000;

pub(super) fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A process of node 1.
pub(super) fn pid(pid: u32) -> Pid {
    Pid { node: node(1), pid }
}

pub(super) fn pid_on(number: u8, pid: u32) -> Pid {
    Pid {
        node: node(number),
        pid,
    }
}

/// An ordinary user whose only group has the same number.
pub(super) fn user(uid: u32) -> Credentials {
    Credentials {
        uid,
        gid: uid,
        ..Credentials::default()
    }
}

pub(super) fn root() -> Credentials {
    able(0, Capabilities::ALL)
}

/// A user with supplementary groups.
pub(super) fn member(uid: u32, groups: &[u32]) -> Credentials {
    Credentials {
        rights: Rights::Known {
            groups: groups.into(),
            capabilities: Capabilities::NONE,
        },
        ..user(uid)
    }
}

/// A user with capabilities.
pub(super) fn able(uid: u32, capabilities: Capabilities) -> Credentials {
    Credentials {
        rights: Rights::Known {
            groups: [].into(),
            capabilities,
        },
        ..user(uid)
    }
}

pub(super) fn caller(pid: Pid, credentials: &Credentials) -> Caller<'_> {
    Caller { pid, credentials }
}

/// Of an object that user 1000 made under key 0x1234.
pub(super) fn permissions(mode: u32) -> Permissions {
    Permissions::new(ObjectId::new(node(1), 7), 0x1234, &user(1000), mode)
}

/// What has been pushed since the last look, with plain tickets.
pub(super) fn woken(wakes: &mut Vec<Wake>) -> Vec<(u64, Result<Granted, dipc_wire::Errno>)> {
    wakes
        .drain(..)
        .map(|wake| (wake.ticket.0, wake.result))
        .collect()
}
