//! The directory's entry of one granule, and its one transaction at a time.
//!
//! | phase | waits for | then |
//! |---|---|---|
//! | [`Phase::Invalidating`] | each reader told to drop its copy | dispatched anew |
//! | [`Phase::Forwarded`] | the copy to be where it was sent | done; dispatched anew if the owner had evicted it |
//! | [`Phase::Chasing`] | the requester of a copy whose sender is dead | done, or dispatched anew |
//! | [`Phase::Cancelling`] | each node whose order was taken back | dispatched anew, or dropped if the requester is dead |
//!
//! A request is dispatched by looking at the entry as it is, so that whatever
//! happened while a phase lasted (evictions, deaths) needs no case of its own.
//!
//! No transaction ends before each order that it gave to a living node is
//! answered: an order that stayed behind could meet a later copy, which the
//! node got from elsewhere, and take that away.

use std::collections::VecDeque;

use dipc_wire::coherence::{Access, Content, Message};
use dipc_wire::{Incarnation, NodeId};

use super::NodeSet;
use super::outlet::Outlet;

/// Where the current content of a granule is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Nobody was ever allowed to write it: it is zero.
    #[default]
    Zero,
    /// This node's copy is the one that counts; others may have read copies.
    Owned(NodeId),
    /// Every copy went down with its node. While a transaction is
    /// [`Phase::Forwarded`] or [`Phase::Chasing`], the requester may yet say
    /// that it has one.
    Lost,
}

/// Someone waits for a granule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// Who.
    pub node: NodeId,
    /// What for.
    pub access: Access,
    /// What the grant must show.
    pub ticket: u64,
    /// In which life the node asked.
    pub incarnation: Incarnation,
}

/// What a transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// These have been told to drop their copies.
    Invalidating(NodeSet),
    /// This owner has been told to send its copy to the requester.
    Forwarded(NodeId),
    /// The node that was to send its copy is dead; the requester says whether
    /// the copy came.
    Chasing,
    /// These have been told to forget an order and are to say what they have.
    Cancelling(NodeSet),
}

/// The request that is being served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    /// Whose.
    pub request: Request,
    /// How far it is.
    pub phase: Phase,
    /// The requester is dead.
    pub orphaned: bool,
}

/// What the directory knows about one granule.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    origin: Origin,
    /// Who has a valid copy, the owner included. Who was told to drop its copy
    /// counts no more, who is being sent one does not count yet.
    readers: NodeSet,
    busy: Option<Transaction>,
    queue: VecDeque<Request>,
}

/// What an entry needs to act: where it is, and where its messages go.
pub(super) struct Desk<'a, 'b> {
    pub(super) home: NodeId,
    pub(super) granule: u64,
    pub(super) out: &'a mut Outlet<'b>,
}

impl Desk<'_, '_> {
    fn send(&mut self, to: NodeId, message: Message) {
        self.out.tell_cache(to, message);
    }
}

impl Entry {
    /// Where the current content is.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Who has a valid copy.
    pub fn readers(&self) -> NodeSet {
        self.readers
    }

    /// What is being done.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.busy.as_ref()
    }

    /// The requests that wait for the transaction's end, the next one first.
    pub fn queue(&self) -> impl Iterator<Item = &Request> {
        self.queue.iter()
    }

    /// It says no more than no entry would.
    pub(super) fn is_blank(&self) -> bool {
        *self == Entry::default()
    }
}

/// The messages of caches. `None`: nobody could have said so.
impl Entry {
    pub(super) fn request(&mut self, request: Request, desk: &mut Desk<'_, '_>) -> Option<()> {
        if desk.out.deaths.is_over(request.node, request.incarnation) {
            return None;
        }
        // An orphaned one was of an earlier incarnation.
        let served = self.busy.iter().filter(|t| !t.orphaned).map(|t| &t.request);
        if served
            .chain(&self.queue)
            .any(|other| other.node == request.node)
        {
            return None;
        }
        self.queue.push_back(request);
        self.serve(desk);
        Some(())
    }

    /// Said by the requester or, where the home's own cache sent the copy, by
    /// that: its grant is ahead of all that the home will say to the requester.
    pub(super) fn installed(&mut self, from: NodeId, desk: &mut Desk<'_, '_>) -> Option<()> {
        let Transaction { request, phase, .. } = self.busy?;
        let speaker = match phase {
            Phase::Forwarded(source) if source == desk.home => desk.home,
            Phase::Forwarded(_) | Phase::Chasing => request.node,
            Phase::Invalidating(_) | Phase::Cancelling(_) => return None,
        };
        if from != speaker {
            return None;
        }
        self.hand_over(request);
        if self.origin == Origin::Lost {
            self.origin = Origin::Owned(request.node);
            desk.send(
                request.node,
                Message::Own {
                    granule: desk.granule,
                },
            );
        }
        self.busy = None;
        self.serve(desk);
        Some(())
    }

