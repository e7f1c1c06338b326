//! A restarted referee: what it must wait for, and what it learns.

use crate::rig::{Rig, T, id};
use dipc_wire::referee::ToReferee;

const KEY: i32 = 0x1234;
const OLD: u64 = 0x01d;

#[test]
fn newcomers_wait_until_the_members_of_before_had_their_time() {
    let mut rig = Rig::restarted();
    rig.join(1, "a");
    assert_eq!(rig.heard(), [""; 0]);
    rig.wait(T);
    assert_eq!(rig.heard(), ["1: Welcome 1 life 101"]);
    rig.resolve(1, 1, KEY, true);
    assert_eq!(rig.heard(), ["1: Create 1"]);
}

#[test]
fn a_newcomer_that_goes_while_it_waits_is_forgotten() {
    let mut rig = Rig::restarted();
    rig.join(1, "a");
    rig.close(1);
    rig.wait(T);
    assert_eq!(rig.heard(), [""; 0]);
}

#[test]
fn the_first_member_that_comes_back_names_the_cluster() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    assert_eq!(rig.heard(), ["1: Welcome 1 life 50"]);
    assert_eq!(rig.said.welcomes[0].1.cluster, OLD);
    rig.rejoin(2, "b", OLD + 1, 2, 51);
    assert!(rig.heard()[0].contains("cluster"));
}

#[test]
fn questions_are_answered_when_all_who_were_named_have_settled() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.resolve(1, 1, KEY, true);
    rig.say(1, ToReferee::Settled);
    rig.rejoin(2, "b", OLD, 2, 60);
    rig.knows(2, 1, 50);
    rig.owns(2, KEY, id(2, 9));
    assert_eq!(
        rig.heard(),
        ["1: Welcome 1 life 50", "2: Welcome 2 life 60"]
    );
    rig.say(2, ToReferee::Settled);
    assert_eq!(rig.heard(), ["1: Found 1 n2#9"]);
    assert_eq!(rig.naming.deadline(), None);
}

#[test]
fn who_was_named_and_does_not_come_back_is_gone_when_the_time_is_over() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.say(1, ToReferee::Settled);
    rig.resolve(1, 1, KEY, true);
    rig.join(3, "c");
    rig.skip();
    rig.wait(T);
    assert_eq!(
        rig.heard(),
        [
            "1: Gone 2 life 60",
            "1: Create 1",
            "3: Welcome 3 life 101",
            "3: Member 1 life 50 a, you connect",
            "1: Member 3 life 101 c, it connects",
        ]
    );
    rig.rejoin(4, "b", OLD, 2, 60);
    assert!(rig.heard()[0].contains("declared dead in life 60"));
}

#[test]
fn who_was_named_and_is_reported_lost_is_not_waited_for() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.say(1, ToReferee::Settled);
    rig.skip();
    rig.lost(1, 2, 60);
    assert_eq!(rig.heard(), ["1: Gone 2 life 60"]);
    rig.resolve(1, 1, KEY, true);
    assert_eq!(rig.heard(), ["1: Create 1"]);
}

#[test]
fn who_was_reported_lost_before_it_came_back_is_refused() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.lost(1, 2, 60);
    rig.skip();
    rig.rejoin(2, "b", OLD, 2, 60);
    assert!(rig.heard()[0].contains("declared dead in life 60"));
}

#[test]
fn members_that_do_not_know_each_other_are_introduced_once() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.say(1, ToReferee::Settled);
    // That ended the recovery: one that nobody named is too late.
    rig.rejoin(2, "b", OLD, 2, 60);
    assert!(rig.heard()[1].contains("declared dead"));

    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.rejoin(2, "b", OLD, 2, 60);
    rig.skip();
    rig.say(1, ToReferee::Settled);
    assert_eq!(rig.heard(), ["1: Member 2 life 60 b, it connects"]);
    rig.say(2, ToReferee::Settled);
    assert_eq!(rig.heard(), ["2: Member 1 life 50 a, you connect"]);
}

