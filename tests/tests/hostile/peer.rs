//! A node that has joined, and lies to another one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use dipc_tests::{Cluster, wait};
use dipc_wire::call::{Call, Reply, SemOp};
use dipc_wire::coherence::{Access, Content, Message as Step};
use dipc_wire::frame::{self, MAX_HEADER, MAX_PAYLOAD, PREFIX};
use dipc_wire::peer::{self, Caller, Capabilities, Hello, Message};
use dipc_wire::referee::{self, Answer, Join, Membership, ToNode, ToReferee};
use dipc_wire::{Errno, Incarnation, Kind, NodeId, ObjectId};
use serde::Serialize;

use crate::honest::Honest;

/// A connection on which frames travel.
pub(crate) struct Line {
    stream: TcpStream,
    /// What has come and is not yet looked at.
    ahead: Vec<u8>,
}

/// The other side has closed the connection.
#[derive(Debug)]
pub(crate) struct Closed;

/// A frame that came.
pub(crate) struct Heard {
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl Line {
    pub(crate) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        // A daemon that does not answer fails the test, and does not stop it.
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream, Some(wait::DEADLINE)).expect("a socket");
        }
        let ahead = Vec::new();
        Line { stream, ahead }
    }

    /// An error: it was closed.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.stream.write_all(bytes).map_err(|_| Closed)
    }

    pub(crate) fn say<M: Serialize>(&mut self, message: &M, payload: &[u8]) -> Result<(), Closed> {
        let mut room = vec![0; MAX_HEADER + PREFIX];
        let header = frame::encode(message, payload.len(), &mut room).expect("there is room");
        let bytes = [header, payload].concat();
        self.say_bytes(&bytes)
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) fn hear(&mut self) -> Option<Heard> {
        loop {
            if let Some(prefix) = self.ahead.first_chunk::<PREFIX>() {
                let (header, payload) = frame::lengths(*prefix).expect("a frame");
                let whole = PREFIX + header + payload;
                if self.ahead.len() >= whole {
                    let rest = self.ahead.split_off(whole);
                    let frame = std::mem::replace(&mut self.ahead, rest);
                    return Some(Heard {
                        header: frame[PREFIX..PREFIX + header].to_vec(),
                        payload: frame[PREFIX + header..].to_vec(),
                    });
                }
            }
            let mut room = [0; 1 << 16];
            match self.stream.read(&mut room) {
                Ok(0) => return None,
                Ok(count) => self.ahead.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing comes, and the connection is not closed")
                }
                Err(_) => return None,
            }
        }
    }

    /// Whether the referee lets nobody in here: it says so, or nothing, and closes.
    pub(crate) fn is_refused(&mut self) -> bool {
        while let Some(heard) = self.hear() {
            if !matches!(frame::decode(&heard.header), Ok(Answer::Refused { .. })) {
                return false;
            }
        }
        true
    }

    /// Whether the other side closes the connection, whatever it says before.
    pub(crate) fn is_closed(&mut self) -> bool {
        while self.hear().is_some() {}
        true
    }
}

/// A member that no dipcd is.
pub(crate) struct Evil {
    pub(crate) referee: Line,
    pub(crate) me: Membership,
    /// The others: number, life and address.
    others: Vec<(NodeId, Incarnation, String)>,
    /// Nobody is let in here, but it must be there.
    _listener: TcpListener,
}

impl Evil {
    pub(crate) fn join(cluster: &Cluster, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut referee = Line::to(&cluster.referee_address);
        let join = Join {
            magic: referee::MAGIC,
            versions: referee::VERSIONS,
            name,
            address: &address,
            member: None,
        };
        referee.say(&join, &[]).expect("it listens");
        let heard = referee.hear().expect("an answer");
        let me = match frame::decode(&heard.header).expect("an answer") {
            Answer::Welcome { member, .. } => member,
            Answer::Refused { reason, .. } => panic!("refused: {reason}"),
        };
        referee.say(&ToReferee::Settled, &[]).expect("it listens");
        let mut others = Vec::new();
        loop {
            let heard = referee.hear().expect("the other members");
            match frame::decode(&heard.header).expect("a message") {
                ToNode::Member {
                    node,
                    incarnation,
                    address,
                    ..
                } => {
                    others.push((node, incarnation, address.to_owned()));
                }
                ToNode::Complete => break,
                _ => {}
            }
        }
        Evil {
            referee,
            me,
            others,
            _listener: listener,
        }
    }

