//! Protocols that are broken on purpose: the model must notice each, or it
//! proves nothing.

use super::{Bounds, Left, counterexample, say};
use crate::coherence::world::sabotage::Sabotage;

const SAFE: [&str; 2] = [
    "one writer or many readers",
    "a read returns the last completed write",
];
const LOST: [&str; 1] = ["only what was truly lost is poisoned"];
const ENDS: [&str; 1] = ["every request ends"];

/// One granule of three nodes that live.
const CALM: Left = Left {
    wishes: 3,
    kills: 0,
    returns: 0,
    detaches: 0,
};

fn is_caught(sabotage: Sabotage, left: Left, quantum: bool, as_one_of: &[&str]) {
    let found = counterexample::shortest(Bounds {
        nodes: 3,
        granules: 1,
        quantum,
        left,
        sabotage: Some(sabotage),
    });
    let found = found.unwrap_or_else(|| panic!("{sabotage:?} is not noticed"));
    say(&format!(
        "broken, {sabotage:?}: `{}` fails after {} steps, {} states",
        found.property,
        found.steps.len(),
        found.states,
    ));
    assert!(as_one_of.contains(&found.property), "{found}");
}

#[test]
fn an_invalidation_answered_before_threads_are_stopped_is_caught() {
    is_caught(Sabotage::AckBeforeDrop, CALM, false, &SAFE);
}

#[test]
fn an_invalidation_that_is_not_awaited_is_caught() {
    is_caught(Sabotage::InvalidationNotAwaited, CALM, false, &SAFE);
}

#[test]
fn a_downgrade_that_leaves_the_writer_writing_is_caught() {
    is_caught(Sabotage::DowngradeWithoutProtect, CALM, false, &SAFE);
}

#[test]
fn a_forgotten_reader_is_caught() {
    is_caught(Sabotage::ReaderForgotten, CALM, false, &SAFE);
}

#[test]
fn an_installation_that_is_not_awaited_is_caught() {
    let at_last = [SAFE[0], SAFE[1], HONEST];
    is_caught(Sabotage::InstalledNotAwaited, CALM, false, &at_last);
}

#[test]
fn an_installation_that_is_never_said_is_caught() {
    is_caught(Sabotage::InstalledDropped, CALM, false, &ENDS);
}

#[test]
fn an_order_that_is_lost_in_the_quantum_is_caught() {
    is_caught(Sabotage::QuantumOrderLost, CALM, true, &ENDS);
}

#[test]
fn messages_of_one_link_out_of_order_are_caught() {
    let left = Left { wishes: 4, ..CALM };
    is_caught(
        Sabotage::LinkNotInOrder,
        left,
        false,
        &[SAFE[0], SAFE[1], HONEST],
    );
}

#[test]
fn a_grant_to_a_stale_incarnation_is_caught() {
    let left = Left {
        kills: 1,
        returns: 1,
        ..CALM
    };
    is_caught(Sabotage::IncarnationIgnored, left, false, &LOST);
}

#[test]
fn a_grant_for_an_earlier_request_is_caught() {
    let left = Left {
        wishes: 4,
        kills: 1,
        returns: 1,
        ..CALM
    };
    is_caught(
        Sabotage::TicketIgnored,
        left,
        false,
        &[SAFE[0], SAFE[1], LOST[0], HONEST, FITS],
    );
}

#[test]
fn letters_of_a_dead_incarnation_that_count_are_caught() {
    let left = Left {
        kills: 1,
        returns: 1,
        ..CALM
    };
    is_caught(
        Sabotage::LettersOfTheDeadHeard,
        left,
        false,
        &[
            SAFE[0],
            SAFE[1],
            LOST[0],
            HONEST,
            FITS,
            "directory, caches and memory agree",
        ],
    );
}

#[test]
fn a_cancel_that_is_not_answered_is_caught() {
    let left = Left { kills: 1, ..CALM };
    is_caught(Sabotage::CancelNotAnswered, left, true, &ENDS);
}

#[test]
fn a_chase_that_is_never_said_is_caught() {
    let left = Left { kills: 1, ..CALM };
    is_caught(Sabotage::ChaseNotSaid, left, true, &ENDS);
}

#[test]
fn an_eviction_that_drops_the_owners_bytes_is_caught() {
    let left = Left {
        detaches: 1,
        ..CALM
    };
    is_caught(Sabotage::EvictionWithoutBytes, left, false, &LOST);
}

#[test]
fn an_owner_that_has_evicted_and_does_not_say_so_is_caught() {
    let left = Left {
        detaches: 1,
        ..CALM
    };
    is_caught(Sabotage::VoidNotSaid, left, false, &ENDS);
}

#[test]
fn a_reader_that_is_not_told_that_its_copy_counts_is_caught() {
    let left = Left { kills: 1, ..CALM };
    is_caught(
        Sabotage::OwnNotSaid,
        left,
        false,
        &["directory, caches and memory agree", ENDS[0]],
    );
}

const HONEST: &str = "no honest node is accused";
const FITS: &str = "every action fits the memory";
