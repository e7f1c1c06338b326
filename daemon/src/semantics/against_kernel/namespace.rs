//! The kernel of a history: an IPC namespace of its own.

use std::process::Command;

use super::actors::Actors;
use super::history::ACTORS;
use super::judge::{Disagreement, Target, play_at_once};
use super::plan::Plan;
use crate::kernel;
use crate::semantics::{Credentials, Rights};
use dipc_tests::apart::{apart, can_be_apart};
use dipc_wire::peer::Capabilities;

/// Who the actors are: root and two users, where the tests are root; else all
/// are who the tests are.
pub(super) fn identities() -> [Credentials; ACTORS] {
    // SAFETY: neither call has arguments or can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let who = |uid, gid, groups: &[u32], capabilities| Credentials {
        uid,
        gid,
        rights: Rights::Known {
            groups: groups.into(),
            capabilities,
        },
    };
    let user = |uid, groups| who(uid, uid, groups, Capabilities::NONE);
    if uid != 0 {
        return std::array::from_fn(|_| who(uid, gid, &[], Capabilities::NONE));
    }
    // Root may lack some capabilities, in a container.
    let root = who(0, 0, &[], kernel::capabilities(0));
    // Users that every system has, by the names of their numbers.
    [
        root,
        user(1, &[]),
        user(1, &[]),
        user(2, &[1]),
        user(2, &[]),
    ]
}

/// The arguments of a conductor: its mode, and each actor's user, group,
/// supplementary group (or −1), and environment.
pub(super) fn conductor(
    mode: &str,
    identities: &[Credentials; ACTORS],
    environment: impl Fn(usize) -> Vec<String>,
) -> Command {
    let mut command = Command::new(dipc_tests::artifacts::actors());
    command.arg(mode);
    for (actor, who) in identities.iter().enumerate() {
        let group = match &who.rights {
            Rights::Known { groups, .. } => groups.first().map_or(-1, |&group| i64::from(group)),
            Rights::Now(_) => unreachable!("an actor's are known"),
        };
        command.args([who.uid.into(), who.gid.into(), group].map(|number: i64| number.to_string()));
        command.args(environment(actor));
    }
    apart(&mut command);
    command
}

/// Histories are played in the kernel.
pub(super) struct Kernel {
    identities: [Credentials; ACTORS],
    actors: Actors,
}

impl Kernel {
    /// A new namespace with its actors; `None` where the system permits none.
    pub(super) fn new() -> Option<Self> {
        let identities = identities();
        if !can_be_apart("the kernel as judge") {
            return None;
        }
        let command = conductor("kernel", &identities, |_| Vec::new());
        let actors = Actors::start(command).expect("it is permitted");
        Some(Kernel { identities, actors })
    }
}

impl Target for Kernel {
    fn identities(&self) -> &[Credentials; ACTORS] {
        &self.identities
    }

    fn play(&mut self, plan: &Plan) -> Result<(), Disagreement> {
        let judged = play_at_once(&mut self.actors, plan);
        if judged.is_err() {
            // Nobody knows what is left of it.
            let command = conductor("kernel", &self.identities, |_| Vec::new());
            self.actors = Actors::start(command).expect("it could be started before");
        }
        judged
    }
}
