//! A connection to a `dipcd`, speaking [`dipc_wire::local`] as programs do.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dipc_wire::admin::{NodeStatus, Object};
use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{Encoded, Frame, FrameBuffer};
use dipc_wire::local::{Hello, HelloReply, PACKET, Request, Response, VERSION};
use dipc_wire::{Errno, Limits, ObjectId};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};

/// A daemon that says nothing for so long is not waited for: it answers what is
/// asked here without blocking.
const PATIENCE: Duration = Duration::from_secs(10);

/// An accepted connection.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    socket: OwnedFd,
    incoming: FrameBuffer,
}

impl Client {
    /// Connects and says hello.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let mut client = Client {
            path: path.to_path_buf(),
            socket: connected(path).map_err(|error| unreachable(path, &error.into()))?,
            incoming: FrameBuffer::new(),
        };
        let reply: HelloReply = client.exchange(&Hello::ours(), |frame| {
            frame.message().map_err(|e| e.to_string())
        })?;
        if reply.accepted {
            Ok(client)
        } else {
            Err(refused(path, reply.version))
        }
    }

    /// The objects of the whole cluster.
    pub(crate) fn list(&mut self) -> Result<Vec<Object>> {
        self.exchange(&Request::List, rows)
    }

    /// The nodes of the cluster that answer, and their programs.
    pub(crate) fn status(&mut self) -> Result<Vec<NodeStatus>> {
        self.exchange(&Request::Status, rows)
    }

    /// The cluster's limits.
    pub(crate) fn limits(&mut self) -> Result<Limits> {
        self.exchange(&Request::Limits, |frame| match response(&frame)? {
            Response::Limits(limits) => Ok(limits),
            other => failed(other).and_then(|errno| Err(format!("it failed with {errno:?}"))),
        })
    }

    /// Finds an object: a call that is answered by an id. The inner error is the call's.
    pub(crate) fn find(&mut self, call: Call) -> Result<std::result::Result<ObjectId, Errno>> {
        self.exchange(&Request::Call(call), |frame| match response(&frame)? {
            Response::Reply(Reply::Id(id)) => Ok(Ok(id)),
            other => failed(other).map(Err),
        })
    }

    /// Makes a call that is answered by nothing but its success. The inner error is the call's.
    pub(crate) fn perform(&mut self, call: Call) -> Result<std::result::Result<(), Errno>> {
        self.exchange(&Request::Call(call), |frame| match response(&frame)? {
            Response::Reply(Reply::Done) => Ok(Ok(())),
            other => failed(other).map(Err),
        })
    }

    /// Sends one message and has `read` take what it needs from the answer.
    fn exchange<T>(
        &mut self,
        message: &impl serde::Serialize,
        read: impl FnOnce(Frame<'_>) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let what = format!("no answer from dipcd at {}", self.path.display());
        let request = Encoded::new(message, 0).map_err(|e| Failure::new(&*what, e))?;
        let fd = self.socket.as_raw_fd();
        // Without payload it is one packet, which goes whole or not at all.
        retried(|| socket::send(fd, request.as_ref(), MsgFlags::MSG_NOSIGNAL))
            .map_err(|e| lost(&what, &e))?;
        loop {
            if let Some(frame) = self
                .incoming
                .next_frame()
                .map_err(|e| Failure::new(&*what, e))?
            {
                return read(frame).map_err(|why| not_understood(&self.path, &why));
            }
            let space = self.incoming.space_of(PACKET);
            match retried(|| socket::recv(fd, space, MsgFlags::empty())) {
                Ok(0) => return Err(lost(&what, &io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.incoming.filled(count),
                Err(error) => return Err(lost(&what, &error)),
            }
        }
    }
}

/// A connected socket that gives up after [`PATIENCE`].
fn connected(path: &Path) -> nix::Result<OwnedFd> {
    let (packets, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let fd = socket::socket(AddressFamily::Unix, packets, flags, None)?;
    let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
    socket::setsockopt(&fd, SendTimeout, &patience)?;
    socket::setsockopt(&fd, ReceiveTimeout, &patience)?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Does it again when a signal came in between.
fn retried<T>(mut operation: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(nix::Error::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

fn response<'a>(frame: &Frame<'a>) -> std::result::Result<Response<'a>, String> {
    frame.message().map_err(|e| e.to_string())
}

fn rows<T: DeserializeOwned>(frame: Frame<'_>) -> std::result::Result<Vec<T>, String> {
    match response(&frame)? {
        Response::Rows => match postcard::take_from_bytes(frame.payload) {
            Ok((rows, [])) => Ok(rows),
            Ok((_, rest)) => Err(format!("{} bytes follow the rows", rest.len())),
            Err(error) => Err(format!("the rows cannot be read: {error}")),
        },
        other => failed(other).and_then(|errno| Err(format!("it failed with {errno:?}"))),
    }
}

/// The error of a response that is no success.
fn failed(response: Response<'_>) -> std::result::Result<Errno, String> {
    match response {
        Response::Reply(Reply::Failed(errno)) => Ok(errno),
        other => Err(format!("it does not answer the question: {other:?}")),
    }
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("no dipcd answers at {}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(what, "there is no such socket")
            .next("start a cluster on this machine with `dipc up --nodes 3`, or name a running dipcd's socket in DIPC_SOCKET"),
        io::ErrorKind::ConnectionRefused => {
            Failure::new(what, "the socket is there, but the dipcd that made it has ended")
                .next("start it again; for a cluster of `dipc up`: `dipc down`, then `dipc up`")
        }
        io::ErrorKind::PermissionDenied => Failure::new(what, "you may not use this socket")
            .next("ask its owner, or start a cluster of your own with `dipc up`"),
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            Failure::new(what, "what listens there is no dipcd, or one of another release")
                .next("name the socket of a dipcd of this release in DIPC_SOCKET")
        }
        _ => Failure::new(what, error),
    }
}

fn refused(path: &Path, version: u16) -> Failure {
    let what = format!("dipcd at {} refuses us", path.display());
    if version == VERSION {
        return Failure::new(
            what,
            "it speaks our version, but does not serve this user or this moment",
        )
        .next("its log says why");
    }
    Failure::new(
        what,
        format!("it speaks version {version} of the protocol, this dipc speaks {VERSION}"),
    )
    .next("install dipcd, libdipc.so and dipc of one release, and start dipcd again")
}

fn lost(what: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it said nothing for {} seconds", PATIENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => "it closed the connection".to_string(),
        _ => error.to_string(),
    };
    Failure::new(what, why).next("look into its log; `dipc status` shows who lives")
}

fn not_understood(path: &Path, why: &str) -> Failure {
    Failure::new(
        format!("the answer from {} makes no sense", path.display()),
        why,
    )
    .next("see that a dipcd of this release listens there")
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use dipc_wire::admin::Detail;
    use dipc_wire::local::ONE_PACKET;
    use dipc_wire::{Kind, NodeId};

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dipc-{name}-{}", std::process::id()))
    }

    fn listen(path: &Path) -> OwnedFd {
        let (packets, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let fd = socket::socket(AddressFamily::Unix, packets, flags, None).unwrap();
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        socket::listen(&fd, socket::Backlog::MAXCONN).unwrap();
        fd
    }

    /// A daemon that answers every request, a packet each, with the next of
    /// `answers`, cut as long frames are: the header alone, then the payload.
    fn scripted(name: &str, answers: Vec<(Encoded, Vec<u8>)>) -> PathBuf {
        let path = path(name);
        let listener = listen(&path);
        thread::spawn(move || {
            let fd = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
            // SAFETY: just accepted, and nobody else's.
            let connection = unsafe { OwnedFd::from_raw_fd(fd) };
            let send = |bytes: &[u8]| {
                let sent = socket::send(connection.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
                assert_eq!(sent, Ok(bytes.len()));
            };
            for (header, payload) in answers {
                let mut buffer = FrameBuffer::new();
                let room = buffer.space_of(PACKET);
                let count = socket::recv(connection.as_raw_fd(), room, MsgFlags::empty());
                buffer.filled(count.unwrap());
                assert!(buffer.next_frame().unwrap().is_some() && buffer.is_empty());
                if header.as_ref().len() + payload.len() <= ONE_PACKET {
                    send(&[header.as_ref(), &payload].concat());
                } else {
                    send(header.as_ref());
                    payload.chunks(PACKET).for_each(send);
                }
            }
        });
        path
    }

    fn hello(version: u16, accepted: bool) -> (Encoded, Vec<u8>) {
        let reply = HelloReply {
            version,
            accepted,
            node: NodeId::SOLO,
        };
        (Encoded::new(&reply, 0).unwrap(), Vec::new())
    }

    fn framed(response: &Response<'_>, payload: &[u8]) -> (Encoded, Vec<u8>) {
        let header = Encoded::new(response, payload.len()).unwrap();
        (header, payload.to_vec())
    }

    fn object() -> Object {
        Object {
            kind: Kind::Sem,
            key: 5,
            id: ObjectId::new(NodeId::SOLO, 1),
            owner: "root".into(),
            mode: 0o600,
            home: "node1".into(),
            detail: Detail::Sem { nsems: 2, otime: 0 },
        }
    }

    #[test]
    fn rows_come_back_as_they_were_sent_in_one_packet_or_in_many() {
        for count in [0, 1, 10_000] {
            let rows = vec![object(); count];
            let payload = postcard::to_allocvec(&rows).unwrap();
            let path = scripted(
                &format!("rows-{count}"),
                vec![hello(VERSION, true), framed(&Response::Rows, &payload)],
            );
            assert!(Client::connect(&path).unwrap().list().unwrap() == rows);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn surplus_bytes_behind_the_rows_are_an_error() {
        let mut payload = postcard::to_allocvec(&vec![object()]).unwrap();
        payload.push(0);
        let path = scripted(
            "surplus",
            vec![hello(VERSION, true), framed(&Response::Rows, &payload)],
        );
        let failure = Client::connect(&path).unwrap().list().unwrap_err();
        assert!(failure.to_string().contains("1 bytes follow"), "{failure}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_failed_call_is_told_from_a_failed_connection() {
        let failed = framed(&Response::Reply(Reply::Failed(Errno::EPERM)), &[]);
        let path = scripted("failed", vec![hello(VERSION, true), failed]);
        let mut client = Client::connect(&path).unwrap();
        let remove = Call::Remove {
            kind: Kind::Sem,
            id: object().id,
        };
        assert_eq!(client.perform(remove), Ok(Err(Errno::EPERM)));
        assert!(
            client
                .perform(remove)
                .unwrap_err()
                .to_string()
                .contains("closed the connection")
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_versions_daemon_is_named_as_such() {
        let path = scripted("version", vec![hello(VERSION + 1, false)]);
        let failure = Client::connect(&path).unwrap_err().to_string();
        assert!(
            failure.contains(&format!("version {}", VERSION + 1)),
            "{failure}"
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_missing_daemon_and_a_dead_one_are_told_apart() {
        let path = path("dead");
        assert!(
            Client::connect(&path)
                .unwrap_err()
                .to_string()
                .contains("no such socket")
        );
        drop(listen(&path));
        assert!(
            Client::connect(&path)
                .unwrap_err()
                .to_string()
                .contains("has ended")
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn something_else_than_a_dipcd_is_named_as_such() {
        let path = path("stranger");
        let _stranger = UnixListener::bind(&path).unwrap();
        let failure = Client::connect(&path).unwrap_err().to_string();
        assert!(failure.contains("no dipcd, or one of another"), "{failure}");
        std::fs::remove_file(path).unwrap();
    }
}
