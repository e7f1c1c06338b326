//! The keeper's keeper: a keeper that is killed is replaced, and its successor is
//! handed all that it has to hold. Until then, some milliseconds, nobody guards the
//! programs; `dipc status` shows who does.

use std::os::fd::AsFd;
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Node;
use crate::kernel;

/// Before another keeper is tried where one cannot be started, or ended at once.
const AGAIN: Duration = Duration::from_millis(100);

impl Node {
    /// Starts the thread that waits for the keeper's end.
    pub(super) fn guard_keeper(self: &Arc<Self>, mut keeper: Child) -> std::io::Result<()> {
        let node = self.clone();
        thread::Builder::new().name("guard".into()).spawn(move || {
            loop {
                let since = Instant::now();
                let ended = keeper.wait();
                tracing::error!(
                    keeper = keeper.id(),
                    ?ended,
                    "the keeper has ended; another is started. Should dipcd be killed before, \
                     programs would read old values of shared memory, or wait for ever"
                );
                if since.elapsed() < AGAIN {
                    thread::sleep(AGAIN);
                }
                keeper = node.next_keeper();
                node.hand_over();
                tracing::info!(keeper = keeper.id(), "the new keeper guards all memory");
            }
        })?;
        Ok(())
    }

    fn next_keeper(&self) -> Child {
        loop {
            match self.keeper.replace() {
                Ok(child) => return child,
                Err(error) => {
                    tracing::error!(
                        %error,
                        "no keeper can be started: free processes or memory (ulimit -u), or \
                         end the programs and then this dipcd"
                    );
                    thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Tells a keeper that knows nothing all that it has to hold. What changes
    /// meanwhile it is told too, by whoever changes it, after the change is made;
    /// so each lock is held until what it guards is told.
    pub(super) fn hand_over(&self) {
        match kernel::pidfd(std::process::id()) {
            Some(daemon) => self
                .promise
                .with(|until| self.keeper.watch(daemon.as_fd(), until, self.clock)),
            None => tracing::error!(
                "no pidfd of this process, for want of descriptors: a dipcd that is stopped is \
                 not noticed here. Raise the limit on open files (ulimit -Hn) and restart dipcd"
            ),
        }
        self.peers
            .each_link(|link| self.keeper.link(link.incarnation, link.socket()));
        self.segments.each_view(|id, view, len, memfd| {
            self.keeper.memory(id, view, len, memfd);
        });
        self.spaces.each(|space, mappings| {
            self.keeper.space(space.id, space.uffd.as_fd());
            for mapping in mappings {
                self.keeper.map(space.id, mapping.range);
            }
        });
    }
}
