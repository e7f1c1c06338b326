//! What is being built: cases that are known to fail for now.
//!
//! A case that is listed and passes fails the test, so that the list can only
//! shrink.

use crate::stage::World;

/// Number, world, and what it waits for.
pub(crate) const PENDING: &[(u32, World, &str)] = &[
    (16, World::OneNode, "limits of the cluster"),
    (16, World::TwoNodes, "limits of the cluster"),
    (74, World::TwoNodes, "capabilities of other nodes"),
    (98, World::OneNode, "mprotect of attachments"),
    (98, World::TwoNodes, "mprotect of attachments"),
    (105, World::OneNode, "munmap of attachments"),
    (105, World::TwoNodes, "munmap of attachments"),
    (106, World::OneNode, "mprotect of attachments"),
    (106, World::TwoNodes, "mprotect of attachments"),
    (107, World::OneNode, "mremap of attachments"),
    (107, World::TwoNodes, "mremap of attachments"),
    (108, World::OneNode, "MADV_DONTFORK"),
    (108, World::TwoNodes, "MADV_DONTFORK"),
    (125, World::OneNode, "syscall() and dlopen()"),
    (125, World::TwoNodes, "syscall() and dlopen()"),
];

/// What a case waits for in a world.
pub(crate) fn reason(number: u32, world: World) -> Option<&'static str> {
    let mut found = PENDING
        .iter()
        .filter(|(n, w, _)| (*n, *w) == (number, world));
    found.next().map(|(_, _, reason)| *reason)
}
