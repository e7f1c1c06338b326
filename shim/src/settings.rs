//! The environment, read once when the library is loaded.
//!
//! | variable | meaning |
//! |---|---|
//! | `DIPC_KEYS` | which keys are distributed: `none`, `all`, or a list such as `0x1234,0x5000-0x5fff,private` |
//! | `DIPC_FLAG=ignore` | `IPC_DIPC` in the flags means nothing: for programs that mean `SHM_NORESERVE` by it |
//! | `DIPC_GRANULE` | of the segments that this program makes, what nodes take from each other: `4K`, a multiple of it, `segment` |
//! | `DIPC_QUANTUM` | and how long a node keeps it, such as `200us`; a second at most |
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
use dipc_wire::sharing::{self, BadSharing, Wish};

use crate::choose::Keys;
use crate::notice;
use crate::sys::COMM;

const GRANULE: &str = "DIPC_GRANULE";
const QUANTUM: &str = "DIPC_QUANTUM";

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
    /// How the segments that it makes are shared.
    pub(crate) wish: Wish,
    /// The first of the two variables that says something else, and why.
    pub(crate) bad_wish: Option<(&'static str, BadSharing)>,
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
    if let Some((variable, why)) = &settings.bad_wish {
        notice::sharing_not_understood(variable, why);
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
        let wish = |name: &str| {
            let text = variable(name).unwrap_or_default();
            Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
        };
        let (granule, bad_granule) = split(wish(GRANULE).map(|text| text.parse()));
        let (quantum, bad_quantum) = split(wish(QUANTUM).map(|text| sharing::quantum(&text)));
        let bad = |name, why: Option<BadSharing>| why.map(|why| (name, why));
        Settings {
            wish: Wish { granule, quantum },
            bad_wish: bad(GRANULE, bad_granule).or(bad(QUANTUM, bad_quantum)),
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

/// A value that was given, or why it is none.
fn split<T, E>(given: Option<Result<T, E>>) -> (Option<T>, Option<E>) {
    match given {
        Some(Ok(value)) => (Some(value), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
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
        assert!(settings.wish.is_none() && settings.bad_wish.is_none());
    }

    #[test]
    fn a_granule_and_a_quantum_that_are_none_wish_nothing_and_are_told() {
        let read = |granule: &'static str, quantum: &'static str| {
            let variable = move |name: &str| match name {
                GRANULE => Some(granule.into()),
                QUANTUM => Some(quantum.into()),
                _ => None,
            };
            Settings::read(variable, b"")
        };
        let both = read("64K", "0").wish;
        assert_eq!(both.granule, Some(sharing::Granule::Bytes(64 << 10)));
        assert_eq!(both.quantum, Some(0));
        assert!(read("", "").wish.is_none() && read("", "").bad_wish.is_none());
        let one = read("5K", "1ms");
        assert_eq!(
            (one.wish.granule, one.wish.quantum),
            (None, Some(1_000_000))
        );
        assert_eq!(one.bad_wish.map(|(name, _)| name), Some(GRANULE));
        let other = read("4K", "2s");
        assert_eq!(other.wish.quantum, None);
        assert_eq!(other.bad_wish.map(|(name, _)| name), Some(QUANTUM));
    }
}
