//! What a listener on the wire reads: everything without a key, nothing with one.
//!
//! Node 1's way to the referee passes a relay that has the key and tells the
//! others another address of node 1, that of a tap:
//!
//! ```text
//! node 1 ── tap ── relay ── referee        node 2 ── tap ── node 1
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use dipc_door::{Channel, Door, Session};
use dipc_tests::{CREATE, Cluster, FIND, Options};
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::referee::Join;

use crate::hostile::LONG;
use crate::tap::Tap;

/// What nobody shall read: no such bytes come about by chance.
const SECRET: &str = "the-plans-of-the-secret-weapon";
/// The byte that a whole page is filled with.
const FILLING: u8 = 0xa7;

/// Passes one node's connection on to the referee, with a tap's address in place
/// of its own; the tap goes to `taps`.
fn relay(door: Door, referee: SocketAddr, taps: Sender<Tap>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let node = listener.accept().unwrap().0;
        let mut node = door.answer(Arc::new(node), LONG).unwrap();
        let mut referee = door
            .call(TcpStream::connect(referee).unwrap(), LONG)
            .unwrap();
        let tap = redirect(&mut node, &referee);
        taps.send(tap).unwrap();
        node.settle(None).unwrap();
        referee.settle(None).unwrap();
        let ends = [&node, &referee].map(|end| (end.session(), end.stream().clone()));
        let [to_node, to_referee] = ends;
        thread::spawn(move || pump(node, to_referee));
        pump(referee, to_node);
    });
    address
}

fn redirect(node: &mut Channel, referee: &Channel) -> Tap {
    let mut buffer = FrameBuffer::new();
    loop {
        if let Some(frame) = buffer.next_frame().unwrap() {
            let join: Join<'_> = frame.message().unwrap();
            let tap = Tap::before(join.address.parse().unwrap());
            let address = tap.address.to_string();
            let join = Join {
                address: &address,
                ..join
            };
            let frame = Encoded::new(&join, 0).unwrap();
            referee.send_blocking([frame.as_ref(), &[]]).unwrap();
            // A node says nothing more before it is welcome.
            assert!(buffer.is_empty());
            return tap;
        }
        let count = node.read(buffer.space()).unwrap();
        assert!(count > 0, "the node went away");
        buffer.filled(count);
    }
}

fn pump(mut from: Channel, (session, to): (Option<Arc<Session>>, Arc<TcpStream>)) {
    let mut room = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut room) {
        let mut to = &*to;
        let sent = match &session {
            // Nobody else sends here, so the order is kept outside the lock too.
            Some(session) => session
                .seal([&room[..count], &[]], <[u8]>::to_vec)
                .and_then(|sealed| to.write_all(&sealed)),
            None => to.write_all(&room[..count]),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// How often what was shared could be read between node 1 and the referee, and
/// between the nodes: the name of a node, a message, and half a page.
fn readable(tls: bool) -> (usize, usize, usize) {
    let cluster = Cluster::with(Options {
        tls,
        ..Options::nodes(0)
    });
    let key = cluster.key();
    let door = Door::load(tls.then_some(key.as_path()), None).unwrap();
    let (sender, taps) = channel();
    let relay = relay(door, cluster.referee_address.parse().unwrap(), sender);
    let naming = Tap::before(relay);
    let address = naming.address.to_string();
    let one = cluster.try_node(1, &["--referee", &address]).unwrap();
    let two = cluster.try_node(2, &[]).unwrap();
    let between = taps.recv_timeout(LONG).unwrap();
    let [mut first, mut second] = [one.program(), two.program()];
    let queue = first.must(format!("msgget 0x51 {CREATE}"));
    assert_eq!(second.must(format!("msgget 0x51 {FIND}")), queue);
    first.must(format!("msgsnd {queue} 1 0 {SECRET}"));
    assert!(
        second
            .ask(format!("msgrcv {queue} 100 0 0"))
            .to_string()
            .contains(SECRET)
    );
    let segment = first.must(format!("shmget 0x52 4096 {CREATE}"));
    let slot = first.must(format!("shmat {segment} 0"));
    let theirs = second.must(format!("shmat {segment} 0"));
    first.must(format!("fill {slot} 0 4096 {FILLING}"));
    // No byte of the page differs from what it was filled with.
    assert_eq!(second.must(format!("differ {theirs} 0 4096 {FILLING}")), 0);
    (
        naming.count(b"node2"),
        between.count(SECRET.as_bytes()),
        between.count(&[FILLING; 2048]),
    )
}

#[test]
fn with_a_key_a_listener_reads_neither_names_nor_messages_nor_pages() {
    assert_eq!(readable(true), (0, 0, 0));
}

#[test]
fn without_one_he_reads_them_all() {
    let (names, messages, pages) = readable(false);
    assert!(
        names > 0 && messages > 0 && pages > 0,
        "{names} {messages} {pages}"
    );
}
