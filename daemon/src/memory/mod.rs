//! The node's side of shared memory: what the kernel is told.
//!
//! What is unsafe about memory is in this folder; elsewhere in this daemon it is
//! single system calls.
//!
//! | file | what it holds |
//! |---|---|
//! | [`backing`] | a segment's memory on this node: one memfd, mapped by all |
//! | [`segment`] | a segment's pages on this node, and who waits for them |
//! | [`contents`] | a granule's bytes as they travel |
//! | [`shortage`] | what is done when the kernel has no memory for that |
//! | [`uffd`] | the userfaultfd of one address space |
//! | [`pages`] | ranges whose pages are not all alike |
//! | [`spaces`] | which address spaces map which segment where |
//! | [`changes`] | mappings of which a program changes a part |
//! | [`word`] | a number shared with the keeper |

pub mod backing;
pub mod changes;
mod contents;
mod pages;
pub mod segment;
mod shortage;
pub mod spaces;
pub mod uffd;
pub mod word;

#[cfg(test)]
mod tests;

pub use backing::{Backing, PAGE, whole_pages};
pub(crate) use pages::poison;
pub use segment::{Passing, SegmentMemory, access_of, poison_page};
pub use spaces::{Mapping, Space, SpaceId, Spaces};
