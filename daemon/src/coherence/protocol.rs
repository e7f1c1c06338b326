//! One node's part in the coherence of one segment.

use dipc_wire::NodeId;
use dipc_wire::coherence::{Access, Message};

use super::outlet::{Local, Outlet};
use super::{Action, Cache, Config, Directory, NodeSet, Violation};

/// A node's cache of a segment and, at the segment's home, its directory.
///
/// Every call appends to `actions` what the node has to do. `now` is in
/// nanoseconds of a clock of the caller's choice that does not run backwards.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Protocol {
    config: Config,
    cache: Cache,
    directory: Option<Directory>,
    /// Nodes that are dead and have not come back.
    dead: NodeSet,
}

impl Protocol {
    /// A segment that nobody has used yet, or one that this node begins to use.
    pub fn new(config: Config) -> Self {
        let directory = (config.me == config.home).then(|| Directory::new(config.home));
        Protocol {
            config,
            cache: Cache::new(config),
            directory,
            dead: NodeSet::default(),
        }
    }

    /// A thread of this node waits for `access`.
    pub fn fault(&mut self, granule: u64, access: Access, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, self.dead, actions);
        self.cache.fault(granule, access, now, &mut out);
        self.settle_locally(now, out);
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
        if self.dead.contains(from) {
            return Ok(());
        }
        if message.granule() >= self.config.granules {
            return Err(Violation::OutOfRange(message));
        }
        if from == self.config.me {
            return Err(Violation::Unexpected(message));
        }
        if let (Message::Grant { granule, .. }, Some(directory)) = (message, &self.directory)
            && !directory.sends_home(granule, from)
        {
            return Err(Violation::Unexpected(message));
        }
        let mut out = Outlet::new(self.config.me, self.dead, actions);
        match message {
            Message::Grant { .. }
            | Message::Forward { .. }
            | Message::Invalidate { .. }
            | Message::Chase { .. }
            | Message::Lost { .. }
            | Message::Own { .. }
            | Message::Cancel { .. } => self.cache.receive(from, message, now, &mut out)?,
            Message::Request { .. }
            | Message::Installed { .. }
            | Message::Invalidated { .. }
            | Message::Evict { .. }
            | Message::Missing { .. }
            | Message::Void { .. }
            | Message::Cancelled { .. } => match &mut self.directory {
                Some(directory) => directory.receive(from, message, &mut out)?,
                None => return Err(Violation::NotForMe(message)),
            },
        }
        self.settle_locally(now, out);
        Ok(())
    }

    /// The time that [`Action::Arm`] named has come. A call too early or too
    /// often is harmless.
    pub fn expire(&mut self, granule: u64, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, self.dead, actions);
        self.cache.expire(granule, now, &mut out);
        self.settle_locally(now, out);
    }

    /// The last process of this node has detached: give back all that is here.
    /// What is still under way is given back when it comes, unless a thread has
    /// faulted on it again. The home keeps what it has, since its memory is the
    /// segment's backing store, but no longer makes anyone wait for it.
    pub fn evict_all(&mut self, now: u64, actions: &mut Vec<Action>) {
        let mut out = Outlet::new(self.config.me, self.dead, actions);
        self.cache.evict_all(&mut out);
        self.settle_locally(now, out);
    }

    /// A node is dead. Until [`Protocol::node_joined`] nothing that comes from
    /// it counts.
    pub fn node_died(&mut self, node: NodeId, now: u64, actions: &mut Vec<Action>) {
        if node == self.config.me || self.dead.contains(node) {
            return;
        }
        self.dead.insert(node);
        let mut out = Outlet::new(self.config.me, self.dead, actions);
        if node == self.config.home {
            self.cache.home_died(&mut out);
        }
        if let Some(directory) = &mut self.directory {
            directory.node_died(node, &mut out);
        }
        self.settle_locally(now, out);
    }

    /// A new incarnation of a node that had died is here. A home that comes
    /// back does not bring this segment back.
    pub fn node_joined(&mut self, node: NodeId) {
        self.dead.remove(node);
    }

    /// What threads of this node may do with the granule now.
    pub fn held(&self, granule: u64) -> Option<Access> {
        self.cache.held(granule)
    }

    /// The cache, to look at.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The directory, to look at; only the home has it.
    pub fn directory(&self) -> Option<&Directory> {
        self.directory.as_ref()
    }

    /// Carries messages between the home's directory and cache until neither
    /// has anything to say.
    fn settle_locally(&mut self, now: u64, mut out: Outlet<'_>) {
        let home = self.config.home;
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
