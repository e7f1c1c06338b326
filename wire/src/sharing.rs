//! How a segment is kept coherent: its granule and its time quantum. Both are
//! chosen when the segment is made, and stay.
//!
//! | | who says it | |
//! |---|---|---|
//! | the node's default | `dipcd --granule`, `--quantum` | [`Sharing`] |
//! | one segment's | `DIPC_GRANULE`, `DIPC_QUANTUM` in the environment of the program that makes it | [`Wish`] |
//!
//! They change how fast memory is, and never what a program sees.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::duration::duration;
use crate::limits::PAGE;

/// The coarsest granule, in bytes. A granule travels as a whole and is held in
/// memory while it does, several times if several nodes want it.
pub const MAX_GRANULE: u64 = 64 << 20;
/// The longest quantum, in nanoseconds: for so long one program can make all
/// others wait for each granule that it touches.
pub const MAX_QUANTUM: u64 = 1_000_000_000;

/// A unit of coherence, as it is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Granule {
    /// So many bytes: whole pages, [`MAX_GRANULE`] at most.
    Bytes(u64),
    /// The whole segment; of one that is larger, [`MAX_GRANULE`].
    Segment,
}

/// How segments are kept coherent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sharing {
    /// The unit of coherence.
    pub granule: Granule,
    /// How long a node keeps a granule, in nanoseconds.
    pub quantum: u64,
}

/// What a program wants of the segments it makes; else the node's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wish {
    /// The unit of coherence.
    pub granule: Option<Granule>,
    /// How long a node keeps a granule, in nanoseconds.
    pub quantum: Option<u64>,
}

/// Why a granule or quantum cannot be this.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BadSharing {
    /// No number of bytes and no word for one.
    #[error("{0:?} is no granule: write a number of bytes such as 4K, 64K or 1M, or segment")]
    Granule(String),
    /// A granule of parts of pages, of none, or of too many.
    #[error("a granule is a multiple of 4K and at most 64M, and {0} bytes are not")]
    Size(u64),
    /// No time.
    #[error("it is no time: {0}")]
    Quantum(String),
    /// It would make others wait too long.
    #[error("{0:?} is more than a second, for which others would wait")]
    TooLong(String),
}

impl Granule {
    /// Whether it is one that a segment can have.
    pub fn check(self) -> Result<Self, BadSharing> {
        match self {
            Granule::Bytes(bytes) if !is_granule(bytes) => Err(BadSharing::Size(bytes)),
            sound => Ok(sound),
        }
    }

    /// In bytes, for a segment of `size` bytes. A granule that is larger than its
    /// segment ends with it.
    pub fn of_segment(self, size: u64) -> u64 {
        match self {
            Granule::Bytes(bytes) => bytes,
            Granule::Segment => {
                let pages = size.div_ceil(PAGE).clamp(1, MAX_GRANULE / PAGE);
                pages * PAGE
            }
        }
    }
}

/// Whether so many bytes can be a segment's granule.
pub fn is_granule(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE) && (PAGE..=MAX_GRANULE).contains(&bytes)
}

/// Reads a time for which a granule may be kept. In nanoseconds.
pub fn quantum(text: &str) -> Result<u64, BadSharing> {
    let time = duration(text).map_err(BadSharing::Quantum)?;
    let nanoseconds = u64::try_from(time.as_nanos()).ok();
    nanoseconds
        .filter(|&quantum| quantum <= MAX_QUANTUM)
        .ok_or_else(|| BadSharing::TooLong(text.to_owned()))
}

impl Wish {
    /// Nothing in particular.
    pub fn is_none(&self) -> bool {
        *self == Wish::default()
    }

    /// What a segment has, if it can.
    pub fn or(self, default: Sharing) -> Result<Sharing, BadSharing> {
        let quantum = self.quantum.unwrap_or(default.quantum);
        if self.quantum.is_some_and(|quantum| quantum > MAX_QUANTUM) {
            return Err(BadSharing::TooLong(format!("{quantum}ns")));
        }
        Ok(Sharing {
            granule: self.granule.unwrap_or(default.granule).check()?,
            quantum,
        })
    }
}

