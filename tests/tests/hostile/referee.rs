//! A node that has joined, and lies to the referee; and one that has not.

use dipc_wire::referee::{Join, MAGIC, Membership, ToReferee, VERSIONS};
use dipc_wire::{Incarnation, Kind, NodeId, ObjectId};

use crate::honest::Honest;
use crate::peer::{Evil, Line};

#[test]
fn a_node_that_lies_to_the_referee_gets_nobody_elses_key() {
    let mut honest = Honest::new();
    honest.go_on();
    let mut evil = Evil::join(&honest.cluster, "evil");
    let set = ObjectId::from_raw(honest.set as i32).expect("ours");
    let own = ObjectId::new(evil.me.node, 5);
    let (kind, key, tag) = (Kind::Sem, 0x60d, 77);
    for lie in [
        ToReferee::Owns { kind, key, id: own },
        ToReferee::Owns { kind, key, id: set },
        ToReferee::Released { kind, key, id: set },
        ToReferee::Freed { kind, id: set },
        ToReferee::Holds {
            kind,
            id: set,
            weight: u64::MAX,
        },
        ToReferee::Created { tag, id: set },
        ToReferee::Created { tag, id: own },
        ToReferee::Abandoned { tag },
        ToReferee::Flushed { round: u64::MAX },
        ToReferee::Knows {
            node: NodeId::new(200).expect("not 0"),
            incarnation: Incarnation(u64::MAX),
        },
        ToReferee::PeerLost {
            node: evil.me.node,
            incarnation: evil.me.incarnation,
        },
        ToReferee::PeerLost {
            node: NodeId::new(200).expect("not 0"),
            incarnation: Incarnation(1),
        },
        ToReferee::Settled,
    ] {
        // It may be refused after one of them: then it comes anew.
        if evil.referee.say(&lie, &[]).is_err() {
            evil = Evil::join(&honest.cluster, "again");
        }
        assert_eq!(
            honest.newcomer(1).must("semget 0x60d 2 010000"),
            honest.set,
            "{lie:?}"
        );
    }
    honest.go_on();
    assert_eq!(honest.newcomer(2).must("semget 0x60d 2 010000"), honest.set);
}

#[test]
fn a_node_that_asks_for_many_keys_and_makes_none_keeps_no_other_key() {
    let mut honest = Honest::new();
    let mut evil = Evil::join(&honest.cluster, "evil");
    for tag in 0..10_000 {
        let key = 0x10_0000 + tag as i32;
        let (kind, create, not) = (Kind::Msg, Some(1), None);
        evil.referee
            .say(
                &ToReferee::Resolve {
                    tag,
                    kind,
                    key,
                    create,
                    not,
                },
                &[],
            )
            .expect("it listens");
    }
    honest.go_on();
    let mut newcomer = honest.newcomer(1);
    newcomer.must("msgget 0x777 011600");
    // With it goes what it was let make.
    drop(evil);
    newcomer.must("msgget 0x100000 011600");
}

#[test]
fn absurd_joins_are_refused_and_change_nothing() {
    let mut honest = Honest::new();
    let (magic, versions, member) = (MAGIC, VERSIONS, None);
    let long = "x".repeat(300);
    let (name, address) = ("evil", "127.0.0.1:9");
    let good = Join {
        magic,
        versions,
        name,
        address,
        member,
    };
    let shown = |node, incarnation| {
        let node = NodeId::new(node).expect("not 0");
        Some(Membership {
            cluster: 1,
            node,
            incarnation: Incarnation(incarnation),
        })
    };
    for join in [
        Join { magic: 0, ..good },
        Join {
            versions: (9, 9),
            ..good
        },
        Join {
            versions: (9, 1),
            ..good
        },
        Join { name: "", ..good },
        Join {
            name: &long,
            ..good
        },
        Join {
            name: "e\u{1b}[31mvil\n",
            ..good
        },
        Join {
            name: "node1",
            ..good
        },
        Join {
            address: "",
            ..good
        },
        Join {
            address: "nowhere",
            ..good
        },
        Join {
            address: "127.0.0.1:99999",
            ..good
        },
        Join {
            address: &long,
            ..good
        },
        Join {
            member: shown(1, u64::MAX),
            ..good
        },
        Join {
            member: shown(200, 1),
            ..good
        },
    ] {
        let mut line = Line::to(&honest.cluster.referee_address);
        line.say(&join, &[]).expect("it listens");
        assert!(line.is_refused(), "{join:?}");
    }
    for bytes in [&[0xff; 8][..], &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0], &[0; 8]] {
        let mut line = Line::to(&honest.cluster.referee_address);
        line.say_bytes(bytes).expect("it listens");
        assert!(line.is_refused(), "{bytes:?}");
    }
    honest.go_on();
    honest.newcomer(2).must("semget 0x778 1 011600");
}
