//! One node's part in the coherence of one segment.

use dipc_wire::coherence::{Access, Message};
use dipc_wire::{Incarnation, NodeId};

use super::deaths::Deaths;
use super::outlet::{Local, Outlet};
use super::{Action, Cache, Config, Directory, Violation};

/// A node's cache of a segment and, at the segment's home, its directory.
///
/// Every call appends to `actions` what the node has to do. `now` is in
/// nanoseconds of a clock of the caller's choice that does not run backwards.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Protocol {
    config: Config,
    halves: Halves,
    deaths: Deaths,
}

/// What is at a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Halves {
    cache: Cache,
    /// Only at the home.
    directory: Option<Directory>,
}

impl Protocol {
    /// A segment that nobody has used yet, or one that this node begins to use.
    pub fn new(config: Config) -> Self {
        let directory = (config.me == config.home).then(|| Directory::new(config.home));
        let halves = Halves {
            cache: Cache::new(config),
            directory,
        };
        Protocol {
            config,
            halves,
            deaths: Deaths::default(),
        }
    }

    /// A thread of this node waits for `access`.
    pub fn fault(&mut self, granule: u64, access: Access, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, &self.deaths, actions);
        self.halves.cache.fault(granule, access, now, &mut out);
        self.halves.settle(now, out);
    }

    /// A peer says this. Content is the business of the caller: that a payload
    /// of the granule's size is there exactly if the message says
    /// [`dipc_wire::coherence::Content::Data`].
    pub fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        now: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Violation> {
        if self.deaths.is_dead(from) {
            return Ok(());
        }
        if message.granule() >= self.config.granules {
            return match self.is_at_the_homes_bidding(from, message) {
                true => Ok(()),
                false => Err(Violation::OutOfRange(message)),
            };
        }
        if from == self.config.me {
            return Err(Violation::Unexpected(message));
        }
        if let (Message::Grant { granule, .. }, Some(directory)) = (message, &self.halves.directory)
            && !directory.sends_home(granule, from)
        {
            return Err(Violation::Unexpected(message));
        }
        let mut out = Outlet::new(self.config.me, &self.deaths, actions);
        match message {
            Message::Grant { .. }
            | Message::Forward { .. }
            | Message::Invalidate { .. }
            | Message::Chase { .. }
            | Message::Lost { .. }
            | Message::Own { .. }
            | Message::Cancel { .. } => self.halves.cache.receive(from, message, now, &mut out)?,
            Message::Request { .. }
            | Message::Installed { .. }
            | Message::Invalidated { .. }
            | Message::Evict { .. }
            | Message::Missing { .. }
            | Message::Void { .. }
            | Message::Cancelled { .. } => match &mut self.halves.directory {
                Some(directory) => directory.receive(from, message, &mut out)?,
                None => return Err(Violation::NotForMe(message)),
            },
        }
        self.halves.settle(now, out);
        Ok(())
    }

    /// Whether the sender says this because the home, which is neither of the two,
    /// has told it to: if it does not fit what the home has told *this* node, the
    /// home lies, and the sender's life is not to end for that.
    pub fn is_at_the_homes_bidding(&self, from: NodeId, message: Message) -> bool {
        let Config { me, home, .. } = self.config;
        matches!(message, Message::Grant { .. }) && from != home && me != home
    }

    /// The time that [`Action::Arm`] named has come. A call too early or too
    /// often is harmless.
    pub fn expire(&mut self, granule: u64, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, &self.deaths, actions);
        self.halves.cache.expire(granule, now, &mut out);
        self.halves.settle(now, out);
    }

    /// The last process of this node has detached: give back all that is here.
    /// What is still under way is given back when it comes, unless a thread has
    /// faulted on it again. The home keeps what it has, since its memory is the
    /// segment's backing store, but no longer makes anyone wait for it.
    pub fn evict_all(&mut self, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, &self.deaths, actions);
        self.halves.cache.evict_all(&mut out);
        self.halves.settle(now, out);
    }

    /// This life of a node is over. Until [`Protocol::node_joined`] nothing that
    /// comes from it counts. What an earlier life says must not reach
    /// [`Protocol::receive`] any more.
    pub fn node_died(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        if node == self.config.me || !self.deaths.died(node, incarnation) {
            return;
        }
        let mut out = Outlet::new(self.config.me, &self.deaths, actions);
        if node == self.config.home {
            self.halves.cache.home_died(&mut out);
        }
        if let Some(directory) = &mut self.halves.directory {
            directory.node_died(node, &mut out);
        }
        self.halves.settle(now, out);
    }

    /// A new incarnation of a node that had died is here. A home that comes
    /// back does not bring this segment back.
    pub fn node_joined(&mut self, node: NodeId, incarnation: Incarnation) {
        self.deaths.joined(node, incarnation);
    }

    /// What threads of this node may do with the granule now.
    pub fn held(&self, granule: u64) -> Option<Access> {
        self.halves.cache.held(granule)
    }

    /// The life of the home that made the segment is over, and nobody will say
    /// that it is destroyed.
    pub fn is_orphaned(&self) -> bool {
        self.halves.cache.is_orphaned()
    }

    /// The cache, to look at.
    pub fn cache(&self) -> &Cache {
        &self.halves.cache
    }

    /// The directory, to look at; only the home has it.
    pub fn directory(&self) -> Option<&Directory> {
        self.halves.directory.as_ref()
    }
}

impl Halves {
    /// Carries messages between the home's directory and cache until neither
    /// has anything to say.
    fn settle(&mut self, now: u64, mut out: Outlet<'_>) {
        let home = out.me;
        while let Some(local) = out.local.pop_front() {
            let answer = match (local, &mut self.directory) {
                (Local::ToCache(message), _) => self.cache.receive(home, message, now, &mut out),
                (Local::Adopt { granule }, _) => {
                    self.cache.adopt(granule, &mut out);
                    Ok(())
                }
                (Local::ToDirectory(message), Some(directory)) => {
                    directory.receive(home, message, &mut out)
                }
                (Local::ToDirectory(message), None) => Err(Violation::NotForMe(message)),
            };
            debug_assert_eq!(answer, Ok(()), "the home's two halves agree");
        }
    }
}
