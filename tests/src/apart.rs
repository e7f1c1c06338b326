//! Programs whose System V objects are the kernel's, in an IPC namespace of their
//! own: no object of this machine is touched, and none is left.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use crate::{Program, skip};

/// Has a command run in a new IPC namespace. For an ordinary user that takes a
/// user namespace too, in which he is who he is.
pub fn apart(command: &mut Command) -> &mut Command {
    let root = geteuid().is_root();
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{0} {0} 1", geteuid())),
        ("/proc/self/gid_map", format!("{0} {0} 1", getegid())),
    ];
    in_child(command, move || {
        if root {
            return Ok(unshare(CloneFlags::CLONE_NEWIPC)?);
        }
        unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUSER)?;
        maps.iter()
            .try_for_each(|(path, text)| fs::write(path, text))
    })
}

/// Why this machine lets nobody be apart, if so.
///
/// # Panics
/// If no process can be started for any other reason.
#[must_use]
pub fn refusal() -> Option<io::Error> {
    let error = apart(&mut Command::new("true")).status().err()?;
    assert!(forbids(&error), "no process can be started: {error}");
    Some(error)
}

/// Whether this machine lets us; where not, says what is not tried therefore.
#[must_use]
pub fn can_be_apart(what: &str) -> bool {
    let refusal = refusal();
    if let Some(error) = &refusal {
        skip::because(what, &format!("no IPC namespace of its own: {error}"));
    }
    refusal.is_none()
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

/// Where a program is that was started [apart], for others to join it. It lasts
/// as long as somebody is in it, or this is kept.
#[derive(Debug)]
pub struct Namespace {
    user: Option<File>,
    ipc: File,
}

impl Namespace {
    /// That of a running program.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", program.pid());
            File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        Namespace {
            user: (!geteuid().is_root()).then(|| open("user")),
            ipc: open("ipc"),
        }
    }

    /// Has a command run in it.
    ///
    /// # Panics
    /// If there are no descriptors left.
    pub fn enter<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let duplicate = |file: &File| file.try_clone().expect("a descriptor");
        let user = self.user.as_ref().map(duplicate);
        let ipc = duplicate(&self.ipc);
        in_child(command, move || {
            if let Some(user) = &user {
                setns(user, CloneFlags::CLONE_NEWUSER)?;
            }
            Ok(setns(&ipc, CloneFlags::CLONE_NEWIPC)?)
        })
    }
}

fn in_child(
    command: &mut Command,
    act: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: between fork and exec `act` makes system calls only: it opens
    // short paths, which the standard library does without allocating, and it
    // formats and locks nothing.
    unsafe { command.pre_exec(act) }
}
