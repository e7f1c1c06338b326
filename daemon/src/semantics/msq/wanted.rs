//! Which message a receiver wants.

use dipc_wire::call::flags;

#[cfg(test)]
use crate::semantics::sabotage::{self, Sabotage};

/// The meaning of `msgrcv`'s type argument (behaviours 79, 80).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// 0: whatever comes first.
    Any,
    /// n > 0: the first of this type.
    Only(i64),
    /// n > 0 with `MSG_EXCEPT`: the first of another type.
    Except(i64),
    /// n < 0: the first of the lowest type up to |n|.
    UpTo(i64),
}

impl Wanted {
    pub(super) fn new(mtype: i64, flags: u32) -> Self {
        #[cfg(test)]
        if mtype < 0 && flags & flags::EXCEPT != 0 && sabotage::is(Sabotage::ExceptForNegativeTypes)
        {
            return Wanted::Except(mtype.checked_neg().unwrap_or(i64::MAX));
        }
        match mtype {
            0 => Wanted::Any,
            // |LONG_MIN| is no long; it is meant for "any type".
            ..0 => Wanted::UpTo(mtype.checked_neg().unwrap_or(i64::MAX)),
            _ if flags & flags::EXCEPT != 0 => Wanted::Except(mtype),
            _ => Wanted::Only(mtype),
        }
    }

    /// Whether a message of this type would do, if there is no better one.
    pub(super) fn accepts(self, mtype: i64) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Only(only) => mtype == only,
            Wanted::Except(except) => mtype != except,
            Wanted::UpTo(highest) => mtype <= highest,
        }
    }

    /// The place of the message that it gets among those of these types.
    pub(super) fn choose(self, types: impl Iterator<Item = i64>) -> Option<usize> {
        let mut acceptable = types.enumerate().filter(|&(_, mtype)| self.accepts(mtype));
        match self {
            // min_by_key returns the first of equals.
            Wanted::UpTo(_) => acceptable.min_by_key(|&(_, mtype)| mtype),
            _ => acceptable.next(),
        }
        .map(|(at, _)| at)
    }
}
