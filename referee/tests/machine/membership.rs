//! Who is a member: joins, refusals, deaths.

use crate::rig::{CLUSTER, Rig, T, id, newcomer};
use dipc_referee::output::LinkId;
use dipc_wire::frame::Encoded;
use dipc_wire::referee::{Answer, Join, ToReferee};

#[test]
fn a_joiner_hears_of_all_members_and_connects_to_them() {
    let mut rig = Rig::new_cluster();
    rig.join(1, "a");
    rig.join(2, "b");
    rig.skip();
    rig.join(3, "c");
    assert_eq!(
        rig.heard(),
        [
            "3: Welcome 3 life 103",
            "3: Member 1 life 101 a, you connect",
            "1: Member 3 life 103 c, it connects",
            "3: Member 2 life 102 b, you connect",
            "2: Member 3 life 103 c, it connects",
        ]
    );
}

#[test]
fn who_has_settled_is_told_when_it_knows_all_members() {
    let mut rig = Rig::new_cluster();
    rig.join(1, "a");
    rig.say(1, ToReferee::Settled);
    assert_eq!(rig.said.complete, [LinkId(1)]);
}

#[test]
fn a_name_keeps_its_number_and_gets_a_higher_life() {
    let mut rig = Rig::pair();
    rig.say(1, ToReferee::Leave);
    rig.join(3, "c");
    rig.skip();
    rig.join(4, "a");
    assert_eq!(rig.heard()[0], "4: Welcome 1 life 104");
}

#[test]
fn a_living_members_name_is_refused_and_the_member_lives_on() {
    let mut rig = Rig::pair();
    rig.join(3, "a");
    let heard = rig.heard();
    assert!(heard[0].starts_with("3: Refused false \"a\" is the name of node 1"));
    assert!(heard[1..].iter().all(|line| line.starts_with("3: ")));
}

#[test]
fn a_new_life_under_the_name_of_a_lost_link_ends_the_old_one_first() {
    let mut rig = Rig::pair();
    rig.close(1);
    rig.join(3, "a");
    assert_eq!(
        rig.heard(),
        [
            "2: Gone 1 life 101",
            "3: Welcome 1 life 103",
            "3: Member 2 life 102 b, you connect",
            "2: Member 1 life 103 a, it connects",
        ]
    );
}

#[test]
fn what_is_no_join_is_refused_with_the_reason() {
    let long = "x".repeat(65);
    let cases = [
        (
            Join {
                magic: 1,
                ..newcomer("c")
            },
            "no join of a node",
        ),
        (
            Join {
                versions: (3, 9),
                ..newcomer("c")
            },
            "speaks versions 2 to 2",
        ),
        (newcomer(""), "--name"),
        (newcomer(&long), "--name"),
        (newcomer("a\nb"), "--name"),
        (
            Join {
                address: "nowhere",
                ..newcomer("c")
            },
            "--listen",
        ),
        (
            Join {
                address: "host:0",
                ..newcomer("c")
            },
            "--listen",
        ),
        (
            Join {
                address: ":1",
                ..newcomer("c")
            },
            "--listen",
        ),
    ];
    for (join, reason) in cases {
        let mut rig = Rig::pair();
        rig.join_as(3, join);
        let heard = rig.heard();
        assert!(
            heard[0].starts_with("3: Refused false ") && heard[0].contains(reason),
            "{heard:?}"
        );
        assert_eq!(heard[1..], ["3: closed"]);
    }
}

#[test]
fn the_256th_name_is_refused_and_a_known_one_still_joins() {
    let mut rig = Rig::new_cluster();
    for i in 1..=255 {
        rig.join(i, &format!("node{i}"));
    }
    rig.skip();
    rig.join(300, "one-more");
    let heard = rig.heard();
    assert!(
        heard[0].contains("all 255 node numbers are given"),
        "{heard:?}"
    );
    rig.close(7);
    rig.join(301, "node7");
    assert!(rig.heard().contains(&"301: Welcome 7 life 356".to_owned()));
}

#[test]
fn every_answer_fits_a_frame() {
    let long = "\u{7f}".repeat(64);
    for (cluster, node, name) in [
        (u64::MAX, 255, "a"),
        (CLUSTER, 255, "a"),
        (CLUSTER, 1, &long),
    ] {
        let mut rig = Rig::pair();
        rig.rejoin(9, name, cluster, node, u64::MAX);
        rig.join_as(
            10,
            Join {
                versions: (u16::MAX, u16::MAX),
                ..newcomer("c")
            },
        );
        for line in rig.heard().iter().filter(|line| line.contains("Refused")) {
            assert!(
                Encoded::new(
                    &Answer::Refused {
                        reason: line,
                        retry: true
                    },
                    0
                )
                .is_ok()
            );
        }
    }
}

