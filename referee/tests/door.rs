//! Whom a referee with an allow file takes in.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dipc_door::Door;
use dipc_referee::{Options, Referee};
use dipc_wire::Limits;
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::referee::{Answer, Join, MAGIC, VERSIONS};

/// Far longer than the test takes.
const LONG: Duration = Duration::from_secs(60);

/// What the referee answers to the node of this name: nothing, or why not.
fn join(to: SocketAddr, name: &str) -> Result<(), String> {
    let mut channel = Door::default()
        .call(TcpStream::connect(to).unwrap(), LONG)
        .unwrap();
    let join = Join {
        magic: MAGIC,
        versions: VERSIONS,
        name,
        address: "127.0.0.1:9",
        member: None,
    };
    let frame = Encoded::new(&join, 0).unwrap();
    channel.send_blocking([frame.as_ref(), &[]]).unwrap();
    let mut buffer = FrameBuffer::new();
    loop {
        if let Some(frame) = buffer.next_frame().unwrap() {
            return match frame.message().unwrap() {
                Answer::Welcome { .. } => Ok(()),
                Answer::Refused { reason, retry } => {
                    assert!(!retry);
                    Err(reason.to_owned())
                }
            };
        }
        let count = channel.read(buffer.space()).unwrap();
        assert!(count > 0, "no answer");
        buffer.filled(count);
    }
}

#[test]
fn only_a_listed_name_at_its_address_joins_and_the_others_are_told_why() {
    let path = std::env::temp_dir().join(format!("dipc-allow-{}", std::process::id()));
    std::fs::write(&path, "one 127.0.0.1\ntwo 127.0.0.2\n").unwrap();
    let door = Door::load(None, Some(&path)).unwrap();
    std::fs::remove_file(path).unwrap();
    let options = Options {
        timeout: LONG,
        new_cluster: true,
        limits: Limits::LINUX,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let referee = Referee::start_behind(door, listener, options).unwrap();
    let at = referee.address();
    let elsewhere = join(at, "two").unwrap_err();
    assert!(
        elsewhere.contains("does not have \"two\" at 127.0.0.1"),
        "{elsewhere}"
    );
    let unlisted = join(at, "three").unwrap_err();
    assert!(
        unlisted.contains("\"three\" is not in the allow file"),
        "{unlisted}"
    );
    assert_eq!(join(at, "one"), Ok(()));
    referee.stop();
}
