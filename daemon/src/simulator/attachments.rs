//! What the programs of a node have attached, and touch: `node/attach.rs` and
//! `node/counting.rs`.
//!
//! | rule | stands for |
//! |---|---|
//! | who attaches is counted at the home first | `counting.rs`, `attach_at_home` |
//! | a segment that is entered learns of the deaths before | `attach.rs`, `prepare` |
//! | the last detach of a node gives up what it has | `changes.rs`, `detach` |
//! | the end of a process is a detach that nobody waits for | `counting.rs`, `dropped` |

use dipc_wire::call::{Call, Reply};
use dipc_wire::coherence::Access;
use dipc_wire::peer::Message;
use dipc_wire::{NodeId, ObjectId};

use super::desk::Desk;
use super::home::Asker;
use super::letters::{Letter, Payload};
use super::memory::Touched;
use super::node::{Life, Pending};
use super::processes::State;

impl Life {
    pub(super) fn attach(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.state = State::Attaching(id);
        }
        let call = Call::Attach { id, flags: 0 };
        let (home, nothing) = (id.home(), Payload::Nothing);
        if home == self.id.node {
            self.home
                .apply(self.pid(pid), call, &nothing, Asker::Process(pid), desk);
            let answer = self.home.answers.pop().map(|answer| (answer.reply, home));
            self.attached(pid, answer, desk);
        } else if self
            .ask(home, pid, call, nothing, Pending::Attach(pid), desk)
            .is_none()
        {
            self.attached(pid, None, desk);
        }
    }

    /// The home has counted the attachment, or is dead.
    pub(super) fn attached(
        &mut self,
        pid: u32,
        answer: Option<(Reply<'static>, NodeId)>,
        desk: &mut Desk<'_>,
    ) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let State::Attaching(id) = process.state else {
            return desk.fail("an attach was answered that nobody began");
        };
        process.state = State::Idle;
        let Some((Reply::Attached { .. }, home)) = answer else {
            process.known.retain(|&(_, it)| it != id);
            match process.gone {
                true => drop(self.processes.remove(&pid)),
                false => self.rest(pid, desk),
            }
            return;
        };
        self.segments.enter(id);
        let away = home != self.id.node;
        let deaths: Vec<_> = self
            .ended
            .iter()
            .map(|(&node, &life)| (node, life))
            .collect();
        for (node, incarnation) in deaths.into_iter().filter(|&(node, _)| away && node != home) {
            self.segments
                .node_died(node, incarnation, |it| it == id, desk);
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.attached.insert(id);
        }
        if home == self.id.node {
            self.home.mapped(self.pid(pid), id);
        } else if let Some(peer) = self.peers.get(&home) {
            desk.send(
                peer.end,
                Letter::Peer(Message::Mapped { id, pid }, Payload::Nothing),
            );
        }
        match self.processes.get(&pid).is_some_and(|it| it.gone) {
            true => self.drop_attachments(pid, desk),
            false => self.rest(pid, desk),
        }
    }

    pub(super) fn is_attached(&self, pid: u32, id: ObjectId) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|it| it.attached.contains(&id))
    }

    /// A thread reads or writes a granule.
    pub(super) fn touch(
        &mut self,
        pid: u32,
        id: ObjectId,
        granule: u64,
        access: Access,
        desk: &mut Desk<'_>,
    ) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.state = State::Touching(id, granule, access);
        match self.segments.touch(pid, id, granule, access, desk) {
            Touched::Waits => {}
            Touched::Done => {
                desk.record.calls += 1;
                process.state = State::Idle;
                self.rest(pid, desk);
            }
            // SIGBUS.
            Touched::Lost => self.process_ended(pid, desk),
        }
    }

    /// `shmdt`.
    pub(super) fn detach(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.attached.remove(&id);
            process.known.retain(|&(_, it)| it != id);
        }
        self.detached_here(id, desk);
        let call = Call::Detach { id, count: 1 };
        if id.home() == self.id.node {
            self.home.detached(self.pid(pid), id, 1);
        } else {
            // The program would wait; what it waits for, the home counts by then.
            self.ask(
                id.home(),
                pid,
                call,
                Payload::Nothing,
                Pending::Nobody,
                desk,
            );
        }
        self.rest(pid, desk);
    }

    fn detached_here(&mut self, id: ObjectId, desk: &mut Desk<'_>) {
        if !self.is_mapped(id) {
            let home_lives = self.peers.contains_key(&id.home());
            self.segments.evict(id, home_lives, desk);
        }
    }

    pub(super) fn drop_attachments(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let attached = std::mem::take(&mut process.attached);
        if matches!(process.state, State::Idle) {
            self.processes.remove(&pid);
        }
        for id in attached {
            self.detached_here(id, desk);
            if id.home() == self.id.node {
                self.home.detached(self.pid(pid), id, 1);
            } else if let Some(peer) = self.peers.get(&id.home()) {
                let message = Message::Dropped { id, pid, count: 1 };
                desk.send(peer.end, Letter::Peer(message, Payload::Nothing));
            }
        }
    }
}
