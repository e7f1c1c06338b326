//! Frames: a postcard header with raw payload beside it.
//!
//! ```text
//! ┌───────────────┬────────────────┬────────┬─────────┐
//! │ header length │ payload length │ header │ payload │
//! │ u32, LE       │ u32, LE        │        │         │
//! └───────────────┴────────────────┴────────┴─────────┘
//! ```
//!
//! Bulk bytes (pages, message texts, operations) are never part of the serde
//! message: they are not copied element by element, and the receiver borrows
//! them from its buffer.
//!
//! Nothing a sender claims is believed before it is there: lengths over the
//! limits are refused, and a buffer grows with the bytes that came, not with
//! those that were announced.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes before the header.
pub const PREFIX: usize = 8;
/// The longest header.
pub const MAX_HEADER: usize = 4096;
/// The longest payload: a message of the largest `msgmax`, a list of all objects.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// A buffer grows by at most this much ahead of what has arrived.
const GROWTH: usize = 64 << 10;

/// Why bytes are not a frame. The connection they came from is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The header is longer than [`MAX_HEADER`].
    #[error("a header of {0} bytes is over the limit of {MAX_HEADER}")]
    HeaderTooLong(u32),
    /// The payload is longer than [`MAX_PAYLOAD`], or than its buffer takes
    /// ([`FrameBuffer::limited`]).
    #[error("a payload of {0} bytes is over the limit here")]
    PayloadTooLong(u32),
    /// The header is no message of this protocol, or ends early.
    #[error("the header is no message of this protocol")]
    Malformed,
    /// Bytes follow the message in its header.
    #[error("{0} bytes follow the message in its header")]
    Trailing(usize),
    /// A message does not fit the room for it.
    #[error("the message does not fit its buffer")]
    NoRoom,
}

/// Header and payload lengths of the frame that starts with `prefix`.
pub fn lengths(prefix: [u8; PREFIX]) -> Result<(usize, usize), FrameError> {
    let [a, b, c, d, e, f, g, h] = prefix;
    let (header, payload) = (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    );
    if header as usize > MAX_HEADER {
        return Err(FrameError::HeaderTooLong(header));
    }
    if payload as usize > MAX_PAYLOAD {
        return Err(FrameError::PayloadTooLong(payload));
    }
    Ok((header as usize, payload as usize))
}

/// The message in `header`, all of it and nothing more.
pub fn decode<'a, T: Deserialize<'a>>(header: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(header) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(FrameError::Trailing(rest.len())),
        Err(_) => Err(FrameError::Malformed),
    }
}

/// Writes prefix and header into `room`, for a payload of `payload` bytes that
/// the caller sends right behind. Returns the bytes to send first. Allocates
/// nothing: for the shim.
pub fn encode<'r, T: Serialize>(
    message: &T,
    payload: usize,
    room: &'r mut [u8],
) -> Result<&'r [u8], FrameError> {
    if payload > MAX_PAYLOAD {
        return Err(FrameError::PayloadTooLong(
            payload.min(u32::MAX as usize) as u32
        ));
    }
    let body = room.get_mut(PREFIX..).ok_or(FrameError::NoRoom)?;
    let header = postcard::to_slice(message, body)
        .map_err(|_| FrameError::NoRoom)?
        .len();
    if header > MAX_HEADER {
        return Err(FrameError::HeaderTooLong(header as u32));
    }
    room[..4].copy_from_slice(&(header as u32).to_le_bytes());
    room[4..PREFIX].copy_from_slice(&(payload as u32).to_le_bytes());
    Ok(&room[..PREFIX + header])
}

/// A whole frame that was read, borrowed from its [`FrameBuffer`].
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: &'a [u8],
    /// The raw bytes beside the message.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message.
    pub fn message<T: Deserialize<'a>>(&self) -> Result<T, FrameError> {
        decode(self.header)
    }
}

/// Collects what a stream brings and cuts it into frames.
///
/// Use: read into [`space`](Self::space), tell [`filled`](Self::filled) how much
/// came, then take frames with [`next_frame`](Self::next_frame) until there is none.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    max_payload: usize,
    /// `bytes[start..end]` has arrived and is not yet taken.
    start: usize,
    end: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::limited(MAX_PAYLOAD)
    }
}

impl FrameBuffer {
    /// An empty buffer. It allocates at the first read.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer that refuses payloads of more than `max_payload` bytes: for
    /// protocols without payload, and for senders who are not yet known.
    pub fn limited(max_payload: usize) -> Self {
        FrameBuffer {
            bytes: Vec::new(),
            max_payload,
            start: 0,
            end: 0,
        }
    }

