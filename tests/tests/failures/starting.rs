//! Daemons that cannot start, and say why.

use super::*;

#[test]
fn a_second_daemon_on_a_socket_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::start(1);
    let socket = cluster.node(1).socket.display().to_string();
    let refusal = cluster
        .try_node(2, &["--socket", &socket])
        .expect_err("the socket is taken");
    assert_eq!(refusal.status.code(), Some(1));
    let pid = cluster.node(1).pid().to_string();
    for part in ["serves", socket.as_str(), pid.as_str()] {
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
    let mut one = cluster.program(1);
    one.must(format!("semget 0 1 {CREATE}"));
}

#[test]
fn a_name_that_a_living_node_has_is_refused() {
    let cluster = Cluster::start(1);
    let refusal = cluster
        .try_node(2, &["--name", "node1"])
        .expect_err("the name is taken");
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.message.contains("node1"), "{refusal:?}");
    assert!(cluster.node(1).own_status().is_some());
}

#[test]
fn a_referee_that_is_not_there_is_named_in_a_clear_message() {
    let cluster = Cluster::start(0);
    // Nobody listens on port 1 of this machine.
    let refusal = cluster
        .try_node(1, &["--referee", "127.0.0.1:1", "--timeout", "200ms"])
        .expect_err("there is no referee");
    assert_eq!(refusal.status.code(), Some(1));
    for part in ["127.0.0.1:1", "dipc-referee"] {
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
}
