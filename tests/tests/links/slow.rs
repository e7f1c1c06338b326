//! Links on which traffic takes long.

use dipc_tests::cluster::Options;
use dipc_tests::{CREATE, Cluster, Network, network};

use crate::stage::{PAGE, lives};

/// At 1 Mbit/s, five seconds.
const LONG: i64 = 600 * 1024;
const PAGES: i64 = 80;

#[test]
fn on_a_slow_link_long_messages_and_pages_arrive_and_nobody_is_dead() {
    if !network::can_be_made("a slow link") {
        return;
    }
    let cluster = Cluster::with(Options {
        network: true,
        // What waits to be sent at any time takes less than 5/8 of it.
        timeout: "20s",
        limits: &["msgmax=1048576", "msgmnb=1048576"],
        ..Options::nodes(3)
    });
    let [mut one, mut two, mut three] = [1, 2, 3].map(|node| cluster.program(node));
    let queue = one.must(format!("msgget 0x5 {CREATE}"));
    let set = two.must(format!("semget 0x5 1 {CREATE}"));
    let memory = one.must(format!("shmget 0x5 {} {CREATE}", PAGES * PAGE));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {memory} 0"));
    }
    let before = lives(&cluster);
    let everybody = ["node1", "node2", "node3", "referee"];
    let slow = |network: &Network, name| network.slow(name, "1mbit");
    everybody
        .iter()
        .for_each(|name| slow(cluster.network(), name));

    // Both ways at once, with a third node's calls in between.
    two.begin(format!("msgsnd_pattern {queue} 1 {LONG}"));
    three.must(format!("semop {set} 0:1"));
    assert_eq!(two.answer(), "= 0");
    two.begin(format!("msgrcv_pattern {queue} 1 {LONG}"));
    three.must(format!("semop {set} 0:-1"));
    assert_eq!(two.answer().numbers(), [LONG, 0]);

    one.must(format!("walk 0 0 {} {PAGE} 7", PAGES * PAGE));
    assert_eq!(two.must(format!("follow 0 0 {} {PAGE} 7", PAGES * PAGE)), 0);
    two.must(format!("walk 0 0 {} {PAGE} 8", PAGES * PAGE));
    assert_eq!(one.must(format!("follow 0 0 {} {PAGE} 8", PAGES * PAGE)), 0);
    assert_eq!(lives(&cluster), before);
}
