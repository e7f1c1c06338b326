//! What the wire crate promises to nodes of other versions and to strangers.
//!
//! | module | the promise |
//! |---|---|
//! | `golden` | every message keeps its bytes for ever |
//! | `hostile` | bytes that are no message are an error: no panic, no allocation that they did not pay for |
//! | `room` | every message of this project fits an encoded header |
//! | `versions` | two ranges of versions agree on the highest in both |
//! | `memory` | (not a promise: how the tests see what is allocated) |

mod golden;
mod hostile;
mod memory;
mod room;
mod versions;
