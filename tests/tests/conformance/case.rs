//! What a case is.

use crate::stage::{Stage, World};

/// One behaviour, and how to see it.
pub(crate) struct Case {
    /// Which, from 1.
    pub(crate) number: u32,
    /// In a sentence.
    pub(crate) behaviour: &'static str,
    /// Where it must be seen.
    pub(crate) worlds: &'static [World],
    /// Whether it takes participants of several users.
    pub(crate) needs_root: bool,
    /// Plays it; panics where it is otherwise.
    pub(crate) play: fn(&mut Stage<'_>),
}

/// A case for all worlds.
pub(crate) const fn case(number: u32, behaviour: &'static str, play: fn(&mut Stage<'_>)) -> Case {
    Case {
        number,
        behaviour,
        worlds: &World::ALL,
        needs_root: false,
        play,
    }
}

impl Case {
    /// A rule of ours: the kernel has nothing to say about it.
    pub(crate) const fn ours(mut self) -> Self {
        self.worlds = &[World::OneNode, World::TwoNodes];
        self
    }

    /// Of ours, and about several nodes.
    pub(crate) const fn between_nodes(mut self) -> Self {
        self.worlds = &[World::TwoNodes];
        self
    }

    /// Not without root.
    pub(crate) const fn by_root(mut self) -> Self {
        self.needs_root = true;
        self
    }
}
