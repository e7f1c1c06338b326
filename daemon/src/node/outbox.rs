//! Sending without ever waiting for the receiver.
//!
//! Any thread may send to any socket, and does so itself: a hand-over to a
//! writer thread would cost a wake-up. But no thread may block in it, or two
//! daemons with full sockets would wait for each other for ever. So what the
//! socket does not take at once is queued, and a thread of its own drains it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use dipc_wire::local::{ONE_PACKET, PACKET};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, Shutdown, send, sendmsg, shutdown};
use parking_lot::Mutex;

use crate::kernel;

/// Never waits, and a closed connection is an error, no signal.
const AT_ONCE: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// Messages up to this many bytes are sent from one buffer.
const SMALL: usize = 256;

/// How bytes go into a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// As they come: a stream.
    Nowhere,
    /// Into packets, as [`dipc_wire::local`] says.
    Packets,
}

/// The sending side of a connected socket.
pub(crate) struct Outbox {
    socket: OwnedFd,
    cut: Cut,
    /// Whether the receiver hears at once that this side is closed. Of a link it
    /// means more, and is said by [`Outbox::announce`].
    tells: bool,
    queue: Mutex<Queue>,
    /// More queued bytes than this, and the receiver is given up: it does not
    /// read what it is sent.
    limit: usize,
}

#[derive(Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// How many bytes of the limit were moved here from other memory, since the
    /// queue was empty.
    moved: usize,
    draining: bool,
    closed: bool,
}

/// The receiver is gone, or hopelessly behind.
#[derive(Debug)]
pub(crate) struct Closed;

impl Outbox {
    pub(crate) fn new(socket: OwnedFd, cut: Cut, limit: usize) -> Arc<Self> {
        Self::make(socket, cut, true, limit)
    }

    /// Of a link to a peer, which must not hear of the end before this node has
    /// fenced (see `lease`). Neither does the reader of this socket.
    pub(crate) fn of_link(socket: OwnedFd, limit: usize) -> Arc<Self> {
        Self::make(socket, Cut::Nowhere, false, limit)
    }

    fn make(socket: OwnedFd, cut: Cut, tells: bool, limit: usize) -> Arc<Self> {
        Arc::new(Outbox {
            socket,
            cut,
            tells,
            queue: Mutex::new(Queue::default()),
            limit,
        })
    }

    /// Sends the parts as one piece: nothing of another thread comes between.
    pub(crate) fn send(self: &Arc<Self>, parts: [&[u8]; 2]) -> Result<(), Closed> {
        self.send_with(parts, &[])
    }

    /// The same for what is freed elsewhere as it is queued here: it takes no more
    /// memory than before, and does not count for the limit.
    pub(crate) fn send_moved(self: &Arc<Self>, parts: [&[u8]; 2]) -> Result<(), Closed> {
        let mut queue = self.queue.lock();
        queue.moved += parts[0].len() + parts[1].len();
        self.send_locked(&mut queue, parts, &[])
    }

    /// The same with descriptors, which travel with the first byte.
    pub(crate) fn send_with(
        self: &Arc<Self>,
        parts: [&[u8]; 2],
        descriptors: &[i32],
    ) -> Result<(), Closed> {
        self.send_locked(&mut self.queue.lock(), parts, descriptors)
    }

    fn send_locked(
        self: &Arc<Self>,
        queue: &mut Queue,
        parts: [&[u8]; 2],
        descriptors: &[i32],
    ) -> Result<(), Closed> {
        if queue.closed {
            return Err(Closed);
        }
        let mut sent = 0;
        if queue.bytes.is_empty() {
            match self.try_send(parts, descriptors) {
                Ok(count) => sent = count,
                Err(Errno::EAGAIN) if descriptors.is_empty() => {}
                Err(_) => return Err(self.close_locked(queue)),
            }
        } else if self.cut == Cut::Packets {
            // A program asks one thing at a time. Who asks on before it has read its
            // answer would have us keep all of them.
            return Err(self.close_locked(queue));
        }
        for part in parts {
            let skip = sent.min(part.len());
            sent -= skip;
            queue.bytes.extend(&part[skip..]);
        }
        if queue.bytes.is_empty() {
            queue.moved = 0;
        } else if queue.bytes.len() > self.limit.saturating_add(queue.moved) {
            return Err(self.close_locked(queue));
        } else if !queue.draining {
            queue.draining = true;
            self.spawn_drain(queue);
        }
        Ok(())
    }

