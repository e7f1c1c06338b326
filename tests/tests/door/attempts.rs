//! Attempts to get in, each at a cluster that works on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use dipc_tests::cluster::{create, make_key};
use dipc_tests::scratch::Scratch;
use dipc_tests::{CREATE, Cluster, Cost, FIND, Options, wait};
use dipc_wire::Incarnation;
use dipc_wire::frame::Encoded;
use dipc_wire::referee::{Membership, ToReferee};

use crate::hostile::{LONG, connect_from, hello, intrude, join, say, with_key};
use crate::tap::Tap;

/// Two nodes with a key, and what an intruder knows of them.
struct Besieged {
    cluster: Cluster,
    /// Where node 1 listens for its peers.
    node: SocketAddr,
    referee: SocketAddr,
}

impl Besieged {
    fn new() -> Self {
        Self::with(Cluster::with(Options {
            tls: true,
            ..Options::nodes(2)
        }))
    }

    fn with(cluster: Cluster) -> Self {
        let status = cluster.node(1).own_status().unwrap();
        Besieged {
            node: status.address.parse().unwrap(),
            referee: cluster.referee_address.parse().unwrap(),
            cluster,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.node).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// A member that is none: it has the key, and has joined as this node.
    fn member(&self, name: &str) -> (dipc_door::Channel, Membership) {
        let stream = TcpStream::connect(self.referee).unwrap();
        let mut channel = with_key(&self.cluster.key(), stream);
        let me = join(&mut channel, name).unwrap();
        (channel, me)
    }

    /// Who node 1 is, as one who has the cluster's number knows.
    fn node1(&self, me: Membership) -> Membership {
        let status = self.cluster.node(1).own_status().unwrap();
        Membership {
            cluster: me.cluster,
            node: dipc_wire::NodeId::new(status.node as u8).unwrap(),
            incarnation: Incarnation(status.incarnation),
        }
    }

    /// Node 1 has refused so many for this reason, its log says so, and neither
    /// it nor node 2 is any the worse.
    fn refused(&self, reason: &str, count: u64) {
        let node = self.cluster.node(1);
        wait::until(&format!("{count} refused: {reason}"), || {
            let status = node.own_status().unwrap();
            status.refused.get(reason) == Some(&count)
        });
        // Counted first.
        wait::until("it is logged", || {
            node.log().contains(&format!("reason=\"{reason}\""))
        });
        assert_eq!(node.own_status().unwrap().peers, 1);
        let [mut one, mut two] = [1, 2].map(|number| self.cluster.program(number));
        let set = one.must(format!("semget 0x77 1 {CREATE}"));
        assert_eq!(two.must(format!("semget 0x77 1 {FIND}")), set);
        two.must(format!("semop {set} 0:1"));
        one.must(format!("semop {set} 0:-1"));
        one.must(format!("semrm {set}"));
    }
}

#[test]
fn plain_text_is_refused() {
    let besieged = Besieged::new();
    let mut stream = besieged.connect();
    let me = Membership {
        cluster: 1,
        node: dipc_wire::NodeId::SOLO,
        incarnation: Incarnation(1),
    };
    let frame = Encoded::new(&hello(me, me), 0).unwrap();
    stream.write_all(frame.as_ref()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..2], [21, 3], "an alert of TLS: {answer:?}");
    besieged.refused("plain", 1);
}

#[test]
fn another_key_is_refused_whether_its_owner_is_honest_or_not() {
    let besieged = Besieged::new();
    let other = besieged.cluster.file("other");
    make_key(&other);
    // One that looks at what it is shown goes by itself.
    let door = dipc_door::Door::load(Some(&other), None).unwrap();
    let refusal = door.call(besieged.connect(), LONG).unwrap_err();
    assert_eq!(refusal.reason(), "key");
    besieged.refused("key-not-accepted", 1);
    // One that does not is told to.
    assert!(intrude(&other, &other, besieged.connect()).is_err());
    besieged.refused("key", 1);
    let referee = TcpStream::connect(besieged.referee).unwrap();
    assert!(intrude(&other, &other, referee).is_err());
    // Its last word to the intruder goes out before its log's.
    wait::until("the referee says so", || {
        let log = std::fs::read_to_string(besieged.cluster.file("referee.log"));
        log.unwrap().contains("it has another key")
    });
}

#[test]
fn the_public_half_of_the_key_is_of_no_use_without_the_other() {
    let besieged = Besieged::new();
    let (key, other) = (besieged.cluster.key(), besieged.cluster.file("other"));
    make_key(&other);
    assert!(intrude(&key, &other, besieged.connect()).is_err());
    besieged.refused("handshake", 1);
}

