//! Peers that say what they could not have said.

use dipc_wire::Incarnation;
use dipc_wire::coherence::{Access, Content, Message};
use proptest::prelude::*;

use crate::coherence::world::node;
use crate::coherence::{Action, Config, Protocol, Violation};

const GRANULES: u64 = 2;
const FIRST: Incarnation = Incarnation(1);
const SECOND: Incarnation = Incarnation(2);

fn protocol(me: u8) -> Protocol {
    let (me, home) = (node(me), node(1));
    Protocol::new(Config {
        me,
        incarnation: FIRST,
        home,
        granules: GRANULES,
        quantum: 0,
        secret: 5,
    })
}

/// What comes of a message, and that a refused one has changed nothing.
fn receive(at: &mut Protocol, from: u8, message: Message) -> Result<Vec<Action>, Violation> {
    let (before, mut actions) = (at.clone(), Vec::new());
    let answer = at.receive(node(from), message, 0, &mut actions);
    if let Err(violation) = answer {
        assert_eq!((&*at, actions.len()), (&before, 0), "{violation}");
    }
    answer.map(|()| actions)
}

fn refused(at: &mut Protocol, from: u8, message: Message) -> Violation {
    receive(at, from, message).expect_err("it was taken")
}

#[test]
fn a_granule_beyond_the_end_is_refused() {
    let message = Message::Invalidate { granule: GRANULES };
    assert_eq!(
        refused(&mut protocol(2), 1, message),
        Violation::OutOfRange(message)
    );
    let message = Message::Request {
        granule: u64::MAX,
        access: Access::Read,
        ticket: 0,
        incarnation: FIRST,
    };
    assert_eq!(
        refused(&mut protocol(1), 2, message),
        Violation::OutOfRange(message)
    );
}

#[test]
fn only_the_home_gives_orders() {
    let forward = Message::Forward {
        granule: 0,
        to: node(3),
        access: Access::Read,
        ticket: 0,
        incarnation: FIRST,
    };
    for message in [
        forward,
        Message::Invalidate { granule: 0 },
        Message::Lost { granule: 0 },
        Message::Own { granule: 0 },
        Message::Chase {
            granule: 0,
            ticket: 0,
        },
        Message::Cancel { granule: 0 },
    ] {
        assert_eq!(
            refused(&mut protocol(2), 3, message),
            Violation::NotHome(message)
        );
        assert_eq!(
            refused(&mut protocol(1), 3, message),
            Violation::NotHome(message)
        );
    }
}

#[test]
fn a_node_that_is_not_the_home_answers_no_requests() {
    let message = Message::Request {
        granule: 0,
        access: Access::Read,
        ticket: 0,
        incarnation: FIRST,
    };
    assert_eq!(
        refused(&mut protocol(2), 3, message),
        Violation::NotForMe(message)
    );
}

#[test]
fn answers_that_nobody_asked_for_are_refused() {
    for message in [
        Message::Installed { granule: 0 },
        Message::Invalidated { granule: 0 },
        Message::Missing {
            granule: 0,
            ticket: 0,
        },
        Message::Void { granule: 0 },
        Message::Cancelled {
            granule: 0,
            held: true,
        },
        Message::Evict {
            granule: 0,
            content: Content::Data,
        },
        Message::Evict {
            granule: 0,
            content: Content::Keep,
        },
    ] {
        assert_eq!(
            refused(&mut protocol(1), 2, message),
            Violation::Unexpected(message)
        );
    }
}

#[test]
fn a_second_request_for_the_same_granule_is_refused_so_queues_stay_short() {
    let mut home = protocol(1);
    let ask = |ticket| Message::Request {
        granule: 0,
        access: Access::Write,
        ticket,
        incarnation: FIRST,
    };
    receive(&mut home, 2, ask(1)).unwrap();
    receive(&mut home, 3, ask(2)).unwrap();
    assert_eq!(refused(&mut home, 3, ask(3)), Violation::Unexpected(ask(3)));
}

#[test]
fn a_grant_that_guesses_the_ticket_wrong_changes_nothing() {
    let mut victim = protocol(2);
    victim.fault(0, Access::Write, 0, &mut Vec::new());
    let before = victim.clone();
    for content in [Content::Data, Content::Zero, Content::Keep] {
        let grant = Message::Grant {
            granule: 0,
            access: Access::Write,
            content,
            ticket: 1,
        };
        assert_eq!(receive(&mut victim, 3, grant), Ok(vec![]));
        assert_eq!(victim, before);
        assert_eq!(refused(&mut victim, 1, grant), Violation::Unexpected(grant));
    }
}

