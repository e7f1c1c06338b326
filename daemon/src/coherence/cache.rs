//! What one node has of a segment.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId};

use super::outlet::Outlet;
use super::{Action, Config, Violation};

/// What a node knows of one granule.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Line {
    /// What threads may do with the copy that is here.
    pub held: Option<Access>,
    /// The copy is the one that counts.
    pub owner: bool,
    /// When a thread was first given the copy for what it may do now.
    pub since: Option<u64>,
    /// The request that is under way.
    pub pending: Option<Pending>,
    /// What the directory ordered, kept until the quantum is over.
    pub order: Option<Order>,
    /// The content is lost.
    pub lost: bool,
}

/// A request that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    /// What for.
    pub access: Access,
    /// What its grant must show.
    pub ticket: u64,
    /// A thread that wants to write came while reading was asked for.
    pub write_next: bool,
    /// Nobody here uses the segment any more.
    pub unwanted: bool,
}

/// What the directory may order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Drop the copy.
    Invalidate,
    /// Send the copy.
    Forward {
        /// To whom.
        to: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// For reading, keep it too.
        access: Access,
        /// The request's.
        ticket: u64,
    },
}

/// A node's copies of a segment's granules.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cache {
    config: Config,
    lines: BTreeMap<u64, Line>,
    /// How many tickets were made.
    issued: u64,
    /// The home is dead, and so all is lost.
    orphaned: bool,
}

impl Cache {
    pub(super) fn new(config: Config) -> Self {
        Cache {
            config,
            lines: BTreeMap::new(),
            issued: 0,
            orphaned: false,
        }
    }

    /// The line of a granule; an empty one if there is nothing to know.
    pub fn line(&self, granule: u64) -> Line {
        self.lines.get(&granule).copied().unwrap_or_default()
    }

    /// All lines that say something, by granule.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &Line)> {
        self.lines.iter().map(|(&granule, line)| (granule, line))
    }

    pub(super) fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    pub(super) fn held(&self, granule: u64) -> Option<Access> {
        self.line(granule).held
    }

    pub(super) fn fault(&mut self, granule: u64, access: Access, now: u64, out: &mut Outlet<'_>) {
        let mut line = self.line(granule);
        if self.orphaned || line.lost || granule >= self.config.granules {
            return out.act(Action::Poison { granule });
        }
        if let Some(held) = line.held.filter(|&held| held >= access) {
            line.since.get_or_insert(now);
            out.act(Action::Permit {
                granule,
                access: held,
            });
        } else if let Some(pending) = &mut line.pending {
            pending.write_next |= access > pending.access;
        } else {
            self.request(granule, access, &mut line, out);
        }
        if let Some(pending) = &mut line.pending {
            pending.unwanted = false;
        }
        self.store(granule, line);
    }

    pub(super) fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        now: u64,
        out: &mut Outlet<'_>,
    ) -> Result<(), Violation> {
        let granule = message.granule();
        let mut line = self.line(granule);
        if let Message::Grant {
            ticket,
            access,
            content,
            ..
        } = message
        {
            if self
                .check_grant(from, &line, access, content, ticket)
                .is_none()
            {
                // From another node: it was sent before its sender learnt what this
                // node or the home had learnt already, or at the bidding of a home
                // that lies. Neither is its sender's fault.
                return match from == self.config.home {
                    true => Err(Violation::Unexpected(message)),
                    false => Ok(()),
                };
            }
            self.granted(granule, from, access, content, &mut line, now, out);
        } else if from != self.config.home {
            return Err(Violation::NotHome(message));
        } else {
            self.told(message, &mut line, now, out)
                .ok_or(Violation::Unexpected(message))?;
        }
        self.store(granule, line);
        Ok(())
    }

    pub(super) fn expire(&mut self, granule: u64, now: u64, out: &mut Outlet<'_>) {
        let mut line = self.line(granule);
        if let Some(order) = line.order {
            self.obey(granule, order, &mut line, now, out);
        }
        self.store(granule, line);
    }

    /// The home's cache takes over what another node evicted.
    pub(super) fn adopt(&mut self, granule: u64, out: &mut Outlet<'_>) {
        let mut line = self.line(granule);
        if line.held.is_none() {
            line.held = Some(Access::Read);
            out.act(Action::Install {
                granule,
                access: Access::Read,
                content: Content::Data,
            });
        }
        line.owner = true;
        line.order = None;
        self.store(granule, line);
    }

    pub(super) fn evict_all(&mut self, out: &mut Outlet<'_>) {
        let granules: Vec<u64> = self.lines.keys().copied().collect();
        for granule in granules {
            let mut line = self.line(granule);
            if let Some(order) = line.order {
                self.carry_out(granule, order, &mut line, out);
            }
            line.since = None;
            match &mut line.pending {
                Some(pending) => pending.unwanted = true,
                None => self.evict(granule, &mut line, out),
            }
            self.store(granule, line);
        }
    }

    pub(super) fn home_died(&mut self, out: &mut Outlet<'_>) {
        self.orphaned = true;
        self.lines.clear();
        out.act(Action::PoisonAll);
    }

    fn store(&mut self, granule: u64, line: Line) {
        if line == Line::default() {
            self.lines.remove(&granule);
        } else {
            self.lines.insert(granule, line);
        }
    }
}

