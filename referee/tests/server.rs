//! The server over loopback, with nodes that follow a script.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use dipc_referee::{Options, Referee};
use dipc_wire::frame::{Encoded, Frame, FrameBuffer};
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, ToReferee, VERSIONS};
use dipc_wire::{Kind, Limits, NodeId, ObjectId};
use serde::Serialize;

/// For tests in which nobody shall die: far longer than any of them takes.
const LONG: Duration = Duration::from_secs(60);
/// For tests in which somebody shall. Those who shall not answer pings.
const SHORT: Duration = Duration::from_secs(2);

fn start(timeout: Duration, new_cluster: bool) -> Referee {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Referee::start(
        listener,
        Options {
            timeout,
            new_cluster,
            limits: Limits::LINUX,
        },
    )
    .unwrap()
}

/// A node's connection.
struct Node {
    stream: TcpStream,
    buffer: FrameBuffer,
}

impl Node {
    fn connect(to: SocketAddr) -> Node {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Node {
            stream,
            buffer: FrameBuffer::new(),
        }
    }

    fn join(to: SocketAddr, name: &str, member: Option<Membership>) -> (Node, Membership) {
        let mut node = Node::connect(to);
        node.say(&join(name, member));
        let member = node.welcome();
        (node, member)
    }

    fn say<M: Serialize>(&mut self, message: &M) {
        self.stream
            .write_all(Encoded::new(message, 0).unwrap().as_ref())
            .unwrap();
    }

    fn resolve(&mut self, tag: u64, key: i32, create: bool) {
        self.say(&ToReferee::Resolve {
            tag,
            kind: Kind::Sem,
            key,
            create: create.then_some(1),
            not: None,
        });
    }

