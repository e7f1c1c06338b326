//! A program for which there is no thread is told so.
//!
//! Its hello must be read first: a socket that is closed with bytes unread tells
//! the other side of a broken connection and not what was answered. Reading may
//! take as long as the program likes, so it is left to the thread in
//! [reserve](super::super::reserve).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use dipc_wire::NodeId;
use dipc_wire::frame::Encoded;
use dipc_wire::local::{HelloReply, VERSION};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use socket2::Socket;

use super::super::Node;
use super::super::reserve::Duty;

/// What [`Node`] says to a program that it cannot serve: the shim makes ENOMEM
/// of it.
pub(super) fn no_room(node: NodeId) -> HelloReply {
    HelloReply {
        version: VERSION,
        accepted: false,
        node,
    }
}

impl Node {
    /// Turns a program away that has just connected.
    pub(super) fn turn_away(self: &Arc<Self>, stream: Socket) {
        self.meet_stranger(&stream);
        let refusal = Refusal {
            stream,
            node: self.me.node,
        };
        if let Err(error) = self.reserve.take(Box::new(refusal)) {
            // It hears the end of its connection, which is ETIMEDOUT or EINVAL.
            tracing::error!(%error, "a program is turned away without a word");
        }
    }
}

impl Node {
    /// Whoever is turned away may be a forked child, of which only its memory is
    /// known: then its end is noticed, and its attachments are counted off.
    pub(super) fn meet_stranger(&self, stream: &Socket) {
        if !self.spaces.has_strangers() {
            return;
        }
        let peer = getsockopt(stream, sockopt::PeerCredentials);
        if let Ok(pid) = peer.map(|peer| u32::try_from(peer.pid()).unwrap_or(0))
            && pid != 0
        {
            self.meet(pid);
        }
    }
}

struct Refusal {
    stream: Socket,
    node: NodeId,
}

impl Duty for Refusal {
    fn awaits(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.stream.as_fd()]
    }

    fn attend(&mut self) -> bool {
        let mut hello = [MaybeUninit::uninit(); 64];
        let at_once = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match self.stream.recv_with_flags(&mut hello, at_once.bits()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            // It did not wait for an answer.
            Err(_) | Ok(0) => return false,
            Ok(_) => {}
        }
        if let Ok(reply) = Encoded::new(&no_room(self.node), 0) {
            // The first packet into an empty socket has room.
            let _ = send(self.stream.as_raw_fd(), reply.as_ref(), at_once);
        }
        false
    }
}