    /// Connects to a node as an honest newcomer does.
    pub(crate) fn link(&self, number: u8) -> Line {
        let to = NodeId::new(number).expect("not 0");
        let found = self.others.iter().find(|(node, ..)| *node == to);
        let (_, to_incarnation, address) = found.expect("a member");
        let mut line = Line::to(address);
        let hello = Hello {
            magic: peer::MAGIC,
            versions: peer::VERSIONS,
            cluster: self.me.cluster,
            node: self.me.node,
            incarnation: self.me.incarnation,
            to,
            to_incarnation: *to_incarnation,
        };
        line.say(&hello, &[]).expect("it listens");
        let heard = line.hear().expect("its hello");
        let _: Hello = frame::decode(&heard.header).expect("its hello");
        line
    }
}

/// A sign of life that asks for no answer.
const PING: Message<'_> = Message::Ping {
    number: 0,
    heard: 0,
};

const ROOT: Caller<'_> = Caller {
    pid: 7,
    login: "root",
    capabilities: Capabilities::ALL,
};

fn call(tag: u64, call: Call) -> Message<'static> {
    let caller = ROOT;
    Message::Call { tag, caller, call }
}

fn step(id: ObjectId, message: Step) -> Message<'static> {
    Message::Coherence { id, message }
}

/// Asks a harmless question: whoever answers is not angry.
fn is_heard(line: &mut Line) -> bool {
    line.say(&Message::List { tag: 99 }, &[]).is_ok()
        && std::iter::from_fn(|| line.hear())
            .any(|heard| frame::decode(&heard.header) == Ok(Message::Rows { tag: 99 }))
}

/// Says what no honest peer says, each time as a new member: the link is closed
/// and honest programs go on.
fn is_dropped_for(honest: &mut Honest, name: &str, say: impl Fn(&mut Line) -> Result<(), Closed>) {
    let losses = |honest: &Honest| {
        honest
            .cluster
            .node(1)
            .log()
            .matches("a link is lost")
            .count()
    };
    let before = losses(honest);
    let evil = Evil::join(&honest.cluster, "evil");
    let mut line = evil.link(1);
    assert!(is_heard(&mut line), "before {name}");
    let _ = say(&mut line);
    assert!(line.is_closed());
    assert_eq!(losses(honest), before + 1, "{name} is logged");
    // Its name is free once the referee has heard of the loss.
    let mut evil = evil;
    assert!(evil.referee.is_closed());
    honest.go_on();
}

