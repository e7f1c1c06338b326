//! One request and its answer.
//!
//! A signal during the wait: the daemon is told to withdraw, once, and then the
//! answer that is due in any case is awaited. If the call was granted before the
//! withdrawal arrived, it has succeeded, and success is what the caller gets:
//! else a semaphore's unit or a message would be lost.

use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{self, PREFIX};
use dipc_wire::local::{Request, Response};
use libc::{c_int, c_void};

use crate::outcome::Trouble;
use crate::session::Session;
use crate::socket::{MAX_DESCRIPTORS, Received, SendError};
use crate::user_memory::UserBytes;
use crate::{faults, generation};

/// Room for an answer without bulk bytes: the longest is a `*Stat` with its names.
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
    /// The part of the payload that came with the header.
    pub(crate) payload: &'r [u8],
    /// How many bytes of it are still in the socket.
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
    let mut session = begin(&Request::Call(call), payload)?;
    let reply = session.answer(Patience::Steady, room)?.reply()?;
    Ok((session, reply))
}

/// Sends a request on the thread's connection. A connection whose other end has
/// gone meanwhile is opened anew, once: the request has reached nobody.
pub(crate) fn begin(request: &Request, payload: UserBytes) -> Result<Session, Trouble> {
    let mut session = Session::open()?;
    match session.send(request, payload, None) {
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
        self.socket
            .send(header, payload, descriptor)
            .map_err(|error| match error {
                SendError::BadPointer { partly } => {
                    self.unfinished = partly;
                    Trouble::BadPointer
                }
                SendError::Closed => Trouble::Gone,
            })
    }

    /// Waits for the answer. What of the payload has no place in `room` stays in
    /// the socket for [`take_rest`](Self::take_rest).
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
        let mut got = 0;
        let shape = loop {
            if let Some(shape) = Shape::of(room, got)? {
                break shape;
            }
            if generation::current() != self.generation {
                return Err(Trouble::Forked);
            }
            if patience == Patience::Handler && interruptible && got == 0 {
                match self.socket.wait() {
                    Ok(()) => {}
                    Err(Received::Interrupted) => {
                        interruptible = self.interrupted(interruptible)?;
                        continue;
                    }
                    Err(_) => return Err(lost()),
                }
            }
            let received = match &mut descriptors {
                Some(descriptors) => self.socket.receive_with(&mut room[got..], descriptors),
                None => self.socket.receive(UserBytes::room(&mut room[got..])),
            };
            match received {
                Received::Bytes(count) => got += count,
                Received::Interrupted => interruptible = self.interrupted(interruptible)?,
                Received::Closed | Received::BadPointer => return Err(lost()),
            }
        };
        let (header, behind) = room[PREFIX..got].split_at(shape.header);
        let response = frame::decode(header).map_err(|_| Trouble::Lost)?;
        let rest = shape
            .payload
            .checked_sub(behind.len())
            .ok_or(Trouble::Lost)?;
        self.unfinished = rest > 0;
        Ok(Answer {
            response,
            payload: behind,
            rest,
        })
    }

    /// A signal came while we waited. Returns whether a further one matters.
    fn interrupted(&mut self, interruptible: bool) -> Result<bool, Trouble> {
        if generation::current() != self.generation {
            return Err(Trouble::Forked);
        }
        if interruptible {
            // If this fails the connection is broken, which the wait will tell.
            let _ = self.send(&Request::Withdraw, UserBytes::NONE, None);
        }
        Ok(false)
    }

    /// The remaining payload of an answer, straight into the caller's memory.
    pub(crate) fn take_rest(&mut self, to: *mut c_void, rest: usize) -> Result<(), Trouble> {
        let mut done = 0;
        while done < rest {
            let place = UserBytes {
                start: to.wrapping_byte_add(done),
                len: rest - done,
            };
            match self.socket.receive(place) {
                Received::Bytes(count) => done += count,
                Received::Interrupted => {
                    self.interrupted(false)?;
                }
                Received::BadPointer => return Err(Trouble::BadPointer),
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

/// The lengths of an answer.
struct Shape {
    header: usize,
    payload: usize,
}

impl Shape {
    /// `None` until enough has come: the header, and as much of the payload as
    /// there is room for.
    fn of(room: &[u8], got: usize) -> Result<Option<Self>, Trouble> {
        let Some(prefix) = room[..got].first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let (header, payload) = frame::lengths(*prefix).map_err(|_| Trouble::Lost)?;
        if PREFIX + header > room.len() {
            return Err(Trouble::Lost);
        }
        let awaited = (PREFIX + header + payload).min(room.len());
        Ok((got >= awaited).then_some(Shape { header, payload }))
    }
}
