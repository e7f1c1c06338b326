//! Semaphore sets: `semget`, `semop`, `semtimedop`, `semctl`.

use dipc_wire::call::{Call, Reply, SemCommand, SemOp};
use dipc_wire::frame::MAX_PAYLOAD;
use dipc_wire::local::{ONE_PACKET, Request};
use dipc_wire::{Errno, Kind, ObjectId};
use libc::{c_int, c_void, sembuf, timespec};

use crate::abi::{self, Semun};
use crate::control::{self, out_of_step};
use crate::exchange::{self, Patience, SMALL};
use crate::info::IPC_INFO;
use crate::limits;
use crate::outcome::{Detour, Escape, Family, escape, refused_by_id};
use crate::session::Session;
use crate::user_memory::{self, UserBytes};
use crate::{choose, index};

const NANOS: i64 = 1_000_000_000;

/// `semget(2)`
pub(crate) fn get(key: i32, nsems: c_int, flags: c_int) -> Detour<c_int> {
    // A negative number becomes a huge one, which the home refuses as the kernel
    // does (behaviour 10).
    control::get(Kind::Sem, key, nsems as u64, flags)
}

/// `semtimedop(2)`; `semop(2)` is the one without a time-out.
pub(crate) fn operate(
    id: c_int,
    operations: *const sembuf,
    count: usize,
    timeout: *const timespec,
) -> Detour<c_int> {
    let id = choose::by_id(id)?;
    let timeout = if timeout.is_null() {
        None
    } else {
        let timeout = user_memory::read(timeout).map_err(Escape::Errno)?;
        let refused = || limits::first_of(|limits| limits.check_nsops(count), Errno::EINVAL);
        Some(nanoseconds(timeout).ok_or_else(refused)?)
    };
    if count > MAX_PAYLOAD / SemOp::BYTES {
        return Err(Escape::Errno(libc::E2BIG));
    }
    // `struct sembuf` lies in memory just as it travels (see `abi`).
    let payload = UserBytes {
        start: operations.cast(),
        len: count * SemOp::BYTES,
    };
    let call = Call::SemOp { id, timeout };
    let mut session = exchange::begin(&Request::Call(call), payload)
        .map_err(|trouble| limits::unsent(trouble, |limits| limits.check_nsops(count)))?;
    let mut room = [0; SMALL];
    let reply = session
        .answer(Patience::Signal, &mut room)
        .and_then(|answer| answer.reply())
        .map_err(|t| escape(t, Family::Operation))?;
    match reply {
        Reply::Done => Ok(0),
        Reply::Failed(errno) => Err(refused_by_id(errno)),
        _ => Err(out_of_step(Family::Operation)),
    }
}

/// A time-out in nanoseconds; `None` for one that is invalid (behaviour 25).
fn nanoseconds(timeout: timespec) -> Option<u64> {
    if timeout.tv_sec < 0 || !(0..NANOS).contains(&timeout.tv_nsec) {
        return None;
    }
    let seconds = (timeout.tv_sec as u64).saturating_mul(NANOS as u64);
    Some(seconds.saturating_add(timeout.tv_nsec as u64))
}

/// `semctl(2)`. `argument` is looked at only for commands that define it: callers
/// may omit it for the others (behaviour 68).
pub(crate) fn control(id: c_int, index: c_int, command: c_int, argument: Semun) -> Detour<c_int> {
    if let IPC_INFO | libc::SEM_INFO = command {
        return index::info(id, command, argument.info());
    }
    if let libc::SEM_STAT | libc::SEM_STAT_ANY = command {
        let any = command == libc::SEM_STAT_ANY;
        return index::stat::<libc::seminfo, _>(id, any, argument.buffer(), shape);
    }
    let id = choose::by_id(id)?;
    match command {
        libc::IPC_STAT => control::stat(Kind::Sem, id, false, argument.buffer(), shape),
        libc::IPC_SET => control::set(Kind::Sem, id, argument.buffer(), |set| (set.sem_perm, None)),
        libc::IPC_RMID => control::remove(Kind::Sem, id),
        abi::sem::GETVAL => number(id, SemCommand::GetValue(index)),
        abi::sem::GETPID => number(id, SemCommand::GetPid(index)),
        abi::sem::GETNCNT => number(id, SemCommand::GetNcnt(index)),
        abi::sem::GETZCNT => number(id, SemCommand::GetZcnt(index)),
        abi::sem::SETVAL => number(id, SemCommand::SetValue(index, argument.value())),
        abi::sem::GETALL => get_all(id, argument.array()),
        abi::sem::SETALL => set_all(id, argument.array()),
        _ => Err(Escape::Bypass),
    }
}

fn shape(_: &Session, reply: &Reply<'_>) -> Option<libc::semid_ds> {
    match reply {
        Reply::Sem(stat) => Some(abi::semid_ds(stat)),
        _ => None,
    }
}

/// Commands on one value.
fn number(id: ObjectId, command: SemCommand) -> Detour<c_int> {
    control::ask(
        Call::Sem { id, command },
        UserBytes::NONE,
        |session, reply| match reply {
            Reply::Done => Some(0),
            Reply::Value(value) => Some(*value),
            Reply::Process(process) => Some(abi::pid(*process, session.node)),
            _ => None,
        },
    )
}

/// `GETALL`. As with the kernel, the caller vouches that the array is as long as
/// the set. Not inlined, so that no other command takes so much of the stack.
#[inline(never)]
fn get_all(id: ObjectId, array: *mut u16) -> Detour<c_int> {
    let request = Request::Call(Call::Sem {
        id,
        command: SemCommand::GetAll,
    });
    let trouble = |t| escape(t, Family::Control);
    let mut session = exchange::begin(&request, UserBytes::NONE).map_err(trouble)?;
    let mut room = [0; ONE_PACKET];
    let answer = session
        .answer(Patience::Steady, &mut room)
        .map_err(trouble)?;
    let (payload, rest) = (answer.payload, answer.rest);
    match answer.reply().map_err(trouble)? {
        Reply::Values => {
            let array = array.cast::<c_void>();
            user_memory::write(array, [payload, &[]]).map_err(Escape::Errno)?;
            session
                .take_rest(array.wrapping_byte_add(payload.len()), rest)
                .map_err(trouble)?;
            Ok(0)
        }
        Reply::Failed(errno) => Err(refused_by_id(errno)),
        _ => Err(out_of_step(Family::Control)),
    }
}

/// `SETALL`. How long the array is, only the home can tell.
fn set_all(id: ObjectId, array: *const u16) -> Detour<c_int> {
    let stat = Call::Stat {
        kind: Kind::Sem,
        id,
        any: true,
    };
    let count = control::ask(stat, UserBytes::NONE, |_, reply| match reply {
        Reply::Sem(stat) => Some(stat.nsems as usize),
        _ => None,
    })?;
    let payload = UserBytes {
        start: array.cast(),
        len: count * size_of::<u16>(),
    };
    control::done(
        Call::Sem {
            id,
            command: SemCommand::SetAll,
        },
        payload,
    )
}