#[test]
fn a_handshake_that_was_recorded_is_of_no_use_again() {
    let besieged = Besieged::new();
    let tap = Tap::before(besieged.node);
    let (_referee, me) = besieged.member("node3");
    let channel = with_key(
        &besieged.cluster.key(),
        TcpStream::connect(tap.address).unwrap(),
    );
    say(&channel, &hello(me, Membership { cluster: 0, ..me }));
    besieged.refused("mistaken", 1);
    let recorded = tap.out();
    let mut replay = besieged.connect();
    replay.write_all(&recorded).unwrap();
    // Until the end, which may be a reset: not all was read.
    let _ = replay.read_to_end(&mut Vec::new());
    besieged.refused("handshake", 1);
}

#[test]
fn a_handshake_that_is_cut_off_is_refused() {
    let besieged = Besieged::new();
    let tap = Tap::before(besieged.node);
    drop(with_key(
        &besieged.cluster.key(),
        TcpStream::connect(tap.address).unwrap(),
    ));
    besieged.refused("truncated", 1);
    let recorded = tap.out();
    for (count, length) in (2..).zip([1, 2, 7, 100]) {
        let mut stream = besieged.connect();
        stream.write_all(&recorded[..length]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        besieged.refused("truncated", count);
    }
}

#[test]
fn a_node_of_another_cluster_with_the_same_key_is_refused() {
    let besieged = Besieged::new();
    let (_referee, me) = besieged.member("node3");
    let channel = with_key(&besieged.cluster.key(), besieged.connect());
    let theirs = Membership {
        cluster: me.cluster ^ 1,
        ..me
    };
    say(&channel, &hello(theirs, besieged.node1(me)));
    besieged.refused("cluster", 1);
}

#[test]
fn a_dead_incarnation_is_refused_although_it_has_the_key() {
    let besieged = Besieged::new();
    let (mut referee, me) = besieged.member("node3");
    say(&referee, &ToReferee::Leave);
    while referee.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
    let gone = format!(
        "a member is gone node={} incarnation={}",
        me.node, me.incarnation
    );
    wait::until("node 1 hears of the death", || {
        besieged.cluster.node(1).log().contains(&gone)
    });
    let channel = with_key(&besieged.cluster.key(), besieged.connect());
    say(&channel, &hello(me, besieged.node1(me)));
    besieged.refused("no-member", 1);
}

#[test]
fn the_allow_file_binds_names_to_addresses_at_each_node() {
    let files = Scratch::new();
    let list = files.join("allow");
    create(
        &list,
        b"node1 127.0.0.1\nnode2 127.0.0.1\nnode3 127.0.0.3\n",
    );
    let options = Options {
        tls: true,
        ..Options::nodes(2)
    };
    let allow = |_, command: &mut std::process::Command| {
        command.arg("--allow").arg(&list);
    };
    let besieged = Besieged::with(Cluster::prepared(options, allow));
    // The referee of this cluster has no such list, and takes both in.
    let (_three, three) = besieged.member("node3");
    let (_four, four) = besieged.member("node4");
    let greet = |from: &str, me: Membership| {
        let stream = connect_from(from, besieged.node);
        let channel = with_key(&besieged.cluster.key(), stream);
        say(&channel, &hello(me, besieged.node1(me)));
        channel
    };
    let _channel = greet("127.0.0.2", three);
    besieged.refused("elsewhere", 1);
    let _channel = greet("127.0.0.1", four);
    besieged.refused("unlisted", 1);
    // And the one that is where it belongs is answered.
    let mut channel = greet("127.0.0.3", three);
    assert!(channel.read(&mut [0; 64]).unwrap() > 0);
}

#[test]
fn strangers_that_say_nothing_keep_nobody_out() {
    let besieged = Besieged::new();
    let before = Cost::of(besieged.cluster.node(1).pid());
    let silent: Vec<_> = (0..300).map(|_| besieged.connect()).collect();
    let third = besieged.cluster.try_node(3, &[]).unwrap();
    assert_eq!(third.own_status().unwrap().peers, 2);
    let status = besieged.cluster.node(1).own_status().unwrap();
    assert!(status.refused["crowded"] >= 236, "{:?}", status.refused);
    let after = Cost::of(besieged.cluster.node(1).pid());
    assert!(after.threads <= before.threads + 70, "{after}");
    assert!(after.descriptors <= before.descriptors + 80, "{after}");
    drop(silent);
}
