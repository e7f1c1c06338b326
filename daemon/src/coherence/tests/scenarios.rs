//! Single transactions, step by step, as the pictures of the module show them.

use dipc_wire::coherence::Access::{Read, Write};
use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId};

use crate::coherence::world::node;
use crate::coherence::{Action, Config, Protocol};

const HOME: u8 = 1;
const FIRST: Incarnation = Incarnation(1);
const SECOND: Incarnation = Incarnation(2);

fn protocol(me: u8, quantum: u64) -> Protocol {
    incarnation(me, FIRST, quantum)
}

fn incarnation(me: u8, incarnation: Incarnation, quantum: u64) -> Protocol {
    let config = Config {
        me: node(me),
        incarnation,
        home: node(HOME),
        granules: 8,
        quantum,
        secret: u128::from(me),
    };
    Protocol::new(config)
}

fn fault(at: &mut Protocol, granule: u64, access: Access, now: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    at.fault(granule, access, now, &mut actions);
    actions
}

fn receive(at: &mut Protocol, from: u8, message: Message, now: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    at.receive(node(from), message, now, &mut actions).unwrap();
    actions
}

fn send(to: u8, message: Message) -> Action {
    Action::Send {
        to: node(to),
        message,
    }
}

/// The message that these actions send, if they do nothing else.
fn only_message(actions: &[Action]) -> (NodeId, Message) {
    match actions {
        [Action::Send { to, message }] => (*to, *message),
        other => panic!("{other:?}"),
    }
}

fn request(node: &mut Protocol, granule: u64, access: Access) -> (Message, u64) {
    match only_message(&fault(node, granule, access, 0)).1 {
        message @ Message::Request { ticket, .. } => (message, ticket),
        other => panic!("{other:?}"),
    }
}

/// A node that was granted granule 0 by the home at time 0.
fn holder(me: u8, quantum: u64, access: Access) -> Protocol {
    let mut protocol = protocol(me, quantum);
    let (_, ticket) = request(&mut protocol, 0, access);
    let grant = Message::Grant {
        granule: 0,
        access,
        content: Content::Zero,
        ticket,
    };
    receive(&mut protocol, HOME, grant, 0);
    assert_eq!(protocol.held(0), Some(access));
    protocol
}

#[test]
fn a_granule_that_nobody_wrote_is_granted_as_zeros_without_asking_anyone() {
    let mut home = protocol(HOME, 0);
    let (ask, ticket) = request(&mut protocol(2, 0), 3, Read);
    let grant = Message::Grant {
        granule: 3,
        access: Read,
        content: Content::Zero,
        ticket,
    };
    assert_eq!(receive(&mut home, 2, ask, 0), [send(2, grant)]);
}

#[test]
fn the_home_serves_itself_in_one_call() {
    let mut home = protocol(HOME, 0);
    let install = Action::Install {
        granule: 0,
        access: Write,
        content: Content::Zero,
    };
    assert_eq!(fault(&mut home, 0, Write, 0), [install]);
    assert_eq!(home.held(0), Some(Write));
}

#[test]
fn a_read_of_what_the_home_owns_takes_one_message_each_way() {
    let mut home = protocol(HOME, 0);
    fault(&mut home, 0, Write, 0);
    let (ask, ticket) = request(&mut protocol(2, 0), 0, Read);
    let grant = Message::Grant {
        granule: 0,
        access: Read,
        content: Content::Data,
        ticket,
    };
    assert_eq!(
        receive(&mut home, 2, ask, 0),
        [
            Action::Protect { granule: 0 },
            Action::Copy { granule: 0 },
            send(2, grant)
        ]
    );
    assert_eq!(
        home.directory().unwrap().entry(0).unwrap().transaction(),
        None
    );
}