    pub(super) fn invalidated(&mut self, from: NodeId, desk: &mut Desk<'_, '_>) -> Option<()> {
        match &mut self.busy.as_mut()?.phase {
            Phase::Invalidating(told) => told.remove(from).then(|| self.review(None, desk)),
            // It had obeyed before it learnt that it need not.
            Phase::Cancelling(told) => told.contains(from).then_some(()),
            Phase::Forwarded(_) | Phase::Chasing => None,
        }
    }

    pub(super) fn cancelled(
        &mut self,
        from: NodeId,
        held: bool,
        desk: &mut Desk<'_, '_>,
    ) -> Option<()> {
        let Phase::Cancelling(told) = &mut self.busy.as_mut()?.phase else {
            return None;
        };
        if !told.remove(from) {
            return None;
        }
        if held {
            self.readers.insert(from);
        }
        self.review(None, desk);
        Some(())
    }

    /// The owner has evicted, before it was told to send, what it was to send.
    pub(super) fn void(&mut self, from: NodeId, desk: &mut Desk<'_, '_>) -> Option<()> {
        match self.busy?.phase {
            Phase::Forwarded(source) if source == from && !self.readers.contains(from) => {
                self.resume(desk);
                Some(())
            }
            Phase::Cancelling(told) => told.contains(from).then_some(()),
            _ => None,
        }
    }

    pub(super) fn missing(
        &mut self,
        from: NodeId,
        ticket: u64,
        desk: &mut Desk<'_, '_>,
    ) -> Option<()> {
        match &mut self.busy {
            Some(Transaction {
                request,
                phase: Phase::Chasing,
                ..
            }) if request.node == from => {
                request.ticket = ticket;
            }
            _ => return None,
        }
        self.resume(desk);
        Some(())
    }

    pub(super) fn evicted(
        &mut self,
        from: NodeId,
        content: Content,
        desk: &mut Desk<'_, '_>,
    ) -> Option<()> {
        let had_a_copy = self.readers.contains(from) || self.told().contains(from);
        if !had_a_copy || content == Content::Zero {
            return None;
        }
        self.readers.remove(from);
        // A former owner's bytes are no news: another has a copy that counts.
        if content == Content::Data && self.origin == Origin::Owned(from) {
            // The home may itself have been told to drop its copy: no more.
            if let Some(told) = self.told_mut() {
                told.remove(desk.home);
            }
            self.readers.insert(desk.home);
            self.origin = Origin::Owned(desk.home);
            desk.out.adopt(desk.granule);
        }
        self.review(None, desk);
        Some(())
    }

    pub(super) fn node_died(&mut self, node: NodeId, desk: &mut Desk<'_, '_>) {
        self.queue.retain(|request| request.node != node);
        self.readers.remove(node);
        if let Some(told) = self.told_mut() {
            told.remove(node);
        }
        if self.busy.is_some_and(|t| t.request.node == node) {
            self.orphan(desk);
        }
        self.review(Some(node), desk);
    }
}

/// How a request is served.
impl Entry {
    /// Serves queued requests until one has to wait.
    fn serve(&mut self, desk: &mut Desk<'_, '_>) {
        while self.busy.is_none()
            && let Some(request) = self.queue.pop_front()
        {
            self.dispatch(request, desk);
        }
    }

    /// Serves the transaction's request from the entry as it is now.
    fn resume(&mut self, desk: &mut Desk<'_, '_>) {
        if let Some(transaction) = self.busy.take() {
            self.dispatch(transaction.request, desk);
        }
        self.serve(desk);
    }

    /// Does what can be done for `request`. It is done, or `busy` says what it
    /// waits for.
    fn dispatch(&mut self, request: Request, desk: &mut Desk<'_, '_>) {
        let Desk { granule, .. } = *desk;
        let Request {
            node,
            access,
            ticket,
            incarnation,
        } = request;
        let phase = |phase| {
            Some(Transaction {
                request,
                phase,
                orphaned: false,
            })
        };
        if access == Access::Write {
            let others = self.in_the_way_of(node);
            if !others.is_empty() {
                self.readers = self.readers.minus(others);
                self.busy = phase(Phase::Invalidating(others));
                others
                    .iter()
                    .for_each(|to| desk.send(to, Message::Invalidate { granule }));
                return;
            }
        }
        if self.readers.contains(node) {
            desk.send(
                node,
                Message::Grant {
                    granule,
                    access,
                    content: Content::Keep,
                    ticket,
                },
            );
            return self.hand_over(request);
        }
        self.settle(desk);
        match self.origin {
            Origin::Zero => {
                desk.send(
                    node,
                    Message::Grant {
                        granule,
                        access,
                        content: Content::Zero,
                        ticket,
                    },
                );
                self.hand_over(request);
            }
            Origin::Owned(owner) => {
                self.busy = phase(Phase::Forwarded(owner));
                desk.send(
                    owner,
                    Message::Forward {
                        granule,
                        to: node,
                        incarnation,
                        access,
                        ticket,
                    },
                );
            }
            Origin::Lost => desk.send(node, Message::Lost { granule }),
        }
    }

