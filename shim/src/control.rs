//! What `semctl`, `msgctl` and `shmctl` have in common: `IPC_SET`, `IPC_RMID`,
//! and the calls whose reply is nothing but done.

use dipc_wire::call::{Call, Reply};
use dipc_wire::local::{Request, Response};
use dipc_wire::{Errno, Kind, ObjectId};
use libc::c_int;

use crate::exchange::{self, Patience, SMALL};
use crate::outcome::{Detour, Escape, Family, Trouble, escape, refused_by_id};
use crate::session::Session;
use crate::settings;
use crate::user_memory::{self, Plain, UserBytes};

/// A reply of an unexpected kind: the daemon is out of step.
pub(crate) fn out_of_step(family: Family) -> Escape {
    escape(Trouble::Lost, family)
}

/// Makes a call that is answered by [`Reply::Done`].
pub(crate) fn done(call: Call, payload: UserBytes) -> Detour<c_int> {
    ask(call, payload, |_, reply| match reply {
        Reply::Done => Some(0),
        _ => None,
    })
}

/// Makes a control call. `value` picks what the caller wants out of the reply.
pub(crate) fn ask<T>(
    call: Call,
    payload: UserBytes,
    value: impl FnOnce(&Session, &Reply<'_>) -> Option<T>,
) -> Detour<T> {
    let mut room = [0; SMALL];
    let (session, reply) =
        exchange::ask(call, payload, &mut room).map_err(|t| escape(t, Family::Control))?;
    match &reply {
        Reply::Failed(errno) => Err(refused_by_id(*errno)),
        reply => value(&session, reply).ok_or(out_of_step(Family::Control)),
    }
}

/// `IPC_RMID`. What the process knows from a list only it may not remove; a
/// person is told how to.
pub(crate) fn remove(kind: Kind, id: ObjectId) -> Detour<c_int> {
    let trouble = |t| escape(t, Family::Control);
    let request = Request::Call(Call::Remove { kind, id });
    let mut session = exchange::begin(&request, UserBytes::NONE).map_err(trouble)?;
    let mut room = [0; SMALL];
    let answer = session
        .answer(Patience::Steady, &mut room)
        .map_err(trouble)?;
    match answer.response {
        Response::Reply(Reply::Done) => Ok(0),
        Response::Reply(Reply::Failed(errno)) => Err(refused_by_id(errno)),
        Response::OnlyListed => {
            crate::notice::only_listed();
            Err(Errno::EPERM.into())
        }
        _ => Err(out_of_step(Family::Control)),
    }
}

/// `IPC_STAT` and, with `any`, what `*_STAT_ANY` does with an id: writes what `shape` makes of the reply to `buffer`. The kernel
/// too finds a bad buffer last (behaviour 114).
pub(crate) fn stat<T: Plain>(
    kind: Kind,
    id: ObjectId,
    any: bool,
    buffer: *mut T,
    shape: impl FnOnce(&Session, &Reply<'_>) -> Option<T>,
) -> Detour<c_int> {
    let stat = ask(Call::Stat { kind, id, any }, UserBytes::NONE, shape)?;
    user_memory::write_value(buffer, &stat).map_err(Escape::Errno)?;
    Ok(0)
}

/// `IPC_SET`. The buffer is read before anything is checked (behaviour 114).
pub(crate) fn set<T: Plain>(
    kind: Kind,
    id: ObjectId,
    buffer: *const T,
    parts: impl FnOnce(&T) -> (libc::ipc_perm, Option<u64>),
) -> Detour<c_int> {
    let (perm, qbytes) = parts(&user_memory::read(buffer).map_err(Escape::Errno)?);
    #[allow(clippy::unnecessary_cast)] // wider on other processors
    let (uid, gid, mode) = (perm.uid, perm.gid, perm.mode as u16);
    done(
        Call::Set {
            kind,
            id,
            uid,
            gid,
            mode,
            qbytes,
        },
        UserBytes::NONE,
    )
}

/// `semget`, `msgget`, `shmget`
pub(crate) fn get(kind: Kind, key: i32, size: u64, flags: c_int) -> Detour<c_int> {
    let flags = crate::choose::by_key(kind, key, size, flags)?;
    let wish = settings::get().wish;
    let request = if kind == Kind::Shm && !wish.is_none() {
        Request::GetSegment {
            key,
            size,
            flags,
            wish,
        }
    } else {
        Request::Call(Call::Get {
            kind,
            key,
            size,
            flags,
        })
    };
    let mut room = [0; SMALL];
    let (_, reply) = exchange::request(&request, UserBytes::NONE, &mut room)
        .map_err(|t| escape(t, Family::Get))?;
    match reply {
        Reply::Id(id) => Ok(id.raw()),
        Reply::Failed(errno) => Err(errno.into()),
        _ => Err(out_of_step(Family::Get)),
    }
}
