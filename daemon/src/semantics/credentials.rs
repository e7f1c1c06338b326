//! Who asks, as far as it matters for what may be done.
//!
//! The effective user and group of a caller come with every call. Its
//! supplementary groups and capabilities cost a look at the process, and most
//! verdicts do not depend on them: the owner's do not, nor those on an object
//! that treats its group as it treats everybody. So they are a question
//! ([`Rights`]) that [`super::perm`] asks only then:
//!
//! | caller | `Rights` |
//! |---|---|
//! | a thread of this node | [`Rights::Now`]: whatever its [`Witness`] finds at that moment |
//! | a user of another node | [`Rights::Known`]: what this node gives that login |

use std::fmt;
use std::sync::Arc;

use dipc_wire::peer::Capabilities;

/// The user or group id that names nobody, −1 in C. No object can be owned by
/// it, so a caller that has it is always one of the others.
pub const NOBODY: u32 = u32::MAX;

/// Whom a call is made for, in numbers of the home's node.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Everything else.
    pub rights: Rights,
}

/// What a caller has beyond its effective user and group.
#[derive(Clone, Debug)]
pub enum Rights {
    /// This, as long as the call lasts.
    Known {
        /// Supplementary groups.
        groups: Arc<[u32]>,
        /// Effective capabilities.
        capabilities: Capabilities,
    },
    /// What it has when it is asked.
    Now(Arc<dyn Witness>),
}

/// Somebody who can look what a caller has at this moment. A caller that has
/// ended meanwhile has nothing.
pub trait Witness: fmt::Debug + Send + Sync {
    /// Its supplementary groups.
    fn groups(&self) -> Vec<u32>;
    /// Its effective capabilities, as far as they count on this node.
    fn capabilities(&self) -> Capabilities;
}

impl Default for Rights {
    /// Nothing.
    fn default() -> Self {
        Rights::Known {
            groups: Arc::default(),
            capabilities: Capabilities::NONE,
        }
    }
}

impl Credentials {
    /// Whether it is in one of these groups, by its effective or a supplementary one.
    pub(super) fn in_one_of(&self, wanted: [u32; 2]) -> bool {
        let among = |groups: &[u32]| wanted.iter().any(|gid| groups.contains(gid));
        among(&[self.gid])
            || match &self.rights {
                Rights::Known { groups, .. } => among(groups),
                Rights::Now(witness) => among(&witness.groups()),
            }
    }

    /// Its effective capabilities.
    pub(super) fn capabilities(&self) -> Capabilities {
        match &self.rights {
            Rights::Known { capabilities, .. } => *capabilities,
            Rights::Now(witness) => witness.capabilities(),
        }
    }
}
