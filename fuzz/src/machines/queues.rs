//! Calls on a queue. What it says it holds is what it holds.

use dipc_wire::{Limits, NodeId, ObjectId};
use dipcd::semantics::{Caller, Credentials, Permissions, Queue, Setting, Ticket};

use super::{Feed, node};
use crate::Reached;

pub(crate) fn take(bytes: &[u8], reached: &mut Reached) {
    let owner = Credentials::default();
    let limits = Limits {
        msgmnb: 64,
        msgmax: 32,
        ..Limits::LINUX
    };
    let permissions = Permissions::new(ObjectId::new(NodeId::SOLO, 1), 1, &owner, 0o600);
    let mut queue = Queue::new(permissions, &limits, 0);
    let (mut feed, mut ticket, mut wakes) = (Feed(bytes), 0, Vec::new());
    while !feed.is_empty() {
        let call = feed.byte() % 7;
        let pid = feed.pid();
        let caller = Caller {
            pid,
            credentials: &owner,
        };
        let mtype = i64::from(feed.number());
        let flags = u32::from(feed.byte()) << 11;
        ticket += 1;
        let done = match call {
            0..=1 => {
                let text = vec![1; usize::from(feed.byte() % 40)];
                // As the home does: a message is looked at before the queue.
                match limits.check_message(mtype, text.len()) {
                    Ok(()) => queue
                        .send(caller, mtype, &text, flags, Ticket(ticket), 1, &mut wakes)
                        .map(drop),
                    refused => refused,
                }
            }
            2..=3 => {
                let size = feed.number() as i64 as u64;
                let received =
                    queue.receive(caller, mtype, size, flags, Ticket(ticket), 1, &mut wakes);
                received.map(drop)
            }
            4 => {
                queue.put_back(mtype, vec![2; usize::from(feed.byte() % 40)], 1, &mut wakes);
                Ok(())
            }
            5 => {
                queue.withdraw(Ticket(u64::from(feed.byte())));
                queue.forget_node(node(feed.byte()));
                Ok(())
            }
            _ => {
                let new = Setting {
                    uid: 0,
                    gid: 0,
                    mode: feed.number() as u16,
                };
                let qbytes = Some(u64::from(feed.byte()));
                queue.set(caller, new, qbytes, &limits, 1, &mut wakes)
            }
        };
        reached.insert((if done.is_ok() { "done" } else { "failed" }, call));
        if !wakes.is_empty() {
            reached.insert(("woken", call));
        }
        wakes.clear();
        let stat = queue.stat(caller, true).expect("anybody may ask so");
        assert!(stat.qnum > 0 || stat.cbytes == 0, "{stat:?}");
        assert!(stat.cbytes <= 40 * stat.qnum, "{stat:?}");
    }
}
