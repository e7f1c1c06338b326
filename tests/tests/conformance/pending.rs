//! What is being built: cases that are known to fail for now.
//!
//! A case that is listed and passes fails the test, so that the list can only
//! shrink.

use crate::stage::World;

/// Number, world, and what it waits for.
pub(crate) const PENDING: &[(u32, World, &str)] = &[];

/// What a case waits for in a world.
pub(crate) fn reason(number: u32, world: World) -> Option<&'static str> {
    let mut found = PENDING
        .iter()
        .filter(|(n, w, _)| (*n, *w) == (number, world));
    found.next().map(|(_, _, reason)| *reason)
}
