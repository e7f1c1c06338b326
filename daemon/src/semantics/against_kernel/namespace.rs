//! The kernel of a history: an IPC namespace of its own.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::actors::Actors;
use super::history::ACTORS;
use super::judge::{Disagreement, Target, play_at_once};
use super::plan::Plan;
use crate::kernel;
use crate::semantics::{Credentials, Rights};
use dipc_wire::peer::Capabilities;

/// Who the actors are: root and two users, where the tests are root; else all
/// are who the tests are.
pub(super) fn identities() -> [Credentials; ACTORS] {
    // SAFETY: neither call has arguments or can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let who = |uid, gid, groups: &[u32], capabilities| Credentials {
        uid,
        gid,
        rights: Rights::Known {
            groups: groups.into(),
            capabilities,
        },
    };
    let user = |uid, groups| who(uid, uid, groups, Capabilities::NONE);
    if uid != 0 {
        return std::array::from_fn(|_| who(uid, gid, &[], Capabilities::NONE));
    }
    // Root may lack some capabilities, in a container.
    let root = who(0, 0, &[], kernel::capabilities(0));
    // Users that every system has, by the names of their numbers.
    [
        root,
        user(1, &[]),
        user(1, &[]),
        user(2, &[1]),
        user(2, &[]),
    ]
}

/// The arguments of a conductor: its mode, and each actor's user, group,
/// supplementary group (or −1), and environment.
pub(super) fn conductor(
    mode: &str,
    identities: &[Credentials; ACTORS],
    environment: impl Fn(usize) -> Vec<String>,
) -> Command {
    let mut command = Command::new(dipc_tests::artifacts::actors());
    command.arg(mode);
    for (actor, who) in identities.iter().enumerate() {
        let group = match &who.rights {
            Rights::Known { groups, .. } => groups.first().map_or(-1, |&group| i64::from(group)),
            Rights::Now(_) => unreachable!("an actor's are known"),
        };
        command.args([who.uid.into(), who.gid.into(), group].map(|number: i64| number.to_string()));
        command.args(environment(actor));
    }
    enter_namespace(&mut command);
    command
}

/// Histories are played in the kernel.
pub(super) struct Kernel {
    identities: [Credentials; ACTORS],
    actors: Actors,
}

impl Kernel {
    /// A new namespace with its actors; `None` where the system permits none.
    pub(super) fn new() -> Option<Self> {
        let identities = identities();
        if !is_permitted("the kernel as judge") {
            return None;
        }
        let command = conductor("kernel", &identities, |_| Vec::new());
        let actors = Actors::start(command).expect("it is permitted");
        Some(Kernel { identities, actors })
    }
}

impl Target for Kernel {
    fn identities(&self) -> &[Credentials; ACTORS] {
        &self.identities
    }

    fn play(&mut self, plan: &Plan) -> Result<(), Disagreement> {
        let judged = play_at_once(&mut self.actors, plan);
        if judged.is_err() {
            // Nobody knows what is left of it.
            let command = conductor("kernel", &self.identities, |_| Vec::new());
            self.actors = Actors::start(command).expect("it could be started before");
        }
        judged
    }
}

/// Whether the system permits an IPC namespace; says so if not.
pub(super) fn is_permitted(what: &str) -> bool {
    let mut command = Command::new("true");
    enter_namespace(&mut command);
    match command.status() {
        Ok(_) => true,
        Err(error) if forbids(&error) => {
            let why = format!("no IPC namespace ({error})");
            dipc_tests::skip::because(what, &why);
            false
        }
        Err(error) => panic!("{what}: no process can be started: {error}"),
    }
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

/// The command runs in an IPC namespace of its own, so that it meets no object
/// but its own and changes nothing for others.
fn enter_namespace(command: &mut Command) {
    let entrance = Entrance::new();
    // SAFETY: `enter` runs between fork and exec; it allocates nothing, takes
    // no lock, and makes only async-signal-safe system calls.
    unsafe { command.pre_exec(move || entrance.enter()) };
}

/// The way into a namespace; made before the fork, since it allocates.
struct Entrance {
    /// What makes an unprivileged user's own number valid in a namespace of
    /// users, without which there is none of IPC for it: path and content.
    identity: [(CString, String); 3],
}

impl Entrance {
    fn new() -> Self {
        // SAFETY: neither call has arguments or can fail.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let file =
            |path: &str, content: String| (CString::new(path).expect("without zeros"), content);
        Entrance {
            identity: [
                file("/proc/self/setgroups", "deny".into()),
                file("/proc/self/uid_map", format!("{uid} {uid} 1")),
                file("/proc/self/gid_map", format!("{gid} {gid} 1")),
            ],
        }
    }

    fn enter(&self) -> io::Result<()> {
        if unshare(libc::CLONE_NEWIPC).is_ok() {
            return Ok(());
        }
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC)?;
        self.identity
            .iter()
            .try_for_each(|(path, content)| write(path, content.as_bytes()))
    }
}

fn unshare(what: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; the caller has a single thread.
    if unsafe { libc::unshare(what) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Async-signal-safe.
fn write(path: &CStr, content: &[u8]) -> io::Result<()> {
    // SAFETY: `path` ends with a zero, `content` is valid for its length, and
    // the descriptor is this function's own.
    let written = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = libc::write(fd, content.as_ptr().cast(), content.len());
        libc::close(fd);
        written
    };
    if written == content.len() as isize {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
