//! Protocols that are broken on purpose, by mangling what the machine wants
//! done: the checks must notice, or they prove nothing.

use super::schedule::{Plan, run};
use crate::coherence::world::checks::Failure;
use crate::coherence::world::sabotage::Sabotage;

/// The failures among many seeds.
fn failures_under(sabotage: Sabotage, deaths: bool) -> impl Iterator<Item = Failure> {
    let plan = move |seed| Plan {
        seed,
        nodes: 4,
        granules: 1,
        quantum: 0,
        steps: 400,
        deaths,
        home_dies: false,
        sabotage: Some(sabotage),
    };
    (0..2_000).filter_map(move |seed| run(plan(seed)).err())
}

fn failure_under(sabotage: Sabotage, deaths: bool) -> Failure {
    let first = failures_under(sabotage, deaths).next();
    first.expect("no schedule has noticed")
}

fn is_incoherent(failure: &Failure) -> bool {
    matches!(failure, Failure::NotAlone { .. } | Failure::Stale { .. })
}

#[test]
fn an_invalidation_answered_before_threads_are_stopped_is_noticed() {
    let failure = failure_under(Sabotage::AckBeforeDrop, false);
    assert!(is_incoherent(&failure), "{failure}");
}

#[test]
fn an_invalidation_that_is_not_awaited_is_noticed() {
    let failure = failure_under(Sabotage::InvalidationNotAwaited, false);
    assert!(is_incoherent(&failure), "{failure}");
}

#[test]
fn a_downgrade_that_leaves_the_writer_writing_is_noticed() {
    let failure = failure_under(Sabotage::DowngradeWithoutProtect, false);
    assert!(is_incoherent(&failure), "{failure}");
}

#[test]
fn a_forgotten_reader_is_noticed() {
    let failure = failure_under(Sabotage::ReaderForgotten, false);
    assert!(is_incoherent(&failure), "{failure}");
}

#[test]
fn a_grant_for_an_earlier_request_or_incarnation_is_noticed() {
    let failure = failure_under(Sabotage::TicketIgnored, true);
    assert!(!matches!(failure, Failure::Stuck { .. }), "{failure}");
}

#[test]
fn messages_of_one_link_out_of_order_are_noticed() {
    let failure = failure_under(Sabotage::LinkNotInOrder, false);
    assert!(!matches!(failure, Failure::Stuck { .. }), "{failure}");
}

#[test]
fn a_transaction_that_never_ends_is_noticed() {
    let mut failures = failures_under(Sabotage::InstalledDropped, false);
    assert!(failures.any(|failure| matches!(failure, Failure::Stuck { .. })));
}