/// Asking and being given.
impl Cache {
    /// Keyed with the secret, so that who has seen some tickets cannot tell the
    /// next.
    fn ticket(&mut self) -> u64 {
        self.issued += 1;
        let mut hasher = DefaultHasher::new();
        (self.config.secret, self.issued).hash(&mut hasher);
        hasher.finish()
    }

    fn request(&mut self, granule: u64, access: Access, line: &mut Line, out: &mut Outlet<'_>) {
        let ticket = self.ticket();
        line.pending = Some(Pending {
            access,
            ticket,
            write_next: false,
            unwanted: false,
        });
        out.tell_directory(
            self.config.home,
            Message::Request {
                granule,
                access,
                ticket,
                incarnation: self.config.incarnation,
            },
        );
    }

    /// `None` if it is not what was asked for.
    fn check_grant(
        &self,
        from: NodeId,
        line: &Line,
        access: Access,
        content: Content,
        ticket: u64,
    ) -> Option<()> {
        let pending = line.pending?;
        let fits = match content {
            Content::Keep => from == self.config.home && line.held.is_some(),
            Content::Zero => from == self.config.home && line.held.is_none(),
            Content::Data => line.held.is_none(),
        };
        (fits && pending.ticket == ticket && pending.access == access).then_some(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a grant's parts, taken apart once"
    )]
    fn granted(
        &mut self,
        granule: u64,
        from: NodeId,
        access: Access,
        content: Content,
        line: &mut Line,
        now: u64,
        out: &mut Outlet<'_>,
    ) {
        let pending = line.pending.take();
        line.held = line.held.max(Some(access));
        line.owner |= access == Access::Write;
        line.since = Some(now);
        out.act(match content {
            Content::Keep => Action::Permit { granule, access },
            _ => Action::Install {
                granule,
                access,
                content,
            },
        });
        if from != self.config.home {
            out.tell_directory(self.config.home, Message::Installed { granule });
        }
        match pending {
            Some(Pending { unwanted: true, .. }) => {
                line.since = None;
                self.evict(granule, line, out);
            }
            Some(Pending {
                write_next: true, ..
            }) => {
                self.request(granule, Access::Write, line, out);
            }
            _ => {}
        }
    }