#[test]
fn a_peer_that_says_what_it_could_not_have_said_is_dropped_and_nobody_else() {
    let mut honest = Honest::new();
    honest.go_on();
    let ids = [honest.set, honest.queue, honest.segment];
    let [set, queue, segment] = ids.map(|id| ObjectId::from_raw(id as i32).expect("ours"));
    let elsewhere = ObjectId::new(NodeId::new(2).expect("not 0"), set.serial());
    let wait = SemOp {
        num: 1,
        op: -1,
        flags: 0,
    }
    .encode();
    let semop = call(
        5,
        Call::SemOp {
            id: set,
            timeout: None,
        },
    );
    let granule = 0;
    let (access, ticket, incarnation) = (Access::Write, 1, Incarnation(1));
    let (data, keep) = (Content::Data, Content::Keep);
    let me = NodeId::new(1).expect("not 0");
    let grant = |content| Step::Grant {
        granule,
        access,
        content,
        ticket,
    };
    let lies: &[(&str, Message<'_>, usize)] = &[
        (
            "a call on another home's object",
            call(
                1,
                Call::Remove {
                    kind: Kind::Sem,
                    id: elsewhere,
                },
            ),
            0,
        ),
        (
            "the end of a segment that is not its own",
            Message::Destroyed { id: segment },
            0,
        ),
        (
            "a message given back that was not given",
            Message::UndeliveredMessage {
                id: queue,
                mtype: 1,
            },
            100,
        ),
        (
            "installed, unasked",
            step(segment, Step::Installed { granule }),
            0,
        ),
        (
            "invalidated, unasked",
            step(segment, Step::Invalidated { granule }),
            0,
        ),
        (
            "missing, unasked",
            step(segment, Step::Missing { granule, ticket }),
            0,
        ),
        ("void, unasked", step(segment, Step::Void { granule }), 0),
        (
            "cancelled, unasked",
            step(
                segment,
                Step::Cancelled {
                    granule,
                    held: true,
                },
            ),
            0,
        ),
        (
            "an eviction of what it has not",
            step(
                segment,
                Step::Evict {
                    granule,
                    content: data,
                },
            ),
            4096,
        ),
        (
            "an eviction of a copy it has not",
            step(
                segment,
                Step::Evict {
                    granule,
                    content: keep,
                },
            ),
            0,
        ),
        (
            "a page too short",
            step(
                segment,
                Step::Evict {
                    granule,
                    content: data,
                },
            ),
            4095,
        ),
        (
            "bytes beside a message that has none",
            step(segment, Step::Installed { granule }),
            1,
        ),
        ("a grant, unasked", step(segment, grant(data)), 4096),
        (
            "a grant of zeros, unasked",
            step(segment, grant(Content::Zero)),
            0,
        ),
        (
            "an order of who is not the home",
            step(segment, Step::Invalidate { granule }),
            0,
        ),
        (
            "another order",
            step(
                segment,
                Step::Forward {
                    granule,
                    to: me,
                    incarnation,
                    access,
                    ticket,
                },
            ),
            0,
        ),
        (
            "a loss, of who is not the home",
            step(segment, Step::Lost { granule }),
            0,
        ),
        (
            "a page beyond the end",
            step(segment, Step::Invalidated { granule: 2 }),
            0,
        ),
        (
            "a page far beyond the end",
            step(
                segment,
                Step::Evict {
                    granule: u64::MAX,
                    content: data,
                },
            ),
            4096,
        ),
        (
            "a request of a life that is over",
            step(
                segment,
                Step::Request {
                    granule: 9,
                    access,
                    ticket,
                    incarnation,
                },
            ),
            0,
        ),
    ];
    for (name, lie, payload) in lies {
        is_dropped_for(&mut honest, name, |line| {
            line.say(lie, &vec![0x77; *payload])
        });
    }
    is_dropped_for(&mut honest, "one name for two calls", |line| {
        line.say(&semop, &wait)?;
        line.say(&semop, &wait)
    });
    is_dropped_for(&mut honest, "a login without end", |line| {
        let login = "x".repeat(4000);
        let caller = Caller {
            login: &login,
            ..ROOT
        };
        let stat = Call::Stat {
            kind: Kind::Sem,
            id: set,
            any: true,
        };
        line.say(
            &Message::Call {
                tag: 1,
                caller,
                call: stat,
            },
            &[],
        )
    });
    let frames: [(&str, &[u8]); 5] = [
        ("a header too long", &[0xff, 0xff, 0, 0, 0, 0, 0, 0]),
        ("a payload too long", &[1, 0, 0, 0, 1, 0, 0, 1]),
        ("no message", &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("an empty message", &[0; 8]),
        (
            "bytes behind a message",
            &[2, 0, 0, 0, 0, 0, 0, 0, 0x0c, 0x0c],
        ),
    ];
    for (name, bytes) in frames {
        is_dropped_for(&mut honest, name, |line| line.say_bytes(bytes));
    }
    honest.newcomer(1);
}

#[test]
fn what_may_have_crossed_something_else_on_its_way_is_ignored() {
    let mut honest = Honest::new();
    honest.go_on();
    let evil = Evil::join(&honest.cluster, "evil");
    let mut line = evil.link(1);
    let gone = ObjectId::new(NodeId::new(1).expect("not 0"), 4_000_000);
    let theirs = ObjectId::new(NodeId::new(2).expect("not 0"), 4_000_000);
    let segment = ObjectId::from_raw(honest.segment as i32).expect("ours");
    let (pid, granule) = (7, 0);
    for message in [
        Message::Reply {
            tag: 12_345,
            reply: Reply::Failed(Errno::EPERM),
        },
        Message::Reply {
            tag: 1,
            reply: Reply::Values,
        },
        Message::Rows { tag: 12_345 },
        Message::Withdraw { tag: 12_345 },
        Message::UndeliveredOp { id: gone, pid },
        Message::Exited { pid },
        Message::Dropped {
            id: gone,
            pid,
            count: u32::MAX,
        },
        Message::Dropped {
            id: segment,
            pid,
            count: u32::MAX,
        },
        Message::Mapped { id: segment, pid },
        step(gone, Step::Installed { granule }),
        step(theirs, Step::Invalidate { granule }),
        call(
            1,
            Call::Detach {
                id: segment,
                count: u32::MAX,
            },
        ),
        call(2, Call::Abandon { id: segment }),
        call(
            3,
            Call::Set {
                kind: Kind::Sem,
                id: gone,
                uid: 0,
                gid: 0,
                mode: 0,
                qbytes: None,
            },
        ),
    ] {
        let bytes = vec![0xff; 60];
        let payload = if matches!(message, Message::Coherence { .. }) {
            &[][..]
        } else {
            &bytes
        };
        line.say(&message, payload).expect("it listens");
        assert!(is_heard(&mut line), "{message:?}");
        honest.go_on();
    }
    // Names that nobody has are nobody.
    let id = ObjectId::from_raw(honest.set as i32).expect("ours");
    for login in [
        "",
        "#0",
        "#4294967295",
        "root\0",
        "../../etc/passwd",
        "\u{1b}[31m",
        "a:b\nc",
    ] {
        let caller = Caller {
            login,
            capabilities: Capabilities::ALL,
            pid,
        };
        let remove = Call::Remove {
            kind: Kind::Sem,
            id,
        };
        line.say(
            &Message::Call {
                tag: 9,
                caller,
                call: remove,
            },
            &[],
        )
        .expect("it listens");
        let answer = std::iter::from_fn(|| line.hear())
            .map(|heard| {
                (
                    frame::decode::<Message<'_>>(&heard.header).map(|m| m == refusal(9)),
                    heard.payload.len(),
                )
            })
            .next();
        assert_eq!(answer, Some((Ok(true), 0)), "{login:?}");
    }
    // A crowd of messages that mean nothing.
    for _ in 0..20_000 {
        line.say(&PING, &[]).expect("it listens");
    }
    assert!(is_heard(&mut line));
    honest.go_on();
}

fn refusal(tag: u64) -> Message<'static> {
    let reply = Reply::Failed(Errno::EPERM);
    Message::Reply { tag, reply }
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let mut honest = Honest::new();
    let mut many = honest.newcomer(2);
    let mut more = honest.newcomer(1);
    // So that a list is long.
    assert_eq!(many.must("many sem 0 2000 011600"), 2000);
    assert_eq!(more.must("many sem 0 2000 011600"), 2000);
    let evil = Evil::join(&honest.cluster, "evil");
    let mut line = evil.link(1);
    // More than 256 MiB of answers: it may have been given up before it has asked all.
    for tag in 0..8000 {
        if line.say(&Message::List { tag }, &[]).is_err() {
            break;
        }
    }
    honest.go_on();
    wait::until("the peer is gone", || {
        honest
            .cluster
            .node(1)
            .own_status()
            .is_some_and(|status| status.peers == 1)
    });
    honest.newcomer(1);
}

#[test]
fn frames_of_the_greatest_length_and_half_of_one_cost_others_nothing() {
    let mut honest = Honest::new();
    let evil = Evil::join(&honest.cluster, "evil");
    let mut line = evil.link(1);
    let longest = vec![0; MAX_PAYLOAD];
    for _ in 0..8 {
        line.say(&PING, &longest).expect("it listens");
    }
    assert!(is_heard(&mut line));
    // Half a frame, and silence: it is waited for, and nobody else is kept.
    line.say_bytes(&[1, 0, 0, 0, 0, 0, 0x80, 0, 0x0c, 1, 2, 3])
        .expect("it listens");
    honest.go_on();
    honest.newcomer(1);
}
