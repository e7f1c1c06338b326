//! Where the other parts of dipc lie: the daemons and the library.
//!
//! | layout | command and daemons | library |
//! |---|---|---|
//! | cargo's target folder | `release/` | `release/` |
//! | installed | `bin/` | `lib/dipc/` or `lib/` |

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::failure::{Doing, Failure, Result};

/// The environment variable that names the library itself.
const LIBRARY_VARIABLE: &str = "DIPC_LIB";

/// The folder of the running command.
fn our_folder() -> Result<PathBuf> {
    let own = env::current_exe().doing(|| "cannot tell where dipc itself lies".into())?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_path_buf())
}

fn find(folder: &Path, name: &str, places: &[&str]) -> Result<PathBuf> {
    let tried: Vec<_> = places
        .iter()
        .map(|place| folder.join(place).join(name))
        .collect();
    tried
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .ok_or_else(|| {
            let tried: Vec<_> = tried
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Failure::new(
                format!("cannot find {name}"),
                format!("there is no {}", tried.join(", no ")),
            )
            .next("build everything first: cargo build --release --workspace")
        })
}

/// `dipcd`.
pub(crate) fn daemon() -> Result<PathBuf> {
    find(&our_folder()?, "dipcd", &["", "../lib/dipc", "../sbin"])
}

/// `dipc-referee`.
pub(crate) fn referee() -> Result<PathBuf> {
    find(
        &our_folder()?,
        "dipc-referee",
        &["", "../lib/dipc", "../sbin"],
    )
}

/// `libdipc.so`, by an absolute path.
pub(crate) fn library() -> Result<PathBuf> {
    let path = match env::var_os(LIBRARY_VARIABLE) {
        Some(path) if Path::new(&path).is_file() => PathBuf::from(path),
        Some(path) => {
            let path = PathBuf::from(path);
            return Err(Failure::new(
                "cannot find libdipc.so",
                format!(
                    "{LIBRARY_VARIABLE} says {}, and no file is there",
                    path.display()
                ),
            )
            .next(format!(
                "correct {LIBRARY_VARIABLE}, or unset it to use the library beside dipc"
            )));
        }
        None => find(&our_folder()?, "libdipc.so", &["", "../lib/dipc", "../lib"])?,
    };
    path.canonicalize()
        .doing(|| format!("cannot resolve {}", path.display()))
}

/// The value of LD_PRELOAD: our library in front of what is there already.
pub(crate) fn preload(library: &Path, present: Option<OsString>) -> Result<OsString> {
    if library
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b": \t".contains(byte))
    {
        return Err(Failure::new(
            "cannot preload the library",
            format!(
                "LD_PRELOAD takes no path with a colon or a space, as in {}",
                library.display()
            ),
        )
        .next(format!(
            "copy libdipc.so elsewhere and name it in {LIBRARY_VARIABLE}"
        )));
    }
    let mut value = library.as_os_str().to_owned();
    if let Some(present) = present.filter(|present| !present.is_empty()) {
        value.push(":");
        value.push(present);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_library_comes_before_those_that_are_preloaded_already() {
        let library = Path::new("/lib/libdipc.so");
        assert_eq!(preload(library, None).unwrap(), "/lib/libdipc.so");
        assert_eq!(
            preload(library, Some("".into())).unwrap(),
            "/lib/libdipc.so"
        );
        assert_eq!(
            preload(library, Some("/a.so:/b.so".into())).unwrap(),
            "/lib/libdipc.so:/a.so:/b.so"
        );
    }

    #[test]
    fn a_path_that_ld_preload_would_cut_is_refused() {
        for path in ["/my lib/libdipc.so", "/a:b/libdipc.so"] {
            assert!(
                preload(Path::new(path), None)
                    .unwrap_err()
                    .to_string()
                    .contains("DIPC_LIB")
            );
        }
    }

    #[test]
    fn what_is_not_there_is_reported_with_every_place_that_was_tried() {
        let failure = find(Path::new("/nowhere"), "dipcd", &["", "../lib"])
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("/nowhere/dipcd") && failure.contains("/nowhere/../lib/dipcd"),
            "{failure}"
        );
        assert!(failure.contains("cargo build"));
    }
}
