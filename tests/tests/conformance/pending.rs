//! What is being built: cases that are known to fail for now.
//!
//! A case that is listed and passes fails the test, so that the list can only
//! shrink.

use crate::stage::World::{self, OneNode, TwoNodes};

/// Number, world, and what it waits for.
pub(crate) const PENDING: &[(u32, World, &str)] = &[
    (16, OneNode, "limits of the cluster"),
    (16, TwoNodes, "limits of the cluster"),
    (74, TwoNodes, "capabilities of other nodes"),
    (98, OneNode, "mprotect of attachments"),
    (98, TwoNodes, "mprotect of attachments"),
    (105, OneNode, "munmap of attachments"),
    (105, TwoNodes, "munmap of attachments"),
    (107, OneNode, "mremap of attachments"),
    (107, TwoNodes, "mremap of attachments"),
    (108, OneNode, "MADV_DONTFORK"),
    (108, TwoNodes, "MADV_DONTFORK"),
    (125, OneNode, "syscall() and dlopen()"),
    (125, TwoNodes, "syscall() and dlopen()"),
];

/// What a case waits for in a world.
pub(crate) fn reason(number: u32, world: World) -> Option<&'static str> {
    let mut found = PENDING
        .iter()
        .filter(|(n, w, _)| (*n, *w) == (number, world));
    found.next().map(|(_, _, reason)| *reason)
}
