//! A node whose users are not those of this machine: its daemon sees passwd and
//! group files of its own, in a mount namespace of its own. Needs root.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;

use nix::sched::{CloneFlags, unshare};

/// Who there is on a node.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    /// Login and number of user and own group.
    pub users: &'static [(&'static str, u32)],
    /// Name, number and members of further groups.
    pub groups: &'static [(&'static str, u32, &'static str)],
}

impl Accounts {
    /// Has a daemon that is to be started see these and no others. The files
    /// are made in `folder`.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn govern(&self, command: &mut Command, folder: &Path) {
        let (mut passwd, mut group) = (String::new(), String::new());
        for (login, number) in self.users {
            passwd += &format!("{login}:x:{number}:{number}::/:/bin/false\n");
            group += &format!("{login}:x:{number}:\n");
        }
        for (name, number, members) in self.groups {
            group += &format!("{name}:x:{number}:{members}\n");
        }
        let mounts = [("passwd", passwd), ("group", group)].map(|(name, text)| {
            let file = folder.join(name);
            fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            (c_string(&file), c_string(&PathBuf::from("/etc").join(name)))
        });
        let enter = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            // What is mounted here is not to be seen outside.
            mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
            let mut mounts = mounts.iter();
            mounts.try_for_each(|(file, over)| mount(Some(file), over, libc::MS_BIND))
        };
        // SAFETY: `enter` allocates nothing and takes no lock; it makes plain
        // system calls on strings that were made before.
        unsafe { command.pre_exec(enter) };
    }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no zero")
}

fn mount(from: Option<&CString>, to: &std::ffi::CStr, flags: libc::c_ulong) -> io::Result<()> {
    let from = from.map_or(null(), |from| from.as_ptr());
    // SAFETY: both strings end with a zero and live through the call; neither
    // kind of mount looks at type or data.
    match unsafe { libc::mount(from, to.as_ptr(), null(), flags, null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
