//! `*_INFO`, and `*_STAT` by index: how a program goes through all objects.
//!
//! One table for both worlds (behaviours 117, 118):
//!
//! ```text
//!   index   0 … highest          highest+1 … highest+n
//!           the kernel's own     the cluster's, in the order of their ids
//! ```
//!
//! where `highest` is what the kernel returned at the process's last `*_INFO`.
//! The order of the cluster's objects stays with the daemon, which keeps it for
//! each process: nothing here has to be stored, locked or freed. When there is
//! no daemon or no distributed object, the answer is exactly the kernel's.

use std::sync::atomic::{AtomicI32, Ordering};

use dipc_wire::call::Reply;
use dipc_wire::census::Census;
use dipc_wire::local::{Request, Response};
use dipc_wire::{Errno, Kind, ObjectId};
use libc::c_int;

use crate::control;
use crate::exchange::{self, Patience, SMALL};
use crate::info::{IPC_INFO, Info};
use crate::outcome::{Detour, Escape};
use crate::session::Session;
use crate::user_memory::{self, Plain, UserBytes};
use crate::{kernel, settings};

/// No `*_INFO` was called yet.
const UNKNOWN: c_int = -1;

/// The kernel's highest index of each kind, as the process was last told.
static HIGHEST: [AtomicI32; Kind::ALL.len()] = [const { AtomicI32::new(UNKNOWN) }; Kind::ALL.len()];

/// `IPC_INFO` and `*_INFO`. The kernel judges the id and, when there is
/// nothing to add, answers alone.
pub(crate) fn info<T: Info>(id: c_int, command: c_int, buffer: *mut T) -> Detour<c_int> {
    // SAFETY: zero is a value of every `Plain` type.
    let mut info: T = unsafe { core::mem::zeroed() };
    let highest = highest(id, command, &mut info)?;
    let census = census(T::KIND)?;
    let everything = settings::get().keys.are_all();
    if census.objects == 0 && !everything {
        return Err(Escape::Bypass);
    }
    info.add(&census, command != IPC_INFO);
    if everything {
        info.limit(&census.limits);
    }
    user_memory::write_value(buffer, &info).map_err(Escape::Errno)?;
    let objects = c_int::try_from(census.objects).unwrap_or(c_int::MAX);
    Ok(highest.saturating_add(objects))
}

/// `*_STAT` and, with `any`, `*_STAT_ANY`: writes what `shape` makes of the
/// object at `index` to `buffer`, and returns its id.
pub(crate) fn stat<I: Info, T: Plain>(
    index: c_int,
    any: bool,
    buffer: *mut T,
    shape: impl FnOnce(&Session, &Reply<'_>) -> Option<T>,
) -> Detour<c_int> {
    let highest = match HIGHEST[I::KIND as usize].load(Ordering::Relaxed) {
        UNKNOWN => {
            // SAFETY: as in `info`.
            let mut info: I = unsafe { core::mem::zeroed() };
            self::highest(0, IPC_INFO, &mut info)?
        }
        highest => highest,
    };
    let place = index
        .checked_sub(highest)
        .and_then(|place| place.checked_sub(1));
    let place = place.and_then(|place| u32::try_from(place).ok());
    let id = entry(I::KIND, place.ok_or(Escape::Bypass)?)?;
    match control::stat(I::KIND, id, any, buffer, shape) {
        // Removed since it was listed: what the kernel has at this index, it
        // has by a wrap of its own.
        Err(Escape::Bypass) => Err(Errno::EINVAL.into()),
        other => other.map(|_| id.raw()),
    }
}

/// What the kernel says to this command; kept for `*_STAT`. Its failure is
/// left to be found again by the real call.
fn highest<T: Info>(id: c_int, command: c_int, info: &mut T) -> Detour<c_int> {
    let place = core::ptr::from_mut(info).cast();
    // SAFETY: `T` is what the hooks pair with this kind and command.
    let highest =
        unsafe { kernel::info(T::KIND, id, command, place) }.map_err(|_| Escape::Bypass)?;
    HIGHEST[T::KIND as usize].store(highest, Ordering::Relaxed);
    Ok(highest)
}

fn census(kind: Kind) -> Detour<Census> {
    let sweep = settings::get().sweep;
    ask(Request::Census { kind, sweep }, |response| match response {
        Response::Census(census) => Some(census),
        _ => None,
    })
}

/// The id at a place of the daemon's list; bypass when it has none there.
fn entry(kind: Kind, place: u32) -> Detour<ObjectId> {
    let sweep = settings::get().sweep;
    let request = Request::Entry { kind, place, sweep };
    let found = ask(request, |response| match response {
        Response::Reply(Reply::Id(id)) => Some(Some(id)),
        Response::Reply(Reply::Failed(_)) => Some(None),
        _ => None,
    })?;
    found.ok_or(Escape::Bypass)
}

/// A daemon that cannot be asked leaves the kernel's answer, as it does for
/// `/proc/sysvipc`: a list of local objects is of use by itself.
fn ask<T>(request: Request, value: impl FnOnce(Response<'_>) -> Option<T>) -> Detour<T> {
    let mut room = [0; SMALL];
    let mut session = exchange::begin(&request, UserBytes::NONE).map_err(|_| Escape::Bypass)?;
    let answer = session
        .answer(Patience::Steady, &mut room)
        .map_err(|_| Escape::Bypass)?;
    value(answer.response).ok_or(Escape::Bypass)
}
