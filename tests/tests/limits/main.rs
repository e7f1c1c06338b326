//! The ten limits: of one object, of one call, of the whole cluster.
//!
//! | file | what is tried |
//! |---|---|
//! | `twin` | every limit, in the kernel, on one node, and on two in turn |
//! | `shared` | the limits of the cluster as a whole: races, deaths, a new referee |
//! | `raised` | limits above the kernel's defaults, and how limits are set |

mod raised;
mod shared;
mod twin;