    /// Room to read into; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.space_of(GROWTH)
    }

    /// Room for at least `least` bytes: for a socket that cuts off what of a
    /// packet has no place.
    pub fn space_of(&mut self, least: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.bytes.len() - self.end < least {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < least {
            self.bytes.resize(self.end + least, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were read into [`space`](Self::space).
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The next whole frame, or `None` when more bytes must come first.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let arrived = &self.bytes[self.start..self.end];
        let Some(prefix) = arrived.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let (header, payload) = lengths(*prefix)?;
        if payload > self.max_payload {
            return Err(FrameError::PayloadTooLong(payload as u32));
        }
        let whole = PREFIX + header + payload;
        if arrived.len() < whole {
            return Ok(None);
        }
        let frame = &self.bytes[self.start + PREFIX..self.start + whole];
        self.start += whole;
        let (header, payload) = frame.split_at(header);
        Ok(Some(Frame { header, payload }))
    }

    /// Whether the stream may end here: no part of a frame is left over.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// A header that is to be sent: prefix and message, encoded without allocating.
#[derive(Clone, Debug)]
pub struct Encoded {
    bytes: [u8; 512],
    len: usize,
}

impl Encoded {
    /// Encodes a message of this project; all of them fit, since names are
    /// bounded (see [`crate::peer::MAX_NAME`]).
    pub fn new<T: Serialize>(message: &T, payload: usize) -> Result<Self, FrameError> {
        let mut bytes = [0; 512];
        let len = encode(message, payload, &mut bytes)?.len();
        Ok(Encoded { bytes, len })
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(message: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Encoded::new(&message, payload.len())
            .unwrap()
            .as_ref()
            .to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn feed(buffer: &mut FrameBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = buffer.space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            buffer.filled(n);
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        assert_eq!(
            frame(300, b"page"),
            [2, 0, 0, 0, 4, 0, 0, 0, 0xac, 0x02, b'p', b'a', b'g', b'e']
        );
    }

    #[test]
    fn every_truncation_waits_for_more_and_every_surplus_is_the_next_frame() {
        let bytes = frame(7, b"abc");
        for cut in 0..bytes.len() {
            let mut buffer = FrameBuffer::new();
            feed(&mut buffer, &bytes[..cut]);
            assert!(buffer.next_frame().unwrap().is_none(), "cut at {cut}");
        }
        let mut buffer = FrameBuffer::new();
        feed(&mut buffer, &[bytes.clone(), bytes].concat());
        for _ in 0..2 {
            let frame = buffer.next_frame().unwrap().unwrap();
            assert_eq!(
                (frame.message::<u64>().unwrap(), frame.payload),
                (7, &b"abc"[..])
            );
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn oversized_claims_are_refused_before_anything_is_allocated() {
        let mut buffer = FrameBuffer::new();
        feed(&mut buffer, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(
            buffer.next_frame().unwrap_err(),
            FrameError::HeaderTooLong(u32::MAX)
        );
        let mut buffer = FrameBuffer::new();
        feed(&mut buffer, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(
            buffer.next_frame().unwrap_err(),
            FrameError::PayloadTooLong(u32::MAX)
        );
    }

    #[test]
    fn a_claimed_payload_is_not_allocated_ahead_of_its_arrival() {
        let mut buffer = FrameBuffer::new();
        feed(&mut buffer, &frame(7, &[])[..4]);
        feed(&mut buffer, &(MAX_PAYLOAD as u32).to_le_bytes());
        assert!(buffer.next_frame().unwrap().is_none());
        assert!(buffer.space().len() <= GROWTH);
    }

    #[test]
    fn a_limited_buffer_refuses_a_payload_before_it_arrives() {
        let mut buffer = FrameBuffer::limited(3);
        feed(&mut buffer, &frame(7, b"abc"));
        assert_eq!(buffer.next_frame().unwrap().unwrap().payload, b"abc");
        feed(&mut buffer, &frame(7, b"abcd")[..PREFIX]);
        assert_eq!(
            buffer.next_frame().unwrap_err(),
            FrameError::PayloadTooLong(4)
        );
    }

    #[test]
    fn trailing_bytes_in_a_header_are_an_error() {
        assert_eq!(decode::<u64>(&[7, 8]).unwrap_err(), FrameError::Trailing(1));
        assert_eq!(decode::<u64>(&[]).unwrap_err(), FrameError::Malformed);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 1..20),
            cuts in proptest::collection::vec(1usize..9000, 1..50),
        ) {
            let bytes: Vec<u8> =
                payloads.iter().enumerate().flat_map(|(i, p)| frame(i as u64, p)).collect();
            let mut buffer = FrameBuffer::new();
            let (mut rest, mut got, mut cuts) = (&bytes[..], 0, cuts.iter().cycle());
            while got < payloads.len() {
                while let Some(frame) = buffer.next_frame().unwrap() {
                    prop_assert_eq!(frame.message::<u64>().unwrap(), got as u64);
                    prop_assert_eq!(frame.payload, &payloads[got][..]);
                    got += 1;
                }
                let n = rest.len().min(*cuts.next().unwrap());
                feed(&mut buffer, &rest[..n]);
                rest = &rest[n..];
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let mut buffer = FrameBuffer::new();
            feed(&mut buffer, &bytes);
            while let Ok(Some(frame)) = buffer.next_frame() {
                let _ = frame.message::<crate::local::Request>();
                let _ = frame.message::<crate::peer::Message>();
                let _ = frame.message::<crate::referee::ToReferee>();
                let _ = frame.message::<crate::referee::ToNode>();
            }
        }
    }
}
