//! What a process costs the machine, as `/proc` shows it.

use std::fmt;
use std::fs;

/// A process's share of the machine's resources at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Its own memory, in KiB: heap and stacks, without the segments it maps.
    pub memory: u64,
    /// Memory of segments that it has mapped and touched, in KiB.
    pub segments: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Cost {
    /// Of this process now.
    ///
    /// # Panics
    /// If there is none, or it is another user's.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .unwrap_or_else(|error| panic!("process {pid}: {error}"));
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        Cost {
            memory: field("RssAnon:"),
            segments: field("RssShmem:"),
            descriptors: descriptors.map_or(0, Iterator::count),
            threads: field("Threads:") as usize,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} KiB, {} KiB of segments, {} descriptors, {} threads",
            self.memory, self.segments, self.descriptors, self.threads
        )
    }
}