impl FromStr for Granule {
    type Err = BadSharing;

    /// `segment`, or bytes with or without a unit, as `dipc ls` shows them.
    fn from_str(text: &str) -> Result<Self, BadSharing> {
        if text == "segment" {
            return Ok(Granule::Segment);
        }
        let wrong = || BadSharing::Granule(text.to_owned());
        let (digits, unit) = match text.strip_suffix(['K', 'k']) {
            Some(digits) => (digits, 1 << 10),
            None => match text.strip_suffix(['M', 'm']) {
                Some(digits) => (digits, 1 << 20),
                None => (text, 1),
            },
        };
        // A sign is no part of a size.
        let number = Some(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let number: u64 = number.and_then(|d| d.parse().ok()).ok_or_else(wrong)?;
        Granule::Bytes(number.checked_mul(unit).ok_or_else(wrong)?).check()
    }
}

impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Granule::Segment => f.write_str("segment"),
            Granule::Bytes(bytes) if bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            Granule::Bytes(bytes) => write!(f, "{}K", bytes >> 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: Sharing = Sharing {
        granule: Granule::Bytes(4096),
        quantum: 200_000,
    };

    #[test]
    fn a_granule_is_whole_pages_or_the_segment() {
        for (text, granule) in [
            ("4K", Granule::Bytes(4096)),
            ("4096", Granule::Bytes(4096)),
            ("12k", Granule::Bytes(12288)),
            ("64K", Granule::Bytes(65536)),
            ("1M", Granule::Bytes(1 << 20)),
            ("64M", Granule::Bytes(MAX_GRANULE)),
            ("segment", Granule::Segment),
        ] {
            assert_eq!(text.parse(), Ok(granule), "{text}");
        }
        for bad in [
            "",
            "0",
            "K",
            "5K",
            "4097",
            "65M",
            "+4K",
            "-4K",
            "4 K",
            "1G",
            "0x1000",
            "Segment",
            "99999999999999999999",
            "18446744073709551615M",
        ] {
            assert!(bad.parse::<Granule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_granule_is_shown_as_it_is_written() {
        for text in ["4K", "12K", "1M", "64M", "segment"] {
            assert_eq!(text.parse::<Granule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_granule_of_a_segment_is_all_of_it_up_to_the_coarsest() {
        let whole = |size| Granule::Segment.of_segment(size);
        assert_eq!([1, 4096, 4097].map(whole), [4096, 4096, 8192]);
        assert_eq!(whole(MAX_GRANULE - 1), MAX_GRANULE);
        assert_eq!(whole(1 << 40), MAX_GRANULE);
        assert_eq!(whole(u64::MAX), MAX_GRANULE);
        assert_eq!(Granule::Bytes(65536).of_segment(1), 65536);
    }

    #[test]
    fn a_quantum_is_a_second_at_most() {
        assert_eq!(quantum("200us"), Ok(200_000));
        assert_eq!(quantum("0"), Ok(0));
        assert_eq!(quantum("1s"), Ok(MAX_QUANTUM));
        for bad in ["", "5", "1.1s", "2min", "-1s"] {
            assert!(quantum(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_program_does_not_wish_is_the_nodes_default() {
        assert_eq!(Wish::default().or(PAGES), Ok(PAGES));
        let wish = Wish {
            granule: Some(Granule::Segment),
            quantum: Some(0),
        };
        let sharing = wish.or(PAGES).unwrap();
        assert_eq!((sharing.granule, sharing.quantum), (Granule::Segment, 0));
        for bad in [0, 1, 4097, MAX_GRANULE + 4096, u64::MAX] {
            let granule = Some(Granule::Bytes(bad));
            let wish = Wish {
                granule,
                ..Wish::default()
            };
            assert_eq!(wish.or(PAGES), Err(BadSharing::Size(bad)));
        }
        let wish = Wish {
            quantum: Some(MAX_QUANTUM + 1),
            ..Wish::default()
        };
        assert!(wish.or(PAGES).is_err());
    }
}
