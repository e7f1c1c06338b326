//! One home a key: creation, waiting, release, and what death does to them.

use crate::rig::{CLUSTER, Rig, T, id, n};
use dipc_wire::referee::ToReferee;
use dipc_wire::{Kind, NodeId};

const KEY: i32 = 0x1234;

/// Three members on links 1, 2, 3, lives 101, 102, 103.
fn three() -> Rig {
    let mut rig = Rig::pair();
    rig.join(3, "c");
    rig.skip();
    rig
}

#[test]
fn a_free_key_is_absent_for_who_would_not_create_it() {
    let mut rig = three();
    rig.resolve(1, 7, KEY, false);
    assert_eq!(rig.heard(), ["1: Absent 7"]);
}

#[test]
fn of_several_creators_one_creates_and_the_others_find() {
    let mut rig = three();
    rig.resolve(2, 7, KEY, true);
    rig.resolve(1, 7, KEY, true);
    rig.resolve(3, 8, KEY, false);
    assert_eq!(rig.heard(), ["2: Create 7"]);
    rig.created(2, 7, id(2, 5));
    assert_eq!(rig.heard(), ["1: Found 7 n2#5", "3: Found 8 n2#5"]);
    rig.resolve(2, 8, KEY, true);
    assert_eq!(
        rig.heard(),
        ["2: Found 8 n2#5"],
        "its home asks like everybody"
    );
}

#[test]
fn a_key_of_one_kind_is_a_stranger_to_the_others() {
    let mut rig = three();
    for (tag, kind) in Kind::ALL.into_iter().enumerate() {
        let tag = tag as u64;
        rig.say(
            1,
            ToReferee::Resolve {
                tag,
                kind,
                key: KEY,
                create: Some(0),
                not: None,
            },
        );
    }
    assert_eq!(rig.heard(), ["1: Create 0", "1: Create 1", "1: Create 2"]);
}

#[test]
fn after_an_abandoned_creation_the_line_goes_on_in_order() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, false);
    rig.resolve(3, 3, KEY, true);
    rig.resolve(2, 4, KEY, false);
    rig.skip();
    rig.say(1, ToReferee::Abandoned { tag: 1 });
    assert_eq!(rig.heard(), ["2: Absent 2", "3: Create 3"]);
    rig.say(3, ToReferee::Abandoned { tag: 3 });
    assert_eq!(rig.heard(), ["2: Absent 4"]);
}

#[test]
fn a_creator_that_dies_hands_the_key_to_the_next() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.resolve(3, 3, KEY, true);
    rig.close(1);
    rig.skip();
    rig.wait(T);
    assert_eq!(
        rig.heard(),
        ["2: Gone 1 life 101", "3: Gone 1 life 101", "2: Create 2"]
    );
}

#[test]
fn a_dead_home_frees_its_keys() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 0));
    rig.say(1, ToReferee::Leave);
    rig.skip();
    rig.resolve(2, 2, KEY, false);
    assert_eq!(rig.heard(), ["2: Absent 2"]);
}

#[test]
fn a_dead_asker_is_out_of_the_line() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.resolve(3, 3, KEY, true);
    rig.say(2, ToReferee::Leave);
    rig.skip();
    rig.say(1, ToReferee::Abandoned { tag: 1 });
    assert_eq!(rig.heard(), ["3: Create 3"]);
}

#[test]
fn who_says_that_an_object_is_gone_waits_for_its_release() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 0));
    rig.skip();
    rig.resolve_not(2, 2, KEY, true, id(1, 0));
    rig.resolve_not(3, 3, KEY, false, id(1, 0));
    rig.resolve(3, 4, KEY, false);
    assert_eq!(
        rig.heard(),
        ["3: Found 4 n1#0"],
        "those who do not say so are not held up"
    );
    rig.released(1, KEY, id(1, 0));
    assert_eq!(rig.heard(), ["2: Create 2"]);
    rig.created(2, 2, id(2, 0));
    assert_eq!(rig.heard(), ["3: Found 3 n2#0"]);
}

#[test]
fn who_says_that_an_object_is_gone_goes_on_when_its_home_dies() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 0));
    rig.resolve_not(2, 2, KEY, true, id(1, 0));
    rig.skip();
    rig.say(1, ToReferee::Leave);
    assert!(rig.heard().contains(&"2: Create 2".to_owned()));
}

#[test]
fn who_says_that_an_earlier_object_is_gone_finds_the_present_one() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 1));
    rig.skip();
    rig.resolve_not(2, 2, KEY, true, id(1, 0));
    assert_eq!(rig.heard(), ["2: Found 2 n1#1"]);
}

#[test]
fn a_release_of_another_object_or_by_another_node_is_ignored() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 1));
    rig.skip();
    rig.released(1, KEY, id(1, 0));
    rig.released(2, KEY, id(1, 1));
    rig.released(1, KEY + 1, id(1, 1));
    rig.resolve(2, 2, KEY, true);
    assert_eq!(rig.heard(), ["2: Found 2 n1#1"]);
}

