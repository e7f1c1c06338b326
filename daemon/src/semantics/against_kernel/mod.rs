//! The kernel as judge: random histories run against it and against our
//! machines, and every result, errno and state must agree.
//!
//! Each test runs again in a child of its own, as an ordinary user in a private
//! IPC namespace, so that it meets no object but its own and changes nothing
//! for the other tests. Where the system permits no such namespace, it says so
//! and judges nothing.

mod kernel;
mod msq;
mod sem;

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dipc_wire::Pid;

use super::Credentials;
use super::testing::pid;

/// Set in the child.
const INSIDE: &str = "DIPC_TEST_IN_IPC_NAMESPACE";
/// Who the child becomes when the tests run as root.
const ORDINARY: u32 = 1000;

/// True in the child, where the test is to be done. Elsewhere the child has
/// done it when this returns false, or has panicked when it failed.
fn inside_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        kernel::become_ordinary(ORDINARY);
        return true;
    }
    let entrance = Entrance::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    // SAFETY: `enter` runs between fork and exec; it allocates nothing, takes
    // no lock, and makes only async-signal-safe system calls.
    unsafe { command.pre_exec(move || entrance.enter()) };
    match command.output() {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && told.contains("1 passed"),
                "{told}{why}"
            );
        }
        Err(error) if forbids(&error) => println!("skipped: no IPC namespace ({error})"),
        Err(error) => panic!("cannot run {test} in a child: {error}"),
    }
    false
}

fn forbids(error: &io::Error) -> bool {
    let forbidden = [
        libc::EPERM,
        libc::EACCES,
        libc::ENOSPC,
        libc::EINVAL,
        libc::ENOSYS,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| forbidden.contains(&errno))
}

/// The way into a namespace; made before the fork, since it allocates.
struct Entrance {
    /// What makes an unprivileged user's own number valid in a namespace of
    /// users, without which there is none of IPC for it: path and content.
    identity: [(CString, String); 3],
}

impl Entrance {
    fn new() -> Self {
        let (uid, gid) = kernel::identity();
        let file = |path: &str, content: String| (CString::new(path).unwrap(), content);
        Entrance {
            identity: [
                file("/proc/self/setgroups", "deny".into()),
                file("/proc/self/uid_map", format!("{uid} {uid} 1")),
                file("/proc/self/gid_map", format!("{gid} {gid} 1")),
            ],
        }
    }

    fn enter(&self) -> io::Result<()> {
        if kernel::unshare(libc::CLONE_NEWIPC).is_ok() {
            return Ok(());
        }
        kernel::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC)?;
        self.identity
            .iter()
            .try_for_each(|(path, content)| kernel::write(path, content.as_bytes()))
    }
}

/// This process, as our machines name it.
fn this_process() -> Pid {
    pid(std::process::id())
}

/// Its user.
fn this_user() -> Credentials {
    let (uid, gid) = kernel::identity();
    Credentials {
        uid,
        gid,
        ..Credentials::default()
    }
}
