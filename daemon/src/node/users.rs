//! Who is who: user ids have a meaning on their own node only, so logins travel.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dipc_wire::call::Perm;
use dipc_wire::peer::{Caller, Capabilities, MAX_NAME};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use parking_lot::Mutex;

use crate::config::Root;
use crate::semantics::credentials::NOBODY;
use crate::semantics::{Credentials, Rights};

/// A change of the user database is noticed after so long.
const FRESH: Duration = Duration::from_secs(30);

/// The node's user database, with a memory: a look-up may go over a network.
pub(crate) struct Users {
    root: Root,
    logins: Memory<u32, Arc<str>>,
    groups: Memory<u32, Arc<str>>,
    uids: Memory<String, Option<u32>>,
    gids: Memory<String, Option<u32>>,
    accounts: Memory<String, Account>,
}

/// What a login has here.
#[derive(Clone)]
struct Account {
    uid: u32,
    gid: u32,
    groups: Arc<[u32]>,
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
    /// The database of this system; `root` is for those of other nodes.
    pub(crate) fn new(root: Root) -> Self {
        Users {
            root,
            logins: Memory::default(),
            groups: Memory::default(),
            uids: Memory::default(),
            gids: Memory::default(),
            accounts: Memory::default(),
        }
    }

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

    /// What a caller of another node is here: whoever has its login. A login
    /// that is unknown here is nobody, and so is root where it is squashed.
    pub(crate) fn credentials(&self, caller: &Caller<'_>) -> Credentials {
        let account = self.accounts.get(caller.login, || look_up(caller.login));
        let account = match (account.uid, self.root) {
            (0, Root::Squash) => Account::nobody(),
            _ => account,
        };
        Credentials {
            uid: account.uid,
            gid: account.gid,
            rights: Rights::Known {
                groups: account.groups,
                capabilities: match account.uid {
                    0 => caller.capabilities,
                    _ => Capabilities::NONE,
                },
            },
        }
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

impl Account {
    fn nobody() -> Self {
        Account {
            uid: NOBODY,
            gid: NOBODY,
            groups: Arc::default(),
        }
    }
}

fn look_up(login: &str) -> Account {
    if let Some(uid) = number_of(login) {
        // A user without a login, there. Here the number may be somebody else's.
        let somebody = User::from_uid(Uid::from_raw(uid)).map_or(true, |user| user.is_some());
        let nobody = Account::nobody();
        // `#0` is no way to become root: a node knows the name of its root.
        return if somebody || uid == 0 {
            nobody
        } else {
            Account { uid, ..nobody }
        };
    }
    let Ok(Some(user)) = User::from_name(login) else {
        return Account::nobody();
    };
    let groups = CString::new(login)
        .ok()
        .and_then(|name| getgrouplist(&name, user.gid).ok())
        .unwrap_or_default();
    Account {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(login: &str) -> Caller<'_> {
        Caller {
            pid: 1,
            login,
            capabilities: Capabilities::ALL,
        }
    }

    fn capabilities(credentials: &Credentials) -> Capabilities {
        match &credentials.rights {
            Rights::Known { capabilities, .. } => *capabilities,
            Rights::Now(_) => panic!("it is on another node"),
        }
    }

    #[test]
    fn root_that_is_kept_has_its_name_its_number_and_the_capabilities_it_says() {
        let users = Users::new(Root::Keep);
        assert_eq!(&*users.login(0), "root");
        assert_eq!(users.uid("root"), Some(0));
        let root = users.credentials(&caller("root"));
        assert_eq!((root.uid, capabilities(&root)), (0, Capabilities::ALL));
        let powerless = Caller {
            capabilities: Capabilities::NONE,
            ..caller("root")
        };
        let powerless = users.credentials(&powerless);
        assert_eq!(
            (powerless.uid, capabilities(&powerless)),
            (0, Capabilities::NONE)
        );
    }

    #[test]
    fn root_that_is_squashed_is_nobody_and_others_stay_who_they_are() {
        let users = Users::new(Root::Squash);
        let root = users.credentials(&caller("root"));
        assert_eq!((root.uid, root.gid), (NOBODY, NOBODY));
        assert_eq!(capabilities(&root), Capabilities::NONE);
        assert_eq!(users.credentials(&caller("#3999999")).uid, 3_999_999);
    }

    #[test]
    fn a_number_without_a_name_travels_as_a_number_and_has_no_capabilities() {
        let users = Users::new(Root::Keep);
        assert_eq!(&*users.login(3_999_999), "#3999999");
        assert_eq!(users.uid("#3999999"), Some(3_999_999));
        let unnamed = users.credentials(&caller("#3999999"));
        assert_eq!((unnamed.uid, unnamed.gid), (3_999_999, NOBODY));
        assert_eq!(capabilities(&unnamed), Capabilities::NONE);
    }

    #[test]
    fn a_number_that_has_a_name_here_is_not_that_user() {
        let users = Users::new(Root::Keep);
        let named = User::from_name("nobody").unwrap().map(|user| user.uid);
        let Some(named) = named else { return };
        let unnamed = users.credentials(&caller(&format!("#{named}")));
        assert_eq!(unnamed.uid, NOBODY);
    }

    #[test]
    fn nobody_becomes_root_by_number_and_an_unknown_login_is_nobody() {
        let users = Users::new(Root::Keep);
        for login in ["#0", "no such login", "", "#4294967295"] {
            let stranger = users.credentials(&caller(login));
            assert_eq!((stranger.uid, stranger.gid), (NOBODY, NOBODY), "{login}");
            assert_eq!(capabilities(&stranger), Capabilities::NONE, "{login}");
        }
    }
}
