//! Semaphores across nodes. Home of every set is node 1 unless a test says otherwise.

use dipc_tests::{CREATE, Cluster, NOWAIT, UNDO};

#[test]
fn a_post_on_one_node_wakes_a_waiter_on_another() {
    let cluster = Cluster::start(3);
    let (mut one, mut two, mut three) =
        (cluster.program(1), cluster.program(2), cluster.program(3));
    let id = one.must(format!("semget 0x51 1 {CREATE}"));
    assert_eq!(two.must(format!("semget 0x51 1 {CREATE}")), id);
    two.begin(format!("semop {id} 0:-1"));
    cluster.node(2).until_blocked(&two);
    assert_eq!(one.must(format!("getncnt {id} 0")), 1);
    three.must(format!("semop {id} 0:1"));
    assert_eq!(two.answer(), "= 0");
    assert_eq!(three.must(format!("getval {id} 0")), 0);
    let _ = (NOWAIT, UNDO);
}
