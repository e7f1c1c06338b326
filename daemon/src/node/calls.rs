//! Where a call goes.

use std::sync::Arc;

use dipc_wire::call::{Call, PRIVATE, Reply, flags};
use dipc_wire::limits::weight;
use dipc_wire::peer::Message;
use dipc_wire::sharing::{Sharing, Wish};
use dipc_wire::{Errno, Kind, ObjectId};

use super::answer::Asker;
use super::client::{Client, Place};
use super::home::{Caller, Lookup, undoes};
use super::names::Resolution;
use super::{Node, longest_quantum};

impl Node {
    /// A local program's call. Says where it waits, if it may.
    pub(crate) fn call(
        self: &Arc<Self>,
        client: &Arc<Client>,
        call: Call,
        payload: &[u8],
    ) -> Option<Place> {
        if let Call::Get {
            kind,
            key,
            size,
            flags,
        } = call
        {
            let lookup = Lookup {
                kind,
                key,
                size,
                flags,
            };
            self.answer_get(client, lookup, self.home.sharing);
            return None;
        }
        if let Err(errno) = self.home.check_call(&call, payload) {
            client.answer(&Reply::Failed(errno), &[]);
            return None;
        }
        let (Some(id), false) = (call.object(), call.is_between_nodes()) else {
            client.answer(&Reply::Failed(Errno::EINVAL), &[]);
            return None;
        };
        let home = id.home();
        if let Call::SemOp { .. } = call
            && undoes(payload)
        {
            client.process.undoes_at(home);
        }
        let asker = Asker::Client(client.clone());
        if home == self.me.node {
            return self
                .apply(&client.caller(), call, payload, asker)
                .map(Place::Here);
        }
        self.counters.remote_call();
        let names;
        let payload = match call {
            Call::Set { uid, gid, .. } => {
                let users = &self.home.users;
                names = format!("{}\0{}", users.login(uid), users.group(gid));
                names.as_bytes()
            }
            _ => payload,
        };
        // Without a link its home is dead, and the object with it.
        let Some(link) = self.peers.link(home) else {
            asker.fail(Errno::EINVAL);
            return None;
        };
        match link.ask(client.abroad().caller(), call, payload, asker) {
            Ok(tag) => Some(Place::Away(home, tag)),
            Err(asker) => {
                asker.fail(Errno::EIDRM);
                None
            }
        }
    }

    /// A call on an object of this home, from whichever node. Returns the
    /// ticket of a call that waits.
    pub(crate) fn apply(
        &self,
        caller: &Caller,
        call: Call,
        payload: &[u8],
        asker: Asker,
    ) -> Option<crate::semantics::Ticket> {
        let reply = match call {
            Call::Get {
                kind,
                key,
                size,
                flags,
            } => {
                // A peer's, whom the referee has sent here. EIDRM: it is gone.
                let lookup = Lookup {
                    kind,
                    key,
                    size,
                    flags,
                };
                let found = self.home.find(caller, lookup);
                found.unwrap_or(Err(Errno::EIDRM)).map(Reply::Id)
            }
            Call::Remove { kind, id } => self.remove(caller, kind, id).map(|()| Reply::Done),
            Call::Lock { id, lock } => self.home.lock(caller, id, lock).map(|()| Reply::Done),
            Call::Attach { id, flags } => {
                self.home
                    .attach(caller, id, flags)
                    .map(|attached| Reply::Attached {
                        size: attached.size,
                        granule: attached.granule,
                        quantum: attached.quantum,
                        may_write: attached.may_write,
                    })
            }
            Call::Detach { id, count } => {
                self.detached(caller.pid, id, count).map(|()| Reply::Done)
            }
            Call::Inherit { id, count } => self
                .home
                .inherit(caller.pid, id, count)
                .map(|()| Reply::Done),
            Call::Remap { id } => self.home.remap(caller.pid, id).map(|()| Reply::Done),
            Call::Abandon { id } => self.abandoned(caller.pid, id).map(|()| Reply::Done),
            _ => return self.home.apply(caller, call, payload, asker),
        };
        asker.answer(&reply.unwrap_or_else(Reply::Failed), &[]);
        None
    }

