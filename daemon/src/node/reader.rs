//! What a program's connection brings: bytes, and now and then descriptors.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use dipc_wire::frame::FrameBuffer;
use dipc_wire::local::PACKET;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg};
use socket2::Socket;

use super::client::ClientError;

/// Descriptors that one message may bring; more are closed at once.
const DESCRIPTORS: usize = 4;

/// What has arrived on a connection and is not yet used.
pub(super) struct Reader {
    pub(super) buffer: FrameBuffer,
    pub(super) descriptors: Vec<OwnedFd>,
    /// Whether the next request may bring descriptors: to look for them costs
    /// every read, and only few requests have any. Others lose theirs.
    pub(super) expects_descriptors: bool,
}

impl Reader {
    /// Of a new connection.
    pub(super) fn new() -> Self {
        Reader {
            buffer: FrameBuffer::new(),
            descriptors: Vec::new(),
            expects_descriptors: true,
        }
    }

    /// Waits for more; false at the connection's end.
    pub(super) fn read(&mut self, stream: &Socket) -> Result<bool, ClientError> {
        let count = if self.expects_descriptors {
            self.receive_with_descriptors(stream)?
        } else {
            loop {
                match recv(
                    stream.as_raw_fd(),
                    self.buffer.space_of(PACKET),
                    MsgFlags::empty(),
                ) {
                    Err(nix::Error::EINTR) => {}
                    other => break other?,
                }
            }
        };
        self.buffer.filled(count);
        Ok(count > 0)
    }

    fn receive_with_descriptors(&mut self, stream: &Socket) -> Result<usize, ClientError> {
        let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS]);
        loop {
            let mut slices = [IoSliceMut::new(self.buffer.space_of(PACKET))];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let result = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), flags);
            let message = match result {
                Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = part {
                    // SAFETY: the kernel has just put these descriptors into our
                    // table, for this message.
                    let owned = fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
                    self.descriptors.extend(owned);
                }
            }
            if self.descriptors.len() > DESCRIPTORS {
                // Requests take them as they come: so many are to exhaust ours.
                return Err(ClientError::Descriptors);
            }
            return Ok(message.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use nix::sys::socket::{ControlMessage, sendmsg};
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn descriptors_without_a_request_are_refused_before_they_exhaust_ours() {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let mut reader = Reader::new();
        let fds = [theirs.as_raw_fd(); DESCRIPTORS];
        let rights = [ControlMessage::ScmRights(&fds)];
        let mut bring = || {
            let byte = [IoSlice::new(&[0])];
            let flags = MsgFlags::empty();
            sendmsg::<()>(theirs.as_raw_fd(), &byte, &rights, flags, None).unwrap();
            reader.read(&ours)
        };
        assert!(matches!(bring(), Ok(true)));
        assert!(matches!(bring(), Err(ClientError::Descriptors)));
    }
}
