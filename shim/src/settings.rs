//! The environment, read once when the library is loaded.
//!
//! | variable | meaning |
//! |---|---|
//! | `DIPC_KEYS` | which keys are distributed: `none`, `all`, or a list such as `0x1234,0x5000-0x5fff,private` |
//! | `DIPC_FLAG=ignore` | `IPC_DIPC` in the flags means nothing: for programs that mean `SHM_NORESERVE` by it |
//! | `DIPC_SOCKET` | the daemon's socket; else `/run/dipc/dipcd.sock`, then `$XDG_RUNTIME_DIR/dipc/dipcd.sock` |
//! | `DIPC_DEEPBIND=keep` | plug-ins loaded with `RTLD_DEEPBIND` bind past this library, as they ask |
//! | `DIPC_REQUIRE=1` | a distributed `*get` fails when there is no daemon |
//! | `DIPC_QUIET=1` | nothing is written to stderr |
//! | `DIPC_SWEEP=1` | distributed objects that were only listed may be removed: `ipcrm -a` means the cluster too |
//!
//! A program with more rights than its user (set-user-id) must not be led by
//! that user's environment: there the defaults hold.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use dipc_wire::local::{SYSTEM_SOCKET, USER_SOCKET};

use crate::choose::Keys;
use crate::notice;
use crate::sys::COMM;

/// util-linux's System V tools, by which people look at both worlds.
const TOOLS: [&[u8]; 3] = [b"ipcrm", b"ipcs", b"lsipc"];

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Which keys are distributed.
    pub(crate) keys: Keys,
    /// `IPC_DIPC` has its meaning.
    pub(crate) flag_counts: bool,
    /// `RTLD_DEEPBIND` has its meaning.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) keep_deepbind: bool,
    /// A distributed `*get` without daemon is an error.
    pub(crate) require: bool,
    /// No lines on stderr.
    pub(crate) quiet: bool,
    /// What the program lists it may remove.
    pub(crate) sweep: bool,
    /// The program is one of [`TOOLS`].
    pub(crate) tool: bool,
    /// Paths to try, in this order.
    pub(crate) sockets: Vec<Vec<u8>>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// The settings. Allocates at the first use only, which is at load unless
/// another library's constructor makes System V calls before that.
pub(crate) fn get() -> &'static Settings {
    SETTINGS.get_or_init(|| {
        // SAFETY: getauxval only reads what the kernel gave the process.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        let mut name = [0; COMM];
        Settings::read(
            |name| if secure { None } else { std::env::var_os(name) },
            crate::sys::name(&mut name),
        )
    })
}

/// Reads the environment, and tells the user what is wrong with it.
pub(crate) fn load() {
    let settings = get();
    #[cfg(target_arch = "x86_64")]
    crate::hooks::deepbind::prepare(settings.keep_deepbind);
    if let Some(item) = &settings.keys.misunderstood {
        notice::keys_not_understood(item);
    }
}

impl Settings {
    /// `name` is the program's.
    fn read(variable: impl Fn(&str) -> Option<OsString>, name: &[u8]) -> Self {
        let is = |name: &str, value: &str| variable(name).is_some_and(|v| v == value);
        let sockets = match variable("DIPC_SOCKET").filter(|path| !path.is_empty()) {
            Some(path) => vec![path.into_vec()],
            None => std::iter::once(SYSTEM_SOCKET.into())
                .chain(
                    variable("XDG_RUNTIME_DIR")
                        .filter(|dir| !dir.is_empty())
                        .map(|dir| {
                            std::path::Path::new(&dir)
                                .join(USER_SOCKET)
                                .into_os_string()
                                .into_vec()
                        }),
                )
                .collect(),
        };
        Settings {
            keys: Keys::parse(&variable("DIPC_KEYS").unwrap_or_default().to_string_lossy()),
            flag_counts: !is("DIPC_FLAG", "ignore"),
            keep_deepbind: is("DIPC_DEEPBIND", "keep"),
            require: is("DIPC_REQUIRE", "1"),
            quiet: is("DIPC_QUIET", "1"),
            sweep: is("DIPC_SWEEP", "1"),
            tool: TOOLS.contains(&name),
            sockets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_socket_is_tried_after_the_systems_and_dipc_socket_replaces_both() {
        let both = Settings::read(
            |n| (n == "XDG_RUNTIME_DIR").then(|| "/run/user/7".into()),
            b"",
        );
        let paths = [&b"/run/dipc/dipcd.sock"[..], b"/run/user/7/dipc/dipcd.sock"];
        assert_eq!(both.sockets, paths);
        let named = Settings::read(|n| (n != "DIPC_KEYS").then(|| "/x".into()), b"");
        assert_eq!(named.sockets, [b"/x"]);
    }

    #[test]
    fn an_empty_environment_leaves_everything_local_but_the_flag() {
        let settings = Settings::read(|_| None, b"ipcrmx");
        assert!(settings.flag_counts && !settings.require && !settings.quiet);
        assert!(!settings.sweep && !settings.tool);
        assert!(!settings.keys.contain(0x1234) && !settings.keys.contain(0));
    }
}
