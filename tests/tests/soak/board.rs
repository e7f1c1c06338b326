//! What workers and test share: the board of `programs/soak/soak.h`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As in `soak.h`.
pub(crate) const WORKERS: usize = 64;
const THINGS: usize = 8;
const WORD: usize = 8;

/// Where each array begins, in words.
const DONE: usize = 2;
const GAPS: usize = DONE + WORKERS + 6 * THINGS;
const SIZE: usize = GAPS + THINGS;

/// The board.
pub(crate) struct Board {
    path: PathBuf,
    file: File,
}

impl Board {
    /// An empty one.
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::write(&path, vec![0; SIZE * WORD]).expect("a file of the test");
        let file = File::options().read(true).write(true).open(&path);
        Board {
            file: file.expect("our own file"),
            path,
        }
    }

    /// Where workers find it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn word(&self, index: usize) -> u64 {
        let mut word = [0; WORD];
        let at = (index * WORD) as u64;
        let read = self.file.read_exact_at(&mut word, at);
        read.expect("a word of the board");
        u64::from_ne_bytes(word)
    }

    /// Tells all workers to stop.
    pub(crate) fn stop(&self) {
        let one = 1_u64.to_ne_bytes();
        self.file.write_all_at(&one, 0).expect("our own file");
    }

    /// How much the worker in this slot has done.
    pub(crate) fn done(&self, slot: usize) -> u64 {
        self.word(DONE + slot)
    }

    /// How many messages were not received whose sender or receiver was killed
    /// with them under way.
    pub(crate) fn gaps(&self) -> u64 {
        (GAPS..SIZE).map(|index| self.word(index)).sum()
    }
}