#[test]
fn answers_to_grants_that_were_not_given_are_ignored() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.skip();
    rig.created(2, 2, id(2, 0));
    rig.created(1, 9, id(1, 0));
    rig.say(2, ToReferee::Abandoned { tag: 1 });
    assert_eq!(rig.heard(), [""; 0]);
    rig.created(1, 1, id(1, 0));
    rig.created(1, 1, id(1, 1));
    assert_eq!(rig.heard(), ["2: Found 2 n1#0"]);
}

#[test]
fn a_node_that_creates_in_anothers_name_is_fenced() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.skip();
    rig.created(1, 1, id(2, 0));
    assert_eq!(
        rig.heard(),
        [
            "1: Fenced",
            "1: closed",
            "2: Gone 1 life 101",
            "3: Gone 1 life 101",
            "2: Create 2"
        ]
    );
}

#[test]
fn a_tag_that_is_in_use_fences_its_sender() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(1, 1, KEY + 1, true);
    assert!(rig.heard().contains(&"1: Fenced".to_owned()));
}

#[test]
fn ipc_private_is_no_key() {
    let mut rig = three();
    rig.resolve(1, 1, 0, false);
    rig.owns(1, 0, id(1, 0));
    assert_eq!(rig.heard(), [""; 0]);
}

#[test]
fn a_creation_that_outlived_its_link_is_found() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.close(1);
    rig.rejoin(4, "a", CLUSTER, 1, 101);
    rig.skip();
    rig.owns(4, KEY, id(1, 0));
    assert_eq!(rig.heard(), ["2: Found 2 n1#0"]);
}

#[test]
fn nobody_creates_a_key_while_its_creator_may_come_back_with_it() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.close(1);
    rig.skip();
    rig.resolve(2, 2, KEY, true);
    assert_eq!(rig.heard(), [""; 0]);
    rig.wait(T);
    assert_eq!(rig.heard().last().unwrap(), "2: Create 2");
}

#[test]
fn a_grant_that_was_not_used_before_its_link_was_lost_is_void_once_its_node_settled() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.resolve(2, 2, KEY, true);
    rig.close(1);
    rig.rejoin(4, "a", CLUSTER, 1, 101);
    rig.resolve(4, 1, KEY, true);
    rig.knows(4, 2, 102);
    rig.knows(4, 3, 103);
    rig.skip();
    rig.say(4, ToReferee::Settled);
    assert_eq!(rig.heard(), ["2: Create 2"]);
    rig.created(4, 1, id(1, 0));
    assert_eq!(
        rig.heard(),
        [""; 0],
        "its old grant is void, and its new question waits"
    );
    rig.say(2, ToReferee::Abandoned { tag: 2 });
    assert_eq!(rig.heard(), ["4: Create 1"]);
}

#[test]
fn a_key_that_was_released_while_the_link_was_lost_is_free_once_its_node_settled() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.created(1, 1, id(1, 0));
    rig.resolve(1, 2, KEY + 1, true);
    rig.created(1, 2, id(1, 1));
    rig.resolve_not(2, 2, KEY, true, id(1, 0));
    rig.close(1);
    rig.rejoin(4, "a", CLUSTER, 1, 101);
    rig.owns(4, KEY + 1, id(1, 1));
    rig.skip();
    rig.say(4, ToReferee::Settled);
    assert!(rig.heard().contains(&"2: Create 2".to_owned()));
    rig.resolve(3, 3, KEY + 1, false);
    assert_eq!(rig.heard(), ["3: Found 3 n1#1"]);
}

#[test]
fn claiming_a_key_that_another_creates_costs_the_claimant_its_life() {
    let mut rig = three();
    rig.resolve(1, 1, KEY, true);
    rig.skip();
    rig.owns(2, KEY, id(2, 0));
    assert_eq!(rig.heard()[..2], ["2: Fenced", "2: closed"]);
    rig.created(1, 1, id(1, 0));
    rig.resolve(3, 3, KEY, false);
    assert_eq!(rig.heard().last().unwrap(), "3: Found 3 n1#0");
}

#[test]
fn claiming_an_object_of_another_home_has_no_effect() {
    let mut rig = three();
    rig.owns(2, KEY, id(1, 0));
    rig.resolve(3, 3, KEY, false);
    assert_eq!(rig.heard(), ["3: Absent 3"]);
}

#[test]
fn the_first_number_is_that_of_a_cluster_of_one() {
    assert_eq!(n(1), NodeId::SOLO);
    let mut rig = Rig::new_cluster();
    rig.join(1, "a");
    assert_eq!(rig.heard(), ["1: Welcome 1 life 101"]);
}
