//! Nodes as a whole: machines that are killed, lose their power, are cut off from
//! everybody, or stand still for a while.

use dipc_tests::{CREATE_NEW, FIND, wait};

use crate::stage::{PAGE, SOON, Stage};

#[test]
fn a_node_of_which_every_process_is_killed_is_lost_and_returns() {
    let Some(mut stage) = Stage::set("a node that is killed as a whole", SOON) else {
        return;
    };
    stage.network().kill_all("node2");
    stage.others_go_on_without(2);
    stage.returns(2);
}

#[test]
fn a_node_that_loses_its_power_is_lost_after_the_time_out_and_returns() {
    let Some(mut stage) = Stage::set("a node that loses its power", SOON) else {
        return;
    };
    // Not even the kernel says good-bye to anybody.
    stage.isolate_node_2();
    stage.network().kill_all("node2");
    stage.others_go_on_without(2);
    stage.rejoin_node_2();
    stage.returns(2);
}

#[test]
fn a_node_that_stands_still_for_the_time_out_is_lost_and_ends_when_it_goes_on() {
    let Some(mut stage) = Stage::set("a node that stands still", SOON) else {
        return;
    };
    let frozen = stage.network().freeze("node2");
    stage.others_go_on_without(2);
    stage.network().thaw(&frozen);
    stage.ends(2);
    stage.returns(2);
}

#[test]
fn a_node_cut_off_from_everybody_is_lost_and_ends_when_it_is_heard_of_again() {
    let Some(mut stage) = Stage::set("a node that is cut off", SOON) else {
        return;
    };
    let mut creator = stage.cluster.program(2);
    stage.isolate_node_2();
    creator.begin(format!("semget 0xc4ea7e 1 {CREATE_NEW}"));
    stage.others_go_on_without(2);
    assert_eq!(creator.answer(), "! ETIMEDOUT");
    stage.rejoin_node_2();
    stage.ends(2);
    let half = stage.actors[0].ask(format!("semget 0xc4ea7e 1 {FIND}"));
    assert_eq!(half, "! ENOENT", "nothing was made by halves");
    stage.returns(2);
}

/// The promise of strict memory: who hears from a writer that it has written never
/// reads what was there before. A node that is cut off keeps a copy that nobody can
/// take from it, so it must give it up by itself before anybody else may write.
#[test]
fn who_hears_of_a_newer_value_on_a_node_that_is_cut_off_does_not_read_the_older_one() {
    let Some(mut stage) = Stage::set("memory of a node that is cut off", SOON) else {
        return;
    };
    let both = 2 * PAGE;
    let older = stage.actors[1].must(format!("peek 0 {both}"));
    stage.isolate_node_2();
    // It returns when node 2's copy does not count any more.
    stage.actors[0].must(format!("poke 0 {both} {}", older + 1));
    // The test is the other way by which node 2's program hears of it.
    let read = stage.actors[1].ask(format!("peek 0 {both}"));
    assert_eq!(read, "! SIGBUS", "the older value is {older}");
    stage.rejoin_node_2();
    stage.ends(2);
    wait::until("the newer value is there", || {
        stage.actors[2].ask(format!("peek 0 {both}")) == &format!("= {}", older + 1)[..]
    });
}
