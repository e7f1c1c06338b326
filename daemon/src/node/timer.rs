//! What shall happen later: one thread that sleeps until the next deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A list of things to do, each at its time.
///
/// An entry may come although it is no longer wanted: whoever acts on it finds
/// that there is nothing to do. [`Timer::cancel`] is for those that would stay
/// long.
pub(crate) struct Timer<T> {
    list: Mutex<List<T>>,
    earlier: Condvar,
}

/// Names an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry((Instant, u64));

struct List<T> {
    entries: BTreeMap<(Instant, u64), T>,
    serial: u64,
    /// When the thread will look next by itself; `None` while it is awake or
    /// waits for a first entry.
    sleeps_until: Option<Instant>,
}

impl<T: Send + 'static> Timer<T> {
    pub(crate) fn new() -> Arc<Self> {
        let list = List {
            entries: BTreeMap::new(),
            serial: 0,
            sleeps_until: None,
        };
        Arc::new(Timer {
            list: Mutex::new(list),
            earlier: Condvar::new(),
        })
    }

    /// Does `what` at `when`, or as soon as possible if that has passed.
    pub(crate) fn at(&self, when: Instant, what: T) -> Entry {
        let mut list = self.list.lock();
        list.serial += 1;
        let key = (when, list.serial);
        list.entries.insert(key, what);
        if list.sleeps_until.is_none_or(|until| when < until) {
            self.earlier.notify_one();
        }
        Entry(key)
    }

    /// Takes an entry off the list, if it has not happened yet.
    pub(crate) fn cancel(&self, entry: Entry) {
        self.list.lock().entries.remove(&entry.0);
    }

    /// Starts the thread, which calls `act` for each entry.
    pub(crate) fn run(self: &Arc<Self>, act: impl Fn(T) + Send + 'static) -> std::io::Result<()> {
        let timer = self.clone();
        thread::Builder::new().name("timer".into()).spawn(move || {
            loop {
                act(timer.next());
            }
        })?;
        Ok(())
    }

    fn next(&self) -> T {
        let mut list = self.list.lock();
        loop {
            match list.entries.first_key_value() {
                Some((&(when, _), _)) if when <= Instant::now() => {
                    list.sleeps_until = None;
                    if let Some((_, what)) = list.entries.pop_first() {
                        return what;
                    }
                }
                Some((&(when, _), _)) => {
                    list.sleeps_until = Some(when);
                    self.earlier.wait_until(&mut list, when);
                }
                None => {
                    list.sleeps_until = None;
                    self.earlier.wait(&mut list);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam::channel;

    use super::*;

    #[test]
    fn a_cancelled_entry_is_gone_at_once_and_does_not_happen() {
        let timer = Timer::new();
        let now = Instant::now();
        let far = timer.at(now + Duration::from_secs(3600), 1u32);
        let near = timer.at(now, 2);
        timer.at(now, 3);
        timer.cancel(far);
        timer.cancel(near);
        assert_eq!(timer.list.lock().entries.len(), 1);
        assert_eq!(timer.next(), 3);
    }

    #[test]
    fn entries_happen_in_the_order_of_their_times() {
        let timer = Timer::new();
        let (sender, receiver) = channel::unbounded();
        timer.run(move |n| sender.send(n).unwrap()).unwrap();
        let now = Instant::now();
        for n in [3u32, 1, 2] {
            timer.at(now + Duration::from_millis(10 * u64::from(n)), n);
        }
        let order: Vec<u32> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(order, [1, 2, 3]);
        assert!(now.elapsed() >= Duration::from_millis(30));
    }
}
