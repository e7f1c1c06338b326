//! One connection of a local program: one of its threads, which asks one thing
//! at a time.
//!
//! A program may die with an answer on the way to it. Then what the call did is
//! **taken back**, so that no semaphore's token and no message dies with it: the
//! call counts as not made. Four places notice:
//!
//! - the socket ends while the call waits: it is withdrawn, and if it was
//!   granted meanwhile, [`Client::answer`] finds the client gone;
//! - the socket does not take the answer;
//! - the socket ends with ECONNRESET: the answer lay in it unread;
//! - the process ends while a forked child holds its socket open.

mod entrance;
mod refusal;
mod seats;

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dipc_wire::call::{Call, Reply};
use dipc_wire::frame::{Encoded, FrameError};
use dipc_wire::local::{Request, Response};
use dipc_wire::peer::{Capabilities, Message};
use dipc_wire::{Errno, Kind, NodeId, ObjectId};
use parking_lot::{Mutex, MutexGuard};
use socket2::Socket;
use thiserror::Error;

use super::Node;
use super::answer::without_names;
use super::attach::Attaching;
use super::errand::Errand;
use super::home::{Caller, Lookup, may_fail_now};
use super::identity::{Abroad, Ids, Thread};
use super::outbox::{Closed, Outbox};
use super::process::Process;
use super::reader::Reader;
use crate::kernel;
use crate::memory::changes::Gone;
use crate::memory::uffd::Range;
use crate::semantics::{Credentials, Rights, Ticket, Witness};

pub(super) use entrance::listen;
pub(super) use seats::{Seat, Seats};

/// A connected thread of a program.
pub(crate) struct Client {
    node: Arc<Node>,
    outbox: Arc<Outbox>,
    pub(crate) process: Arc<Process>,
    thread: Arc<Thread>,
    /// Of the request that is served, or was last.
    ids: Mutex<Ids>,
    state: Mutex<State>,
    /// Held while a request is served that leaves something, and while the end is
    /// worked off: nothing of a process happens after its end.
    serving: Mutex<()>,
    /// The `shmat` that is between its halves.
    attaching: Mutex<Option<Attaching>>,
    /// What its home is asked for this program by the thread that serves it.
    pub(super) errand: Errand,
}

/// A call that waits, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In this home.
    Here(Ticket),
    /// In another home, under this tag of the link to it.
    Away(NodeId, u64),
}

#[derive(Default)]
struct State {
    /// What was asked last, as far as it must be taken back.
    asked: Asked,
    /// The operations, or the text that was given, of `asked`.
    bytes: Vec<u8>,
    place: Option<Place>,
    /// An answer is due.
    pending: bool,
    /// The socket did not take the answer.
    undelivered: bool,
    /// The connection has ended.
    gone: bool,
}

/// A call whose effect is taken back if nobody learns of it.
#[derive(Clone, Copy, Default, Debug)]
enum Asked {
    /// Anything else: what it did is done, or it did nothing.
    #[default]
    Other,
    Operation(ObjectId),
    Message(ObjectId),
    /// A message that was given, with its type.
    Given(ObjectId, i64),
}

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Io(#[from] nix::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it asks before it has its answer")]
    Impatient,
    #[error("it does not begin with a hello")]
    Stranger,
    #[error(
        "its process is in a pid namespace that this daemon does not see; run a dipcd in there"
    )]
    Namespace,
    #[error("it does not take its answer")]
    Deaf,
    #[error("its descriptors do not fit its request")]
    Descriptors,
    #[error("its user's half-sent requests take more memory than is given to one user")]
    Greedy,
    #[error("it puts several requests into one packet")]
    Crammed,
    #[error("the kernel does not say who sends")]
    Nameless,
}

impl From<Closed> for ClientError {
    fn from(_: Closed) -> Self {
        ClientError::Deaf
    }
}

/// Whether something is left of what is asked for, which must not come after the
/// process's end. What only looks, or makes an object, may wait long for the referee
/// or for other nodes, and nobody's end waits for that.
fn leaves_something(request: &Request) -> bool {
    !matches!(
        request,
        Request::Call(Call::Get { .. })
            | Request::GetSegment { .. }
            | Request::Census { .. }
            | Request::Entry { .. }
            | Request::Lines { .. }
            | Request::List
            | Request::Status
            | Request::Limits
    )
}

/// Whether the answer may tell that a process has ended: a semaphore's value, a
/// number of waiters or attachments. The kernel has done all that before anybody
/// can have heard of the end. What would wait is served later then, as it is.
fn shows_ends(request: &Request, payload: &[u8]) -> bool {
    match request {
        Request::Call(Call::SemOp { timeout, .. }) => timeout.is_some() || may_fail_now(payload),
        Request::Call(Call::MsgSnd { .. } | Call::MsgRcv { .. }) => false,
        Request::Call(_)
        | Request::GetSegment { .. }
        | Request::Attach { .. }
        | Request::Census { .. }
        | Request::Entry { .. }
        | Request::Lines { .. }
        | Request::List => true,
        _ => false,
    }
}