#[test]
fn a_read_of_what_another_owns_comes_straight_from_the_owner() {
    let (mut home, mut owner, mut reader) = (protocol(HOME, 0), protocol(2, 0), protocol(3, 0));
    let (ask, _) = request(&mut owner, 0, Write);
    let (_, granted) = only_message(&receive(&mut home, 2, ask, 0));
    receive(&mut owner, HOME, granted, 0);

    let (ask, ticket) = request(&mut reader, 0, Read);
    let (to, forward) = only_message(&receive(&mut home, 3, ask, 0));
    assert_eq!(to, node(2));
    let grant = Message::Grant {
        granule: 0,
        access: Read,
        content: Content::Data,
        ticket,
    };
    assert_eq!(
        receive(&mut owner, HOME, forward, 0),
        [
            Action::Protect { granule: 0 },
            Action::Copy { granule: 0 },
            send(3, grant)
        ]
    );
    let install = Action::Install {
        granule: 0,
        access: Read,
        content: Content::Data,
    };
    let installed = Message::Installed { granule: 0 };
    assert_eq!(
        receive(&mut reader, 2, grant, 0),
        [install, send(HOME, installed)]
    );
    assert_eq!(receive(&mut home, 3, installed, 0), []);
    assert_eq!(
        home.directory().unwrap().entry(0).unwrap().readers().len(),
        2
    );
}

#[test]
fn a_writer_with_a_copy_is_permitted_once_all_other_readers_have_answered() {
    let mut home = protocol(HOME, 0);
    let mut writer = protocol(2, 0);
    for reader in [2, 3, 4] {
        let mut asking = protocol(reader, 0);
        let asking = if reader == 2 {
            &mut writer
        } else {
            &mut asking
        };
        let (ask, _) = request(asking, 0, Read);
        let (_, grant) = only_message(&receive(&mut home, reader, ask, 0));
        receive(asking, HOME, grant, 0);
    }
    let (ask, ticket) = request(&mut writer, 0, Write);
    let invalidate = Message::Invalidate { granule: 0 };
    assert_eq!(
        receive(&mut home, 2, ask, 0),
        [send(3, invalidate), send(4, invalidate)]
    );
    let answer = Message::Invalidated { granule: 0 };
    assert_eq!(receive(&mut home, 4, answer, 0), []);
    let grant = Message::Grant {
        granule: 0,
        access: Write,
        content: Content::Keep,
        ticket,
    };
    assert_eq!(receive(&mut home, 3, answer, 0), [send(2, grant)]);
    let permit = Action::Permit {
        granule: 0,
        access: Write,
    };
    assert_eq!(receive(&mut writer, HOME, grant, 0), [permit]);
}

#[test]
fn a_write_fault_during_a_read_request_asks_once_more_when_the_copy_is_here() {
    let mut asking = protocol(2, 0);
    let (_, ticket) = request(&mut asking, 0, Read);
    assert_eq!(fault(&mut asking, 0, Read, 0), []);
    assert_eq!(fault(&mut asking, 0, Write, 0), []);
    let grant = Message::Grant {
        granule: 0,
        access: Read,
        content: Content::Zero,
        ticket,
    };
    let actions = receive(&mut asking, HOME, grant, 0);
    assert_eq!(
        actions[0],
        Action::Install {
            granule: 0,
            access: Read,
            content: Content::Zero
        }
    );
    assert!(matches!(
        only_message(&actions[1..]).1,
        Message::Request { access: Write, .. }
    ));
}

#[test]
fn a_granule_is_kept_for_the_quantum_and_then_given_up() {
    let mut reader = holder(2, 100, Read);
    let invalidate = Message::Invalidate { granule: 0 };
    assert_eq!(
        receive(&mut reader, HOME, invalidate, 30),
        [Action::Arm {
            granule: 0,
            at: 100
        }]
    );
    assert_eq!(reader.held(0), Some(Read));
    let mut actions = Vec::new();
    reader.expire(0, 100, &mut actions);
    let answer = send(HOME, Message::Invalidated { granule: 0 });
    assert_eq!(actions, [Action::Drop { granule: 0 }, answer]);
}

#[test]
fn the_quantum_delays_nothing_that_takes_nothing_away() {
    let mut reader = holder(2, 100, Read);
    let forward = Message::Forward {
        granule: 0,
        to: node(3),
        incarnation: FIRST,
        access: Read,
        ticket: 7,
    };
    let grant = Message::Grant {
        granule: 0,
        access: Read,
        content: Content::Data,
        ticket: 7,
    };
    assert_eq!(
        receive(&mut reader, HOME, forward, 1),
        [Action::Copy { granule: 0 }, send(3, grant)]
    );
    let absent = Message::Invalidate { granule: 1 };
    let answer = send(HOME, Message::Invalidated { granule: 1 });
    assert_eq!(receive(&mut reader, HOME, absent, 1), [answer]);
}

