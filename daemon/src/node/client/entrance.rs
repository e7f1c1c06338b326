//! How a program comes in: its socket is accepted, also when descriptors are
//! short; it says hello; and it is served until its connection ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam::channel::bounded;
use dipc_wire::frame::Encoded;
use dipc_wire::local::{Hello, HelloReply, MAGIC, VERSION};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt};
use parking_lot::Mutex;
use socket2::Socket;

use super::super::Node;
use super::super::errand::Errand;
use super::super::identity::{Ids, Thread};
use super::super::outbox::{Cut, Outbox, send_blocking};
use super::super::reader::Reader;
use super::refusal::no_room;
use super::seats::Seat;
use super::{Client, ClientError};

/// More unread bytes than this, and a program is given up: it asks one thing at
/// a time, so it has one answer to read.
const BACKLOG: usize = 64 << 20;
/// How long a connection that is refused may take to say hello.
const REFUSAL: Duration = Duration::from_secs(1);

/// Serves local programs, for ever.
pub(in crate::node) fn listen(node: &Arc<Node>, listener: Socket) -> std::io::Result<()> {
    let node = node.clone();
    thread::Builder::new()
        .name("clients".into())
        .spawn(move || {
            loop {
                let spare = &node.descriptors.for_newcomer;
                let accepted = node.descriptors.accept(spare, || listener.accept());
                node.begin_client(accepted.0);
            }
        })?;
    Ok(())
}

impl Node {
    /// Serves a connection by a thread of its own, or turns it away.
    fn begin_client(self: &Arc<Self>, stream: Socket) {
        let peer = getsockopt(&stream, sockopt::PeerCredentials).ok();
        let seat = peer.and_then(|peer| self.seats.take(peer.uid()));
        let (Some(peer), Some(seat)) = (peer, seat) else {
            return;
        };
        // It is given the connection when it is there: what a thread would have
        // got that cannot be made is lost.
        let (give, take) = bounded::<Socket>(1);
        let node = self.clone();
        let serve = move || {
            let Ok(stream) = take.recv() else {
                return;
            };
            let spare = &node.descriptors.for_newcomer;
            if node.serve_client(&stream, peer, seat) {
                drop(stream);
                spare.refill();
            } else {
                spare.keep(stream.into());
            }
        };
        match thread::Builder::new().stack_size(256 << 10).spawn(serve) {
            // It waits for nothing else.
            Ok(_) => drop(give.send(stream)),
            Err(error) => {
                tracing::error!(
                    %error,
                    "a program is turned away: no thread for it. Raise the limit on processes \
                     (ulimit -u, TasksMax= in a systemd unit) and restart dipcd"
                );
                self.turn_away(stream);
            }
        }
    }

    /// Serves a connection to its end; false when it was not let in.
    fn serve_client(self: &Arc<Self>, stream: &Socket, peer: UnixCredentials, seat: Seat) -> bool {
        if seat.refused {
            self.say_crowded(&peer);
            // It shall not keep us waiting for its hello.
            let _ = stream.set_read_timeout(Some(REFUSAL));
        }
        let mut reader = Reader::new(peer.pid(), seat);
        let client = match self.greet(stream, &mut reader, peer) {
            Ok(Some(client)) => client,
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(%error, "a connection was no program's");
                return false;
            }
        };
        let end = loop {
            match self.serve_one(&client, stream, &mut reader) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        let unread = matches!(end, Some(ClientError::Io(nix::Error::ECONNRESET)));
        if let Some(error) = end.filter(|_| !unread) {
            tracing::warn!(pid = client.process.pid, %error, "a program's connection is closed");
        }
        client.ended(unread);
        client.leave_attaching();
        self.reap_spaces(&client.process);
        true
    }

    fn say_crowded(&self, peer: &UnixCredentials) {
        if !self.crowded.swap(true, Ordering::Relaxed) {
            tracing::error!(
                uid = peer.uid(),
                pid = peer.pid(),
                "a program is turned away: its user has as many connections as one user may \
                 have. It has very many threads, or means harm; this is said once"
            );
        }
    }

    /// Finds out who connects. `None`: it speaks another version, or there is no
    /// room for it, and was told.
    pub(super) fn greet(
        self: &Arc<Self>,
        stream: &Socket,
        reader: &mut Reader,
        peer: UnixCredentials,
    ) -> Result<Option<Arc<Client>>, ClientError> {
        let hello: Hello = loop {
            if let Some(arrived) = reader.next_request()? {
                break arrived.frame.message().map_err(|_| ClientError::Stranger)?;
            }
            if !reader.read(stream)? {
                return Err(ClientError::Stranger);
            }
        };
        if hello.magic != MAGIC {
            return Err(ClientError::Stranger);
        }
        let same_version = hello.version == VERSION;
        let copy = stream.try_clone();
        let room =
            !reader.seat().refused && copy.as_ref().is_ok_and(|copy| self.descriptors.admit(copy));
        let accepted = same_version && room;
        let reply = HelloReply {
            accepted,
            ..no_room(self.me.node)
        };
        if !same_version {
            tracing::warn!(
                pid = peer.pid(),
                theirs = hello.version,
                ours = VERSION,
                "a program has the libdipc.so of another version; give it the one of this daemon"
            );
        }
        let (Ok(copy), true) = (copy, accepted) else {
            self.meet_stranger(stream);
            let reply = Encoded::new(&reply, 0)?;
            send_blocking(stream, [reply.as_ref(), &[]]).map_err(io_errno)?;
            return Ok(None);
        };
        let outbox = Outbox::new(copy.into(), Cut::Packets, BACKLOG);
        // 0 is what the kernel shows of all processes in other pid namespaces.
        let pid = u32::try_from(peer.pid())
            .ok()
            .filter(|&pid| pid != 0)
            .ok_or(ClientError::Namespace)?;
        let pidfd = getsockopt(stream, sockopt::PeerPidfd)?;
        let process = self
            .processes
            .enter(pid, peer.uid(), pidfd, |last| self.process_ended(last))
            .map_err(io_errno)?;
        let ids = Ids {
            uid: peer.uid(),
            gid: peer.gid(),
        };
        let client = Arc::new(Client {
            node: self.clone(),
            outbox,
            thread: Arc::new(Thread::first(process.clone())),
            process,
            ids: Mutex::new(ids),
            state: Mutex::default(),
            serving: Mutex::default(),
            attaching: Mutex::default(),
            errand: Errand::default(),
        });
        client.process.connected(&client);
        client
            .outbox
            .send([Encoded::new(&reply, 0)?.as_ref(), &[]])?;
        Ok(Some(client))
    }
}

fn io_errno(error: std::io::Error) -> ClientError {
    ClientError::Io(nix::Error::from_raw(
        error.raw_os_error().unwrap_or(libc::EIO),
    ))
}
