//! Message queues: msgsnd(2), msgrcv(2), msgctl(2).
//!
//! ```text
//!  senders that wait        messages         receivers that wait
//!  (each holds its text)                     (each holds what it wants)
//!   ┌───┬───┬───┐  room   ┌───┬───┬───┬───┐        ┌───┬───┐
//!   │   │   │   │ ──────▶ │   │   │   │   │        │   │   │
//!   └───┴───┴───┘         └───┴───┴───┴───┘        └───┴───┘
//!         └──────────── hand-off, past the messages ────▲
//! ```
//!
//! A message that a waiting receiver wants never enters the queue (behaviour
//! 86), so no waiting receiver ever wants a message that is in the queue; and
//! whenever room appears the senders whose message fits get it, in the order
//! in which they came, so no waiting sender's message ever fits (76).

mod wanted;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use dipc_wire::call::{MsgStat, flags};
use dipc_wire::{Errno, NodeId, Pid};

use super::perm::Access;
#[cfg(test)]
use super::sabotage::{self, Sabotage};
use super::{Caller, Credentials, Granted, Limits, Outcome, Permissions, Setting, Ticket, Wake};
use wanted::Wanted;

/// A message that was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its type.
    pub mtype: i64,
    /// Its text, cut to the receiver's room if it allowed that.
    pub text: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Message {
    mtype: i64,
    text: Vec<u8>,
}

/// A `msgsnd` that waits for room.
#[derive(Clone, Debug)]
struct Sender {
    ticket: Ticket,
    pid: Pid,
    /// For the permission to send is looked at again when there is room.
    credentials: Credentials,
    message: Message,
}

/// A `msgrcv` that waits for a message.
#[derive(Clone, Debug)]
struct Receiver {
    ticket: Ticket,
    pid: Pid,
    /// For it is looked at again when IPC_SET changes who may read.
    credentials: Credentials,
    wanted: Wanted,
    room: Room,
}

/// How long a text a receiver takes.
#[derive(Clone, Copy, Debug)]
struct Room {
    size: u64,
    /// `MSG_NOERROR`
    cuts: bool,
}

impl Room {
    fn fits(self, text: &[u8]) -> bool {
        self.cuts || text.len() as u64 <= self.size
    }

    /// The message as this receiver gets it (behaviour 77).
    fn fill(self, message: Message) -> Received {
        let Message { mtype, mut text } = message;
        text.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
        Received { mtype, text }
    }
}

/// A message queue at its home.
#[derive(Clone, Debug)]
pub struct Queue {
    permissions: Permissions,
    messages: VecDeque<Message>,
    senders: VecDeque<Sender>,
    receivers: VecDeque<Receiver>,
    qbytes: u64,
    /// The lengths of all texts in `messages`.
    cbytes: u64,
    stime: i64,
    rtime: i64,
    ctime: i64,
    lspid: Option<Pid>,
    lrpid: Option<Pid>,
}

impl Queue {
    /// An empty queue that holds up to `limits.msgmnb` bytes (behaviour 19).
    pub fn new(permissions: Permissions, limits: &Limits, now: i64) -> Self {
        Queue {
            permissions,
            messages: VecDeque::new(),
            senders: VecDeque::new(),
            receivers: VecDeque::new(),
            qbytes: limits.msgmnb,
            cbytes: 0,
            stime: 0,
            rtime: 0,
            ctime: now,
            lspid: None,
            lrpid: None,
        }
    }

    /// Whether `msgget` may hand out this queue's id (behaviours 2, 6, 7).
    pub fn check_get(&self, who: &Credentials, flags: u32) -> Result<(), Errno> {
        self.permissions.check_get(who, flags, true)
    }

