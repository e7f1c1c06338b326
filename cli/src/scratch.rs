//! A private folder that is gone when its owner is.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

use crate::failure::{Doing, Result};

/// A new folder, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one. It lies in `/tmp`, whatever `TMPDIR` says: paths of sockets are short.
    pub(crate) fn new() -> Result<Self> {
        let made = mkdtemp(Path::new("/tmp/dipc-XXXXXX"));
        made.map(Scratch)
            .doing(|| "cannot make a folder in /tmp".into())
    }

    /// Where.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is no reason to fail at the very end.
        let _ = fs::remove_dir_all(&self.0);
    }
}
