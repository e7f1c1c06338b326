//! Shared memory segments: `shmget`, `shmat`, `shmdt`, `shmctl`. How a segment
//! gets into the address space and out of it: [`crate::mapping`].

use dipc_wire::Kind;
use dipc_wire::call::{Call, Reply};
use libc::{c_int, c_void};

use crate::info::{IPC_INFO, ShmLimits, ShmUse};
use crate::outcome::{Detour, Escape};
use crate::session::Session;
use crate::user_memory::UserBytes;
use crate::{abi, attachments, choose, control, fork, index, mapping};

/// `shmget(2)`
pub(crate) fn get(key: i32, size: usize, flags: c_int) -> Detour<c_int> {
    control::get(Kind::Shm, key, size as u64, flags)
}

/// `shmctl(2)`
pub(crate) fn control(id: c_int, command: c_int, buffer: *mut libc::shmid_ds) -> Detour<c_int> {
    match command {
        IPC_INFO => return index::info(id, command, buffer.cast::<ShmLimits>()),
        abi::SHM_INFO => return index::info(id, command, buffer.cast::<ShmUse>()),
        abi::SHM_STAT | abi::SHM_STAT_ANY => {
            let any = command == abi::SHM_STAT_ANY;
            return index::stat::<ShmLimits, _>(id, any, buffer, shape);
        }
        _ => {}
    }
    let id = choose::by_id(id)?;
    match command {
        libc::IPC_STAT => control::stat(Kind::Shm, id, false, buffer, shape),
        libc::IPC_SET => control::set(Kind::Shm, id, buffer, |set| (set.shm_perm, None)),
        libc::IPC_RMID => control::remove(Kind::Shm, id),
        abi::SHM_LOCK => control::done(Call::Lock { id, lock: true }, UserBytes::NONE),
        abi::SHM_UNLOCK => control::done(Call::Lock { id, lock: false }, UserBytes::NONE),
        _ => Err(Escape::Bypass),
    }
}

fn shape(session: &Session, reply: &Reply<'_>) -> Option<libc::shmid_ds> {
    match reply {
        Reply::Shm(stat) => Some(abi::shmid_ds(stat, session.node)),
        _ => None,
    }
}

/// `shmat(2)`: the address.
pub(crate) fn attach(id: c_int, addr: *const c_void, flags: c_int) -> Detour<*mut c_void> {
    let id = choose::by_id(id)?;
    let addr = mapping::enter(id, addr.addr(), flags as u32)?;
    Ok(addr as *mut c_void)
}

/// `shmdt(2)`. Works without a daemon too.
pub(crate) fn detach(addr: *const c_void) -> Detour<c_int> {
    fork::settle();
    if attachments::first_of(addr.addr()).is_some() && mapping::leave(addr.addr()) {
        Ok(0)
    } else {
        Err(Escape::Bypass)
    }
}
