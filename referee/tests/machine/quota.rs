//! The cluster's limits: who is told that there is no room, and when.

use dipc_wire::referee::ToReferee;
use dipc_wire::{Kind, Limits};

use crate::rig::{CLUSTER, Rig, T, id, newcomer};

const KEY: i32 = 0x1234;

/// Two sets, of five semaphores together.
const SMALL: Limits = Limits {
    semmni: 2,
    semmns: 5,
    ..Limits::LINUX
};

/// Node 1 has made the private set 1 of this weight.
fn with_one(weight: u64) -> Rig {
    let mut rig = Rig::pair_with(SMALL);
    rig.private(1, 1, weight);
    rig.created(1, 1, id(1, 1));
    rig.skip();
    rig
}

#[test]
fn private_objects_are_granted_until_one_is_too_many() {
    let mut rig = with_one(1);
    rig.private(2, 7, 1);
    assert_eq!(rig.heard(), ["2: Create 7"]);
    rig.private(1, 2, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Flush 1"]);
    rig.flushed(2, 1);
    assert!(rig.heard().is_empty(), "node 1 may have made room");
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Full 2"]);
    assert_eq!(rig.sets(), (2, 2));
}

#[test]
fn weight_counts_as_numbers_do_and_a_lighter_one_still_fits() {
    let mut rig = with_one(4);
    rig.private(2, 7, 2);
    rig.private(2, 8, 1);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Full 7", "2: Create 8"]);
    assert_eq!(rig.sets(), (2, 5));
}

#[test]
fn a_weight_that_would_overflow_is_too_much() {
    let mut rig = with_one(1);
    rig.private(2, 7, u64::MAX);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Full 7"]);
}

#[test]
fn nobody_is_refused_for_want_of_what_was_freed_before_it_asked() {
    let mut rig = with_one(5);
    rig.private(2, 7, 5);
    assert_eq!(rig.heard(), ["1: Flush 1"]);
    // Said before the question, and read after it.
    rig.freed(1, id(1, 1));
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["2: Create 7"]);
}

#[test]
fn a_question_that_comes_during_a_round_has_the_next_one() {
    let mut rig = with_one(5);
    rig.private(2, 7, 5);
    rig.resolve(2, 8, KEY, true);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Full 7", "1: Flush 2"]);
    rig.flushed(1, 1);
    assert!(rig.heard().is_empty(), "that was the answer to the first");
    rig.flushed(1, 2);
    assert_eq!(rig.heard(), ["2: Full 8"]);
}

#[test]
fn who_dies_or_loses_its_link_in_a_round_is_not_waited_for() {
    for death in [true, false] {
        let mut rig = with_one(5);
        rig.private(2, 7, 5);
        rig.skip();
        if death {
            rig.silent(1);
            assert!(
                rig.heard().contains(&"2: Create 7".into()),
                "its set is gone"
            );
        } else {
            rig.close(1);
            assert_eq!(rig.heard(), ["2: Full 7"]);
            rig.wait(T);
            rig.private(2, 8, 5);
            assert!(
                rig.heard().contains(&"2: Create 8".into()),
                "its set is gone"
            );
        }
    }
}

#[test]
fn a_key_that_somebody_has_is_found_however_full_it_is() {
    let mut rig = Rig::pair_with(SMALL);
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 1));
    rig.private(1, 2, 4);
    rig.created(1, 2, id(1, 2));
    rig.skip();
    rig.resolve(2, 7, KEY, true);
    assert_eq!(rig.heard(), ["2: Found 7 n1#1"]);
    rig.resolve(2, 8, KEY + 1, false);
    assert_eq!(rig.heard(), ["2: Absent 8"]);
    rig.resolve(2, 9, KEY + 1, true);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Full 9"]);
    // Freeing the key alone, as of a segment that is still attached, is no room.
    rig.released(1, KEY, id(1, 1));
    rig.resolve(2, 10, KEY, true);
    rig.flushed(1, 2);
    assert_eq!(rig.heard(), ["1: Flush 2", "2: Full 10"]);
    rig.freed(1, id(1, 1));
    rig.resolve(2, 11, KEY, true);
    assert_eq!(rig.heard(), ["2: Create 11"]);
}

#[test]
fn after_a_refusal_the_line_of_the_key_goes_on() {
    let mut rig = with_one(4);
    rig.resolve_weighing(2, 7, KEY, 2);
    rig.resolve(2, 8, KEY, false);
    rig.resolve(1, 9, KEY, true);
    rig.flushed(1, 1);
    assert_eq!(
        rig.heard(),
        ["1: Flush 1", "2: Full 7", "2: Absent 8", "1: Create 9"]
    );
}