    /// `msgsnd`. [`Limits::check_message`] comes before the queue is looked up
    /// (behaviour 69). Then EACCES, and when there is no room EAGAIN with
    /// `IPC_NOWAIT` or waiting under `ticket` (70, 71, 75).
    #[allow(clippy::too_many_arguments)] // the call's own, and who, when and whom it wakes
    pub fn send(
        &mut self,
        caller: Caller<'_>,
        mtype: i64,
        text: &[u8],
        flags: u32,
        ticket: Ticket,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<Outcome<()>, Errno> {
        self.permissions.check(caller.credentials, Access::WRITE)?;
        let has_room = self.has_room(text.len());
        if !has_room && flags & flags::NOWAIT != 0 {
            return Err(Errno::EAGAIN);
        }
        let message = Message {
            mtype,
            text: text.into(),
        };
        if !has_room {
            self.senders.push_back(Sender {
                ticket,
                pid: caller.pid,
                credentials: caller.credentials.clone(),
                message,
            });
            return Ok(Outcome::Blocked);
        }
        self.accept(caller.pid, message, now, wakes);
        Ok(Outcome::Done(()))
    }

    /// `msgrcv`. EINVAL for flags that exclude each other (behaviour 81), EACCES,
    /// E2BIG when the first message that is wanted is too long (77), and when
    /// there is none ENOMSG with `IPC_NOWAIT` or waiting under `ticket` (75).
    ///
    /// `size` is the room for the text; that a negative one is EINVAL (83) is
    /// known only where it is still signed, so those above `i64::MAX` are.
    #[allow(clippy::too_many_arguments)] // the call's own, and who, when and whom it wakes
    pub fn receive(
        &mut self,
        caller: Caller<'_>,
        mtype: i64,
        size: u64,
        flags: u32,
        ticket: Ticket,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<Outcome<Received>, Errno> {
        check_receive(size, flags)?;
        self.permissions.check(caller.credentials, Access::READ)?;
        let room = Room {
            size,
            cuts: flags & flags::NOERROR != 0,
        };
        if flags & flags::COPY != 0 {
            return self.copy(mtype, room).map(Outcome::Done);
        }
        let wanted = Wanted::new(mtype, flags);
        let Some(at) = wanted.choose(self.messages.iter().map(|message| message.mtype)) else {
            if flags & flags::NOWAIT != 0 {
                return Err(Errno::ENOMSG);
            }
            let (pid, credentials) = (caller.pid, caller.credentials.clone());
            self.receivers.push_back(Receiver {
                ticket,
                pid,
                credentials,
                wanted,
                room,
            });
            return Ok(Outcome::Blocked);
        };
        if !room.fits(&self.messages[at].text) {
            return Err(Errno::E2BIG);
        }
        let message = self.messages.remove(at).ok_or(Errno::ENOMSG)?;
        self.cbytes -= message.text.len() as u64;
        self.lrpid = Some(caller.pid);
        self.rtime = now;
        self.admit(now, wakes);
        Ok(Outcome::Done(room.fill(message)))
    }

    /// `MSG_COPY`: the message with this ordinal, which stays (behaviour 81).
    fn copy(&self, ordinal: i64, room: Room) -> Result<Received, Errno> {
        let at = usize::try_from(ordinal).map_err(|_| Errno::ENOMSG)?;
        let message = self.messages.get(at).ok_or(Errno::ENOMSG)?;
        if message.text.len() as u64 > room.size {
            return Err(if room.cuts {
                Errno::EINVAL
            } else {
                Errno::E2BIG
            });
        }
        Ok(room.fill(message.clone()))
    }

    /// The call waits no more: a signal came, or its process or its thread has
    /// gone. False when it does not wait here, which means that its [`Wake`]
    /// has been pushed.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        let before = self.senders.len() + self.receivers.len();
        self.senders.retain(|sender| sender.ticket != ticket);
        self.receivers.retain(|receiver| receiver.ticket != ticket);
        self.senders.len() + self.receivers.len() < before
    }

    /// A message that was received by a process which ended before it could
    /// learn of it: it is the first again, or goes to a receiver that waits for
    /// such a one. There is always room for it. What `MSG_NOERROR` had cut off
    /// is lost.
    pub fn put_back(&mut self, mtype: i64, text: Vec<u8>, now: i64, wakes: &mut Vec<Wake>) {
        if let Some(message) = self.hand_off(Message { mtype, text }, now, wakes) {
            self.cbytes += message.text.len() as u64;
            self.messages.push_front(message);
        }
    }

    /// The node is dead: its waiters are dropped without a wake. What its
    /// processes have sent stays.
    pub fn forget_node(&mut self, node: NodeId) {
        self.senders.retain(|sender| sender.pid.node != node);
        self.receivers.retain(|receiver| receiver.pid.node != node);
    }

    /// IPC_STAT, and MSG_STAT_ANY if `any`: EACCES.
    pub fn stat(&self, caller: Caller<'_>, any: bool) -> Result<MsgStat<'static>, Errno> {
        if !any {
            self.permissions.check(caller.credentials, Access::READ)?;
        }
        Ok(MsgStat {
            perm: self.permissions.stat(),
            stime: self.stime,
            rtime: self.rtime,
            ctime: self.ctime,
            cbytes: self.cbytes,
            qnum: self.messages.len() as u64,
            qbytes: self.qbytes,
            lspid: self.lspid,
            lrpid: self.lrpid,
        })
    }

    /// IPC_SET; `qbytes` of `None` leaves it. EPERM, also for more than
    /// `limits.msgmnb` without CAP_SYS_RESOURCE; EINVAL (behaviours 66, 74).
    ///
    /// Receivers that may no longer read get EACCES (72). Senders for whose
    /// message there is room now go on (73), or get EACCES if they may no
    /// longer; the others wait on.
    pub fn set(
        &mut self,
        caller: Caller<'_>,
        new: Setting,
        qbytes: Option<u64>,
        limits: &Limits,
        now: i64,
        wakes: &mut Vec<Wake>,
    ) -> Result<(), Errno> {
        self.permissions.check_owner(caller.credentials)?;
        let raises = qbytes.is_some_and(|qbytes| qbytes > limits.msgmnb);
        if raises && !caller.credentials.capabilities().sys_resource {
            return Err(Errno::EPERM);
        }
        self.permissions.set(new)?;
        self.qbytes = qbytes.unwrap_or(self.qbytes);
        self.ctime = now;
        self.receivers.retain(|receiver| {
            let allowed = self.permissions.check(&receiver.credentials, Access::READ);
            wakes.extend(allowed.err().map(|errno| failed(receiver.ticket, errno)));
            allowed.is_ok()
        });
        self.admit(now, wakes);
        Ok(())
    }

    /// IPC_RMID: EPERM. Everybody who waits gets EIDRM (behaviour 85).
    pub fn remove(&mut self, caller: Caller<'_>, wakes: &mut Vec<Wake>) -> Result<(), Errno> {
        self.permissions.check_owner(caller.credentials)?;
        self.messages.clear();
        self.cbytes = 0;
        let receivers = self.receivers.drain(..).map(|receiver| receiver.ticket);
        wakes.extend(receivers.map(|ticket| failed(ticket, Errno::EIDRM)));
        let senders = self.senders.drain(..).map(|sender| sender.ticket);
        wakes.extend(senders.map(|ticket| failed(ticket, Errno::EIDRM)));
        Ok(())
    }

    /// Both bytes and messages are held below `qbytes` (behaviour 71).
    fn has_room(&self, len: usize) -> bool {
        let bytes = self.cbytes.saturating_add(len as u64);
        #[cfg(test)]
        let bytes = bytes + u64::from(sabotage::is(Sabotage::FullOneByteEarly));
        bytes <= self.qbytes && (self.messages.len() as u64) < self.qbytes
    }

    /// `pid` has sent this message, and there is room.
    fn accept(&mut self, pid: Pid, message: Message, now: i64, wakes: &mut Vec<Wake>) {
        self.lspid = Some(pid);
        self.stime = now;
        if let Some(message) = self.hand_off(message, now, wakes) {
            self.cbytes += message.text.len() as u64;
            self.messages.push_back(message);
        }
    }

    /// Gives the message to the first receiver that waits for such a one
    /// (behaviours 86, 87), or returns it. Those that want it and have too
    /// little room fail on the way (78).
    fn hand_off(&mut self, message: Message, now: i64, wakes: &mut Vec<Wake>) -> Option<Message> {
        let mut at = 0;
        while let Some(receiver) = self.receivers.get(at) {
            if !receiver.wanted.accepts(message.mtype) {
                at += 1;
                continue;
            }
            let Receiver {
                ticket, pid, room, ..
            } = *receiver;
            self.receivers.remove(at);
            if room.fits(&message.text) {
                self.lrpid = Some(pid);
                self.rtime = now;
                let result = Ok(Granted::Message(room.fill(message)));
                wakes.push(Wake { ticket, result });
                return None;
            }
            wakes.push(failed(ticket, Errno::E2BIG));
        }
        Some(message)
    }

    /// There may be more room: lets the senders in whose message fits, in
    /// their order; a small one may pass a big one (behaviours 73, 76).
    fn admit(&mut self, now: i64, wakes: &mut Vec<Wake>) {
        let mut at = 0;
        while let Some(sender) = self.senders.get(at) {
            if !self.has_room(sender.message.text.len()) {
                at += 1;
                continue;
            }
            let Some(sender) = self.senders.remove(at) else {
                return;
            };
            match self.permissions.check(&sender.credentials, Access::WRITE) {
                Err(errno) => wakes.push(failed(sender.ticket, errno)),
                Ok(()) => {
                    wakes.push(Wake {
                        ticket: sender.ticket,
                        result: Ok(Granted::Done),
                    });
                    self.accept(sender.pid, sender.message, now, wakes);
                }
            }
        }
    }
}

/// What `msgrcv` refuses before it looks for the queue: EINVAL for a negative
/// size, for `MSG_COPY` without `IPC_NOWAIT` or with `MSG_EXCEPT` (behaviours
/// 81, 83). [`Queue::receive`] looks at it again.
pub fn check_receive(size: u64, flags: u32) -> Result<(), Errno> {
    let copies = flags & flags::COPY != 0;
    let bad_copy = copies && (flags & flags::NOWAIT == 0 || flags & flags::EXCEPT != 0);
    if bad_copy || i64::try_from(size).is_err() {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

fn failed(ticket: Ticket, errno: Errno) -> Wake {
    Wake {
        ticket,
        result: Err(errno),
    }
}