#[test]
fn the_homes_own_copy_is_kept_for_the_quantum_too() {
    let mut home = protocol(HOME, 100);
    fault(&mut home, 0, Write, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    assert_eq!(
        receive(&mut home, 2, ask, 10),
        [Action::Arm {
            granule: 0,
            at: 100
        }]
    );
    let mut actions = Vec::new();
    home.expire(0, 100, &mut actions);
    assert!(matches!(
        actions[..],
        [_, _, Action::Drop { .. }, Action::Send { .. }]
    ));
    let entry = home.directory().unwrap().entry(0).unwrap();
    assert_eq!((entry.transaction(), home.held(0)), (None, None));
}

#[test]
fn an_owner_evicts_its_bytes_and_a_reader_only_its_name() {
    let evict = |content| {
        send(
            HOME,
            Message::Evict {
                granule: 0,
                content,
            },
        )
    };
    let mut actions = Vec::new();
    holder(2, 100, Write).evict_all(1, &mut actions);
    let (protect, copy) = (Action::Protect { granule: 0 }, Action::Copy { granule: 0 });
    let drop = Action::Drop { granule: 0 };
    assert_eq!(actions, [protect, copy, drop, evict(Content::Data)]);
    actions.clear();
    holder(2, 100, Read).evict_all(1, &mut actions);
    assert_eq!(actions, [drop, evict(Content::Keep)]);
}

#[test]
fn what_an_owner_evicts_lives_on_at_the_home() {
    let mut home = protocol(HOME, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    receive(&mut home, 2, ask, 0);
    let evict = Message::Evict {
        granule: 0,
        content: Content::Data,
    };
    let install = Action::Install {
        granule: 0,
        access: Read,
        content: Content::Data,
    };
    assert_eq!(receive(&mut home, 2, evict, 0), [install]);
    let mut actions = Vec::new();
    home.node_died(node(2), FIRST, 0, &mut actions);
    assert_eq!(actions, []);
    assert_eq!(
        fault(&mut home, 0, Read, 0),
        [Action::Permit {
            granule: 0,
            access: Read
        }]
    );
}

#[test]
fn a_page_whose_writer_died_is_lost_to_all_who_ask_and_no_other_page_is() {
    let mut home = protocol(HOME, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    receive(&mut home, 2, ask, 0);
    let (ask, _) = request(&mut protocol(3, 0), 0, Read);
    receive(&mut home, 3, ask, 0);
    let mut actions = Vec::new();
    home.node_died(node(2), FIRST, 0, &mut actions);
    let (to, chase) = only_message(&actions);
    let Message::Chase { ticket, .. } = chase else {
        panic!("{chase:?}")
    };
    assert_eq!(to, node(3));
    let missing = Message::Missing {
        granule: 0,
        ticket: ticket + 1,
    };
    assert_eq!(
        receive(&mut home, 3, missing, 0),
        [send(3, Message::Lost { granule: 0 })]
    );
    assert_eq!(
        fault(&mut home, 0, Read, 0),
        [Action::Poison { granule: 0 }]
    );
    assert!(matches!(
        fault(&mut home, 1, Read, 0)[..],
        [Action::Install { .. }]
    ));
}

#[test]
fn a_page_of_which_a_reader_is_left_lives_on_there() {
    let mut home = protocol(HOME, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    receive(&mut home, 2, ask, 0);
    let (ask, _) = request(&mut protocol(3, 0), 0, Read);
    receive(&mut home, 3, ask, 0);
    receive(&mut home, 3, Message::Installed { granule: 0 }, 0);
    let mut actions = Vec::new();
    home.node_died(node(2), FIRST, 0, &mut actions);
    assert_eq!(actions, [send(3, Message::Own { granule: 0 })]);
}

#[test]
fn a_dead_home_poisons_the_whole_segment_for_good() {
    let mut reader = holder(2, 0, Read);
    let mut actions = Vec::new();
    reader.node_died(node(HOME), FIRST, 0, &mut actions);
    assert_eq!(actions, [Action::PoisonAll]);
    reader.node_joined(node(HOME), SECOND);
    for granule in [0, 5] {
        assert_eq!(
            fault(&mut reader, granule, Read, 0),
            [Action::Poison { granule }]
        );
        assert_eq!(reader.held(granule), None);
    }
}

#[test]
fn untouched_granules_cost_nothing_and_evicted_ones_leave_nothing() {
    let mut home = protocol(HOME, 0);
    assert_eq!(home.directory().unwrap().entries().count(), 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Read);
    receive(&mut home, 2, ask, 0);
    assert_eq!(home.directory().unwrap().entries().count(), 1);
    let evict = Message::Evict {
        granule: 0,
        content: Content::Keep,
    };
    receive(&mut home, 2, evict, 0);
    assert_eq!(home.directory().unwrap().entries().count(), 0);
    assert_eq!(home.cache().lines().count(), 0);
}

#[test]
fn an_order_that_crosses_an_eviction_is_answered_and_meets_no_later_copy() {
    let mut home = protocol(HOME, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    receive(&mut home, 2, ask, 0);
    let (ask, ticket) = request(&mut protocol(3, 0), 0, Write);
    let (to, forward) = only_message(&receive(&mut home, 3, ask, 0));
    assert_eq!(to, node(2));
    let evict = Message::Evict {
        granule: 0,
        content: Content::Data,
    };
    let install = Action::Install {
        granule: 0,
        access: Read,
        content: Content::Data,
    };
    assert_eq!(receive(&mut home, 2, evict, 0), [install]);
    let void = Message::Void { granule: 0 };
    assert_eq!(
        receive(&mut protocol(2, 0), HOME, forward, 0),
        [send(HOME, void)]
    );
    let grant = Message::Grant {
        granule: 0,
        access: Write,
        content: Content::Data,
        ticket,
    };
    let (copy, drop) = (Action::Copy { granule: 0 }, Action::Drop { granule: 0 });
    assert_eq!(receive(&mut home, 2, void, 0), [copy, drop, send(3, grant)]);
}

#[test]
fn a_writer_that_dies_before_its_grant_takes_no_copy_along() {
    let mut home = protocol(HOME, 0);
    let (ask, _) = request(&mut protocol(2, 0), 0, Write);
    receive(&mut home, 2, ask, 0);
    let (ask, _) = request(&mut protocol(3, 0), 0, Write);
    receive(&mut home, 3, ask, 0);
    let mut actions = Vec::new();
    home.node_died(node(3), FIRST, 0, &mut actions);
    assert_eq!(actions, [send(2, Message::Cancel { granule: 0 })]);
    // Its next incarnation may ask while the old request is being undone.
    home.node_joined(node(3), SECOND);
    let (ask, _) = request(&mut incarnation(3, SECOND, 0), 0, Read);
    assert_eq!(receive(&mut home, 3, ask, 0), []);
    let cancelled = Message::Cancelled {
        granule: 0,
        held: true,
    };
    let (to, next) = only_message(&receive(&mut home, 2, cancelled, 0));
    assert_eq!(to, node(2));
    assert!(matches!(next, Message::Forward { access: Read, .. }));
}

#[test]
fn an_order_to_send_to_the_dead_is_kept_until_it_is_cancelled_even_if_they_are_back() {
    let mut owner = holder(2, 0, Write);
    let mut actions = Vec::new();
    owner.node_died(node(3), FIRST, 0, &mut actions);
    owner.node_joined(node(3), SECOND);
    let forward = Message::Forward {
        granule: 0,
        to: node(3),
        incarnation: FIRST,
        access: Write,
        ticket: 7,
    };
    assert_eq!(receive(&mut owner, HOME, forward, 0), []);
    let cancelled = Message::Cancelled {
        granule: 0,
        held: true,
    };
    let cancel = Message::Cancel { granule: 0 };
    assert_eq!(
        receive(&mut owner, HOME, cancel, 0),
        [send(HOME, cancelled)]
    );
    assert_eq!(owner.held(0), Some(Write));
}
