//! What a program's connection brings: packets, each with who sent it, and now
//! and then descriptors.
//!
//! A connection is of one process, the one that has opened it. Another that has
//! got hold of the descriptor, as a forked child has, speaks for nobody: what
//! it sends is dropped without an answer, which the owner would take for its own.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use dipc_wire::frame::{Frame, FrameBuffer};
use dipc_wire::local::PACKET;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::Socket;

use super::client::{ClientError, Seat};
use super::identity::Ids;

/// Descriptors that one message may bring; more are closed at once.
const DESCRIPTORS: usize = 4;
/// After a request of more bytes its buffer is given back.
const LONG: usize = 256 << 10;
/// Room for who sends and as many descriptors as the kernel passes at once
/// (`SCM_MAX_FD`): what it cuts off, cmsg(3), could not be told from the rest.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);
const CONTROL: usize = 32 + 16 + 4 * 254;

/// What has arrived on a connection and is not yet used.
pub(super) struct Reader {
    owner: i32,
    seat: Seat,
    buffer: FrameBuffer,
    control: Box<Control>,
    /// Who sent the packet that the frame in `buffer` begins with.
    sender: Option<Ids>,
    descriptors: Vec<OwnedFd>,
    /// Bytes of a request that goes on in the next packet.
    unfinished: usize,
    warned: bool,
}

/// A whole request.
pub(super) struct Arrived<'r> {
    pub(super) frame: Frame<'r>,
    /// Who its sender was when it began to send it.
    pub(super) sender: Ids,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Reader {
    /// Of a new connection that this process has opened.
    pub(super) fn new(owner: i32, seat: Seat) -> Self {
        Reader {
            owner,
            seat,
            unfinished: 0,
            buffer: FrameBuffer::new(),
            control: Box::new(Control([0; CONTROL])),
            sender: None,
            descriptors: Vec::new(),
            warned: false,
        }
    }

    /// What its user is given of this daemon.
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The next request, if all of it is here.
    pub(super) fn next_request(&mut self) -> Result<Option<Arrived<'_>>, ClientError> {
        let Some(frame) = self.buffer.next_frame()? else {
            return match self.seat.holds(self.unfinished) {
                true => Ok(None),
                false => Err(ClientError::Greedy),
            };
        };
        // All of it is here: this takes nothing more.
        self.seat.holds(0);
        Ok(Some(Arrived {
            frame,
            // A request begins with its packet, or nobody knows who says it.
            sender: self.sender.take().ok_or(ClientError::Crammed)?,
            descriptors: std::mem::take(&mut self.descriptors),
        }))
    }

    /// Waits for more; false at the connection's end.
    pub(super) fn read(&mut self, stream: &Socket) -> Result<bool, ClientError> {
        let begins = self.buffer.is_empty();
        if begins {
            if self.unfinished > LONG {
                // One long request shall not cost its memory for ever.
                self.buffer = FrameBuffer::new();
            }
            self.unfinished = 0;
        }
        let mut sender = None;
        let mut descriptors = Vec::new();
        let count = loop {
            let mut slices = [IoSliceMut::new(self.buffer.space_of(PACKET))];
            let (fd, flags) = (stream.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
            let message = match recvmsg::<()>(fd, &mut slices, Some(&mut self.control.0), flags) {
                Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            for part in message.cmsgs()? {
                match part {
                    ControlMessageOwned::ScmCredentials(who) => sender = Some(who),
                    ControlMessageOwned::ScmRights(fds) => {
                        // SAFETY: the kernel has just put these descriptors into
                        // our table, for this message.
                        let owned = fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
                        descriptors.extend(owned);
                    }
                    _ => {}
                }
            }
            break message.bytes;
        };
        if count == 0 {
            return Ok(false);
        }
        let sender = sender.ok_or(ClientError::Nameless)?;
        if sender.pid() != self.owner {
            self.warn(sender.pid());
            return Ok(true);
        }
        self.buffer.filled(count);
        self.unfinished += count;
        self.descriptors.append(&mut descriptors);
        if self.descriptors.len() > DESCRIPTORS {
            // Requests take them as they come: so many are to exhaust ours.
            return Err(ClientError::Descriptors);
        }
        if begins {
            self.sender = Some(Ids {
                uid: sender.uid(),
                gid: sender.gid(),
            });
        }
        Ok(true)
    }

    fn warn(&mut self, pid: i32) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                pid,
                owner = self.owner,
                "a process sends on the connection of another one: it is not heard. A program \
                 must not hand on libdipc's descriptors; its children open their own"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use dipc_wire::frame::Encoded;
    use dipc_wire::local::Request;
    use nix::sys::socket::{ControlMessage, sendmsg, setsockopt, sockopt};
    use socket2::{Domain, Type};

    use super::super::client::Seats;
    use super::*;

    fn pair() -> (Socket, Socket) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        (ours, theirs)
    }

    fn reader(owner: i32) -> Reader {
        let seats = Seats::new(u64::MAX, 0);
        Reader::new(owner, seats.take(0).unwrap())
    }

    fn this_process() -> i32 {
        std::process::id() as i32
    }

    fn send(socket: &Socket, bytes: &[u8], control: &[ControlMessage<'_>]) {
        let parts = [IoSlice::new(bytes)];
        sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn descriptors_without_a_request_are_refused_before_they_exhaust_ours() {
        let (ours, theirs) = pair();
        let mut reader = reader(this_process());
        let fds = [theirs.as_raw_fd(); DESCRIPTORS];
        let mut bring = || {
            send(&theirs, &[0], &[ControlMessage::ScmRights(&fds)]);
            reader.read(&ours)
        };
        assert!(matches!(bring(), Ok(true)));
        assert!(matches!(bring(), Err(ClientError::Descriptors)));
    }

    #[test]
    fn a_request_is_of_whom_its_first_packet_says() {
        let (ours, theirs) = pair();
        let mut reader = reader(this_process());
        let header = Encoded::new(&Request::List, 3).unwrap();
        send(&theirs, header.as_ref(), &[]);
        send(&theirs, b"abc", &[]);
        assert!(reader.read(&ours).unwrap());
        assert!(reader.next_request().unwrap().is_none());
        assert!(reader.read(&ours).unwrap());
        let arrived = reader.next_request().unwrap().unwrap();
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let (uid, gid) = (uid.as_raw(), gid.as_raw());
        assert_eq!(arrived.sender, Ids { uid, gid });
        assert_eq!(arrived.frame.payload, b"abc");
    }

    #[test]
    fn a_request_that_does_not_begin_with_its_packet_is_refused() {
        let (ours, theirs) = pair();
        let mut reader = reader(this_process());
        let header = Encoded::new(&Request::List, 0).unwrap();
        send(&theirs, &[header.as_ref(); 2].concat(), &[]);
        assert!(reader.read(&ours).unwrap());
        assert!(reader.next_request().unwrap().is_some());
        assert!(matches!(reader.next_request(), Err(ClientError::Crammed)));
    }

    #[test]
    fn a_packet_of_another_process_changes_nothing() {
        let (ours, theirs) = pair();
        // As if this process had got hold of another one's connection.
        let mut reader = reader(this_process() + 1);
        let header = Encoded::new(&Request::List, 0).unwrap();
        send(
            &theirs,
            header.as_ref(),
            &[ControlMessage::ScmRights(&[theirs.as_raw_fd()])],
        );
        assert!(reader.read(&ours).unwrap());
        assert!(reader.next_request().unwrap().is_none());
        assert!(reader.descriptors.is_empty());
    }
}
