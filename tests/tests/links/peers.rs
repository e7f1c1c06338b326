//! The link between two nodes, while both reach the referee.

use dipc_tests::{CREATE, Network, wait};

use crate::stage::{LATE, PAGE, SOON, Stage, cluster, lives};

type Cut = fn(&Network, &str, &str);

/// Both nodes are right that the other is silent, and one must go: the referee
/// decides, and whichever it is, the rest is the same.
fn one_of_two_is_lost(what: &str, cut: Cut) {
    let Some(mut stage) = Stage::set(what, SOON) else {
        return;
    };
    cut(stage.network(), "node1", "node2");
    let lost = wait::until_some("one of the two has ended", || {
        [1, 2]
            .into_iter()
            .find(|&node| stage.cluster.end_of_node(node).is_some())
    });
    stage.ends(lost);
    let log = stage.cluster.node(lost).log();
    assert!(log.contains("the cluster has declared it dead"), "{log}");
    stage.others_go_on_without(lost);
    assert_eq!(
        stage.cluster.end_of_node(3 - lost),
        None,
        "the other one lives"
    );
    stage.network().heal_both("node1", "node2");
    stage.returns(lost);
}

#[test]
fn a_link_cut_in_one_direction_for_the_time_out_costs_exactly_one_of_its_nodes() {
    one_of_two_is_lost("a link cut from node 1 to node 2", Network::cut);
}

#[test]
fn a_link_cut_in_the_other_direction_for_the_time_out_costs_exactly_one_of_its_nodes() {
    let other_direction: Cut = |network, one, two| network.cut(two, one);
    one_of_two_is_lost("a link cut from node 2 to node 1", other_direction);
}

#[test]
fn a_link_cut_in_both_directions_for_the_time_out_costs_exactly_one_of_its_nodes() {
    one_of_two_is_lost("a link cut in both directions", Network::cut_both);
}

#[test]
fn a_link_that_heals_before_the_time_out_loses_nothing_and_repeats_nothing() {
    let Some(cluster) = cluster("a link that heals in time", LATE) else {
        return;
    };
    let network = cluster.network();
    let [mut one, mut two, mut reader] = [1, 2, 2].map(|node| cluster.program(node));
    let queue = two.must(format!("msgget 0x9 {CREATE}"));
    let memory = one.must(format!("shmget 0x9 {PAGE} {CREATE}"));
    for program in [&mut one, &mut reader] {
        program.must(format!("shmat {memory} 0"));
    }
    let before = lives(&cluster);
    let cuts: [(Cut, Cut); 3] = [
        (Network::cut, Network::heal),
        (|n, a, b| n.cut(b, a), |n, a, b| n.heal(b, a)),
        (Network::cut_both, Network::heal_both),
    ];
    for ((cut, heal), round) in cuts.into_iter().zip(1..) {
        one.must(format!("poke 0 0 {round}"));
        let again = || network.sent_again("node1") + network.sent_again("node2");
        let sent_again = again();
        cut(network, "node1", "node2");
        one.begin(format!("msgsnd {queue} {round} 0 once"));
        reader.begin("peek 0 0");
        wait::until("something is sent again", || again() > sent_again);
        assert!(
            one.is_silent() && reader.is_silent(),
            "nothing comes through"
        );
        heal(network, "node1", "node2");
        assert_eq!(one.answer(), "= 0", "round {round}");
        assert_eq!(reader.answer().number(), round);
        let received = two.ask(format!("msgrcv {queue} 9 0 0"));
        assert_eq!(received.to_string(), format!("= 4 {round} once"));
        assert_eq!(two.must(format!("msgstat {queue}")), 0, "it came once");
    }
    assert_eq!(lives(&cluster), before);
}
