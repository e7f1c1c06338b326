//! One seed for each broken variant, which finds it.
//!
//! The seeds are the lowest. When the workload changes they do too:
//!
//! ```text
//! cargo test -p dipcd --lib simulator::found -- --ignored --nocapture
//! ```
//!
//! prints them anew.

use super::campaign::run;
use super::variants::Variant;

/// The seed finds the variant, says so in these words, and finds nothing wrong
/// with a cluster that is as it should be.
fn is_found(variant: Variant, seed: u64, words: &str) {
    let what = run(seed, Some(variant)).expect_err("nothing was found");
    assert!(what.contains(words), "{what}");
    if let Err(what) = run(seed, None) {
        panic!("seed {seed} fails without the variant: {what}");
    }
}

#[test]
fn a_grant_that_is_taken_twice_is_found() {
    is_found(Variant::GrantTakenTwice, 0, "accused");
}

#[test]
fn a_wrong_order_of_waking_is_found() {
    is_found(
        Variant::LastComeFirstServed,
        5,
        "before one like it that came earlier",
    );
}

#[test]
fn a_forgotten_undo_of_a_dead_node_is_found() {
    is_found(Variant::UndoOfDeadNodeForgotten, 7, "no order of its calls");
}

#[test]
fn a_message_whose_senders_life_is_over_is_found() {
    is_found(Variant::HeardAfterDeath, 276, "attachments, and counts");
}

#[test]
fn an_invalidation_that_is_not_awaited_is_found() {
    is_found(Variant::InvalidationNotAwaited, 0, "and others have it");
}

#[test]
fn a_key_that_is_given_to_two_homes_is_found() {
    is_found(Variant::ClaimOutlivesReferee, 458, "has two homes");
}

#[test]
fn a_link_that_is_not_in_order_is_found() {
    is_found(Variant::LinkNotInOrder, 1, "accused");
}

#[test]
fn a_node_that_goes_on_though_it_is_cut_off_is_found() {
    is_found(Variant::CutOffNotFenced, 69, "and others have it");
}

#[test]
fn a_message_that_dies_with_its_receiver_is_found() {
    is_found(Variant::TokenDiesWithProcess, 4, "no order of its calls");
}

#[test]
fn a_message_that_is_given_twice_is_found() {
    is_found(Variant::MessageTakenBackTwice, 0, "no order of its calls");
}

#[test]
fn a_broken_link_that_no_referee_hears_of_is_found() {
    is_found(Variant::LossNotReported, 27, "both live and do not talk");
}

#[test]
fn a_newcomer_that_ends_without_a_word_is_found() {
    is_found(Variant::NewcomerGoesWithoutWord, 17, "never comes to rest");
}

#[test]
fn a_life_that_is_let_in_before_the_last_one_is_gone_is_found() {
    is_found(Variant::NextLifeLetInEarly, 28, "waits for ever");
}

#[test]
fn a_segment_that_outlives_its_home_is_found() {
    is_found(Variant::OrphanKept, 26, "keeps memory");
}

/// Where to look when a change of the workload has made the seeds useless.
#[test]
#[ignore = "looks for seeds; the tests above try those that were found"]
fn seeds_that_find_the_variants() {
    for variant in Variant::ALL {
        let found = (0..3_000).find_map(|seed| Some((seed, run(seed, Some(variant)).err()?)));
        match found {
            Some((seed, what)) => println!(
                "{variant:?}: seed {seed}, {}",
                what.lines().next().unwrap_or("")
            ),
            None => println!("{variant:?}: not found by 3000 seeds"),
        }
    }
}
