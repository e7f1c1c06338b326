//! What a peer says.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use dipc_door::Channel;
use dipc_wire::call::Reply;
use dipc_wire::frame::FrameBuffer;
use dipc_wire::peer::{MAX_NAME, Message};
use dipc_wire::{Errno, Pid};

use super::Node;
use super::answer::Asker;
use super::home::Caller;
use super::lease::Ping;
use super::link::{Link, Pending};

impl Node {
    /// Starts the thread that hears a peer until the link is lost.
    pub(super) fn hear(
        self: &Arc<Self>,
        link: Arc<Link>,
        mut channel: Channel,
        mut buffer: FrameBuffer,
    ) -> std::io::Result<()> {
        let node = self.clone();
        thread::Builder::new()
            .name(format!("peer-{}", link.node))
            .spawn(move || {
                let ended = match node.hear_all(&link, &mut channel, &mut buffer) {
                    Ok(()) => true,
                    Err(why) => {
                        node.link_lost(&link, &why);
                        node.await_end(channel.stream())
                    }
                };
                if ended {
                    node.link_ended(&link);
                }
            })?;
        Ok(())
    }

    /// Hears a peer until it closes its end. An error is why it is heard no more.
    fn hear_all(
        self: &Arc<Self>,
        link: &Arc<Link>,
        channel: &mut Channel,
        buffer: &mut FrameBuffer,
    ) -> Result<(), String> {
        loop {
            if let Some(frame) = buffer.next_frame().map_err(|e| e.to_string())? {
                let message = frame.message().map_err(|e| e.to_string())?;
                self.heard(link, message, frame.payload)?;
                continue;
            }
            match channel.read(buffer.space()) {
                Ok(0) => return Ok(()),
                Ok(count) => buffer.filled(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// One message. An error is what no honest peer says.
    fn heard(
        self: &Arc<Self>,
        link: &Arc<Link>,
        message: Message<'_>,
        payload: &[u8],
    ) -> Result<(), String> {
        link.received();
        if link.is_lost() {
            // Given up meanwhile: nothing of it counts but its end.
            return Ok(());
        }
        let from = |pid: u32| Pid {
            node: link.node,
            pid,
        };
        let ours = |id: dipc_wire::ObjectId| {
            if id.home() == self.me.node {
                Ok(id)
            } else {
                Err(format!("{id:?} is not ours"))
            }
        };
        match message {
            Message::Call { tag, caller, call } => {
                if let Some(id) = call.object() {
                    ours(id)?;
                }
                if caller.login.len() > MAX_NAME {
                    return Err(format!("a login of {} bytes", caller.login.len()));
                }
                self.home.waiters().admit(link.node, tag)?;
                let asker = Asker::Peer {
                    link: link.clone(),
                    tag,
                };
                if let Err(errno) = self.home.check_call(&call, payload) {
                    asker.fail(errno);
                    return Ok(());
                }
                let credentials = self.home.users.credentials(&caller);
                let caller = Caller {
                    pid: from(caller.pid),
                    credentials,
                };
                self.apply(&caller, call, payload, asker);
            }
            Message::Reply { tag, reply } => self.replied(link, tag, reply, payload),
            Message::Withdraw { tag } => {
                if let Some(ticket) = self.home.waiters().remote(link.node, tag) {
                    self.home.withdraw(ticket, Errno::EINTR);
                }
            }
            Message::UndeliveredOp { id, pid } => {
                self.home.revert_op(ours(id)?, from(pid), payload);
            }
            Message::UndeliveredMessage { id, mtype } => {
                link.given_back(payload.len())?;
                self.home.put_back(ours(id)?, mtype, payload);
            }
            Message::Exited { pid } => self.home.exit(from(pid)),
            Message::Dropped { id, pid, count } => {
                // A segment that is gone has no one to count.
                let _ = self.detached(from(pid), ours(id)?, count);
            }
            Message::Coherence { id, message } => {
                self.coherence(link, id, message, payload)?;
            }
            Message::Piece { id } => self.piece(link, id, payload)?,
            Message::Destroyed { id } => {
                if id.home() != link.node {
                    return Err(format!("it destroys {id:?}, which is not its own"));
                }
                self.forget_segment(id);
            }
            Message::List { tag } => self.answer_rows(link, tag, &self.list()),
            Message::Status { tag } => self.answer_rows(link, tag, &[self.status()]),
            Message::Rows { tag } => {
                if let Some(Pending::Rows(sender)) = link.take(tag) {
                    let _ = sender.send(payload.to_vec());
                }
            }
            Message::Ping { number, heard } => {
                let ping = Ping { number, heard };
                link.pinged(ping, self.clock.now())
                    .map_err(|lie| lie.to_string())?;
                self.renew();
            }
            Message::Mapped { id, pid } => {
                // A segment that is gone has no times.
                let _ = self.home.mapped(from(pid), ours(id)?);
            }
            Message::Census { tag, kind } => self.answer_census(link, tag, kind),
        }
        Ok(())
    }

    fn replied(&self, link: &Link, tag: u64, mut reply: Reply<'_>, payload: &[u8]) {
        // An answer that nobody waits for: its asker was told of a failure.
        let Some(Pending::Call(asker)) = link.take(tag) else {
            return;
        };
        if let Some(perm) = reply.perm_mut() {
            self.home.users.localize(perm);
        }
        asker.answer(&reply, payload);
    }

    pub(super) fn answer_rows<T: serde::Serialize>(&self, link: &Link, tag: u64, rows: &[T]) {
        match postcard::to_stdvec(rows) {
            Ok(bytes) => drop(link.send(&Message::Rows { tag }, &bytes)),
            Err(error) => tracing::error!(%error, "a list that cannot be sent"),
        }
    }
}
