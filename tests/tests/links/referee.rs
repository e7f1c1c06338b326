//! The link between a node and the referee, while all nodes reach each other.

use dipc_tests::{CREATE, CREATE_NEW, FIND, Network, wait};

use crate::stage::{LATE, SOON, Stage, cluster, lives};

type Cut = fn(&Network, &str, &str);

const FROM_NODE: (Cut, Cut) = (Network::cut, Network::heal);
const TO_NODE: (Cut, Cut) = (|n, node, r| n.cut(r, node), |n, node, r| n.heal(r, node));
const BOTH: (Cut, Cut) = (Network::cut_both, Network::heal_both);

/// A node that the referee does not hear is dead to it, and so to all.
fn lost_to_the_referee(what: &str, (cut, heal): (Cut, Cut)) {
    let Some(mut stage) = Stage::set(what, SOON) else {
        return;
    };
    let mut creator = stage.cluster.program(2);
    cut(stage.network(), "node2", "referee");
    creator.begin(format!("semget 0xc4ea7e 1 {CREATE_NEW}"));
    stage.others_go_on_without(2);
    assert_eq!(creator.answer(), "! ETIMEDOUT");
    let one = &mut stage.actors[0];
    let half = one.ask(format!("semget 0xc4ea7e 1 {FIND}"));
    assert_eq!(half, "! ENOENT", "nothing was made by halves");
    let whole = one.must(format!("semget 0xc4ea7e 1 {CREATE_NEW}"));
    one.must(format!("semrm {whole}"));
    heal(stage.network(), "node2", "referee");
    stage.ends(2);
    stage.returns(2);
}

#[test]
fn a_node_that_the_referee_does_not_hear_for_the_time_out_is_lost() {
    lost_to_the_referee("a link cut from a node to the referee", FROM_NODE);
}

#[test]
fn a_node_that_does_not_hear_the_referee_for_the_time_out_is_lost() {
    lost_to_the_referee("a link cut from the referee to a node", TO_NODE);
}

#[test]
fn a_node_cut_off_from_the_referee_in_both_directions_for_the_time_out_is_lost() {
    lost_to_the_referee("a link to the referee cut in both directions", BOTH);
}

#[test]
fn a_creation_waits_for_the_referee_and_comes_once_when_its_link_heals_in_time() {
    let Some(cluster) = cluster("a link to the referee that heals in time", LATE) else {
        return;
    };
    let network = cluster.network();
    let [mut one, mut two, mut creator] = [1, 2, 2].map(|node| cluster.program(node));
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    let before = lives(&cluster);
    for ((cut, heal), key) in [FROM_NODE, TO_NODE, BOTH].into_iter().zip(0x100..) {
        let again = || network.sent_again("node2") + network.sent_again("referee");
        let sent_again = again();
        cut(network, "node2", "referee");
        creator.begin(format!("semget {key} 1 {CREATE_NEW}"));
        // What exists is used meanwhile as always.
        one.must(format!("semop {set} 0:1"));
        two.must(format!("semop {set} 0:-1"));
        wait::until("something is sent again", || again() > sent_again);
        assert!(creator.is_silent());
        heal(network, "node2", "referee");
        let id = creator.answer().number();
        assert_eq!(one.must(format!("semget {key} 1 {FIND}")), id);
        assert_eq!(one.ask(format!("semget {key} 1 {CREATE_NEW}")), "! EEXIST");
    }
    assert_eq!(lives(&cluster), before);
}
