//! A daemon whose every answer the test gives. It waits for at most ten seconds
//! for anything, so a test that is wrong fails instead of hanging.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dipc_wire::NodeId;
use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::local::{Hello, HelloReply, Request, Response, VERSION};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

const PATIENCE: Duration = Duration::from_secs(10);

/// The listening socket, in a directory of its own.
pub(crate) struct Fake {
    listener: UnixListener,
    pub(crate) dir: PathBuf,
}

/// One of the program's connections.
pub(crate) struct Connection {
    stream: UnixStream,
    buffer: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
}

/// A directory that no other test has.
pub(crate) fn directory(test: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("dipc-shim-{}-{test}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Fake {
    pub(crate) fn new(test: &str) -> Self {
        let dir = directory(test);
        Fake {
            listener: UnixListener::bind(dir.join("socket")).unwrap(),
            dir,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// A connection that has been welcomed as node 1's program.
    pub(crate) fn accept(&self) -> Connection {
        self.greet(HelloReply {
            version: VERSION,
            accepted: true,
            node: NodeId::SOLO,
        })
    }

    /// A connection whose hello has been answered so.
    pub(crate) fn greet(&self, reply: HelloReply) -> Connection {
        assert!(readable(&self.listener, PATIENCE), "nobody connects");
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connection = Connection {
            stream,
            buffer: FrameBuffer::new(),
            descriptors: VecDeque::new(),
        };
        assert_eq!(connection.next::<Hello>().unwrap().0, Hello::ours());
        connection.say(&reply);
        connection
    }

    /// Whether nobody has connected who was not accepted.
    pub(crate) fn is_unvisited(&self) -> bool {
        !readable(&self.listener, Duration::ZERO)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn readable(file: &impl AsFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() > 0
}

impl Drop for Connection {
    /// Ends it at once, though a program that another test is just starting may
    /// hold a copy until it has its own image.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// The next request and its payload.
    pub(crate) fn request(&mut self) -> (Request, Vec<u8>) {
        self.next()
            .expect("a request, not the end of the connection")
    }

    /// The next request, which is a call.
    pub(crate) fn call(&mut self) -> (Call, Vec<u8>) {
        match self.request() {
            (Request::Call(call), payload) => (call, payload),
            (other, _) => panic!("{other:?} is no call"),
        }
    }

    /// The program has closed it, and asked nothing more.
    pub(crate) fn is_over(&mut self) -> bool {
        self.next::<Request>().is_none()
    }

    /// Whether the program says something within `time`.
    pub(crate) fn speaks_within(&self, time: Duration) -> bool {
        readable(&self.stream, time)
    }

    /// The descriptors that came with the requests so far.
    pub(crate) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn next<T: for<'a> serde::Deserialize<'a>>(&mut self) -> Option<(T, Vec<u8>)> {
        loop {
            if let Some(frame) = self.buffer.next_frame().unwrap() {
                return Some((frame.message().unwrap(), frame.payload.to_vec()));
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "the connection ends inside a frame");
                return None;
            }
        }
    }

    fn fill(&mut self) -> usize {
        let mut space = [IoSliceMut::new(self.buffer.space())];
        let mut control = cmsg_space!([i32; 4]);
        let result = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut space,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let count = match result {
            Ok(message) => {
                for control in message.cmsgs().unwrap() {
                    if let ControlMessageOwned::ScmRights(fds) = control {
                        // SAFETY: just received, and nobody else's.
                        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                        self.descriptors.extend(fds.into_iter().map(own));
                    }
                }
                message.bytes
            }
            Err(nix::Error::ECONNRESET) => 0,
            Err(error) => panic!("the program says nothing: {error}"),
        };
        self.buffer.filled(count);
        count
    }

    pub(crate) fn reply(&mut self, reply: Reply<'_>) {
        self.reply_with(reply, &[]);
    }

    pub(crate) fn reply_with(&mut self, reply: Reply<'_>, payload: &[u8]) {
        self.respond(&Response::Reply(reply), payload, &[]);
    }

    pub(crate) fn respond(&mut self, response: &Response<'_>, payload: &[u8], fds: &[i32]) {
        let header = Encoded::new(response, payload.len()).unwrap();
        let rights = [ControlMessage::ScmRights(fds)];
        let parts = [IoSlice::new(header.as_ref()), IoSlice::new(payload)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &parts,
            control,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        let whole = [header.as_ref(), payload].concat();
        self.stream.write_all(&whole[sent..]).unwrap();
    }

    /// Says something else than a response.
    pub(crate) fn say<T: serde::Serialize>(&mut self, message: &T) {
        let bytes = Encoded::new(message, 0).unwrap();
        self.stream.write_all(bytes.as_ref()).unwrap();
    }
}

/// The path of a socket that nobody serves.
pub(crate) fn nobody(dir: &Path) -> PathBuf {
    dir.join("nobody")
}