#[test]
fn who_waits_behind_one_that_gives_up_goes_on() {
    let mut rig = with_one(4);
    rig.join(3, "c");
    rig.skip();
    rig.resolve_weighing(3, 7, KEY, 2);
    rig.resolve(2, 8, KEY, false);
    rig.close(3);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "2: Absent 8"]);
}

#[test]
fn what_was_granted_and_not_made_counts_no_more() {
    let mut rig = Rig::pair_with(SMALL);
    rig.private(1, 1, 3);
    rig.resolve_weighing(2, 2, KEY, 2);
    assert_eq!(rig.sets(), (2, 5));
    rig.say(1, ToReferee::Abandoned { tag: 1 });
    assert_eq!(rig.sets(), (1, 2));
    rig.say(2, ToReferee::Abandoned { tag: 2 });
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn an_object_is_freed_once_and_by_its_home_only() {
    let mut rig = with_one(5);
    rig.freed(2, id(1, 1));
    assert_eq!(rig.sets(), (1, 5));
    rig.freed(1, id(1, 1));
    rig.freed(1, id(1, 1));
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn a_grant_whose_link_is_lost_counts_until_its_node_has_said_what_it_has() {
    let mut rig = with_one(2);
    rig.private(1, 2, 2);
    rig.close(1);
    assert_eq!(rig.sets(), (2, 4));
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    rig.holds(3, id(1, 1), 2);
    assert_eq!(rig.sets(), (2, 4));
    rig.say(3, ToReferee::Settled);
    assert_eq!(rig.sets(), (1, 2), "the grant came to nothing");
}

#[test]
fn what_was_freed_while_the_link_was_lost_counts_no_more_after_the_return() {
    let mut rig = with_one(2);
    rig.close(1);
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    rig.say(3, ToReferee::Settled);
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn a_node_that_dies_takes_its_share_with_it() {
    let mut rig = with_one(2);
    rig.private(1, 2, 2);
    rig.silent(1);
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn a_new_life_has_nothing_of_the_old_one() {
    let mut rig = with_one(2);
    rig.close(1);
    rig.join_as(3, newcomer("a"));
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn a_restarted_referee_learns_what_there_is_and_refuses_only_what_comes_new() {
    let lower = Limits { semmni: 1, ..SMALL };
    let mut rig = Rig::restarted_with(lower);
    rig.rejoin(1, "a", CLUSTER, 1, 101);
    for serial in 1..=3 {
        rig.holds(1, id(1, serial), 1);
    }
    rig.say(1, ToReferee::Settled);
    assert_eq!(rig.sets(), (3, 3), "what exists stays");
    rig.skip();
    for serial in 1..=2 {
        rig.freed(1, id(1, serial));
    }
    rig.private(1, 9, 1);
    rig.flushed(1, 1);
    assert_eq!(rig.heard(), ["1: Flush 1", "1: Full 9"]);
    rig.freed(1, id(1, 3));
    rig.private(1, 10, 1);
    assert_eq!(rig.heard(), ["1: Create 10"]);
}

#[test]
fn until_all_have_said_what_they_have_no_room_is_given() {
    let mut rig = Rig::restarted_with(SMALL);
    rig.rejoin(1, "a", CLUSTER, 1, 101);
    rig.knows(1, 2, 102);
    rig.say(1, ToReferee::Settled);
    rig.private(1, 1, 5);
    assert!(!rig.heard().iter().any(|line| line.contains("Create")));
    rig.rejoin(2, "b", CLUSTER, 2, 102);
    rig.holds(2, id(2, 1), 1);
    rig.skip();
    rig.say(2, ToReferee::Settled);
    assert!(rig.heard().contains(&"2: Flush 1".into()));
    rig.flushed(2, 1);
    assert_eq!(rig.heard(), ["1: Full 1"]);
}

#[test]
fn what_another_home_has_or_what_comes_after_settling_is_no_claim() {
    let mut rig = Rig::pair_with(SMALL);
    rig.holds(1, id(1, 1), 1);
    rig.close(1);
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    rig.holds(3, id(2, 1), 1);
    assert_eq!(rig.sets(), (0, 0));
}

#[test]
fn each_kind_has_its_own_count() {
    let mut rig = with_one(5);
    for (tag, kind) in [(1, Kind::Msg), (2, Kind::Shm)] {
        rig.say(
            2,
            ToReferee::Resolve {
                tag,
                kind,
                key: KEY,
                create: Some(0),
                not: None,
            },
        );
    }
    assert_eq!(rig.heard(), ["2: Create 1", "2: Create 2"]);
}