#[test]
fn a_lost_link_is_a_death_after_the_time_out_and_not_before() {
    let mut rig = Rig::pair();
    rig.close(1);
    rig.wait(T - T / 100);
    assert_eq!(rig.heard(), [""; 0]);
    rig.wait(T / 100);
    assert_eq!(rig.heard(), ["2: Gone 1 life 101"]);
}

#[test]
fn a_member_that_comes_back_in_time_stays_who_it_is() {
    let mut rig = Rig::pair();
    rig.close(1);
    rig.wait(T / 2);
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    assert_eq!(rig.heard(), ["3: Welcome 1 life 101"]);
    rig.knows(3, 2, 102);
    rig.say(3, ToReferee::Settled);
    rig.wait(2 * T);
    assert_eq!(rig.heard(), [""; 0]);
}

#[test]
fn a_member_that_comes_back_hears_who_came_and_who_went_meanwhile() {
    let mut rig = Rig::pair();
    rig.join(3, "c");
    rig.close(1);
    rig.say(3, ToReferee::Leave);
    rig.join(4, "d");
    rig.skip();
    rig.rejoin(5, "a", CLUSTER, 1, 101);
    assert_eq!(rig.heard(), ["5: Welcome 1 life 101"]);
    rig.knows(5, 2, 102);
    rig.knows(5, 3, 103);
    rig.say(5, ToReferee::Settled);
    assert_eq!(
        rig.heard(),
        ["5: Gone 3 life 103", "5: Member 4 life 104 d, it connects"]
    );
}

#[test]
fn a_member_may_come_back_before_its_old_link_is_seen_to_end() {
    let mut rig = Rig::pair();
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    assert_eq!(rig.heard(), ["1: closed", "3: Welcome 1 life 101"]);
    rig.knows(3, 2, 102);
    rig.say(3, ToReferee::Settled);
    rig.close(1);
    rig.wait(2 * T);
    assert_eq!(rig.heard(), [""; 0]);
}

#[test]
fn a_life_that_was_declared_dead_is_refused() {
    let mut rig = Rig::pair();
    rig.close(1);
    rig.wait(T);
    rig.skip();
    rig.rejoin(3, "a", CLUSTER, 1, 101);
    assert!(rig.heard()[0].contains("declared dead in life 101"));
}

#[test]
fn a_membership_that_is_not_its_own_is_refused() {
    for (name, cluster, node, life, reason) in [
        ("a", CLUSTER + 1, 1, 101, "cluster"),
        ("c", CLUSTER, 1, 101, "another name"),
        ("a", CLUSTER, 1, 999, "declared dead"),
        ("c", CLUSTER, 9, 50, "declared dead"),
    ] {
        let mut rig = Rig::pair();
        rig.rejoin(3, name, cluster, node, life);
        let heard = rig.heard();
        assert!(heard[0].contains(reason), "{heard:?}");
        assert_eq!(heard.len(), 2, "nobody else hears of it: {heard:?}");
    }
}

#[test]
fn leaving_is_gone_at_once_and_no_fence() {
    let mut rig = Rig::pair();
    rig.say(1, ToReferee::Leave);
    assert_eq!(rig.heard(), ["1: closed", "2: Gone 1 life 101"]);
}

#[test]
fn a_silent_node_is_fenced() {
    let mut rig = Rig::pair();
    rig.silent(1);
    assert_eq!(
        rig.heard(),
        ["1: Fenced", "1: closed", "2: Gone 1 life 101"]
    );
}

#[test]
fn a_lost_peer_whose_link_is_closed_is_gone_at_once() {
    let mut rig = Rig::pair();
    rig.close(1);
    rig.lost(2, 1, 101);
    assert_eq!(rig.heard(), ["2: Gone 1 life 101"]);
}

#[test]
fn of_two_that_lost_each_other_the_first_to_report_stays() {
    let mut rig = Rig::pair();
    rig.lost(2, 1, 101);
    assert_eq!(
        rig.heard(),
        ["1: Fenced", "1: closed", "2: Gone 1 life 101"]
    );
    rig.lost(1, 2, 102);
    assert_eq!(rig.heard(), [""; 0], "the dead are not heard");
}

#[test]
fn a_report_about_an_earlier_life_or_oneself_changes_nothing() {
    let mut rig = Rig::pair();
    rig.say(1, ToReferee::Leave);
    rig.join(3, "a");
    rig.skip();
    rig.lost(2, 1, 101);
    rig.lost(2, 1, 999);
    rig.lost(2, 2, 102);
    rig.lost(2, 77, 1);
    assert_eq!(rig.heard(), [""; 0]);
}

#[test]
fn strangers_are_not_heard() {
    let mut rig = Rig::pair();
    let before = rig.naming.clone();
    rig.lost(9, 1, 101);
    rig.resolve(9, 1, 7, true);
    rig.owns(9, 7, id(1, 1));
    rig.say(9, ToReferee::Leave);
    assert_eq!((rig.heard(), rig.naming), (vec![], before));
}
