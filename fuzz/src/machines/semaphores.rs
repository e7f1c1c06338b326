//! Calls on a set of four. A value is always one that a semaphore can have.

use dipc_wire::call::SemOp;
use dipc_wire::{Kind, NodeId, ObjectId};
use dipcd::semantics::{Caller, Credentials, Permissions, SemSet, Setting, Ticket};

use super::{Feed, node};
use crate::Reached;

/// `SEMVMX`
const MOST: u16 = 32_767;

pub(crate) fn take(bytes: &[u8], reached: &mut Reached) {
    let owner = Credentials::default();
    let permissions = Permissions::new(ObjectId::new(NodeId::SOLO, 1), 1, &owner, 0o600);
    let mut set = SemSet::new(permissions, 4, 0);
    let (mut feed, mut ticket, mut wakes) = (Feed(bytes), 0, Vec::new());
    while !feed.is_empty() {
        let call = feed.byte() % 9;
        let pid = feed.pid();
        let caller = Caller {
            pid,
            credentials: &owner,
        };
        ticket += 1;
        let done = match call {
            0..=2 => {
                let ops = operations(&mut feed);
                let blocked = set.operate(&ops, caller, Ticket(ticket), 1, &mut wakes);
                blocked.map(drop)
            }
            3 => {
                let (num, value) = (i32::from(feed.byte() % 6) - 1, feed.number());
                // As the home does: a value is looked at before the set.
                match u16::try_from(value).is_ok_and(|value| value <= MOST) {
                    true => set.set_value(caller, num, value, 1, &mut wakes),
                    false => Ok(()),
                }
            }
            4 => {
                let count = feed.byte() % 6;
                let values: Vec<u16> = (0..count).map(|_| feed.number() as u16).collect();
                set.set_all(caller, &values, 1, &mut wakes)
            }
            5 => {
                set.revert(&operations(&mut feed), pid, 1, &mut wakes);
                Ok(())
            }
            6 => {
                set.exit(pid, 1, &mut wakes);
                Ok(())
            }
            7 => {
                set.forget_node(node(feed.byte()), 1, &mut wakes);
                set.withdraw(Ticket(u64::from(feed.byte())));
                Ok(())
            }
            _ => {
                // Its values can always be read, for the check below.
                let mode = feed.number() as u16 | 0o400;
                let new = Setting {
                    uid: 0,
                    gid: 0,
                    mode,
                };
                set.set(caller, new, 1)
            }
        };
        reached.insert((if done.is_ok() { "done" } else { "failed" }, call));
        if !wakes.is_empty() {
            reached.insert(("woken", call));
        }
        wakes.clear();
        let root = Credentials {
            uid: 0,
            ..owner.clone()
        };
        let caller = Caller {
            pid,
            credentials: &root,
        };
        let values = set.get_all(caller).expect("its owner may read it");
        for value in values {
            assert!(value <= MOST, "a semaphore is {value}");
        }
        assert_eq!(
            set.stat(caller, true).map(|stat| stat.nsems),
            Ok(4),
            "{:?}",
            Kind::Sem
        );
    }
}

fn operations(feed: &mut Feed<'_>) -> Vec<SemOp> {
    let count = feed.byte() % 4;
    let operation = |_| SemOp {
        // Five of four.
        num: u16::from(feed.byte() % 5),
        op: feed.number() as i16,
        flags: u16::from(feed.byte()) << 11,
    };
    (0..count).map(operation).collect()
}