    fn try_send(&self, parts: [&[u8]; 2], descriptors: &[i32]) -> Result<usize, Errno> {
        let len = parts[0].len() + parts[1].len();
        if len > ONE_PACKET && self.cut == Cut::Packets {
            return self.try_send_packets(parts);
        }
        if len > SMALL || !descriptors.is_empty() {
            return self.try_send_parts(parts, descriptors);
        }
        // One buffer costs the kernel less than two.
        let mut joined = [0; SMALL];
        joined[..parts[0].len()].copy_from_slice(parts[0]);
        joined[parts[0].len()..len].copy_from_slice(parts[1]);
        loop {
            match send(self.socket.as_raw_fd(), &joined[..len], AT_ONCE) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// A frame's header is shorter than a packet, and so one of its own.
    fn try_send_packets(&self, parts: [&[u8]; 2]) -> Result<usize, Errno> {
        let mut sent = 0;
        for packet in parts.iter().flat_map(|part| part.chunks(PACKET)) {
            match self.try_send_parts([packet, &[]], &[]) {
                Ok(count) => sent += count,
                Err(Errno::EAGAIN) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn try_send_parts(&self, parts: [&[u8]; 2], descriptors: &[i32]) -> Result<usize, Errno> {
        let slices = parts.map(IoSlice::new);
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &slices, control, AT_ONCE, None) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// A full socket is rare, so its drain has no thread in store.
    fn spawn_drain(self: &Arc<Self>, queue: &mut Queue) {
        let outbox = self.clone();
        let spawned = thread::Builder::new()
            .name("drain".into())
            .spawn(move || outbox.drain());
        if let Err(error) = spawned {
            tracing::error!(%error, "a connection is closed: no thread to send what is queued");
            self.close_locked(queue);
        }
    }

    fn drain(&self) {
        loop {
            let mut queue = self.queue.lock();
            let (front, back) = queue.bytes.as_slices();
            match self.try_send([front, back], &[]) {
                Ok(count) => drop(queue.bytes.drain(..count)),
                Err(Errno::EAGAIN) => {}
                Err(_) => {
                    self.close_locked(&mut queue);
                }
            }
            if queue.bytes.is_empty() || queue.closed {
                queue.draining = false;
                queue.moved = 0;
                // What a large queue took is not kept for the next one.
                queue.bytes = VecDeque::new();
                return;
            }
            drop(queue);
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            // Interrupted or not, the next round finds out.
            let _ = poll(&mut ready, PollTimeout::NONE);
        }
    }

    fn close_locked(&self, queue: &mut Queue) -> Closed {
        queue.closed = true;
        queue.bytes = VecDeque::new();
        if self.tells {
            // The reader of this socket wakes up and cleans up.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        }
        Closed
    }

    /// Whether the receiver has not yet read all that was sent (`SIOCOUTQ`,
    /// unix(7)).
    pub(crate) fn unread(&self) -> bool {
        let queue = self.queue.lock();
        !queue.bytes.is_empty() || kernel::unread_bytes(&self.socket) > 0
    }

    /// The socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether nothing is sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Tells the receiver that nothing more comes.
    pub(crate) fn announce(&self) {
        self.close();
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Ends the connection in both directions: its reader wakes up.
    pub(crate) fn end(&self) {
        self.close();
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Ends the connection: nothing more is sent, and its reader wakes up, unless
    /// it is a link.
    pub(crate) fn close(&self) {
        self.close_locked(&mut self.queue.lock());
    }
}

/// Waits for each byte: for handshakes, before a connection has an [`Outbox`].
pub(crate) fn send_blocking(mut stream: impl Write, parts: [&[u8]; 2]) -> io::Result<()> {
    stream.write_all(parts[0])?;
    stream.write_all(parts[1])
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_receiver_that_reads_late_gets_everything_in_order_and_nobody_waits() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(a.into(), Cut::Nowhere, 64 << 20);
        let piece = vec![7u8; 100_000];
        for n in 0..100u8 {
            outbox.send([&[n], &piece]).unwrap();
        }
        for n in 0..100u8 {
            let mut got = vec![0; piece.len() + 1];
            b.read_exact(&mut got).unwrap();
            assert_eq!(got[0], n);
            assert_eq!(got[1..], piece[..]);
        }
    }

    #[test]
    fn a_long_frame_is_its_header_and_then_packets_of_its_payload() {
        let (a, b) =
            socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        let outbox = Outbox::new(a.into(), Cut::Packets, 64 << 20);
        let payload: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        outbox.send([b"header", &payload]).unwrap();
        let packet = || {
            let mut room = vec![0; PACKET + 1];
            let count = (&b).read(&mut room).unwrap();
            room.truncate(count);
            room
        };
        assert_eq!(packet(), b"header");
        let mut got = Vec::new();
        while got.len() < payload.len() {
            let packet = packet();
            assert!((1..=PACKET).contains(&packet.len()));
            got.extend(packet);
        }
        assert_eq!(got, payload);
    }

    #[test]
    fn a_program_that_asks_on_without_reading_its_answer_is_given_up() {
        let (a, _b) =
            socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        let outbox = Outbox::new(a.into(), Cut::Packets, 64 << 20);
        let more_than_a_socket_takes = vec![7u8; 4 << 20];
        outbox.send([b"header", &more_than_a_socket_takes]).unwrap();
        assert!(outbox.send([b"short", b"one"]).is_err());
    }

    #[test]
    fn the_end_of_a_link_is_heard_when_it_is_announced_and_not_before() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let outbox = Outbox::of_link(a.into(), 1 << 20);
        outbox.send([b"last", &[]]).unwrap();
        outbox.close();
        assert!(outbox.is_closed() && outbox.send([b"more", &[]]).is_err());
        let mut got = [0; 8];
        assert_eq!(b.read(&mut got).unwrap(), 4);
        b.set_nonblocking(true).unwrap();
        let error = b.read(&mut got).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        outbox.announce();
        assert_eq!(b.read(&mut got).unwrap(), 0);
    }

    #[test]
    fn what_is_moved_into_the_queue_does_not_count_until_it_is_empty_again() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(a.into(), Cut::Nowhere, 1 << 20);
        let piece = vec![7u8; 100_000];
        for _ in 0..100 {
            outbox.send_moved([&piece, &[]]).unwrap();
        }
        outbox.send([&[8], &[]]).unwrap();
        let mut got = vec![0; 100 * piece.len() + 1];
        b.read_exact(&mut got).unwrap();
        assert_eq!((got[0], got.last()), (7, Some(&8)));
        // Who drains it sees that it is empty before it gives the lock back.
        assert!((0..100).any(|_| outbox.send([&piece, &[]]).is_err()));
    }

    #[test]
    fn a_receiver_that_never_reads_is_given_up_at_the_limit() {
        let (a, _b) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(a.into(), Cut::Nowhere, 1 << 20);
        let piece = vec![7u8; 100_000];
        assert!((0..100).any(|_| outbox.send([&piece, &[]]).is_err()));
        assert!(outbox.send([&[1], &[]]).is_err());
    }
}
