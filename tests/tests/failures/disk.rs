//! A full disk: dipc writes nothing but its log.

use std::fs::File;

use super::*;

#[test]
fn a_log_that_cannot_be_written_costs_nothing_but_itself() {
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("a Linux")
    };
    let mut cluster = Cluster::prepared(Options::nodes(2), |number, daemon| {
        if number == 1 {
            daemon.stderr(full());
        }
    });
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let memory = segment(&mut one, 1);
    attach(&mut [&mut one, &mut two], memory);
    two.must("poke 0 0 5");
    // Each of these is a line of the log.
    cluster.kill_node(2);
    cluster.until_peers(1, 0);
    cluster.restart_node(2);
    cluster.until_peers(1, 1);
    assert_eq!(one.ask("peek 0 0"), "! SIGBUS");
    let set = one.must(format!("semget 0x1 1 {CREATE}"));
    let mut again = cluster.program(2);
    assert_eq!(again.must(format!("semget 0x1 1 {FIND}")), set);
    assert_eq!(one.must(format!("shmstat {memory}")), 1);
}
