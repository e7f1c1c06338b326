//! Where cache and directory put what they want done.

use std::collections::VecDeque;

use dipc_wire::NodeId;
use dipc_wire::coherence::Message;

use super::Action;
use super::deaths::Deaths;

/// What the home's directory and the home's cache say to each other.
#[derive(Debug)]
pub(super) enum Local {
    /// Directory → cache.
    ToCache(Message),
    /// Directory → cache: the payload of the message being handled is the
    /// content of this granule. It has no owner any more: be it.
    Adopt {
        /// Which granule.
        granule: u64,
    },
    /// Cache → directory.
    ToDirectory(Message),
}

/// Collects what one call of [`super::Protocol`] leads to.
pub(super) struct Outlet<'a> {
    pub(super) me: NodeId,
    /// Who is dead.
    pub(super) deaths: &'a Deaths,
    /// For the node to execute.
    pub(super) actions: &'a mut Vec<Action>,
    /// For the home's other half; empty again when the call ends.
    pub(super) local: VecDeque<Local>,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(me: NodeId, deaths: &'a Deaths, actions: &'a mut Vec<Action>) -> Self {
        Outlet {
            me,
            deaths,
            actions,
            local: VecDeque::new(),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// To the cache of a node.
    pub(super) fn tell_cache(&mut self, to: NodeId, message: Message) {
        if to == self.me {
            self.local.push_back(Local::ToCache(message));
        } else {
            self.act(Action::Send { to, message });
        }
    }

    /// To the directory, which is at `home`.
    pub(super) fn tell_directory(&mut self, home: NodeId, message: Message) {
        if home == self.me {
            self.local.push_back(Local::ToDirectory(message));
        } else {
            self.act(Action::Send { to: home, message });
        }
    }

    /// To the home's cache, by the home's directory.
    pub(super) fn adopt(&mut self, granule: u64) {
        self.local.push_back(Local::Adopt { granule });
    }
}
