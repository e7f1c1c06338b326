//! A TCP proxy that keeps what passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

/// What has passed.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// From those who connected.
    pub(crate) out: Vec<u8>,
    /// To them.
    pub(crate) back: Vec<u8>,
}

/// A proxy in front of one address.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    passed: Arc<Mutex<Passed>>,
}

impl Tap {
    /// One that passes everything on to `target`, for as long as the test runs.
    pub(crate) fn before(target: SocketAddr) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Tap {
            address: listener.local_addr().unwrap(),
            passed: Arc::default(),
        };
        let passed = tap.passed.clone();
        thread::spawn(move || {
            for caller in listener.incoming() {
                let (Ok(caller), Ok(called)) = (caller, TcpStream::connect(target)) else {
                    return;
                };
                let ends = (caller.try_clone().unwrap(), called.try_clone().unwrap());
                let also = passed.clone();
                thread::spawn(move || {
                    copy(ends.0, ends.1, |new| also.lock().unwrap().out.extend(new))
                });
                let also = passed.clone();
                thread::spawn(move || {
                    copy(called, caller, |new| also.lock().unwrap().back.extend(new))
                });
            }
        });
        tap
    }

    /// What those who connected have sent so far.
    pub(crate) fn out(&self) -> Vec<u8> {
        self.passed.lock().unwrap().out.clone()
    }

    /// How often these bytes have passed, in either direction.
    pub(crate) fn count(&self, bytes: &[u8]) -> usize {
        let passed = self.passed.lock().unwrap();
        let count = |all: &[u8]| {
            all.windows(bytes.len())
                .filter(|part| *part == bytes)
                .count()
        };
        count(&passed.out) + count(&passed.back)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut room = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut room) {
        // Kept first: what has arrived is never missing here.
        keep(&room[..count]);
        if to.write_all(&room[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
