//! What a call comes to whose array or text cannot be read, or whose time-out is
//! no time.
//!
//! The kernel looks at how long the array or text is first (behaviours 23, 69),
//! and so does the daemon, but such a call does not reach it. Then, and only then,
//! the program asks for the cluster's limits and looks itself.

use dipc_wire::local::{Request, Response};
use dipc_wire::{Errno, Limits};

use crate::exchange::{self, Patience, SMALL};
use crate::outcome::{Escape, Family, Trouble, escape};
use crate::user_memory::UserBytes;

/// Why a request did not go out: when it was for a bad pointer, what `check`
/// finds first, else EFAULT.
pub(crate) fn unsent(trouble: Trouble, check: impl FnOnce(&Limits) -> Result<(), Errno>) -> Escape {
    if trouble != Trouble::BadPointer {
        return escape(trouble, Family::Operation);
    }
    first_of(check, Errno::EFAULT)
}

/// What `check` finds, else the errno of the fault that is known already.
pub(crate) fn first_of(check: impl FnOnce(&Limits) -> Result<(), Errno>, fault: Errno) -> Escape {
    match of_cluster().map(|limits| check(&limits)) {
        Ok(found) => Escape::Errno(found.err().unwrap_or(fault).raw()),
        Err(trouble) => escape(trouble, Family::Operation),
    }
}

fn of_cluster() -> Result<Limits, Trouble> {
    let mut session = exchange::begin(&Request::Limits, UserBytes::NONE)?;
    let mut room = [0; SMALL];
    match session.answer(Patience::Steady, &mut room)?.response {
        Response::Limits(limits) => Ok(limits),
        _ => Err(Trouble::Lost),
    }
}