    /// What `look` makes of the next frame; `None` at the end of the stream.
    fn next_frame<R>(&mut self, look: impl FnOnce(Frame<'_>) -> R) -> Option<R> {
        loop {
            // Taken out, or the borrow of a frame would last for the whole loop.
            let mut ahead = std::mem::take(&mut self.buffer);
            if let Some(frame) = ahead.next_frame().unwrap() {
                let seen = look(frame);
                self.buffer = ahead;
                return Some(seen);
            }
            self.buffer = ahead;
            match self.stream.read(self.buffer.space()) {
                Ok(0) => return None,
                Ok(count) => self.buffer.filled(count),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn welcome(&mut self) -> Membership {
        let answer = self.next_frame(|frame| match frame.message().unwrap() {
            Answer::Welcome {
                member, version: 2, ..
            } => member,
            other => panic!("{other:?}"),
        });
        answer.expect("an answer")
    }

    fn refusal(&mut self) -> String {
        let answer = self.next_frame(|frame| match frame.message().unwrap() {
            Answer::Refused { reason, .. } => reason.to_owned(),
            other => panic!("{other:?}"),
        });
        answer.expect("an answer")
    }

    /// The next message but for pings, which it answers.
    fn hear<R>(&mut self, mut look: impl FnMut(&ToNode<'_>) -> R) -> Option<R> {
        loop {
            let heard = self.next_frame(|frame| match frame.message().unwrap() {
                ToNode::Ping => None,
                message => Some(look(&message)),
            })?;
            match heard {
                Some(seen) => return Some(seen),
                // The referee may have closed the connection meanwhile.
                None => {
                    _ = self
                        .stream
                        .write_all(Encoded::new(&ToReferee::Ping, 0).unwrap().as_ref())
                }
            }
        }
    }

    fn expect(&mut self, message: ToNode<'_>) {
        let heard = self.hear(|heard| format!("{heard:?}"));
        assert_eq!(heard, Some(format!("{message:?}")));
    }

    fn expect_member(&mut self, number: u8) {
        let who = self.hear(|heard| match heard {
            ToNode::Member { node, .. } => *node,
            other => panic!("{other:?}"),
        });
        assert_eq!(who, NodeId::new(number));
    }

    fn expect_end(&mut self) {
        assert_eq!(self.hear(|heard| format!("{heard:?}")), None);
    }
}

fn join(name: &str, member: Option<Membership>) -> Join<'_> {
    Join {
        magic: MAGIC,
        versions: VERSIONS,
        name,
        address: "127.0.0.1:7462",
        member,
    }
}

/// Two members that know each other.
fn pair(referee: &Referee) -> [(Node, Membership); 2] {
    let mut a = Node::join(referee.address(), "a", None);
    let mut b = Node::join(referee.address(), "b", None);
    a.0.expect_member(2);
    b.0.expect_member(1);
    [a, b]
}

#[test]
fn of_nodes_that_create_keys_at_once_one_creates_each_and_all_others_find_it() {
    const NODES: usize = 6;
    const KEYS: i32 = 100;
    let referee = start(LONG, true);
    let (address, barrier) = (referee.address(), Barrier::new(NODES));
    let race = |i: usize| {
        let (mut node, me) = Node::join(address, &format!("node{i}"), None);
        let (mut created, mut found) = (0, BTreeMap::new());
        barrier.wait();
        for key in 1..=KEYS {
            node.resolve(key as u64, key, true);
            loop {
                let answer = node.hear(|heard| match *heard {
                    ToNode::Create { tag } => Some((tag, None)),
                    ToNode::Found { tag, id } => Some((tag, Some(id))),
                    ToNode::Member { .. } => None,
                    ref other => panic!("{other:?}"),
                });
                let Some((tag, id)) = answer.unwrap() else {
                    continue;
                };
                assert_eq!(tag, key as u64);
                let id = id.unwrap_or_else(|| {
                    created += 1;
                    let id = ObjectId::new(me.node, key as u32);
                    node.say(&ToReferee::Created { tag, id });
                    id
                });
                found.insert(key, id);
                break;
            }
        }
        barrier.wait();
        (created, found)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..NODES).map(|i| scope.spawn(move || race(i))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(
        results.iter().map(|(created, _)| created).sum::<i32>(),
        KEYS
    );
    assert!(results.iter().all(|(_, found)| *found == results[0].1));
    referee.stop();
}

#[test]
fn a_node_whose_link_ended_is_gone_after_the_time_out_and_its_creation_goes_on() {
    let referee = start(SHORT, true);
    let [(mut a, who), (mut b, _)] = pair(&referee);
    a.resolve(1, 7, true);
    a.expect(ToNode::Create { tag: 1 });
    b.resolve(1, 7, true);
    drop(a);
    b.expect(ToNode::Gone {
        node: who.node,
        incarnation: who.incarnation,
    });
    b.expect(ToNode::Create { tag: 1 });
    referee.stop();
}

#[test]
fn a_silent_node_is_fenced_and_can_read_so() {
    let referee = start(SHORT, true);
    let [(mut a, who), (mut b, _)] = pair(&referee);
    b.expect(ToNode::Gone {
        node: who.node,
        incarnation: who.incarnation,
    });
    // It has said nothing, and now finds pings and the end.
    a.expect(ToNode::Fenced);
    a.expect_end();
    referee.stop();
}

#[test]
fn a_node_that_does_not_read_its_answers_delays_nobody_and_is_gone() {
    let referee = start(SHORT, true);
    let [(a, who), (mut b, _)] = pair(&referee);
    let mut flood = Vec::new();
    for tag in 0..1000 {
        let (kind, key, create, not) = (Kind::Sem, 1, None, None);
        let question = ToReferee::Resolve {
            tag,
            kind,
            key,
            create,
            not,
        };
        flood.extend_from_slice(Encoded::new(&question, 0).unwrap().as_ref());
    }
    // Until the referee has had enough of it.
    let mut stream = a.stream.try_clone().unwrap();
    let flooder = thread::spawn(move || while stream.write_all(&flood).is_ok() {});
    b.resolve(5, 2, false);
    b.expect(ToNode::Absent { tag: 5 });
    b.expect(ToNode::Gone {
        node: who.node,
        incarnation: who.incarnation,
    });
    flooder.join().unwrap();
    referee.stop();
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let referee = start(SHORT, true);
    let mut stranger = Node::connect(referee.address());
    stranger.expect_end();
    referee.stop();
}

#[test]
fn a_restarted_referee_learns_members_and_keys_from_the_nodes() {
    let first = start(LONG, true);
    let [(mut a, who_a), (mut b, who_b)] = pair(&first);
    let id = ObjectId::new(who_a.node, 3);
    a.resolve(1, 7, true);
    a.expect(ToNode::Create { tag: 1 });
    a.say(&ToReferee::Created { tag: 1, id });
    b.resolve(1, 7, false);
    b.expect(ToNode::Found { tag: 1, id });
    first.stop();
    a.expect_end();
    b.expect_end();

    let second = start(LONG, false);
    let mut c = Node::connect(second.address());
    c.say(&join("c", None));
    let (mut b, who) = Node::join(second.address(), "b", Some(who_b));
    assert_eq!(who, who_b);
    b.say(&ToReferee::Knows {
        node: who_a.node,
        incarnation: who_a.incarnation,
    });
    b.say(&ToReferee::Settled);
    b.resolve(2, 7, true);
    let (mut a, who) = Node::join(second.address(), "a", Some(who_a));
    assert_eq!(who, who_a);
    a.say(&ToReferee::Owns {
        kind: Kind::Sem,
        key: 7,
        id,
    });
    a.say(&ToReferee::Knows {
        node: who_b.node,
        incarnation: who_b.incarnation,
    });
    a.say(&ToReferee::Settled);
    // Which of the two settled last decides whether b hears of c before.
    let found = loop {
        match b.hear(|heard| {
            if let ToNode::Found { tag: 2, id } = heard {
                Some(*id)
            } else {
                None
            }
        }) {
            Some(Some(found)) => break found,
            Some(None) => {}
            None => panic!("the connection ended"),
        }
    };
    assert_eq!(found, id);
    let who_c = c.welcome();
    assert_eq!((who_c.cluster, who_c.node.get()), (who_a.cluster, 3));
    assert!(who_c.incarnation > who_a.incarnation && who_c.incarnation > who_b.incarnation);
    second.stop();
}

#[test]
fn a_member_may_come_back_on_a_new_connection_and_its_old_one_ends() {
    let referee = start(LONG, true);
    let [(mut a, who_a), (mut b, who_b)] = pair(&referee);
    let (mut again, who) = Node::join(referee.address(), "a", Some(who_a));
    assert_eq!(who, who_a);
    a.expect_end();
    again.say(&ToReferee::Knows {
        node: who_b.node,
        incarnation: who_b.incarnation,
    });
    again.say(&ToReferee::Settled);
    again.expect(ToNode::Complete);
    again.resolve(1, 7, false);
    again.expect(ToNode::Absent { tag: 1 });
    b.resolve(1, 7, false);
    b.expect(ToNode::Absent { tag: 1 });
    referee.stop();
}

#[test]
fn bytes_that_are_no_frames_end_their_connection_and_harm_nobody_else() {
    let referee = start(LONG, true);
    let [(mut a, who_a), (mut b, _)] = pair(&referee);
    let payload = Encoded::new(&join("x", None), 1).unwrap();
    let attacks: [&[u8]; 4] = [
        &[0xff; 64],
        b"GET / HTTP/1.1\r\n\r\n",
        payload.as_ref(),
        &[0, 0x20, 0, 0, 0, 0, 0, 0],
    ];
    for attack in attacks {
        let mut stranger = Node::connect(referee.address());
        stranger.stream.write_all(attack).unwrap();
        stranger.expect_end();
    }
    // Half a frame, and gone.
    let mut stranger = Node::connect(referee.address());
    stranger.stream.write_all(&[9, 0, 0]).unwrap();
    stranger.stream.shutdown(Shutdown::Write).unwrap();
    stranger.expect_end();
    // A member's own link ends too, and the member may come back.
    a.stream.write_all(&[1, 0, 0, 0, 0, 0, 0, 0, 0xee]).unwrap();
    a.expect_end();
    let (_again, who) = Node::join(referee.address(), "a", Some(who_a));
    assert_eq!(who, who_a);
    b.resolve(1, 7, false);
    b.expect(ToNode::Absent { tag: 1 });
    referee.stop();
}

#[test]
fn joins_that_cannot_be_are_refused_with_the_reason() {
    let referee = start(LONG, true);
    let cases = [
        (
            Join {
                versions: (7, 9),
                ..join("a", None)
            },
            "this referee speaks versions 2 to 2",
        ),
        (
            Join {
                magic: 7,
                ..join("a", None)
            },
            "no join of a node",
        ),
        (join("", None), "--name"),
    ];
    for (join, reason) in cases {
        let mut node = Node::connect(referee.address());
        node.say(&join);
        let refusal = node.refusal();
        assert!(refusal.contains(reason), "{refusal}");
        node.expect_end();
    }
    let mut node = Node::connect(referee.address());
    node.say(&ToReferee::Leave);
    assert!(node.refusal().contains("no join of a node"));
    node.expect_end();
    referee.stop();
}

#[test]
fn a_time_out_that_would_kill_healthy_nodes_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options {
        timeout: Duration::from_millis(1),
        new_cluster: true,
        limits: Limits::LINUX,
    };
    let error = Referee::start(listener, options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("would declare healthy nodes dead")
    );
}
