//! The objects of one kind in the whole cluster: what `*_INFO`, `*_STAT` by
//! index and `/proc/sysvipc` are made of.
//!
//! A daemon collects [`Entry`]s from all homes. A program is told of them what
//! it asks for: a [`Census`], the id at one place, or the lines of the file.

use serde::{Deserialize, Serialize};

use crate::call::Reply;
use crate::{Limits, ObjectId};

/// One object, as its home describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Its id.
    pub id: ObjectId,
    /// What `IPC_STAT` answers to who may read it: [`Reply::Sem`],
    /// [`Reply::Msg`] or [`Reply::Shm`].
    #[serde(borrow)]
    pub stat: Reply<'a>,
}

/// What `*_INFO` tells (behaviours 118, 119).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Census {
    /// How many objects of the kind there are.
    pub objects: u32,
    /// What they hold together.
    pub totals: Totals,
    /// What the cluster allows.
    pub limits: Limits,
}

/// What all objects of a kind hold together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Totals {
    /// Of all sets.
    Sem {
        /// Semaphores.
        semaphores: u64,
    },
    /// Of all queues.
    Msg {
        /// Messages.
        messages: u64,
        /// Bytes in them.
        bytes: u64,
    },
    /// Of all segments.
    Shm {
        /// Pages of 4096 bytes, as asked for at creation.
        pages: u64,
        /// Of these, pages that are in the memory of the node that tells it.
        resident: u64,
    },
}
