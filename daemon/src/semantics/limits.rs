//! The largest of everything: the cluster's [`Limits`], and what no cluster can
//! change.

pub use dipc_wire::limits::{Limits, weight};

use dipc_wire::Errno;

/// The highest value of a semaphore, and of a SEM_UNDO adjustment (`SEMVMX`,
/// `SEMAEM`; behaviour 24).
pub const SEMVMX: i32 = 32_767;

/// What SETVAL refuses before it looks for the set (behaviour 60); returns the
/// value as it is kept.
pub fn check_value(value: i32) -> Result<u16, Errno> {
    match u16::try_from(value) {
        Ok(small) if value <= SEMVMX => Ok(small),
        _ => Err(Errno::ERANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setval_refuses_what_no_semaphore_can_hold_behaviour_60() {
        for value in [-1, 32_768, i32::MIN, i32::MAX, 65_537] {
            assert_eq!(check_value(value), Err(Errno::ERANGE), "{value}");
        }
        assert_eq!(check_value(32_767), Ok(32_767));
    }
}
