//! How a node becomes a member: as a newcomer, or as one that was a member
//! before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dipc_wire::NodeId;
use dipc_wire::peer::common_version;
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, VERSIONS};

use super::{Naming, Newcomer};
use crate::membership::{Life, Link, Member, Settling, check_address, check_name};
use crate::output::{Event, LinkId, Output, Refusal};

impl Naming {
    pub(super) fn welcome_or_hold(
        &mut self,
        newcomer: Newcomer,
        out: &mut dyn Output,
    ) -> Result<(), Refusal> {
        if let Some(recovery) = &mut self.recovery {
            out.note(Event::Held {
                name: &newcomer.name,
            });
            recovery.newcomers.push(newcomer);
            return Ok(());
        }
        self.welcome(newcomer, out)
    }

    pub(super) fn welcome(
        &mut self,
        newcomer: Newcomer,
        out: &mut dyn Output,
    ) -> Result<(), Refusal> {
        let Newcomer {
            link,
            version,
            name,
            address,
        } = newcomer;
        let node = self.members.number(&name)?;
        if self
            .members
            .get(node)
            .is_some_and(|m| m.link.up().is_some())
        {
            return Err(Refusal::NameTaken { name, node });
        }
        let incarnation = self.members.next_life()?;
        self.replace(node, out);
        out.note(Event::Joined {
            node,
            incarnation,
            name: &name,
            address: &address,
        });
        let member = Member {
            incarnation,
            name,
            address,
            link: Link::Up(link),
            settling: None,
            told: BTreeMap::new(),
        };
        self.seat(node, member, version, link, out);
        Ok(())
    }

    /// A node shows that it was a member.
    pub(super) fn come_back(
        &mut self,
        link: LinkId,
        version: u16,
        join: &Join<'_>,
        shown: Membership,
        now: Duration,
        out: &mut dyn Output,
    ) -> Result<(), Refusal> {
        let Membership {
            cluster,
            node,
            incarnation,
        } = shown;
        let decided = self
            .recovery
            .as_ref()
            .is_none_or(|recovery| recovery.adopted);
        if decided && cluster != self.cluster {
            return Err(Refusal::Cluster {
                ours: self.cluster,
                theirs: cluster,
            });
        }
        let another_has_name = self
            .members
            .named(join.name)
            .is_some_and(|other| other != node);
        match self.members.life(node, incarnation) {
            Life::Over => return Err(Refusal::Over { node, incarnation }),
            // Its life ended before this referee could hear of it.
            Life::Awaited | Life::Unknown if self.is_too_late(now) => {
                return Err(Refusal::Over { node, incarnation });
            }
            _ if another_has_name || self.members.has_other_name(node, join.name) => {
                return Err(Refusal::NotYours { node });
            }
            Life::Present | Life::Awaited | Life::Unknown => {}
        }
        if !self.members.believe(incarnation) {
            return Err(Refusal::Incredible(incarnation));
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.adopted = true;
            self.cluster = cluster;
        }
        if self.members.life(node, incarnation) == Life::Unknown {
            self.replace(node, out);
        } else if let Some(Link::Up(old)) = self.members.get(node).map(|old| old.link) {
            // The node noticed before this referee did that the link is lost.
            out.close(old);
            self.keys.link_lost(node);
        }
        // A node that comes again and again gets no more time for it.
        let before = self.members.get(node).and_then(|old| old.settling.as_ref());
        let until = before.map_or(now + self.timeout, |settling| settling.until);
        out.note(Event::Rejoined {
            node,
            incarnation,
            name: join.name,
        });
        let member = Member {
            incarnation,
            name: join.name.to_owned(),
            address: join.address.to_owned(),
            link: Link::Up(link),
            settling: Some(Settling {
                owned: BTreeSet::new(),
                held: BTreeSet::new(),
                until,
            }),
            told: BTreeMap::new(),
        };
        self.seat(node, member, version, link, out);
        Ok(())
    }

    /// Whether only present members may still come back.
    fn is_too_late(&self, now: Duration) -> bool {
        let until = self.recovery.as_ref().and_then(|recovery| recovery.until);
        until.is_none_or(|until| until <= now)
    }

    fn seat(
        &mut self,
        node: NodeId,
        member: Member,
        version: u16,
        link: LinkId,
        out: &mut dyn Output,
    ) {
        let membership = Membership {
            cluster: self.cluster,
            node,
            incarnation: member.incarnation,
        };
        let timeout_ms = u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX);
        out.answer(
            link,
            Answer::Welcome {
                version,
                member: membership,
                timeout_ms,
                limits: self.keys.limits(),
            },
        );
        self.members.insert(node, member);
        self.members.introduce(out, node);
    }
}

/// Refuses what is no join of a node, before anything is done for it.
pub(super) fn check(join: &Join<'_>) -> Result<u16, Refusal> {
    if join.magic != MAGIC {
        return Err(Refusal::NotANode);
    }
    let versions = Refusal::Version {
        ours: VERSIONS,
        theirs: join.versions,
    };
    let version = common_version(VERSIONS, join.versions).ok_or(versions)?;
    check_name(join.name)?;
    check_address(join.address)?;
    Ok(version)
}

/// Says no to whoever is at the end of a link, and ends it.
pub(crate) fn refuse(link: LinkId, name: &str, refusal: &Refusal, out: &mut dyn Output) {
    out.note(Event::Refused {
        link,
        name,
        refusal,
    });
    out.answer(
        link,
        Answer::Refused {
            reason: &refusal.to_string(),
            retry: refusal.retry(),
        },
    );
    out.close(link);
}
