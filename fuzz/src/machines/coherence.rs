//! One node's part in a segment of two granules whose home is node 1. A message that
//! is refused has changed nothing.

use dipc_wire::Incarnation;
use dipc_wire::coherence::{Access, Message};
use dipcd::coherence::{Config, Protocol};

use super::{Feed, node};
use crate::Reached;

pub(crate) fn take(bytes: &[u8], reached: &mut Reached) {
    let mut feed = Feed(bytes);
    let (first, second) = (Incarnation(1), Incarnation(2));
    let mut machine = Protocol::new(Config {
        me: node(feed.byte() % 3),
        incarnation: first,
        home: node(0),
        granules: 2,
        quantum: u64::from(feed.byte() % 2),
        secret: 5,
    });
    let mut now = 0;
    while !feed.is_empty() {
        let (what, who) = (feed.byte(), feed.byte());
        let (granule, mut actions) = (u64::from(who % 3), Vec::new());
        now += 1;
        match what % 10 {
            0 => machine.node_died(node(who), first, now, &mut actions),
            1 => machine.node_joined(node(who), second),
            2 => machine.fault(granule, Access::Read, now, &mut actions),
            3 => machine.fault(granule, Access::Write, now, &mut actions),
            4 => machine.evict_all(now, &mut actions),
            5 => machine.expire(granule, now, &mut actions),
            more => {
                let Ok((message, rest)) = postcard::take_from_bytes::<Message>(feed.0) else {
                    return;
                };
                let variant = feed.byte();
                feed.0 = rest;
                let message = guess(&machine, message, more);
                let before = machine.clone();
                let heard = machine.receive(node(who), message, now, &mut actions);
                if heard.is_err() {
                    assert!(actions.is_empty(), "{message:?} is refused and obeyed");
                    assert_eq!(machine, before, "{message:?} is refused and heard");
                }
                reached.insert((if heard.is_ok() { "heard" } else { "refused" }, variant));
            }
        }
        for granule in 0..2 {
            assert!(
                machine
                    .held(granule)
                    .is_none_or(|held| held <= Access::Write)
            );
        }
    }
}

/// A grant with the ticket guessed right, every other time: deeper than chance comes.
fn guess(machine: &Protocol, message: Message, how: u8) -> Message {
    match (message, machine.cache().line(message.granule()).pending) {
        (
            Message::Grant {
                granule, content, ..
            },
            Some(pending),
        ) if how > 6 => Message::Grant {
            granule,
            content,
            access: pending.access,
            ticket: pending.ticket,
        },
        (other, _) => other,
    }
}
