//! Files that decide who comes in: what others could read or change is not
//! believed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use thiserror::Error;

/// No key and no list of 255 nodes is longer.
const LONGEST: u64 = 1 << 20;

/// What others than the owner may not do with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// Neither read nor write it.
    Secret,
    /// Not write it.
    Public,
}

/// Why a file is not believed. Each says what to do.
#[derive(Debug, Error)]
pub enum BadFile {
    /// It cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Others could read the secret.
    #[error(
        "{path} can be read or changed by others than its owner (mode {mode:03o}), so it is no secret: \
         chmod 600 {path}, and make a new key if somebody may have read this one"
    )]
    Open {
        /// Which.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could let themselves in.
    #[error(
        "{path} can be changed by others than its owner (mode {mode:03o}), who could let themselves in: \
         chmod go-w {path}"
    )]
    Writable {
        /// Which.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else wrote it.
    #[error(
        "{path} belongs to user {owner}, who is neither root nor the user this runs as: \
         chown it to one of them"
    )]
    Foreign {
        /// Which.
        path: String,
        /// Whose it is.
        owner: u32,
    },
    /// A device, a pipe, or far too long.
    #[error("{path} is no text file of at most {LONGEST} bytes: give the right one")]
    NoText {
        /// Which.
        path: String,
    },
}

/// Reads a file that belongs to root or to us, and that others may not touch.
pub fn read(path: &Path, guard: Guard) -> Result<String, BadFile> {
    let name = || path.display().to_string();
    let failed = |error| BadFile::Unreadable {
        path: name(),
        error,
    };
    // A pipe would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(BadFile::NoText { path: name() });
    }
    // What is looked at is what is read, whatever becomes of the name meanwhile.
    let file = File::open(path).map_err(failed)?;
    let is = file.metadata().map_err(failed)?;
    check(guard, is.mode() & 0o777, is.uid(), geteuid().as_raw(), name)?;
    let mut text = String::new();
    match file.take(LONGEST + 1).read_to_string(&mut text) {
        Ok(count) if is.is_file() && count as u64 <= LONGEST => Ok(text),
        Ok(_) => Err(BadFile::NoText { path: name() }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(BadFile::NoText { path: name() })
        }
        Err(error) => Err(failed(error)),
    }
}

fn check(
    guard: Guard,
    mode: u32,
    owner: u32,
    us: u32,
    name: impl Fn() -> String,
) -> Result<(), BadFile> {
    if owner != 0 && owner != us {
        return Err(BadFile::Foreign {
            path: name(),
            owner,
        });
    }
    match guard {
        Guard::Secret if mode & 0o077 != 0 => Err(BadFile::Open { path: name(), mode }),
        Guard::Public if mode & 0o022 != 0 => Err(BadFile::Writable { path: name(), mode }),
        Guard::Secret | Guard::Public => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_touch_a_secret_and_only_he_may_change_a_list() {
        let fine = |guard, mode, owner| check(guard, mode, owner, 1000, || "f".into()).is_ok();
        for owner in [0, 1000] {
            assert!(fine(Guard::Secret, 0o600, owner) && fine(Guard::Secret, 0o400, owner));
            for mode in [0o640, 0o604, 0o620, 0o602, 0o601, 0o610, 0o666] {
                assert!(!fine(Guard::Secret, mode, owner), "{mode:o}");
            }
            assert!(fine(Guard::Public, 0o644, owner));
            assert!(!fine(Guard::Public, 0o664, owner) && !fine(Guard::Public, 0o646, owner));
        }
        assert!(!fine(Guard::Secret, 0o600, 1001) && !fine(Guard::Public, 0o644, 1001));
    }

    #[test]
    fn what_is_no_text_file_is_refused_without_being_read() {
        for path in ["/", "/dev/zero"] {
            let refused = read(Path::new(path), Guard::Public);
            assert!(matches!(refused, Err(BadFile::NoText { .. })), "{path}");
        }
        let missing = read(Path::new("/nowhere/key"), Guard::Secret);
        assert!(matches!(missing, Err(BadFile::Unreadable { .. })));
    }
}
