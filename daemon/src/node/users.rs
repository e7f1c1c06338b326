//! Who is who: user ids have a meaning on their own node only, so logins travel.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dipc_wire::call::Perm;
use dipc_wire::peer::MAX_NAME;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use parking_lot::Mutex;

use crate::semantics::{Capabilities, Credentials};

/// A change of the user database is noticed after so long.
const FRESH: Duration = Duration::from_secs(30);
/// Who is nobody here (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65534;

/// The node's user database, with a memory: a look-up may go over a network.
#[derive(Default)]
pub(crate) struct Users {
    logins: Memory<u32, Arc<str>>,
    groups: Memory<u32, Arc<str>>,
    uids: Memory<String, Option<u32>>,
    gids: Memory<String, Option<u32>>,
    credentials: Memory<String, Arc<Credentials>>,
}

struct Memory<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Memory(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    /// Names come from peers: a list that only grows would be theirs to fill.
    const MOST: usize = 10_000;

    fn get<Q>(&self, key: &Q, look_up: impl FnOnce() -> V) -> V
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let now = Instant::now();
        if let Some((since, value)) = self.0.lock().get(key)
            && now - *since < FRESH
        {
            return value.clone();
        }
        let value = look_up();
        let mut known = self.0.lock();
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(key.to_owned(), (now, value.clone()));
        value
    }
}

/// How a number without a name travels.
fn numbered(number: u32) -> Arc<str> {
    format!("#{number}").into()
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix('#')?.parse().ok()
}

impl Users {
    /// The login of a user of this node, `#UID` if it has none.
    pub(crate) fn login(&self, uid: u32) -> Arc<str> {
        self.logins
            .get(&uid, || match User::from_uid(Uid::from_raw(uid)) {
                Ok(Some(user)) if user.name.len() <= MAX_NAME => user.name.into(),
                _ => numbered(uid),
            })
    }

    /// The name of a group of this node, `#GID` if it has none.
    pub(crate) fn group(&self, gid: u32) -> Arc<str> {
        self.groups
            .get(&gid, || match Group::from_gid(Gid::from_raw(gid)) {
                Ok(Some(group)) if group.name.len() <= MAX_NAME => group.name.into(),
                _ => numbered(gid),
            })
    }

    /// The number that a login has here.
    pub(crate) fn uid(&self, login: &str) -> Option<u32> {
        number_of(login).or_else(|| {
            self.uids.get(login, || {
                User::from_name(login)
                    .ok()
                    .flatten()
                    .map(|u| u.uid.as_raw())
            })
        })
    }

    /// The number that a group has here.
    pub(crate) fn gid(&self, group: &str) -> Option<u32> {
        number_of(group).or_else(|| {
            self.gids.get(group, || {
                Group::from_name(group)
                    .ok()
                    .flatten()
                    .map(|g| g.gid.as_raw())
            })
        })
    }

    /// The names in a permission record of this home, for who is asked from
    /// another node.
    pub(crate) fn names(&self, perm: &Perm<'_>) -> Names {
        Names {
            owner: self.login(perm.uid),
            group: self.group(perm.gid),
            creator: self.login(perm.cuid),
            creator_group: self.group(perm.cgid),
        }
    }

    /// Gives a permission record of another node this node's numbers. A name
    /// that means nobody here keeps its home's number: it is as good as any.
    pub(crate) fn localize(&self, perm: &mut Perm<'_>) {
        perm.uid = self.uid(perm.owner).unwrap_or(perm.uid);
        perm.gid = self.gid(perm.group).unwrap_or(perm.gid);
        perm.cuid = self.uid(perm.creator).unwrap_or(perm.cuid);
        perm.cgid = self.gid(perm.creator_group).unwrap_or(perm.cgid);
    }

    /// What a user of another node may do here: as much as the same login of
    /// this node. A login that is unknown here is nobody.
    pub(crate) fn credentials(&self, login: &str) -> Arc<Credentials> {
        self.credentials.get(login, || Arc::new(look_up(login)))
    }
}

/// The names that a permission record travels with.
pub(crate) struct Names {
    owner: Arc<str>,
    group: Arc<str>,
    creator: Arc<str>,
    creator_group: Arc<str>,
}

impl Names {
    /// The record with its names.
    pub(crate) fn put<'a>(&'a self, perm: &Perm<'_>) -> Perm<'a> {
        Perm {
            owner: &self.owner,
            group: &self.group,
            creator: &self.creator,
            creator_group: &self.creator_group,
            ..without_names(perm)
        }
    }
}

/// A record that outlives the bytes it came in.
pub(crate) fn without_names(perm: &Perm<'_>) -> Perm<'static> {
    Perm {
        key: perm.key,
        uid: perm.uid,
        gid: perm.gid,
        cuid: perm.cuid,
        cgid: perm.cgid,
        mode: perm.mode,
        seq: perm.seq,
        ..Perm::default()
    }
}

fn look_up(login: &str) -> Credentials {
    let root = |uid| {
        if uid == 0 {
            Capabilities::ALL
        } else {
            Capabilities::default()
        }
    };
    if let Ok(Some(user)) = User::from_name(login) {
        let groups = CString::new(login)
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .unwrap_or_default();
        return Credentials {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            capabilities: root(user.uid.as_raw()),
        };
    }
    // `#0` is no way to become root: a node knows the name of its root.
    let uid = number_of(login).filter(|&uid| uid != 0).unwrap_or(NOBODY);
    Credentials {
        uid,
        gid: NOBODY,
        groups: Vec::new(),
        capabilities: Capabilities::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_its_name_and_its_number() {
        let users = Users::default();
        assert_eq!(&*users.login(0), "root");
        assert_eq!(users.uid("root"), Some(0));
        assert_eq!(users.credentials("root").capabilities, Capabilities::ALL);
    }

    #[test]
    fn a_number_without_a_name_travels_as_a_number() {
        let users = Users::default();
        assert_eq!(&*users.login(3_999_999), "#3999999");
        assert_eq!(users.uid("#3999999"), Some(3_999_999));
        assert_eq!(users.credentials("#3999999").uid, 3_999_999);
    }

    #[test]
    fn nobody_becomes_root_by_number_and_an_unknown_login_is_nobody() {
        let users = Users::default();
        assert_eq!(users.credentials("#0").uid, NOBODY);
        assert_eq!(users.credentials("no such login").uid, NOBODY);
        assert_eq!(
            users.credentials("#0").capabilities,
            Capabilities::default()
        );
    }
}