    fn remove(&self, caller: &Caller, kind: Kind, id: ObjectId) -> Result<(), Errno> {
        let (key, destroyed) = match kind {
            Kind::Sem | Kind::Msg => (self.home.remove(caller, kind, id)?, false),
            Kind::Shm => {
                let removed = self.home.remove_segment(caller, id)?;
                (removed.key, removed.destroyed)
            }
        };
        if let Some(key) = key {
            self.names.released(kind, key, id);
        }
        match kind {
            Kind::Sem | Kind::Msg => self.names.freed(kind, id),
            Kind::Shm if destroyed => self.destroy(id),
            Kind::Shm => {}
        }
        Ok(())
    }

    /// The last attachment of a removed segment of this home is gone.
    pub(crate) fn destroy(&self, id: ObjectId) {
        self.names.freed(Kind::Shm, id);
        self.forget_segment(id);
        for link in self.peers.links() {
            let _ = link.send(&Message::Destroyed { id }, &[]);
        }
    }

    /// `shmget` of a program that wants its segments shared in its own way. EINVAL
    /// if that cannot be.
    pub(super) fn get_segment(&self, client: &Client, lookup: Lookup, wish: Wish) {
        match self.granted(wish) {
            Ok(sharing) => self.answer_get(client, lookup, sharing),
            Err(why) => {
                let pid = client.pid();
                tracing::warn!(pid, %why, "a segment is refused: it cannot be shared as its creator wants");
                client.answer(&Reply::Failed(Errno::EINVAL), &[]);
            }
        }
    }

    /// How a segment is shared whose creator wants this.
    fn granted(&self, wish: Wish) -> Result<Sharing, String> {
        let sharing = wish.or(self.home.sharing).map_err(|e| e.to_string())?;
        let longest = longest_quantum(self.timeout);
        if sharing.quantum > longest {
            return Err(format!(
                "a quantum of {}ns is more than {longest}ns, a quarter of the time-out",
                sharing.quantum
            ));
        }
        Ok(sharing)
    }

    fn answer_get(&self, client: &Client, lookup: Lookup, sharing: Sharing) {
        let found = self.get(client, lookup, sharing);
        if let Ok(id) = found {
            client.process.listed.lock().got(lookup.kind, id);
        }
        client.answer(&found.map_or_else(Reply::Failed, Reply::Id), &[]);
    }

    /// `semget`, `msgget`, `shmget`.
    fn get(&self, client: &Client, lookup: Lookup, sharing: Sharing) -> Result<ObjectId, Errno> {
        let Lookup {
            kind,
            key,
            size,
            flags,
        } = lookup;
        let limits = self.limits();
        limits.check_get(kind, size)?;
        let caller = &client.caller();
        let may_create = key == PRIVATE || flags & flags::CREAT != 0;
        let (create, absent) = match limits.check_create(kind, size) {
            _ if !may_create => (None, Errno::ENOENT),
            Ok(()) => (Some(weight(kind, size)), Errno::ENOENT),
            Err(errno) if key == PRIVATE => return Err(errno),
            // Only looked for: if it is there it is found, or EEXIST, in spite
            // of the size.
            Err(errno) => (None, errno),
        };
        let mut not = None;
        // Each round means that an object of this key was removed while we
        // were on the way to it.
        loop {
            if let Some(found) = self.home.find(caller, lookup) {
                return found;
            }
            let resolution = self
                .names
                .resolve(kind, key, create, not)
                .map_err(|_| Errno::ETIMEDOUT)?;
            match resolution {
                Resolution::Absent => return Err(absent),
                Resolution::Full => {
                    self.home.say_full(kind);
                    return Err(Errno::ENOSPC);
                }
                Resolution::Create(claim) => {
                    let make = || self.home.create(caller, lookup, sharing);
                    match self.names.fulfil(claim, make) {
                        // Another thread was faster, or the referee is another
                        // one since: find it, or ask again.
                        Some(Err(Errno::EEXIST)) | None => {}
                        Some(made) => return made,
                    }
                }
                Resolution::Found(id) => match self.get_from(client, id, lookup) {
                    Some(found) => return found,
                    None => not = Some(id),
                },
            }
        }
    }

    /// Asks the home that the referee named. `None`: it has the object no more.
    fn get_from(
        &self,
        client: &Client,
        id: ObjectId,
        lookup: Lookup,
    ) -> Option<Result<ObjectId, Errno>> {
        let link = self.peers.link(id.home())?;
        match link.ask_and_wait(client.abroad().caller(), lookup.call(), &[])? {
            Reply::Id(id) => Some(Ok(id)),
            Reply::Failed(Errno::EIDRM) => None,
            Reply::Failed(errno) => Some(Err(errno)),
            _ => Some(Err(Errno::EPROTO)),
        }
    }
}