#[test]
fn of_two_homes_of_a_key_the_first_to_say_so_stays() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.owns(1, KEY, id(1, 0));
    rig.say(1, ToReferee::Settled);
    rig.rejoin(2, "b", OLD, 2, 60);
    rig.knows(2, 1, 50);
    rig.skip();
    rig.owns(2, KEY, id(2, 7));
    assert_eq!(rig.heard(), ["2: Fenced", "2: closed", "1: Gone 2 life 60"]);
    let event = rig
        .said
        .events
        .iter()
        .find(|event| event.contains("Conflict"))
        .unwrap();
    assert!(event.contains("n2#7") && event.contains("n1#0"), "{event}");
    rig.resolve(1, 1, KEY, false);
    assert_eq!(rig.heard(), ["1: Found 1 n1#0"]);
}

#[test]
fn lives_rise_above_every_one_that_it_was_told_of() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 5000);
    rig.knows(1, 2, 6000);
    rig.say(1, ToReferee::Settled);
    rig.join(3, "b");
    rig.wait(T);
    rig.skip();
    rig.join(4, "c");
    assert_eq!(rig.heard()[0], "4: Welcome 4 life 6002");
}

#[test]
fn a_life_that_nobody_gives_leaves_lives_for_others() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "evil", OLD, 1, u64::MAX);
    assert!(rig.heard()[0].contains("no referee gave life"));
    rig.rejoin(2, "a", OLD, 2, 50);
    rig.knows(2, 3, u64::MAX);
    rig.lost(2, 4, u64::MAX);
    rig.say(2, ToReferee::Settled);
    rig.skip();
    rig.join(3, "b");
    assert_eq!(rig.heard()[0], "3: Welcome 1 life 101");
}

#[test]
fn a_life_that_a_later_one_has_replaced_is_fenced() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "b", OLD, 2, 60);
    rig.rejoin(2, "a", OLD, 1, 50);
    rig.skip();
    rig.knows(2, 2, 70);
    assert_eq!(rig.heard(), ["1: Fenced", "1: closed", "2: Gone 2 life 60"]);
    rig.rejoin(3, "b", OLD, 2, 70);
    assert_eq!(rig.heard(), ["3: Welcome 2 life 70"]);
}

#[test]
fn an_awaited_life_that_a_later_one_has_replaced_is_gone() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.say(1, ToReferee::Settled);
    rig.skip();
    rig.rejoin(2, "b", OLD, 2, 70);
    assert_eq!(
        rig.heard(),
        [
            "1: Gone 2 life 60",
            "2: Welcome 2 life 70",
            "1: Member 2 life 70 b, it connects"
        ]
    );
}

#[test]
fn a_member_that_never_settles_delays_the_others_for_a_time_out_at_most() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.wait(T / 2);
    rig.rejoin(2, "b", OLD, 2, 60);
    rig.resolve(1, 1, KEY, false);
    rig.say(1, ToReferee::Settled);
    rig.wait(T / 4);
    rig.rejoin(3, "b", OLD, 2, 60);
    rig.skip();
    rig.wait(T / 4);
    assert_eq!(rig.heard(), [""; 0], "it still has time, others have not");
    rig.rejoin(4, "c", OLD, 3, 70);
    assert!(rig.heard()[0].contains("declared dead in life 70"));
    rig.wait(T / 2);
    assert_eq!(
        rig.heard(),
        ["3: Fenced", "3: closed", "1: Gone 2 life 60", "1: Absent 1"]
    );
}

#[test]
fn a_member_that_settles_late_keeps_its_keys() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.wait(T / 2);
    rig.rejoin(2, "b", OLD, 2, 60);
    rig.resolve(1, 1, KEY, true);
    rig.say(1, ToReferee::Settled);
    rig.wait(T / 2);
    rig.skip();
    rig.owns(2, KEY, id(2, 0));
    rig.knows(2, 1, 50);
    rig.say(2, ToReferee::Settled);
    assert_eq!(rig.heard(), ["1: Found 1 n2#0"]);
}

#[test]
fn a_number_that_was_only_heard_of_is_given_to_a_newcomer_last() {
    let mut rig = Rig::restarted();
    rig.rejoin(1, "a", OLD, 1, 50);
    rig.knows(1, 2, 60);
    rig.say(1, ToReferee::Settled);
    rig.wait(T);
    for i in 3..=255 {
        rig.join(i, &format!("node{i}"));
    }
    rig.skip();
    rig.join(500, "last");
    assert!(rig.heard()[0].starts_with("500: Welcome 2 life "));
}
