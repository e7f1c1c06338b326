//! What the node has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use dipc_wire::admin;

/// Counts that only rise; read by `dipc status`.
#[derive(Default)]
pub(crate) struct Counters {
    calls: AtomicU64,
    remote_calls: AtomicU64,
    read_faults: AtomicU64,
    write_faults: AtomicU64,
    granules_in: AtomicU64,
    granules_out: AtomicU64,
    messages_out: AtomicU64,
    messages_in: AtomicU64,
    bytes_out: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn call(&self) {
        add(&self.calls, 1);
    }

    pub(crate) fn remote_call(&self) {
        add(&self.remote_calls, 1);
    }

    pub(crate) fn fault(&self, write: bool) {
        add(
            if write {
                &self.write_faults
            } else {
                &self.read_faults
            },
            1,
        );
    }

    pub(crate) fn granule_in(&self) {
        add(&self.granules_in, 1);
    }

    pub(crate) fn granule_out(&self) {
        add(&self.granules_out, 1);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.messages_out, 1);
        add(&self.bytes_out, bytes as u64);
    }

    pub(crate) fn received(&self) {
        add(&self.messages_in, 1);
    }

    pub(crate) fn read(&self) -> admin::Counters {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        admin::Counters {
            calls: now(&self.calls),
            remote_calls: now(&self.remote_calls),
            read_faults: now(&self.read_faults),
            write_faults: now(&self.write_faults),
            granules_in: now(&self.granules_in),
            granules_out: now(&self.granules_out),
            messages_out: now(&self.messages_out),
            messages_in: now(&self.messages_in),
            bytes_out: now(&self.bytes_out),
        }
    }
}
