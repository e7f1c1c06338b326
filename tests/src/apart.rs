//! Local System V objects in an IPC namespace of a test's own: none of this
//! machine's is touched, and none is left.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::skip;

/// Has a command run in an IPC namespace of its own; for an ordinary user that
/// takes a user namespace too.
pub fn apart(command: &mut Command) -> &mut Command {
    let mut flags = CloneFlags::CLONE_NEWIPC;
    if !geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    // SAFETY: unshare is a plain system call, without pointers or locks.
    unsafe { command.pre_exec(move || Ok(unshare(flags)?)) }
}

/// Whether this machine lets us; where not, says what is not tried therefore.
pub fn can_be_apart(what: &str) -> bool {
    let result = apart(&mut Command::new("true")).status();
    if let Err(error) = &result {
        skip::because(what, &format!("no IPC namespace of its own: {error}"));
    }
    result.is_ok()
}
