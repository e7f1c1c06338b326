//! All of this crate's `unsafe`: system calls that neither std nor nix offers.

pub(crate) mod ipc;
pub(crate) mod process;
pub(crate) mod uffd;

use std::io;

/// -1 means that `errno` says why.
fn check(result: i64) -> io::Result<i64> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
