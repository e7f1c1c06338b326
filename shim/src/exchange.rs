//! One request and its answer.
//!
//! A signal during the wait: the daemon is told to withdraw, once, and then the
//! answer that is due in any case is awaited. If the call was granted before the
//! withdrawal arrived, it has succeeded, and success is what the caller gets:
//! else a semaphore's unit or a message would be lost.

use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{self, PREFIX};
use dipc_wire::local::{ONE_PACKET, Request, Response};
use libc::{c_int, c_void};

use crate::outcome::Trouble;
use crate::session::Session;
use crate::socket::{MAX_DESCRIPTORS, Received, SendError};
use crate::user_memory::UserBytes;
use crate::{faults, generation, sender};

/// Room for an answer without payload: the longest is a `*Stat` with its names.
pub(crate) const SMALL: usize = 640;
/// Room for a header of ours: the longest request has 40 bytes.
const REQUEST: usize = 96;

/// What ends a wait early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Nothing: the answer comes at once, as far as the daemon is concerned.
    Steady,
    /// Any signal that is not ignored, SIGCONT too: as `semop`.
    Signal,
    /// A signal's handler: as `msgsnd` and `msgrcv`.
    Handler,
}

/// An answer in its room.
pub(crate) struct Answer<'r> {
    pub(crate) response: Response<'r>,
    /// The payload, if it came with the header.
    pub(crate) payload: &'r [u8],
    /// Or its length, when it comes in packets of its own.
    pub(crate) rest: usize,
}

impl<'r> Answer<'r> {
    /// The reply to a [`Request`] that has nothing but replies.
    pub(crate) fn reply(self) -> Result<Reply<'r>, Trouble> {
        match self.response {
            Response::Reply(reply) => Ok(reply),
            _ => Err(Trouble::Lost),
        }
    }

    /// Bytes of payload, wherever they are.
    pub(crate) fn payload_len(&self) -> usize {
        self.payload.len() + self.rest
    }
}

/// Asks `call`, and gives the reply, for calls that do not block and whose reply
/// has no payload.
pub(crate) fn ask<'r>(
    call: Call,
    payload: UserBytes,
    room: &'r mut [u8; SMALL],
) -> Result<(Session, Reply<'r>), Trouble> {
    request(&Request::Call(call), payload, room)
}

/// The same for a request that stands for a call.
pub(crate) fn request<'r>(
    request: &Request,
    payload: UserBytes,
    room: &'r mut [u8; SMALL],
) -> Result<(Session, Reply<'r>), Trouble> {
    let mut session = begin(request, payload)?;
    let reply = session.answer(Patience::Steady, room)?.reply()?;
    Ok((session, reply))
}

/// Sends a request on the thread's connection. A connection whose other end has
/// gone meanwhile is opened anew, once: the request has reached nobody. One that
/// is another process's, since this is its `vfork` child, is left alone.
pub(crate) fn begin(request: &Request, payload: UserBytes) -> Result<Session, Trouble> {
    let mut session = Session::open()?;
    match session.send(request, payload, None) {
        Err(Trouble::NotOurs) => {
            drop(session);
            session = Session::separate()?;
            session.send(request, payload, None)?;
        }
        Err(Trouble::Gone) => {
            drop(session);
            faults::daemon_changed();
            session = Session::open()?;
            session.send(request, payload, None)?;
        }
        other => other?,
    }
    Ok(session)
}

impl Session {
    /// Sends a request.
    pub(crate) fn send(
        &mut self,
        request: &Request,
        payload: UserBytes,
        descriptor: Option<c_int>,
    ) -> Result<(), Trouble> {
        let mut room = [0u8; REQUEST];
        let header =
            frame::encode(request, payload.len, &mut room).map_err(|_| Trouble::BadPointer)?;
        self.unfinished = true;
        let send = |sender| self.socket.send(header, payload, descriptor, sender);
        let sent = match send(Some(sender::now(self.pid))) {
            // The real ones then, which only the kernel can tell.
            Err(SendError::Unnamed) => send(None),
            other => other,
        };
        sent.map_err(|error| match error {
            SendError::NotUs => {
                self.unfinished = false;
                Trouble::NotOurs
            }
            SendError::BadPointer { partly } => {
                self.unfinished = partly;
                Trouble::BadPointer
            }
            SendError::Unnamed | SendError::Closed => Trouble::Gone,
        })
    }

