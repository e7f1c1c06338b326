//! Waiting for what can only be looked at: with a deadline, and a word for what
//! did not come.

use std::thread;
use std::time::{Duration, Instant};

/// No step of any test takes so long unless something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until there is something.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain for: {what}"
        );
        thread::sleep(PAUSE);
    }
}

/// Looks until it is so.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, || look().then_some(()));
}