    /// Whose copies must go before `writer` may write. If it has none itself,
    /// the owner's copy stays, to be sent.
    fn in_the_way_of(&self, writer: NodeId) -> NodeSet {
        let others = self.readers.without(writer);
        match self.origin {
            Origin::Owned(owner) if !self.readers.contains(writer) => others.without(owner),
            _ => others,
        }
    }

    /// The requester has now what it asked for.
    fn hand_over(&mut self, Request { node, access, .. }: Request) {
        match access {
            Access::Read => self.readers.insert(node),
            Access::Write => {
                self.readers = NodeSet::of(node);
                self.origin = Origin::Owned(node);
            }
        }
    }
}

/// What becomes of a transaction when nodes leave.
impl Entry {
    /// Who was told to drop its copy, or to forget that.
    fn told(&self) -> NodeSet {
        match self.busy {
            Some(Transaction {
                phase: Phase::Invalidating(told) | Phase::Cancelling(told),
                ..
            }) => told,
            _ => NodeSet::default(),
        }
    }

    fn told_mut(&mut self) -> Option<&mut NodeSet> {
        match self.busy.as_mut().map(|t| &mut t.phase) {
            Some(Phase::Invalidating(told) | Phase::Cancelling(told)) => Some(told),
            _ => None,
        }
    }

    /// The requester is dead: whoever has not given up its copy yet keeps it.
    fn orphan(&mut self, desk: &mut Desk<'_, '_>) {
        let Some(transaction) = &mut self.busy else {
            return;
        };
        transaction.orphaned = true;
        match transaction.phase {
            Phase::Invalidating(told) => self.cancel(told, desk),
            Phase::Forwarded(source) => {
                self.readers.remove(source);
                self.cancel(NodeSet::of(source), desk);
            }
            Phase::Chasing => self.cancel(NodeSet::default(), desk),
            Phase::Cancelling(_) => {}
        }
    }

    /// Takes back the orders that these were given; they will say what they
    /// still have.
    fn cancel(&mut self, told: NodeSet, desk: &mut Desk<'_, '_>) {
        if let Some(transaction) = &mut self.busy {
            transaction.phase = Phase::Cancelling(told);
        }
        told.iter().for_each(|to| {
            desk.send(
                to,
                Message::Cancel {
                    granule: desk.granule,
                },
            )
        });
    }

    /// Someone answered, evicted, or is `dead`: goes on if nothing is left to
    /// wait for.
    fn review(&mut self, dead: Option<NodeId>, desk: &mut Desk<'_, '_>) {
        let Some(Transaction {
            request,
            phase,
            orphaned,
        }) = self.busy
        else {
            return self.settle(desk);
        };
        match phase {
            Phase::Invalidating(told) if told.is_empty() => self.resume(desk),
            // Those who were told to drop their copies have the only ones.
            Phase::Invalidating(told) if self.readers.is_empty() && self.was_written() => {
                self.cancel(told, desk);
            }
            Phase::Forwarded(source) if dead == Some(source) => {
                self.settle(desk);
                if let Some(transaction) = &mut self.busy {
                    transaction.phase = Phase::Chasing;
                }
                let Request { node, ticket, .. } = request;
                desk.send(
                    node,
                    Message::Chase {
                        granule: desk.granule,
                        ticket,
                    },
                );
            }
            Phase::Forwarded(_) | Phase::Chasing => self.settle(desk),
            Phase::Cancelling(told) if told.is_empty() => {
                self.settle(desk);
                if orphaned {
                    self.busy = None;
                    self.serve(desk);
                } else {
                    self.resume(desk);
                }
            }
            Phase::Invalidating(_) | Phase::Cancelling(_) => {}
        }
    }

    fn was_written(&self) -> bool {
        self.origin != Origin::Zero
    }

    /// Sees that the owner is one who has a copy: the home if it has one, since
    /// the home does not evict.
    fn settle(&mut self, desk: &mut Desk<'_, '_>) {
        let Origin::Owned(owner) = self.origin else {
            return;
        };
        if self.readers.contains(owner) {
            return;
        }
        let home = Some(desk.home).filter(|&home| self.readers.contains(home));
        self.origin = match home.or_else(|| self.readers.iter().next()) {
            Some(heir) => {
                desk.send(
                    heir,
                    Message::Own {
                        granule: desk.granule,
                    },
                );
                Origin::Owned(heir)
            }
            None => Origin::Lost,
        };
    }
}
