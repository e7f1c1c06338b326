//! A daemon whose every answer the test gives. It waits for at most ten seconds
//! for anything, so a test that is wrong fails instead of hanging.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dipc_wire::NodeId;
use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::local::{Hello, HelloReply, ONE_PACKET, PACKET, Request, Response, VERSION};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag,
    SockType, UnixAddr, accept4, bind, listen, recvmsg, sendmsg, shutdown, socket,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The listening socket, in a directory of its own.
pub(crate) struct Fake {
    listener: OwnedFd,
    pub(crate) dir: PathBuf,
}

/// One of the program's connections.
pub(crate) struct Connection {
    socket: OwnedFd,
    buffer: FrameBuffer,
    /// The lengths of the packets since the last whole frame.
    packets: Vec<usize>,
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
        let (packets, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let listener = socket(AddressFamily::Unix, packets, flags, None).unwrap();
        let address = UnixAddr::new(&dir.join("socket")).unwrap();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::MAXCONN).unwrap();
        Fake { listener, dir }
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
        let fd = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
        let mut connection = Connection {
            // SAFETY: just accepted, and nobody else's.
            socket: unsafe { OwnedFd::from_raw_fd(fd) },
            buffer: FrameBuffer::new(),
            packets: Vec::new(),
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
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl Connection {
    /// The next request and its payload.
    pub(crate) fn request(&mut self) -> (Request, Vec<u8>) {
        match self.any_request() {
            // From every thread but the first, once.
            (Request::Thread { .. }, _) => self.any_request(),
            other => other,
        }
    }

    /// The next request, also one without an answer.
    pub(crate) fn any_request(&mut self) -> (Request, Vec<u8>) {
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
        readable(&self.socket, time)
    }

    /// The descriptors that came with the requests so far.
    pub(crate) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn next<T: for<'a> serde::Deserialize<'a>>(&mut self) -> Option<(T, Vec<u8>)> {
        loop {
            if let Some(frame) = self.buffer.next_frame().unwrap() {
                assert_cut_by_the_rule(&std::mem::take(&mut self.packets), frame.payload.len());
                return Some((frame.message().unwrap(), frame.payload.to_vec()));
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "the connection ends inside a frame");
                return None;
            }
        }
    }

    fn fill(&mut self) -> usize {
        assert!(readable(&self.socket, PATIENCE), "the program says nothing");
        let mut space = [IoSliceMut::new(self.buffer.space_of(PACKET))];
        let mut control = cmsg_space!([i32; 4]);
        let result = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut space,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let count = match result {
            Ok(message) => {
                assert!(!message.flags.contains(MsgFlags::MSG_TRUNC));
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
            Err(error) => panic!("nothing can be received: {error}"),
        };
        self.buffer.filled(count);
        self.packets.push(count);
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
        let header = header.as_ref();
        if header.len() + payload.len() <= ONE_PACKET {
            self.send(&[header, payload], fds);
        } else {
            self.send(&[header], fds);
            payload
                .chunks(PACKET)
                .for_each(|chunk| self.send(&[chunk], &[]));
        }
    }

    /// Says something else than a response.
    pub(crate) fn say<T: serde::Serialize>(&mut self, message: &T) {
        self.send(&[Encoded::new(message, 0).unwrap().as_ref()], &[]);
    }

    /// Sends one packet, whatever it is.
    pub(crate) fn send(&mut self, parts: &[&[u8]], fds: &[i32]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        let sent = sendmsg::<()>(fd, &slices, control, flags, None).unwrap();
        assert_eq!(sent, parts.concat().len());
    }
}

/// The rule of [`dipc_wire::local`].
#[track_caller]
fn assert_cut_by_the_rule(packets: &[usize], payload: usize) {
    let whole: usize = packets.iter().sum();
    if whole <= ONE_PACKET {
        assert_eq!(packets.len(), 1, "one packet: {packets:?}");
    } else {
        assert_eq!(packets[0], whole - payload, "first the header: {packets:?}");
        assert!(packets.iter().all(|len| *len <= PACKET), "{packets:?}");
    }
}

/// The path of a socket that nobody serves.
pub(crate) fn nobody(dir: &Path) -> PathBuf {
    dir.join("nobody")
}