/// The userfaultfd that comes with a request, if that may bring one.
///
/// Called with no lock held, since whatever else a program sends is closed here: a
/// file of a file system that the program runs itself (fuse(4)) takes as long to
/// close, or to answer anything at all, as the program likes. The name that the
/// kernel gives a descriptor is the one thing that can be asked for safely.
fn userfaultfd(
    request: &Request,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Option<OwnedFd>, ClientError> {
    let Some(one) = descriptors.pop() else {
        return Ok(None);
    };
    let takes_it = matches!(request, Request::Map { .. } | Request::Forked { .. });
    if takes_it && descriptors.is_empty() && kernel::is_userfaultfd(&one) {
        Ok(Some(one))
    } else {
        Err(ClientError::Descriptors)
    }
}

impl Node {
    /// Serves one request; false when the program has closed the connection.
    fn serve_one(
        self: &Arc<Self>,
        client: &Arc<Client>,
        stream: &Socket,
        reader: &mut Reader,
    ) -> Result<bool, ClientError> {
        let Some(arrived) = reader.next_request()? else {
            return reader.read(stream);
        };
        let request: Request = arrived.frame.message()?;
        let payload = arrived.frame.payload;
        match request {
            Request::Withdraw => {
                self.withdraw(client);
                return Ok(true);
            }
            Request::Thread { tid } => {
                client.thread.is(tid);
                return Ok(true);
            }
            _ => {}
        }
        let uffd = userfaultfd(&request, arrived.descriptors)?;
        if shows_ends(&request, payload) {
            self.settle_ends();
        }
        let _serving = leaves_something(&request).then(|| client.serving.lock());
        {
            let state = client.state.lock();
            if state.gone {
                return Ok(false);
            }
            if state.pending {
                return Err(ClientError::Impatient);
            }
        }
        *client.ids.lock() = arrived.sender;
        match request {
            Request::Call(Call::Remove { kind, id })
                if self.knows_from_list_only(&client.process, kind, id) =>
            {
                client.respond(&Response::OnlyListed, &[], &[])?;
            }
            Request::Call(call) => {
                self.counters.call();
                client.begin(call, payload);
                let place = self.call(client, call, payload);
                if client.waits_at(place) {
                    self.withdraw(client);
                }
            }
            Request::GetSegment {
                key,
                size,
                flags,
                wish,
            } => {
                let kind = Kind::Shm;
                let lookup = Lookup {
                    kind,
                    key,
                    size,
                    flags,
                };
                self.counters.call();
                client.begin(lookup.call(), payload);
                self.get_segment(client, lookup, wish);
            }
            Request::Withdraw | Request::Thread { .. } => {}
            Request::Attach {
                id,
                flags,
                need_uffd,
            } => {
                self.abandon_last(client);
                let half = self.attach(client, id, flags, need_uffd)?;
                *client.attaching.lock() = half;
            }
            Request::Map { addr } => {
                let half = client.attaching.lock().take();
                let done = match half {
                    Some(half) => self.map(client, half, addr, uffd),
                    None => Err(Errno::EINVAL),
                };
                client.done(done)?;
            }
            Request::Abandon => {
                self.abandon_last(client);
                client.done(Ok(()))?;
            }
            Request::Detach { addr } => {
                client.done(self.detach(client, Gone::Mapping(addr)))?;
            }
            Request::Unmapped { addr: start, len } => {
                client.done(self.detach(client, Gone::Part(Range { start, len })))?;
            }
            Request::Changed {
                addr: start,
                len,
                inherited,
            } => client.done(self.changed(client, Range { start, len }, inherited))?,
            Request::Remap {
                addr: start,
                len,
                need_uffd,
            } => {
                self.abandon_last(client);
                let half = self.remap(client, Range { start, len }, need_uffd)?;
                *client.attaching.lock() = half;
            }
            Request::Forked { parent } => {
                client.done(self.child_reports(client, parent, payload, uffd))?;
            }
            Request::Limits => client.respond(&Response::Limits(self.limits()), &[], &[])?,
            Request::List => client.rows(&self.list_cluster())?,
            Request::Status => client.rows(&self.status_of_cluster())?,
            Request::Census { kind, sweep } => self.tell_census(client, kind, sweep)?,
            Request::Entry { kind, place, sweep } => self.tell_entry(client, kind, place, sweep)?,
            Request::Lines { kind, sweep } => self.tell_lines(client, kind, sweep)?,
        }
        Ok(true)
    }

    fn abandon_last(&self, client: &Client) {
        let half = client.attaching.lock().take();
        if let Some(half) = half {
            self.abandon(client, half);
        }
    }

    /// A signal came to a program that waits, or it is gone.
    fn withdraw(&self, client: &Client) {
        let place = {
            let state = client.state.lock();
            state.place.filter(|_| state.pending)
        };
        match place {
            Some(Place::Here(ticket)) => self.home.withdraw(ticket, Errno::EINTR),
            Some(Place::Away(node, tag)) => {
                if let Some(link) = self.peers.link(node) {
                    let _ = link.send(&Message::Withdraw { tag }, &[]);
                }
            }
            None => {}
        }
    }

    fn take_back(&self, client: &Client, asked: Asked, bytes: &[u8]) {
        let (id, pid) = match asked {
            Asked::Operation(id) => (id, self.pid(client.pid())),
            Asked::Given(id, _) => (id, self.pid(client.pid())),
            Asked::Other | Asked::Message(_) => return,
        };
        tracing::debug!(pid = pid.pid, %id, "a call is taken back: its process died first");
        let here = id.home() == self.me.node;
        let message = match asked {
            Asked::Given(_, mtype) if here => return self.home.put_back(id, mtype, bytes),
            Asked::Given(_, mtype) => Message::UndeliveredMessage { id, mtype },
            _ if here => return self.home.revert_op(id, pid, bytes),
            _ => Message::UndeliveredOp { id, pid: pid.pid },
        };
        if let Some(link) = self.peers.link(id.home()) {
            let _ = link.send(&message, bytes);
        }
    }
}

impl Client {
    /// The process id on this node.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Who asks, on this node.
    pub(crate) fn caller(&self) -> Caller {
        let Ids { uid, gid } = *self.ids.lock();
        Caller {
            pid: self.node.pid(self.pid()),
            credentials: Credentials {
                uid,
                gid,
                rights: Rights::Now(self.thread.clone()),
            },
        }
    }

    /// Who asks, on other nodes.
    pub(super) fn abroad(&self) -> Abroad {
        let Ids { uid, .. } = *self.ids.lock();
        Abroad {
            pid: self.pid(),
            login: self.node.home.users.login(uid),
            capabilities: match uid {
                0 => self.thread.capabilities(),
                _ => Capabilities::NONE,
            },
        }
    }

    fn begin(&self, call: Call, payload: &[u8]) {
        let mut state = self.state.lock();
        state.bytes.clear();
        state.asked = match call {
            Call::SemOp { id, .. } => {
                state.bytes.extend_from_slice(payload);
                Asked::Operation(id)
            }
            Call::MsgRcv { id, .. } => Asked::Message(id),
            _ => Asked::Other,
        };
        state.place = None;
        state.pending = true;
        self.process.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The call that began waits there. True when its process has ended
    /// meanwhile, without knowing where to withdraw it.
    fn waits_at(&self, place: Option<Place>) -> bool {
        let mut state = self.state.lock();
        state.place = place;
        state.gone
    }

    fn settled(&self, state: &mut State) {
        if std::mem::take(&mut state.pending) {
            self.process.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The answer to a call, from whichever thread has it.
    pub(crate) fn answer(&self, reply: &Reply<'_>, payload: &[u8]) {
        let mut state = self.state.lock();
        self.settled(&mut state);
        match (reply, state.asked) {
            (Reply::Message { mtype }, Asked::Message(id)) => {
                state.asked = Asked::Given(id, *mtype);
                state.bytes.clear();
                state.bytes.extend_from_slice(payload);
            }
            (Reply::Failed(_), _) => state.asked = Asked::Other,
            _ => {}
        }
        if state.gone {
            return self.take_back_last(state);
        }
        // Not under the lock: the program wakes at once, and its next request
        // would find it held.
        drop(state);
        let sent = Encoded::new(&Response::Reply(without_names(reply)), payload.len())
            .map(|header| self.outbox.send([header.as_ref(), payload]));
        if !matches!(sent, Ok(Ok(()))) {
            self.undelivered();
        }
    }

    /// The socket did not take the last answer.
    fn undelivered(&self) {
        let mut state = self.state.lock();
        state.undelivered = true;
        if state.gone {
            self.take_back_last(state);
        }
    }

    fn take_back_last(&self, mut state: MutexGuard<'_, State>) {
        let asked = std::mem::take(&mut state.asked);
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        self.node.take_back(self, asked, &bytes);
    }

    /// The process has ended, and its connection with it, whoever else holds
    /// the socket.
    pub(super) fn process_ended(&self) {
        // Its thread may wait for another node with `serving` held.
        self.errand.call_off();
        self.ended(self.outbox.unread());
        self.outbox.close();
        self.leave_attaching();
    }

    /// There is no second half to come. Call it after [`ended`](Self::ended).
    fn leave_attaching(&self) {
        let half = self.attaching.lock().take();
        if let Some(half) = half {
            self.node.leave(self, half);
        }
    }

    /// The connection has ended; `unread` when the last answer lay in it.
    fn ended(&self, unread: bool) {
        // The second one to notice goes on when all is taken back.
        let _serving = self.serving.lock();
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.gone, true) {
            return;
        }
        if state.pending {
            drop(state);
            return self.node.withdraw(self);
        }
        if unread || state.undelivered {
            self.take_back_last(state);
        }
    }

    /// The answer to a request that its own thread has served.
    pub(super) fn done(&self, done: Result<(), Errno>) -> Result<(), ClientError> {
        let reply = done.map_or_else(Reply::Failed, |()| Reply::Done);
        self.respond(&Response::Reply(reply), &[], &[])
    }

    pub(super) fn respond(
        &self,
        response: &Response<'_>,
        payload: &[u8],
        descriptors: &[RawFd],
    ) -> Result<(), ClientError> {
        let header = Encoded::new(response, payload.len())?;
        Ok(self
            .outbox
            .send_with([header.as_ref(), payload], descriptors)?)
    }

    fn rows<T: serde::Serialize>(&self, rows: &[T]) -> Result<(), ClientError> {
        let bytes = postcard::to_stdvec(rows).map_err(|_| FrameError::NoRoom)?;
        self.respond(&Response::Rows, &bytes, &[])
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use dipc_wire::admin::Detail;
    use dipc_wire::call::SemOp;
    use dipc_wire::local::Hello;
    use nix::sys::socket::{getsockopt, setsockopt, sockopt};
    use socket2::{Domain, Type};

    use super::super::testing::solo_node;
    use super::*;

    fn greeted(node: &Arc<Node>) -> (Arc<Client>, Socket, Socket, Reader) {
        let (ours, mut theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        let hello = Encoded::new(&Hello::ours(), 0).unwrap();
        theirs.write_all(hello.as_ref()).unwrap();
        let peer = getsockopt(&ours, sockopt::PeerCredentials).unwrap();
        let seat = node.seats.take(peer.uid()).unwrap();
        let mut reader = Reader::new(peer.pid(), seat);
        let client = node.greet(&ours, &mut reader, peer).unwrap().unwrap();
        (client, ours, theirs, reader)
    }

    #[test]
    fn a_call_that_is_read_after_its_process_has_ended_does_not_wait_for_ever() {
        let node = solo_node();
        let (client, ours, mut theirs, mut reader) = greeted(&node);
        let lookup = Lookup {
            kind: Kind::Sem,
            key: dipc_wire::call::PRIVATE,
            size: 1,
            flags: 0o600,
        };
        let id = node
            .home
            .create(&client.caller(), lookup, node.home.sharing)
            .unwrap();
        let ops = SemOp {
            num: 0,
            op: -1,
            flags: 0,
        }
        .encode();
        let request = Request::Call(Call::SemOp { id, timeout: None });
        let header = Encoded::new(&request, ops.len()).unwrap();
        let packet = [header.as_ref(), &ops].concat();
        theirs.write_all(&packet).unwrap();
        // It is killed: its end is noticed before its last request is read.
        client.process_ended();
        while node.serve_one(&client, &ours, &mut reader).unwrap() {}
        assert!(!client.state.lock().pending);
        assert_eq!(client.process.waiting.load(Ordering::Relaxed), 0);
        drop((ours, client));
        let mut rest = Vec::new();
        let _ = theirs.read_to_end(&mut rest);
    }

    /// The home counts an attachment from its first half on. Who has waited for the
    /// process, and looks, must not find it.
    #[test]
    fn what_a_process_was_attaching_is_counted_off_when_its_end_is_worked_off() {
        let node = solo_node();
        let (client, ours, mut theirs, mut reader) = greeted(&node);
        let lookup = Lookup {
            kind: dipc_wire::Kind::Shm,
            key: dipc_wire::call::PRIVATE,
            size: 4096,
            flags: 0o600,
        };
        let id = node
            .home
            .create(&client.caller(), lookup, node.home.sharing)
            .unwrap();
        let request = Request::Attach {
            id,
            flags: 0,
            need_uffd: false,
        };
        theirs
            .write_all(Encoded::new(&request, 0).unwrap().as_ref())
            .unwrap();
        // The packet is read, then served.
        for _ in 0..2 {
            assert!(node.serve_one(&client, &ours, &mut reader).unwrap());
        }
        let attached = || match node.list()[..] {
            [ref object] => match object.detail {
                Detail::Shm { nattch, .. } => nattch,
                ref other => panic!("{other:?}"),
            },
            ref other => panic!("{other:?}"),
        };
        assert_eq!(attached(), 1);
        client.process_ended();
        assert_eq!(attached(), 0);
    }
}
