//! The bytes of a granule that is too large for one frame, while they come.
//!
//! They are put aside by the life of the peer that sends them, and nobody sees them
//! until the message comes that they belong to: a link keeps the order, and a peer
//! sends those of one granule of a segment before it begins another.

use std::borrow::Cow;
use std::collections::HashMap;

use dipc_wire::peer::PIECE;
use dipc_wire::{Incarnation, NodeId};

/// One life of a peer.
pub(super) type Life = (NodeId, Incarnation);

/// What has come of one segment's granules.
#[derive(Default)]
pub(super) struct Pieces(HashMap<Life, Vec<u8>>);

impl Pieces {
    /// One more; `longest` is the most that a granule takes. False if nobody could
    /// have sent it: the end of a granule is never a piece.
    #[must_use]
    pub(super) fn add(&mut self, from: Life, piece: &[u8], longest: usize) -> bool {
        let came = self.0.get(&from).map_or(0, Vec::len);
        let sound = piece.len() == PIECE && came + PIECE < longest;
        if sound {
            self.0.entry(from).or_default().extend_from_slice(piece);
        }
        sound
    }

    /// All of it: what came before, and its end.
    pub(super) fn complete<'a>(&mut self, from: Life, end: &'a [u8]) -> Cow<'a, [u8]> {
        match self.0.remove(&from) {
            Some(mut bytes) => {
                bytes.extend_from_slice(end);
                Cow::Owned(bytes)
            }
            None => Cow::Borrowed(end),
        }
    }

    /// This life is over.
    pub(super) fn forget(&mut self, life: Life) {
        self.0.remove(&life);
    }
}

/// The pieces that go before the end of these bytes, and the end.
pub(super) fn cut(bytes: &[u8]) -> (impl Iterator<Item = &[u8]>, &[u8]) {
    let count = bytes.len().saturating_sub(1) / PIECE;
    let (pieces, end) = bytes.split_at(count * PIECE);
    (pieces.chunks(PIECE), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 3 * PIECE + 7;

    fn life(incarnation: u64) -> Life {
        (NodeId::SOLO, Incarnation(incarnation))
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 1000) as u8).collect()
    }

    #[test]
    fn what_was_cut_is_whole_again() {
        for len in [1, PIECE, PIECE + 1, 2 * PIECE, LONGEST] {
            let (all, mut pieces) = (bytes(len), Pieces::default());
            let (before, end) = cut(&all);
            assert!(!end.is_empty() && end.len() <= PIECE, "{len}");
            for piece in before {
                assert!(pieces.add(life(1), piece, LONGEST), "{len}");
            }
            assert_eq!(*pieces.complete(life(1), end), all, "{len}");
            assert_eq!(*pieces.complete(life(1), b"next"), *b"next");
        }
        assert_eq!(cut(&[]).0.count(), 0);
    }

    #[test]
    fn pieces_of_two_lives_do_not_mix_and_those_of_a_dead_one_are_gone() {
        let mut pieces = Pieces::default();
        for (life, byte) in [(life(1), 1), (life(2), 2)] {
            assert!(pieces.add(life, &vec![byte; PIECE], LONGEST));
        }
        pieces.forget(life(1));
        assert_eq!(*pieces.complete(life(1), b"x"), *b"x");
        let second = pieces.complete(life(2), b"x");
        assert_eq!((second[0], second.len()), (2, PIECE + 1));
    }

    #[test]
    fn more_than_a_granule_and_pieces_of_another_length_are_refused() {
        let mut pieces = Pieces::default();
        for len in [0, 1, PIECE - 1, PIECE + 1] {
            assert!(!pieces.add(life(1), &bytes(len), LONGEST), "{len}");
        }
        for _ in 0..3 {
            assert!(pieces.add(life(1), &bytes(PIECE), LONGEST));
        }
        assert!(!pieces.add(life(1), &bytes(PIECE), LONGEST));
        assert!(!Pieces::default().add(life(1), &bytes(PIECE), PIECE));
    }
}