#[test]
fn a_home_that_lies_costs_no_third_node_its_life() {
    let mut victim = protocol(2);
    victim.fault(0, Access::Read, 0, &mut Vec::new());
    let ticket = victim.cache().line(0).pending.unwrap().ticket;
    let before = victim.clone();
    let grant = |granule, access, content| Message::Grant {
        granule,
        access,
        content,
        ticket,
    };
    // The home has told node 3 to send what this node did not ask for, or a granule
    // that the segment, as it was described here, does not have.
    for message in [
        grant(0, Access::Write, Content::Data),
        grant(0, Access::Read, Content::Keep),
        grant(0, Access::Read, Content::Zero),
        grant(GRANULES, Access::Read, Content::Data),
    ] {
        assert_eq!(receive(&mut victim, 3, message), Ok(vec![]));
        assert_eq!(victim, before);
    }
    for granule in [0, GRANULES] {
        refused(&mut victim, 1, grant(granule, Access::Write, Content::Data));
    }
}

#[test]
fn what_the_dead_say_counts_for_nothing_until_they_are_back() {
    let mut home = protocol(1);
    home.node_died(node(2), FIRST, 0, &mut Vec::new());
    home.node_joined(node(2), FIRST);
    let ask = |incarnation| Message::Request {
        granule: 0,
        access: Access::Read,
        ticket: 0,
        incarnation,
    };
    assert_eq!(receive(&mut home, 2, ask(SECOND)), Ok(vec![]));
    home.node_joined(node(2), SECOND);
    refused(&mut home, 2, ask(FIRST));
    assert_eq!(
        receive(&mut home, 2, ask(SECOND)).map(|actions| actions.len()),
        Ok(1)
    );
    home.node_died(node(2), FIRST, 0, &mut Vec::new());
    assert_eq!(
        home.directory().unwrap().entry(0).unwrap().readers().len(),
        1
    );
}

fn messages() -> impl Strategy<Value = Message> {
    let access = || prop_oneof![Just(Access::Read), Just(Access::Write)];
    let content = || {
        prop_oneof![
            Just(Content::Keep),
            Just(Content::Zero),
            Just(Content::Data)
        ]
    };
    let (granule, ticket) = (|| 0..=GRANULES, || 0..3_u64);
    let plain = (granule(), 0..6_usize).prop_map(|(granule, which)| {
        [
            Message::Installed { granule },
            Message::Invalidate { granule },
            Message::Invalidated { granule },
            Message::Lost { granule },
            Message::Own { granule },
            Message::Void { granule },
        ][which]
    });
    let cancels = (granule(), any::<Option<bool>>()).prop_map(|(granule, held)| match held {
        Some(held) => Message::Cancelled { granule, held },
        None => Message::Cancel { granule },
    });
    let chases =
        (granule(), ticket(), any::<bool>()).prop_map(|(granule, ticket, found)| match found {
            true => Message::Chase { granule, ticket },
            false => Message::Missing { granule, ticket },
        });
    prop_oneof![
        plain,
        cancels,
        chases,
        (granule(), access(), ticket()).prop_map(|(granule, access, ticket)| {
            Message::Request {
                granule,
                access,
                ticket,
                incarnation: FIRST,
            }
        }),
        (granule(), access(), content(), ticket()).prop_map(
            |(granule, access, content, ticket)| Message::Grant {
                granule,
                access,
                content,
                ticket
            }
        ),
        (granule(), 1..5_u8, access(), ticket()).prop_map(|(granule, to, access, ticket)| {
            Message::Forward {
                granule,
                to: node(to),
                access,
                ticket,
                incarnation: FIRST,
            }
        }),
        (granule(), content()).prop_map(|(granule, content)| Message::Evict { granule, content }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// With tickets that are guessed right, deaths and faults between them.
    #[test]
    fn nothing_that_peers_say_makes_a_node_panic_or_half_change(
        me in 1..3_u8,
        steps in prop::collection::vec((1..5_u8, messages(), 0..12_u8), 1..120),
    ) {
        let mut victim = protocol(me);
        for (from, message, what) in steps {
            let (granule, mut actions) = (message.granule(), Vec::new());
            let pending = victim.cache().line(granule).pending;
            let message = match (message, pending) {
                (Message::Grant { granule, content, .. }, Some(pending)) => Message::Grant {
                    granule,
                    content,
                    access: pending.access,
                    ticket: pending.ticket,
                },
                (other, _) => other,
            };
            match what {
                0 if from != 1 => victim.node_died(node(from), FIRST, 0, &mut actions),
                1 => victim.node_joined(node(from), SECOND),
                2 => victim.fault(granule, Access::Read, 0, &mut actions),
                3 => victim.fault(granule, Access::Write, 0, &mut actions),
                4 => victim.evict_all(0, &mut actions),
                _ => drop(receive(&mut victim, from, message)),
            }
        }
    }
}
