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
    let mut found = None;
    let came = within_deadline(|| {
        found = look();
        found.is_some()
    });
    assert!(came, "waited {DEADLINE:?} in vain for: {what}");
    found.expect("it came")
}

/// Looks until it is so.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, || look().then_some(()));
}

/// Looks until it is so; false if it is not after [`DEADLINE`].
pub fn within_deadline(mut look: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if look() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
}
