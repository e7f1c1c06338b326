//! What a keeper holds, and how it fences.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use dipc_wire::Incarnation;
use nix::poll::{PollFd, PollFlags, poll};

use super::{Note, say};
use crate::memory::spaces::SpaceId;
use crate::memory::uffd::{Error, Event, Range, Uffd};
use crate::memory::{backing, poison};

/// How often a keeper without a daemon looks whether its programs have ended;
/// no event tells the end of an address space.
const LOOK_MILLIS: u16 = 1000;

/// What a keeper holds.
#[derive(Default)]
pub(super) struct Held {
    memories: HashMap<(i32, u64), (OwnedFd, u64)>,
    spaces: HashMap<SpaceId, (Uffd, Vec<Range>)>,
    links: HashMap<Incarnation, TcpStream>,
}

impl Held {
    /// Takes a note of what there is.
    pub(super) fn note(&mut self, note: Note, descriptor: Option<OwnedFd>) {
        match (note, descriptor) {
            (Note::Memory { segment, view, len }, Some(memfd)) => {
                self.memories.insert((segment, view), (memfd, len));
            }
            (Note::EndMemory { segment, view }, _) => drop(self.memories.remove(&(segment, view))),
            (Note::Space { space }, Some(uffd)) => {
                let new = || (Uffd::inherited(uffd), Vec::new());
                self.spaces.entry(space).or_insert_with(new);
            }
            (Note::EndSpace { space }, _) => drop(self.spaces.remove(&space)),
            (Note::Map { space, start, len }, _) => {
                let range = Range { start, len };
                if let Some((_, ranges)) = self.spaces.get_mut(&space)
                    && !ranges.contains(&range)
                {
                    ranges.push(range);
                }
            }
            (Note::Unmap { space, start }, _) => {
                if let Some((_, ranges)) = self.spaces.get_mut(&space) {
                    ranges.retain(|range| range.start != start);
                }
            }
            (Note::Link { life }, Some(socket)) => {
                self.links.insert(life, TcpStream::from(socket));
            }
            (Note::EndLink { life }, _) => drop(self.links.remove(&life)),
            (note, _) => say(format_args!(
                "no descriptor left for {note:?}: should dipcd be killed now, its \
                 programs would read zeros or old values. Raise the hard limit on open files \
                 (ulimit -Hn) and restart dipcd"
            )),
        }
    }

    /// The fence stands: tells the peers that they may go on.
    pub(super) fn announce(&mut self) {
        for link in self.links.values() {
            // First in order, or what was not read would make a reset of the end.
            let _ = link.shutdown(Shutdown::Write);
        }
        self.links.clear();
    }

    /// Whether there are programs left.
    pub(super) fn guards(&self) -> bool {
        !self.spaces.is_empty()
    }

    /// The daemon is gone: nobody reads or writes these segments any more.
    pub(super) fn take_away(&mut self) {
        // First the pages, so that whoever touches one waits: the spaces are
        // still registered. Then poison, which wants them absent.
        for (memfd, len) in self.memories.values() {
            if let Err(error) = backing::punch(memfd.as_fd(), 0, *len) {
                say(format_args!("cannot take away a segment's pages: {error}"));
            }
        }
        for id in self.spaces.keys().copied().collect::<Vec<_>>() {
            self.poison(id);
        }
    }

    /// Poisons all that a space maps, and the spaces of children that were
    /// forked meanwhile.
    fn poison(&mut self, id: SpaceId) {
        let Some((uffd, ranges)) = self.spaces.get(&id) else {
            return;
        };
        for range in ranges {
            loop {
                match poison(uffd, *range) {
                    Err(Error::Changing) => {}
                    Err(Error::Other(error)) => {
                        say(format_args!("cannot poison a lost page: {error}"));
                        break;
                    }
                    _ => break,
                }
                let mut children = Vec::new();
                uffd.await_event(None, LOOK_MILLIS.into());
                let _ = uffd.read_events(|event| children.extend(child(event)));
                if !children.is_empty() {
                    let ranges = ranges.clone();
                    self.adopt(children, &ranges);
                    return self.poison(id);
                }
            }
        }
    }

    fn adopt(&mut self, children: Vec<Uffd>, ranges: &[Range]) {
        for child in children {
            // Above every number that the daemon gave.
            let id = self.spaces.keys().max().copied().unwrap_or(0) + 1;
            self.spaces.insert(id, (child, ranges.to_vec()));
            self.poison(id);
        }
    }

    /// Waits for forks, whose children need the same, and for the last end.
    pub(super) fn guard(&mut self) {
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        let mut fds: Vec<PollFd<'_>> = ids
            .iter()
            .map(|id| PollFd::new(self.spaces[id].0.as_fd(), PollFlags::POLLIN))
            .collect();
        // Interrupted or not, each space is looked at.
        let _ = poll(&mut fds, LOOK_MILLIS);
        for id in ids {
            let Some((uffd, ranges)) = self.spaces.get(&id) else {
                continue;
            };
            let ranges = ranges.clone();
            let mut children = Vec::new();
            // A fault here is a thread that was about to wait when the page was
            // poisoned: poisoning again wakes it.
            let mut fault = false;
            let _ = uffd.read_events(|event| match event {
                Event::Fault { .. } => fault = true,
                other => children.extend(child(other)),
            });
            if !ranges.iter().any(|range| still_maps(uffd, range)) {
                self.spaces.remove(&id);
            } else if fault {
                self.poison(id);
            }
            self.adopt(children, &ranges);
        }
    }
}

/// Whether a space lives and maps something there. The page is poisoned already.
fn still_maps(uffd: &Uffd, range: &Range) -> bool {
    let page = Range {
        start: range.start,
        len: backing::PAGE,
    };
    !matches!(uffd.poison(page).result, Err(Error::Gone | Error::Unmapped))
}

fn child(event: Event) -> Option<Uffd> {
    match event {
        Event::Fork(fd) => Some(Uffd::inherited(fd)),
        Event::Fault { .. } => None,
    }
}
