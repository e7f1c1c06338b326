//! Which orders of loads and stores the memory of a running cluster allows, and
//! whether locks made of them hold.
//!
//! | file | what |
//! |---|---|
//! | `shapes` | the litmus tests |
//! | `tso` | which outcomes x86-TSO allows, by its abstract machine |
//! | `stage` | real processes on four nodes that run them |
//! | `order` | all shapes, with and without fences, in all layouts |
//! | `locks` | locks, atomic instructions, accesses across the end of a page |
//!
//! Before each run every process has one page, or the other, or neither, to read
//! or to write, and starts a little late, all by a seed: so that the accesses of
//! a run meet each state of the protocol.
//! `DIPC_LITMUS_RUNS=5000` runs each shape in each layout so often.

mod locks;
mod order;
mod shapes;
mod stage;
mod tso;
