//! Who reads the faults of an address space: a thread of its own, and where none
//! can be had the one in [reserve](super::reserve), which serves it as well, only
//! later when there are many.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use nix::poll::PollTimeout;

use super::Node;
use super::reserve::Duty;
use crate::memory::Space;

impl Node {
    /// Has somebody serve a space's faults from now on.
    pub(crate) fn watch(self: &Arc<Self>, space: Arc<Space>) -> io::Result<()> {
        let watch = Watch {
            node: self.clone(),
            space: space.clone(),
        };
        let spawned = thread::Builder::new()
            .name(format!("faults-{}", space.pid().unwrap_or(0)))
            .stack_size(256 << 10)
            .spawn(move || while watch.look(PollTimeout::NONE) {});
        let Err(error) = spawned else {
            return Ok(());
        };
        tracing::warn!(
            pid = space.pid(), %error,
            "no thread for the page faults of a process: it is served by the one that all such \
             share, and more slowly. Raise the limit on processes (ulimit -u, TasksMax= in a \
             systemd unit) and restart dipcd"
        );
        self.reserve.take(Box::new(Watch {
            node: self.clone(),
            space,
        }))
    }
}

struct Watch {
    node: Arc<Node>,
    space: Arc<Space>,
}

impl Watch {
    /// Waits for what happens in the space and sees to it; false once the space
    /// is dropped.
    fn look(&self, patience: PollTimeout) -> bool {
        let Watch { node, space } = self;
        let ended = space.uffd.await_event(Some(space.ended()), patience);
        if !ended {
            node.news(node.spaces.read(space, &**node));
        }
        !ended
    }
}

impl Duty for Watch {
    fn awaits(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.space.uffd.as_fd(), self.space.ended()]
    }

    fn attend(&mut self) -> bool {
        self.look(PollTimeout::ZERO)
    }
}
