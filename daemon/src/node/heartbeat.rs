//! Signs of life: one thread that sends them, and looks for those of others.
//! [`super::lease`] says what they are for.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::Node;
use super::lease::Terms;
use crate::keeper::FOR_EVER;
use crate::kernel;
use crate::memory::word::Word;

/// Until when the keeper lets this node live, in nanoseconds of the node's clock.
pub(crate) struct Promise {
    until: Mutex<Word>,
}

impl Promise {
    /// For ever, so far.
    pub(crate) fn new() -> std::io::Result<Self> {
        let until = Mutex::new(Word::new(FOR_EVER)?);
        Ok(Promise { until })
    }

    /// Runs `act` with the word, which does not change meanwhile.
    pub(super) fn with<R>(&self, act: impl FnOnce(&Word) -> R) -> R {
        act(&self.until.lock())
    }

    /// Sets it to what `until` says; whether that is sooner than before.
    fn renew(&self, until: impl FnOnce() -> Option<Duration>) -> bool {
        // What is found out last is written last.
        let word = self.until.lock();
        let nanos = |until: Duration| u64::try_from(until.as_nanos()).unwrap_or(FOR_EVER);
        let new = until().map_or(FOR_EVER, nanos);
        new < word.set(new)
    }
}

impl Node {
    pub(super) fn terms(&self) -> Terms {
        Terms {
            timeout: self.timeout,
        }
    }

    /// Starts the thread.
    pub(super) fn begin_heartbeat(self: &Arc<Self>) -> std::io::Result<()> {
        let node = self.clone();
        thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                kernel::hurry();
                let beat = node.terms().beat();
                let mut due = node.clock.now();
                loop {
                    let now = node.clock.now();
                    let punctual = now < due + beat;
                    node.beat(now, punctual);
                    due = beat + if punctual { due } else { now };
                    thread::sleep(due.saturating_sub(node.clock.now()));
                }
            })?;
        Ok(())
    }

    /// Says that this node lives, and looks whether others heard it.
    ///
    /// If this thread itself was late by a whole beat, silence is no fault of the
    /// others: they are pinged, and not accused before the next beat.
    fn beat(self: &Arc<Self>, now: Duration, punctual: bool) {
        for link in self.peers.links() {
            match link.is_over(now).filter(|_| punctual) {
                Some(why) => self.lose_link(link, why),
                None => link.ping(now),
            }
        }
        self.renew();
        self.names.ping();
    }

    /// Tells the keeper until when this node's lease runs: that of the link which
    /// ends first.
    pub(super) fn renew(&self) {
        let until = || {
            let mut first: Option<Duration> = None;
            self.peers.each_link(|link| {
                let at = link.fence_at();
                first = first.into_iter().chain(at).min();
            });
            first
        };
        if self.promise.renew(until) {
            self.keeper.sooner();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_ends_sooner_is_told_and_one_that_ends_later_is_not() {
        let promise = Promise::new().unwrap();
        let second = Duration::from_secs(1);
        assert!(promise.renew(|| Some(5 * second)), "the first of all");
        assert!(!promise.renew(|| Some(6 * second)));
        assert!(!promise.renew(|| Some(6 * second)));
        assert!(promise.renew(|| Some(4 * second)));
        assert!(!promise.renew(|| None));
        assert_eq!(promise.with(Word::get), FOR_EVER);
    }
}
