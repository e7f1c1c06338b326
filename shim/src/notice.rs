//! The one line on stderr that a process writes when a person must mend
//! something: what happened, why, and what to do next.
//!
//! At most one a process, none with `DIPC_QUIET=1`. It is formatted on the stack
//! and written by one system call, because it may be written from a signal
//! handler or a forked child.

use core::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use dipc_wire::sharing::BadSharing;

use crate::{settings, sys};

static TOLD: AtomicBool = AtomicBool::new(false);

/// `DIPC_REQUIRE=1`, and nobody serves the socket.
pub(crate) fn required_daemon_is_missing() {
    tell(format_args!(
        "no dipcd serves {}, and DIPC_REQUIRE=1 forbids a local object; start dipcd, or name its socket in DIPC_SOCKET",
        Sockets
    ));
}

/// The daemon's socket may not be used.
pub(crate) fn permission_denied(path: &[u8]) {
    tell(format_args!(
        "permission to use {} is denied, so distributed objects are out of reach; ask whoever runs dipcd for access to its socket",
        path.escape_ascii()
    ));
}

/// The daemon does not speak this library's version.
pub(crate) fn other_version(path: &[u8], daemon: Option<u16>) {
    let ours = dipc_wire::local::VERSION;
    match daemon {
        Some(theirs) => tell(format_args!(
            "dipcd at {} speaks version {theirs} of the local protocol and this libdipc.so version {ours}; install both from one release and start dipcd again",
            path.escape_ascii()
        )),
        None => tell(format_args!(
            "what listens at {} does not answer as a dipcd does; see that DIPC_SOCKET names dipcd's socket",
            path.escape_ascii()
        )),
    }
}

/// The daemon turns this thread away.
pub(crate) fn daemon_is_full(path: &[u8]) {
    tell(format_args!(
        "dipcd at {} serves as many programs as it can, so calls on distributed objects fail with ENOMEM; its log says which limit to raise",
        path.escape_ascii()
    ));
}

/// A socket's path does not fit.
pub(crate) fn path_too_long(path: &[u8]) {
    tell(format_args!(
        "the socket path {}… is longer than {} bytes, which no Unix socket can be; name a shorter one in DIPC_SOCKET",
        path[..32.min(path.len())].escape_ascii(),
        crate::socket::LONGEST_PATH
    ));
}

/// `DIPC_KEYS` holds something else than keys.
pub(crate) fn keys_not_understood(item: &str) {
    tell(format_args!(
        "DIPC_KEYS: {item:?} is no key, no range and none of none, all, private, so it selects nothing; write for example 0x1234,0x5000-0x5fff,private"
    ));
}

/// `DIPC_GRANULE` or `DIPC_QUANTUM` holds something else.
pub(crate) fn sharing_not_understood(variable: &str, why: &BadSharing) {
    tell(format_args!(
        "{variable}: {why}; so segments that this program makes have the node's default"
    ));
}

/// No userfaultfd can be made.
pub(crate) fn no_userfaultfd(errno: i32) {
    tell(format_args!(
        "userfaultfd is refused (error {errno}), so no distributed segment can be attached; run dipcd as root, or set sysctl vm.unprivileged_userfaultfd=1, or allow the call in this sandbox"
    ));
}

/// What is to be removed was only listed.
pub(crate) fn only_listed() {
    tell(format_args!(
        "distributed objects that this program has only listed stay (EPERM), so that nobody sweeps a cluster by accident; remove them by name with `dipc rm`, `ipcrm -S KEY` or `ipcrm -s ID`, or set DIPC_SWEEP=1 to let this program do it"
    ));
}

/// A forked child cannot be served.
pub(crate) fn child_is_cut_off() {
    tell(format_args!(
        "dipcd does not serve this forked child, so the segments it inherited are closed to it (SIGSEGV); see that dipcd runs, then start the program again"
    ));
}

/// The paths that were tried.
struct Sockets;

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in settings::get().sockets.iter().enumerate() {
            write!(
                f,
                "{}{}",
                if i > 0 { " or " } else { "" },
                path.escape_ascii()
            )?;
        }
        Ok(())
    }
}

fn tell(what: fmt::Arguments<'_>) {
    if settings::get().quiet || TOLD.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut line = Line {
        bytes: [0; 768],
        len: 0,
    };
    // A line that does not fit is cut; it still ends.
    let _ = write!(line, "libdipc.so: {what}");
    line.bytes[line.len] = b'\n';
    sys::write(libc::STDERR_FILENO, &line.bytes[..=line.len]);
}

/// Text on the stack, with room kept for the newline.
struct Line {
    bytes: [u8; 768],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let count = text.len().min(room);
        self.bytes[self.len..self.len + count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        if count < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
