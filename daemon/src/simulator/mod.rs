//! A whole cluster in one thread, from a seed.
//!
//! The machines that the daemons and the referee run, [`crate::semantics`],
//! [`crate::coherence`] and `dipc_referee::naming`, are put together as the
//! daemon's `node` does it, with simulated programs above and a simulated network
//! between. Nothing of the host's time, randomness or threads comes in: one seed
//! is one run, event for event.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | what a seed decides: size, programs' habits, fate |
//! | `agenda`, `network`, `letters` | time, connections, what travels |
//! | `cluster` | hosts, daemons that start and end, cuts that heal |
//! | `referee` | `naming` and its connections |
//! | `node`, `membership`, `names`, `home`, `memory`, `processes`, `attachments` | a daemon; each has a table of the rules of `node/` that it stands for |
//! | `workload` | what programs do |
//! | `truth` | all memory, seen from above: coherent after every event |
//! | `record`, `specification`, `linearize` | what programs were told, and whether that can be |
//! | `rest` | what is true when nothing is under way any more |
//! | `variants`, `found` | clusters that are wrong on purpose, and the seeds that find them |
//! | `campaign` | many seeds |
//!
//! # What is checked
//!
//! After every event: one writer or many readers of a granule, and no copy is
//! older than the last write; no key with two homes; nobody is served before one
//! who came earlier for the same; no honest node is accused. When nothing is
//! under way any more: who lives agrees on who lives; every call has ended or
//! waits for what is not there; histories of semaphores and queues are
//! linearizable, with SEM_UNDO of the dead and calls taken back among them; every
//! granule can be read; counts of attachments are right; and when all is removed,
//! nothing is left.

mod agenda;
mod attachments;
mod campaign;
mod cluster;
mod desk;
mod found;
mod home;
mod letters;
mod linearize;
mod membership;
mod memory;
mod names;
mod network;
mod node;
mod plan;
mod processes;
mod record;
mod referee;
mod rest;
mod specification;
mod truth;
mod variants;
mod workload;
