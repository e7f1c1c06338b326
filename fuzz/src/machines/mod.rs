//! Bytes that are taken for what happens to a machine.

pub(crate) mod coherence;
pub(crate) mod naming;
pub(crate) mod queues;
pub(crate) mod semaphores;

use dipc_wire::{NodeId, Pid};

/// Takes bytes one by one; zeros behind the last.
struct Feed<'a>(&'a [u8]);

impl Feed<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    /// Mostly small ones, which get further.
    fn number(&mut self) -> i32 {
        match self.byte() {
            small @ 0..=250 => i32::from(small) - 8,
            251 => i32::MAX,
            252 => i32::MIN,
            253 => 32_767,
            254 => 32_768,
            255 => i32::from(self.byte()) << 8 | i32::from(self.byte()),
        }
    }

    fn pid(&mut self) -> Pid {
        let byte = self.byte();
        Pid {
            node: node(byte),
            pid: 1 + u32::from(byte >> 2) % 4,
        }
    }
}

/// One of four nodes.
fn node(byte: u8) -> NodeId {
    NodeId::new(1 + byte % 4).unwrap_or(NodeId::SOLO)
}
