//! A daemon for which the kernel seems to be out of something, at a chosen moment:
//! see `programs/scarcity/scarcity.c`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

use crate::{artifacts, wait};

/// What there is none of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scarce {
    /// Threads: pthread_create(3).
    Threads,
    /// Those that serve forked children.
    ThreadsForChildren,
    /// Files for connections: accept(2).
    Connections,
    /// Memory for a page: `UFFDIO_COPY`, and pwrite(2) to a segment's memory.
    Pages,
    /// Memory to map a page that is there: `UFFDIO_CONTINUE`.
    Mappings,
    /// Memory for a segment: memfd_create(2).
    Memories,
}

/// Bytes of a row.
const ROW: u64 = 8;
const ROWS: u64 = 6;

/// What one daemon lacks.
#[derive(Debug)]
pub struct Scarcity {
    path: PathBuf,
    file: File,
}

impl Scarcity {
    /// Nothing yet; by a file at `path`.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.set_len(ROWS * ROW).expect("a small file");
        Scarcity {
            path: path.into(),
            file,
        }
    }

    /// Puts a daemon that is to be started under it.
    pub fn rule(&self, daemon: &mut Command) {
        daemon
            .env("LD_PRELOAD", artifacts::scarcity())
            .env("SCARCITY", &self.path);
    }

    /// From now on there is none of it: calls fail with this.
    pub fn begin(&self, what: Scarce, errno: Errno) {
        self.set(what, errno as i32);
    }

    /// There is enough again.
    pub fn end(&self, what: Scarce) {
        self.set(what, 0);
    }

    fn set(&self, what: Scarce, errno: i32) {
        let row = what as u64 * ROW;
        let written = self.file.write_at(&errno.to_ne_bytes(), row);
        assert_eq!(written.expect("our own file"), 4);
    }

    /// How many calls have failed so.
    ///
    /// # Panics
    /// If the file cannot be read.
    #[must_use]
    pub fn failed(&self, what: Scarce) -> i32 {
        let mut count = [0; 4];
        let read = self.file.read_exact_at(&mut count, what as u64 * ROW + 4);
        read.expect("our own file");
        i32::from_ne_bytes(count)
    }

    /// Waits until more calls than `before` have failed so.
    pub fn until_felt(&self, what: Scarce, before: i32) {
        wait::until(&format!("a daemon feels that {what:?} are scarce"), || {
            self.failed(what) > before
        });
    }
}
