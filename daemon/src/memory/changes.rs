//! Mappings that a program changes in part: they become several, as in the
//! kernel.
//!
//! ```text
//!   one mapping           [────────────────]
//!   its middle changed    [────][────][────]    each counts in nattch
//!   the middle unmapped   [────]      [────]
//! ```
//!
//! Whose mapping it is, the daemon may not know: an address space that came by a
//! fork event has no process yet. Where the kernel can be asked, by a probe, it
//! is. Else one child of the process's parent is as good as another: they have
//! the same mappings, and what is counted too much of one is counted too little
//! of the other.

use std::sync::Arc;

use super::spaces::{Mapping, Space, Spaces};
use super::uffd::Range;

/// More mappings no process can have, unless `vm.max_map_count` was raised: who
/// claims so harms this daemon.
const MOST: usize = 65_536;

/// What is gone already, as the program says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The mapping that began there.
    Mapping(u64),
    /// A part of one.
    Part(Range),
}

impl Gone {
    /// What of a mapping that is, if anything.
    fn of(self, mapping: &Mapping) -> Option<Range> {
        match self {
            Gone::Mapping(addr) => (addr == mapping.range.start).then_some(mapping.range),
            Gone::Part(range) => mapping.range.common(range),
        }
    }
}

/// A mapping that is no more, and what there is instead.
#[derive(Debug)]
pub struct Change {
    /// What there was.
    pub before: Mapping,
    /// What there is now.
    pub pieces: Vec<Mapping>,
}

/// Who says so.
#[derive(Clone, Copy, Debug)]
pub struct Sayer {
    /// The process.
    pub pid: u32,
    /// Its parent, as the kernel says.
    pub parent: Option<u32>,
}

impl Spaces {
    /// Forgets what the process has unmapped. `None`: there was nothing of it, or
    /// it still is there. A space whose events must be read first is the error.
    ///
    /// `count` is told of pieces before anybody can take them for attachments that
    /// end: it must not wait, nor ask about spaces.
    pub fn unmap(
        &self,
        gone: Gone,
        pid: u32,
        count: impl FnOnce(&[Mapping]),
    ) -> Result<Option<Change>, Arc<Space>> {
        let mut inner = self.inner.write();
        let mut found = None;
        // What is certainly the process's own goes first.
        'search: for owner in [Some(pid), None] {
            for mapping in inner.mapped_by(owner) {
                let Some(range) = gone.of(mapping) else {
                    continue;
                };
                match mapping.space.has_unmapped(range.start) {
                    Ok(true) => {
                        found = Some((mapping.clone(), range));
                        break 'search;
                    }
                    Ok(false) => {}
                    Err(_) => return Err(mapping.space.clone()),
                }
            }
        }
        let Some((before, range)) = found else {
            return Ok(None);
        };
        let [head, _, tail] = before.cut(range);
        let pieces: Vec<Mapping> = head.into_iter().chain(tail).collect();
        count(&pieces);
        inner.replace(&before, &pieces);
        Ok(Some(Change { before, pieces }))
    }

    /// The range was changed, and what lies around it in its mapping was not.
    /// `None`: the process has no such mapping, or too many. `count` is told of
    /// the pieces that are more than there were, as in [`unmap`](Self::unmap).
    pub fn divide(
        &self,
        range: Range,
        inherited: Option<bool>,
        who: Sayer,
        count: impl FnOnce(&[Mapping]),
    ) -> Option<Change> {
        let mut inner = self.inner.write();
        let holds = |m: &&Mapping| m.range.common(range) == Some(range);
        let own = inner.mapped_by(Some(who.pid)).find(holds);
        let before = own.or_else(|| {
            let of_parent = |m: &&Mapping| who.parent.is_some() && m.space.parent() == who.parent;
            inner.mapped_by(None).filter(of_parent).find(holds)
        })?;
        let before = before.clone();
        if inner.mappings(before.space.id).len() > MOST {
            return None;
        }
        let [head, middle, tail] = before.cut(range);
        let middle = middle.map(|m| Mapping {
            inherited: inherited.unwrap_or(m.inherited),
            ..m
        });
        let pieces: Vec<Mapping> = [head, middle, tail].into_iter().flatten().collect();
        count(&pieces[1..]);
        inner.replace(&before, &pieces);
        Some(Change { before, pieces })
    }

    /// A mapping that shows something at `addr`, of the process for certain or,
    /// if it has none, perhaps.
    pub fn showing(&self, addr: u64, who: Sayer) -> Option<Mapping> {
        let inner = self.inner.read();
        let at = |m: &&Mapping| addr.wrapping_sub(m.range.start) < m.range.len;
        // A program that was just executed has its predecessor's pid, not its memory.
        let mut own = inner.mapped_by(Some(who.pid)).filter(at);
        let found = own.find(|m| !m.space.is_gone());
        found
            .or_else(|| {
                let of_parent =
                    |m: &&Mapping| who.parent.is_some() && m.space.parent() == who.parent;
                inner.mapped_by(None).filter(of_parent).find(at)
            })
            .cloned()
    }
}

impl Mapping {
    /// What lies before, in and behind a range that lies within.
    fn cut(&self, range: Range) -> [Option<Mapping>; 3] {
        let (start, end) = (self.range.start, self.range.end());
        let part = |from: u64, to: u64| {
            (from < to).then(|| Mapping {
                range: Range {
                    start: from,
                    len: to - from,
                },
                offset: self.offset + (from - start),
                ..self.clone()
            })
        };
        [
            part(start, range.start),
            part(range.start, range.end()),
            part(range.end(), end),
        ]
    }
}
