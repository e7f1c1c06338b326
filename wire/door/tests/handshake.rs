//! Two ends over loopback: who comes to terms, who does not, and why.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dipc_door::{Channel, Door, Key, Refusal};
use dipc_wire::frame::FrameBuffer;

/// Far longer than any of this takes.
const LONG: Duration = Duration::from_secs(60);

fn key() -> Key {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("dipc-handshake-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let key = Key::generate(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    key
}

fn door(key: Option<&Key>) -> Door {
    Door::with_key(key).unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let calling = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (calling, listener.accept().unwrap().0)
}

type Met = (Result<Channel, Refusal>, Result<Channel, Refusal>);

fn meet(caller: Door, called: Door) -> Met {
    let (calling, answering) = pair();
    let call = thread::spawn(move || caller.call(calling, LONG));
    let answered = called.answer(Arc::new(answering), LONG);
    (call.join().unwrap(), answered)
}

fn with_key() -> (Channel, Channel) {
    let key = key();
    let (caller, called) = meet(door(Some(&key)), door(Some(&key)));
    (caller.unwrap(), called.unwrap())
}

#[test]
fn two_with_the_same_key_talk_and_both_directions_keep_their_order() {
    let (mut one, mut two) = with_key();
    let (mine, theirs) = (one.session().unwrap(), two.session().unwrap());
    let payload: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let expected = payload.clone();
    let send = move |channel: Arc<dipc_door::Session>, stream: Arc<TcpStream>| {
        for round in 0..50u8 {
            // Written outside the lock: a write that waits there would keep the
            // reader of this end from making room at the other.
            let sealed = channel.seal([&[round], &payload], <[u8]>::to_vec).unwrap();
            (&*stream).write_all(&sealed).unwrap();
        }
    };
    let receive = |channel: &mut Channel| {
        for round in 0..50u8 {
            let mut got = vec![0; expected.len() + 1];
            channel.read_exact(&mut got).unwrap();
            assert_eq!(got[0], round);
            assert!(got[1..] == expected[..]);
        }
    };
    let streams = (one.stream().clone(), two.stream().clone());
    thread::scope(|scope| {
        scope.spawn(|| receive(&mut one));
        scope.spawn(|| receive(&mut two));
        let other = send.clone();
        // The reader of each end opens while its sender seals.
        scope.spawn(move || send(mine, streams.0));
        scope.spawn(move || other(theirs, streams.1));
    });
}

#[test]
fn what_is_sent_right_behind_the_handshake_is_read() {
    let key = key();
    let (calling, answering) = pair();
    let caller = door(Some(&key));
    let call = thread::spawn(move || {
        let channel = caller.call(calling, LONG).unwrap();
        channel.send_blocking([b"at ", b"once"]).unwrap();
        channel
    });
    // The caller's last words of the handshake and its first afterwards have come
    // together when this side reads them.
    let mut channel = door(Some(&key)).answer(Arc::new(answering), LONG).unwrap();
    let mut got = [0; 7];
    channel.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"at once");
    drop(call.join().unwrap());
    assert_eq!(channel.read(&mut got).unwrap(), 0);
}

#[test]
fn another_key_is_refused_and_both_sides_say_so() {
    let (caller, called) = meet(door(Some(&key())), door(Some(&key())));
    assert_eq!(caller.unwrap_err().reason(), "key");
    assert_eq!(called.unwrap_err().reason(), "key-not-accepted");
}

#[test]
fn a_key_and_none_do_not_meet_and_both_sides_can_tell() {
    let (encrypts, plain) = (door(Some(&key())), door(None));
    // A plain caller is told no in a way that it understands.
    let (calling, answering) = pair();
    let mut caller = plain.call(calling, LONG).unwrap();
    caller.send_blocking([&[22, 0, 0, 0], b"a frame"]).unwrap();
    let refused = encrypts.answer(Arc::new(answering), LONG);
    assert_eq!(refused.unwrap_err().reason(), "plain");
    let mut buffer = FrameBuffer::new();
    let count = caller.read(buffer.space()).unwrap();
    buffer.filled(count);
    let error = buffer.next_frame().unwrap_err();
    assert!(dipc_door::door::speaks_tls(&error), "{error:?}");
    // A plain side that is called finds out by the first frame.
    let (calling, answering) = pair();
    let call = thread::spawn(move || encrypts.call(calling, LONG));
    let mut called = plain.answer(Arc::new(answering), LONG).unwrap();
    let mut buffer = FrameBuffer::new();
    let count = called.read(buffer.space()).unwrap();
    buffer.filled(count);
    let error = buffer.next_frame().unwrap_err();
    assert!(dipc_door::door::speaks_tls(&error), "{error:?}");
    called
        .send_blocking([&[1, 0, 0, 0, 0, 0, 0, 0], &[1]])
        .unwrap();
    assert_eq!(call.join().unwrap().unwrap_err().reason(), "plain");
}

#[test]
fn silence_and_single_bytes_end_at_the_deadline() {
    let key = key();
    let short = Duration::from_millis(50);
    for bytes in [0, 1, 6] {
        let (mut calling, answering) = pair();
        calling.write_all(&[22, 3, 1, 2, 0, 1][..bytes]).unwrap();
        let refused = door(Some(&key)).answer(Arc::new(answering), short);
        assert_eq!(refused.unwrap_err().reason(), "slow", "{bytes}");
    }
    // Each byte comes in time, the 16 KiB that the first five promise do not: the
    // deadline is one for all of them.
    let (mut calling, answering) = pair();
    calling.write_all(&[22, 3, 1, 64, 0]).unwrap();
    let trickle = thread::spawn(move || {
        while calling.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let refused = door(Some(&key)).answer(Arc::new(answering), short);
    assert_eq!(refused.unwrap_err().reason(), "slow");
    trickle.join().unwrap();
}

#[test]
fn a_handshake_that_is_cut_off_or_garbage_is_refused() {
    let key = key();
    let (calling, answering) = pair();
    (&calling).write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    calling.shutdown(Shutdown::Write).unwrap();
    let refused = door(Some(&key)).answer(Arc::new(answering), LONG);
    assert_eq!(refused.unwrap_err().reason(), "truncated");
    let (mut calling, answering) = pair();
    calling
        .write_all(&[22, 3, 1, 0, 4, 1, 255, 255, 255])
        .unwrap();
    let refused = door(Some(&key)).answer(Arc::new(answering), LONG);
    assert_eq!(refused.unwrap_err().reason(), "handshake");
}

#[test]
fn a_record_that_was_changed_or_sent_twice_is_an_error_and_no_data() {
    for replay in [false, true] {
        let (one, mut two) = with_key();
        let mut record = Vec::new();
        let seal = |bytes: &[u8]| one.session().unwrap().seal([bytes, &[]], <[u8]>::to_vec);
        record.extend(seal(b"pay 1").unwrap());
        if replay {
            record.extend_from_within(..);
        } else {
            let last = record.len() - 1;
            record[last] ^= 1;
        }
        one.stream().as_ref().write_all(&record).unwrap();
        let mut got = [0; 64];
        let read = two.read(&mut got);
        let failed = match read {
            Ok(5) if replay => two.read(&mut got),
            other => other,
        };
        assert!(failed.is_err(), "{failed:?}");
    }
}
