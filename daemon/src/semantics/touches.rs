//! Who touched a segment last, and when it was attached: `shm_lpid` and
//! `shm_atime`.
//!
//! `shmat` counts before it maps, and may fail when it maps. Then nothing may be
//! left of it; but once it has succeeded, nobody may see the times of before. So it
//! shows from its beginning, and is taken out if it is abandoned:
//!
//! ```text
//!   lpid of            a        b begins      c detaches     b abandoned
//!   settled            a ────── a ─────────── c ──────────── c
//!   begun                       b             b
//!   shown              a        b             c              c
//! ```
//!
//! What shows is what came last. News of the end of an attach may come late, after
//! others have touched the segment: its place is that of its beginning.

use dipc_wire::Pid;

/// As many attaches may be between their halves. The first one of more is taken
/// for done: a peer that never says so takes no memory.
const MOST: usize = 1024;

/// Both, with what may yet be taken back.
#[derive(Clone, Debug, Default)]
pub(super) struct Touches {
    /// Counts touches, to say which came last.
    order: u64,
    atime: Dated<i64>,
    lpid: Dated<Option<Pid>>,
    /// Attaches that may yet fail, in order.
    begun: Vec<Begun>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Dated<T> {
    order: u64,
    value: T,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    order: u64,
    pid: Pid,
    at: i64,
}

impl Touches {
    /// A process attaches, unless it is [`abandon`](Self::abandon)ed.
    pub(super) fn begin(&mut self, pid: Pid, now: i64) {
        if self.begun.len() == MOST {
            let first = self.begun.remove(0);
            self.settle(first);
        }
        let order = self.next();
        self.begun.push(Begun {
            order,
            pid,
            at: now,
        });
    }

    /// What the process has begun, first if it has more, cannot fail any more.
    pub(super) fn finish(&mut self, pid: Pid) {
        if let Some(i) = self.begun.iter().position(|begun| begun.pid == pid) {
            let begun = self.begun.remove(i);
            self.settle(begun);
        }
    }

    /// What the process began last has failed.
    pub(super) fn abandon(&mut self, pid: Pid) {
        if let Some(i) = self.begun.iter().rposition(|begun| begun.pid == pid) {
            self.begun.remove(i);
        }
    }

    /// Nothing more will be heard of what these began: it stays as it was seen.
    pub(super) fn finish_all(&mut self, whose: impl Fn(Pid) -> bool) {
        let (done, begun) = self.begun.iter().partition(|begun| whose(begun.pid));
        self.begun = begun;
        let done: Vec<Begun> = done;
        done.into_iter().for_each(|begun| self.settle(begun));
    }

    /// A process attaches, and that cannot fail.
    pub(super) fn attach(&mut self, pid: Pid, now: i64) {
        let order = self.next();
        self.settle(Begun {
            order,
            pid,
            at: now,
        });
    }

    /// A process detaches.
    pub(super) fn detach(&mut self, pid: Pid) {
        let order = self.next();
        self.lpid.set(order, Some(pid));
    }

    /// `shm_atime`, 0 for never.
    pub(super) fn atime(&self) -> i64 {
        match self.begun.last() {
            Some(begun) if begun.order > self.atime.order => begun.at,
            _ => self.atime.value,
        }
    }

    /// `shm_lpid`, none for nobody.
    pub(super) fn lpid(&self) -> Option<Pid> {
        match self.begun.last() {
            Some(begun) if begun.order > self.lpid.order => Some(begun.pid),
            _ => self.lpid.value,
        }
    }

    fn next(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn settle(&mut self, begun: Begun) {
        self.atime.set(begun.order, begun.at);
        self.lpid.set(begun.order, Some(begun.pid));
    }
}

impl<T> Dated<T> {
    /// Unless there is something later.
    fn set(&mut self, order: u64, value: T) {
        if order > self.order {
            *self = Dated { order, value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pid, pid_on};
    use super::*;

    fn shown(touches: &Touches) -> (i64, Option<Pid>) {
        (touches.atime(), touches.lpid())
    }

    #[test]
    fn an_attach_shows_from_its_beginning_and_leaves_nothing_when_abandoned() {
        let mut touches = Touches::default();
        touches.begin(pid(1), 10);
        assert_eq!(shown(&touches), (10, Some(pid(1))));
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (0, None));
        touches.attach(pid(2), 20);
        touches.begin(pid(1), 30);
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (20, Some(pid(2))));
    }

    #[test]
    fn what_was_touched_meanwhile_is_later_than_an_attach_that_is_told_late() {
        for finished in [true, false] {
            let mut touches = Touches::default();
            touches.begin(pid(1), 10);
            touches.detach(pid(2));
            assert_eq!(shown(&touches), (10, Some(pid(2))));
            if finished {
                touches.finish(pid(1));
            } else {
                touches.abandon(pid(1));
            }
            let atime = if finished { 10 } else { 0 };
            assert_eq!(shown(&touches), (atime, Some(pid(2))));
        }
    }

    #[test]
    fn the_last_of_several_attaches_shows_whichever_ends_first() {
        let mut touches = Touches::default();
        touches.begin(pid(1), 10);
        touches.begin(pid(2), 20);
        touches.finish(pid(2));
        touches.finish(pid(1));
        assert_eq!(shown(&touches), (20, Some(pid(2))));
        touches.begin(pid(3), 30);
        touches.begin(pid(1), 40);
        touches.finish(pid(3));
        assert_eq!(shown(&touches), (40, Some(pid(1))));
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (30, Some(pid(3))));
    }

    #[test]
    fn one_of_two_attaches_of_a_process_fails_and_the_other_stays() {
        let mut touches = Touches::default();
        touches.begin(pid(1), 10);
        touches.begin(pid(1), 20);
        touches.finish(pid(1));
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (10, Some(pid(1))));
    }

    #[test]
    fn a_time_that_runs_backwards_is_taken_as_it_is() {
        let mut touches = Touches::default();
        touches.attach(pid(1), 20);
        touches.begin(pid(2), 10);
        assert_eq!(touches.atime(), 10);
        touches.finish(pid(2));
        assert_eq!(touches.atime(), 10);
    }

    #[test]
    fn an_end_of_what_nobody_began_changes_nothing() {
        let mut touches = Touches::default();
        touches.attach(pid(1), 10);
        touches.finish(pid(2));
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (10, Some(pid(1))));
    }

    #[test]
    fn what_a_dead_node_began_stays_as_it_was_seen() {
        let mut touches = Touches::default();
        touches.begin(pid_on(2, 9), 10);
        touches.begin(pid(1), 20);
        touches.finish_all(|pid| pid == pid_on(2, 9));
        touches.abandon(pid(1));
        assert_eq!(shown(&touches), (10, Some(pid_on(2, 9))));
    }

    #[test]
    fn attaches_without_an_end_take_bounded_memory() {
        let mut touches = Touches::default();
        for at in 1..=2 * MOST as i64 {
            touches.begin(pid(1), at);
        }
        assert_eq!(touches.begun.len(), MOST);
        for _ in 0..2 * MOST {
            touches.abandon(pid(1));
        }
        assert_eq!(shown(&touches), (MOST as i64, Some(pid(1))));
    }
}
