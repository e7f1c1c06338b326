//! A connection to a daemon without the library: for tests that say what the
//! library never would.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread;

use dipc_wire::frame::{self, Encoded, PREFIX};
use dipc_wire::local::{Hello, HelloReply, PACKET, Request, Response};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::wait::DEADLINE;

/// A connection.
#[derive(Debug)]
pub struct Raw(OwnedFd);

/// A whole frame that came, with what came along.
#[derive(Debug)]
pub struct Heard {
    header: Vec<u8>,
    /// The bytes beside the message.
    pub payload: Vec<u8>,
    /// Descriptors.
    pub descriptors: Vec<OwnedFd>,
}

impl Heard {
    /// The answer that it is.
    ///
    /// # Panics
    /// If the daemon does not keep to its own protocol.
    #[must_use]
    pub fn response(&self) -> Response<'_> {
        frame::decode(&self.header).expect("a response")
    }
}

impl Raw {
    /// Connects, and says nothing.
    ///
    /// # Errors
    /// When there is no descriptor, or nobody listens.
    pub fn connect(path: &Path) -> nix::Result<Self> {
        let kind = SockType::SeqPacket;
        let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        // A daemon that does not answer fails the test, and does not stop it.
        let patience = TimeVal::seconds(DEADLINE.as_secs() as i64);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&fd, sockopt::SendTimeout, &patience)?;
        Ok(Raw(fd))
    }

    /// Connects and says hello. `None` if the daemon turns it away.
    #[must_use]
    pub fn greeted(path: &Path) -> Option<Self> {
        let raw = Raw::connect(path).ok()?;
        let hello = Encoded::new(&Hello::ours(), 0).expect("it is short");
        raw.send(hello.as_ref(), &[]).ok()?;
        let heard = raw.hear().ok()??;
        let reply: HelloReply = frame::decode(&heard.header).expect("a hello");
        // Whose rights count: this thread's, not the process's first.
        let thread = Request::Thread {
            tid: nix::unistd::gettid().as_raw() as u32,
        };
        if !reply.accepted || raw.ask_nothing(&thread).is_err() {
            return None;
        }
        Some(raw)
    }

    /// Sends one packet as it is.
    ///
    /// # Errors
    /// When the daemon has closed the connection.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags,
            None,
        )
        .map(drop)
    }

    /// Sends a request that has no answer.
    ///
    /// # Errors
    /// When the daemon has closed the connection.
    pub fn ask_nothing(&self, request: &Request) -> nix::Result<()> {
        self.begin(request, &[], &[])
    }

    /// Sends a request of one packet.
    ///
    /// # Errors
    /// When the daemon has closed the connection.
    ///
    /// # Panics
    /// If the request is too long.
    pub fn begin(
        &self,
        request: &Request,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> nix::Result<()> {
        let header = Encoded::new(request, payload.len()).expect("it is short");
        self.send(&[header.as_ref(), payload].concat(), descriptors)
    }

    /// The next frame; `None` when the daemon has closed the connection.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub fn hear(&self) -> nix::Result<Option<Heard>> {
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        loop {
            if let Some(prefix) = bytes.first_chunk::<PREFIX>() {
                let (header, payload) = frame::lengths(*prefix).expect("a frame");
                if bytes.len() >= PREFIX + header + payload {
                    return Ok(Some(Heard {
                        header: bytes[PREFIX..PREFIX + header].to_vec(),
                        payload: bytes[PREFIX + header..].to_vec(),
                        descriptors,
                    }));
                }
            }
            let mut room = vec![0; PACKET];
            let mut control = nix::cmsg_space!([RawFd; 4]);
            let mut slices = [IoSliceMut::new(&mut room)];
            let (fd, flags) = (self.0.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
            let message = match recvmsg::<()>(fd, &mut slices, Some(&mut control), flags) {
                Ok(message) => message,
                Err(nix::Error::ECONNRESET | nix::Error::EPIPE) => return Ok(None),
                Err(error) => return Err(error),
            };
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = part {
                    // SAFETY: the kernel has just put them into our table, for
                    // this message.
                    let owned = fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
                    descriptors.extend(owned);
                }
            }
            let count = message.bytes;
            if count == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(&room[..count]);
        }
    }

    /// Asks, and waits for the answer; `None` when the connection is closed instead.
    ///
    /// # Panics
    /// If neither comes in time.
    #[must_use]
    pub fn ask(
        &self,
        request: &Request,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Option<Heard> {
        self.begin(request, payload, descriptors).ok()?;
        self.hear()
            .unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }
}

/// Runs `act` in a thread that is this user, in no group; what it does counts as
/// that user's to the kernel. Only root can be somebody else.
///
/// # Panics
/// If the user cannot be changed.
pub fn as_user<R: Send>(uid: u32, act: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let run = || {
            become_user(uid).unwrap_or_else(|error| panic!("user {uid}: {error}"));
            act()
        };
        let thread = scope.spawn(run);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Changes this thread alone: libc's functions would change all.
fn become_user(uid: u32) -> io::Result<()> {
    let call = |number: libc::c_long, ids: [libc::c_ulong; 3]| {
        // SAFETY: numbers only, and no list of groups.
        match unsafe { libc::syscall(number, ids[0], ids[1], ids[2]) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let id = libc::c_ulong::from(uid);
    call(libc::SYS_setgroups, [0; 3])?;
    call(libc::SYS_setresgid, [id; 3])?;
    call(libc::SYS_setresuid, [id; 3])
}