    /// What only the home may say. `None` if it has no reason to.
    fn told(
        &mut self,
        message: Message,
        line: &mut Line,
        now: u64,
        out: &mut Outlet<'_>,
    ) -> Option<()> {
        let home = self.config.home;
        match message {
            Message::Forward {
                granule,
                to,
                incarnation,
                access,
                ticket,
            } if to != self.config.me => {
                self.obey(
                    granule,
                    Order::Forward {
                        to,
                        incarnation,
                        access,
                        ticket,
                    },
                    line,
                    now,
                    out,
                );
            }
            Message::Invalidate { granule } => {
                self.obey(granule, Order::Invalidate, line, now, out);
            }
            Message::Chase { granule, ticket } => {
                if let Some(pending) = line.pending.as_mut().filter(|p| p.ticket == ticket) {
                    pending.ticket = self.ticket();
                    let ticket = pending.ticket;
                    out.tell_directory(home, Message::Missing { granule, ticket });
                }
            }
            Message::Lost { granule } if line.held.is_none() => {
                line.pending.take()?;
                line.lost = true;
                out.act(Action::Poison { granule });
            }
            Message::Own { .. } => line.owner |= line.held.is_some(),
            Message::Cancel { granule } => {
                line.order = None;
                let held = line.held.is_some();
                out.tell_directory(home, Message::Cancelled { granule, held });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Giving up.
impl Cache {
    /// Carries out an order, or keeps it until the quantum is over.
    fn obey(&self, granule: u64, order: Order, line: &mut Line, now: u64, out: &mut Outlet<'_>) {
        let takes_something = match order {
            Order::Forward {
                access: Access::Read,
                ..
            } => line.held == Some(Access::Write),
            Order::Forward { .. } | Order::Invalidate => line.held.is_some(),
        };
        let until = line
            .since
            .map(|since| since.saturating_add(self.config.quantum));
        match until.filter(|&until| takes_something && now < until) {
            Some(at) => {
                line.order = Some(order);
                out.act(Action::Arm { granule, at });
            }
            None => self.carry_out(granule, order, line, out),
        }
    }

    /// Does what the directory ordered. An order to send a copy that is not
    /// here is void: it crossed this node's eviction. One to send it to a node
    /// that is dead is kept: the copy would be lost, and the directory, which
    /// will learn of the death too, cancels it.
    fn carry_out(&self, granule: u64, order: Order, line: &mut Line, out: &mut Outlet<'_>) {
        line.order = None;
        match order {
            Order::Invalidate => {
                if line.held.is_some() {
                    self.release(granule, line, out);
                }
                out.tell_directory(self.config.home, Message::Invalidated { granule });
            }
            Order::Forward {
                to,
                incarnation,
                access,
                ticket,
            } => {
                let Some(held) = line.held else {
                    return out.tell_directory(self.config.home, Message::Void { granule });
                };
                if out.deaths.is_over(to, incarnation) {
                    line.order = Some(order);
                    return;
                }
                if held == Access::Write {
                    out.act(Action::Protect { granule });
                    line.held = Some(Access::Read);
                }
                out.act(Action::Copy { granule });
                if access == Access::Write {
                    self.release(granule, line, out);
                }
                let content = Content::Data;
                out.tell_cache(
                    to,
                    Message::Grant {
                        granule,
                        access,
                        content,
                        ticket,
                    },
                );
                if self.config.me == self.config.home {
                    // All that the home says to `to` comes after the grant, so
                    // the copy is as good as there.
                    out.tell_directory(self.config.home, Message::Installed { granule });
                }
            }
        }
    }

    fn release(&self, granule: u64, line: &mut Line, out: &mut Outlet<'_>) {
        out.act(Action::Drop { granule });
        *line = Line {
            held: None,
            owner: false,
            since: None,
            ..*line
        };
    }

    /// Gives back a copy of its own accord; the home's is in its place.
    fn evict(&self, granule: u64, line: &mut Line, out: &mut Outlet<'_>) {
        let Config { me, home, .. } = self.config;
        let Some(held) = line.held.filter(|_| me != home) else {
            return;
        };
        if held == Access::Write {
            out.act(Action::Protect { granule });
        }
        let content = if line.owner {
            Content::Data
        } else {
            Content::Keep
        };
        if line.owner {
            out.act(Action::Copy { granule });
        }
        self.release(granule, line, out);
        out.tell_directory(home, Message::Evict { granule, content });
    }
}
