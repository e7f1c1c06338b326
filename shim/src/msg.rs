//! Message queues: `msgget`, `msgsnd`, `msgrcv`, `msgctl`.
//!
//! A message in memory is a `long`, its type, and the text behind it. The text
//! goes from the caller's memory into the socket without a copy in between.

use dipc_wire::Kind;
use dipc_wire::call::{Call, Reply, flags};
use dipc_wire::frame::MAX_PAYLOAD;
use dipc_wire::local::{ONE_PACKET, Request};
use libc::{c_int, c_long, c_void, ssize_t};

use crate::abi;
use crate::control::{self, out_of_step};
use crate::exchange::{self, Patience, SMALL};
use crate::info::IPC_INFO;
use crate::limits;
use crate::outcome::{Detour, Escape, Family, escape, refused_by_id};
use crate::session::Session;
use crate::user_memory::{self, UserBytes};
use crate::{choose, index};

/// What may be beside a text in an answer: lengths, kind and type.
const BESIDE: usize = 64;

/// `msgget(2)`
pub(crate) fn get(key: i32, flags: c_int) -> Detour<c_int> {
    control::get(Kind::Msg, key, 0, flags)
}

/// `msgsnd(2)`
pub(crate) fn send(id: c_int, message: *const c_void, size: usize, flags: c_int) -> Detour<c_int> {
    let id = choose::by_id(id)?;
    let mtype = user_memory::read(message.cast::<i64>()).map_err(Escape::Errno)?;
    if size > MAX_PAYLOAD {
        return Err(Escape::Errno(libc::EINVAL));
    }
    let text = message.wrapping_byte_add(size_of::<c_long>());
    let payload = UserBytes {
        start: text,
        len: size,
    };
    let call = Call::MsgSnd {
        id,
        mtype,
        flags: flags as u32,
    };
    let mut session = exchange::begin(&Request::Call(call), payload)
        .map_err(|trouble| limits::unsent(trouble, |limits| limits.check_message(mtype, size)))?;
    let mut room = [0; SMALL];
    let reply = session
        .answer(patience(flags), &mut room)
        .and_then(|answer| answer.reply())
        .map_err(|t| escape(t, Family::Operation))?;
    match reply {
        Reply::Done => Ok(0),
        Reply::Failed(errno) => Err(refused_by_id(errno)),
        _ => Err(out_of_step(Family::Operation)),
    }
}

/// `msgrcv(2)`
pub(crate) fn receive(
    id: c_int,
    message: *mut c_void,
    size: usize,
    mtype: c_long,
    flags: c_int,
) -> Detour<ssize_t> {
    let id = choose::by_id(id)?;
    let call = Call::MsgRcv {
        id,
        mtype,
        size: size as u64,
        flags: flags as u32,
    };
    // Signal stacks are small: take no more of the stack than the text may need.
    if size <= SMALL - BESIDE {
        receive_through::<SMALL>(call, message, size, flags)
    } else {
        receive_through::<ONE_PACKET>(call, message, size, flags)
    }
}

#[inline(never)]
fn receive_through<const ROOM: usize>(
    call: Call,
    message: *mut c_void,
    size: usize,
    flags: c_int,
) -> Detour<ssize_t> {
    let trouble = |t| escape(t, Family::Operation);
    let mut session = exchange::begin(&Request::Call(call), UserBytes::NONE).map_err(trouble)?;
    let mut room = [0; ROOM];
    let answer = session
        .answer(patience(flags), &mut room)
        .map_err(trouble)?;
    let (text, rest, len) = (answer.payload, answer.rest, answer.payload_len());
    match answer.reply().map_err(trouble)? {
        Reply::Message { mtype } if len <= size => {
            user_memory::write(message, [&mtype.to_ne_bytes(), text]).map_err(Escape::Errno)?;
            let behind = message.wrapping_byte_add(size_of::<c_long>() + text.len());
            session.take_rest(behind, rest).map_err(trouble)?;
            Ok(len as ssize_t)
        }
        Reply::Failed(errno) => Err(refused_by_id(errno)),
        _ => Err(out_of_step(Family::Operation)),
    }
}

/// With `IPC_NOWAIT` there is nothing to interrupt.
fn patience(call_flags: c_int) -> Patience {
    if call_flags as u32 & flags::NOWAIT == 0 {
        Patience::Handler
    } else {
        Patience::Steady
    }
}

/// `msgctl(2)`
pub(crate) fn control(id: c_int, command: c_int, buffer: *mut libc::msqid_ds) -> Detour<c_int> {
    if let IPC_INFO | libc::MSG_INFO = command {
        return index::info(id, command, buffer.cast::<libc::msginfo>());
    }
    if let libc::MSG_STAT | abi::MSG_STAT_ANY = command {
        let any = command == abi::MSG_STAT_ANY;
        return index::stat::<libc::msginfo, _>(id, any, buffer, shape);
    }
    let id = choose::by_id(id)?;
    match command {
        libc::IPC_STAT => control::stat(Kind::Msg, id, false, buffer, shape),
        libc::IPC_SET => control::set(Kind::Msg, id, buffer, |set| {
            (set.msg_perm, Some(set.msg_qbytes))
        }),
        libc::IPC_RMID => control::remove(Kind::Msg, id),
        _ => Err(Escape::Bypass),
    }
}

fn shape(session: &Session, reply: &Reply<'_>) -> Option<libc::msqid_ds> {
    match reply {
        Reply::Msg(stat) => Some(abi::msqid_ds(stat, session.node)),
        _ => None,
    }
}