    /// Waits for the answer. A payload with packets of its own stays in the socket
    /// for [`take_rest`](Self::take_rest). An answer that `room` is too short for
    /// is refused, so where a payload may come it must have [`ONE_PACKET`] bytes,
    /// or as many as the longest answer to this request.
    pub(crate) fn answer<'r>(
        &mut self,
        patience: Patience,
        room: &'r mut [u8],
    ) -> Result<Answer<'r>, Trouble> {
        self.answer_with(patience, room, None)
    }

    /// The same, for an answer that brings descriptors.
    pub(crate) fn answer_with<'r>(
        &mut self,
        patience: Patience,
        room: &'r mut [u8],
        mut descriptors: Option<&mut [Option<c_int>; MAX_DESCRIPTORS]>,
    ) -> Result<Answer<'r>, Trouble> {
        let mut interruptible = patience != Patience::Steady;
        let count = loop {
            if generation::current() != self.generation {
                return Err(Trouble::Forked);
            }
            let ready = if patience == Patience::Handler && interruptible {
                self.socket.wait()
            } else {
                Ok(())
            };
            let received = match (ready, &mut descriptors) {
                (Err(otherwise), _) => otherwise,
                (Ok(()), Some(descriptors)) => self.socket.receive_with(room, descriptors),
                (Ok(()), None) => self.socket.receive(UserBytes::room(room)),
            };
            match received {
                Received::Packet(count) => break count,
                Received::Interrupted => interruptible = self.interrupted(interruptible)?,
                Received::CutOff => return Err(Trouble::Lost),
                Received::Closed | Received::BadPointer => return Err(lost()),
            }
        };
        let first = FirstPacket::of(&room[..count]).ok_or(Trouble::Lost)?;
        let response = frame::decode(first.header).map_err(|_| Trouble::Lost)?;
        self.unfinished = first.rest > 0;
        Ok(Answer {
            response,
            payload: first.payload,
            rest: first.rest,
        })
    }

    /// A signal came while we waited. Returns whether a further one matters.
    fn interrupted(&mut self, interruptible: bool) -> Result<bool, Trouble> {
        if generation::current() != self.generation {
            return Err(Trouble::Forked);
        }
        if interruptible {
            // If this fails the connection is broken, which the wait will tell.
            // No user is said: it does not matter, and the signal may have
            // changed it, as another thread's `setuid` does.
            let mut room = [0u8; REQUEST];
            let frame = frame::encode(&Request::Withdraw, 0, &mut room);
            let _ = frame.map(|frame| self.socket.send(frame, UserBytes::NONE, None, None));
        }
        Ok(false)
    }

    /// The payload that is still to come, straight into the caller's memory.
    pub(crate) fn take_rest(&mut self, to: *mut c_void, rest: usize) -> Result<(), Trouble> {
        let mut done = 0;
        while done < rest {
            let place = UserBytes {
                start: to.wrapping_byte_add(done),
                len: rest - done,
            };
            match self.socket.receive(place) {
                Received::Packet(count) => done += count,
                Received::Interrupted => {
                    self.interrupted(false)?;
                }
                Received::BadPointer => return Err(Trouble::BadPointer),
                Received::CutOff => return Err(Trouble::Lost),
                Received::Closed => return Err(lost()),
            }
        }
        self.unfinished = false;
        Ok(())
    }
}

/// The connection broke. Whoever serves next knows nothing of this process.
fn lost() -> Trouble {
    faults::daemon_changed();
    Trouble::Lost
}

/// How a frame begins.
pub(crate) struct FirstPacket<'r> {
    pub(crate) header: &'r [u8],
    /// The payload, if it came along.
    payload: &'r [u8],
    /// The length of a payload that comes in packets of its own.
    rest: usize,
}

impl<'r> FirstPacket<'r> {
    /// `None` when `packet` is not cut as [`dipc_wire::local`] says.
    pub(crate) fn of(packet: &'r [u8]) -> Option<Self> {
        let (prefix, behind) = packet.split_first_chunk::<PREFIX>()?;
        let (header, payload) = frame::lengths(*prefix).ok()?;
        let follows = PREFIX + header + payload > ONE_PACKET;
        let (header, beside) = behind.split_at_checked(header)?;
        let rest = if follows { payload } else { 0 };
        (beside.len() + rest == payload).then_some(FirstPacket {
            header,
            payload: beside,
            rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: usize = 5;

    /// The first `len` bytes of a frame with so much payload.
    fn packet(payload: usize, len: usize) -> Vec<u8> {
        let mut bytes = [HEADER as u32, payload as u32]
            .map(u32::to_le_bytes)
            .concat();
        bytes.resize(len, 0);
        bytes
    }

    #[test]
    fn a_frame_of_one_packet_is_taken_whole_and_not_by_a_byte_less_or_more() {
        let most = ONE_PACKET - PREFIX - HEADER;
        for payload in [0, 1, most] {
            let whole = PREFIX + HEADER + payload;
            let bytes = packet(payload, whole);
            let first = FirstPacket::of(&bytes).unwrap();
            assert_eq!(first.header.len(), HEADER);
            assert_eq!((first.payload.len(), first.rest), (payload, 0));
            for len in [0, PREFIX - 1, PREFIX + HEADER - 1, whole - 1, whole + 1] {
                assert!(
                    FirstPacket::of(&packet(payload, len)).is_none(),
                    "{payload}, {len}"
                );
            }
        }
    }

    #[test]
    fn of_a_longer_frame_the_header_comes_alone() {
        let payload = ONE_PACKET - PREFIX - HEADER + 1;
        let bytes = packet(payload, PREFIX + HEADER);
        let first = FirstPacket::of(&bytes).unwrap();
        assert_eq!((first.payload.len(), first.rest), (0, payload));
        for len in [
            PREFIX + HEADER - 1,
            PREFIX + HEADER + 1,
            PREFIX + HEADER + payload,
        ] {
            assert!(FirstPacket::of(&packet(payload, len)).is_none(), "{len}");
        }
    }
}
