//! What programs do when nothing holds them up.

use dipc_wire::Kind;
use dipc_wire::ObjectId;
use dipc_wire::call::{Call, SemCommand, SemOp, flags};
use dipc_wire::coherence::Access;

use super::desk::{Desk, Task};
use super::home::{GRANULE, GRANULES};
use super::letters::Payload;
use super::names::Wanted;
use super::network::T;
use super::node::Life;

/// Semaphores of a set.
pub(super) const NSEMS: u64 = 2;

impl Life {
    /// A process that waits for nothing does the next thing.
    pub(super) fn work(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let known: Vec<(Kind, ObjectId)> = self
            .processes
            .get(&pid)
            .into_iter()
            .flat_map(|it| it.known.iter().copied())
            .collect();
        let dice = &mut desk.shared.dice;
        let object = dice.pick(&known).filter(|_| !dice.once_in(16));
        let Some((kind, id)) = object else {
            return self.look_anew(pid, desk);
        };
        if dice.once_in(150) {
            return self.call(pid, Call::Remove { kind, id }, Payload::Nothing, desk);
        }
        match kind {
            Kind::Sem => self.use_set(pid, id, desk),
            Kind::Msg => self.use_queue(pid, id, desk),
            Kind::Shm => self.use_segment(pid, id, desk),
        }
        if desk.shared.dice.once_in(3) {
            // Not for ever, should it wait.
            let wait = desk.while_up_to(2 * T);
            desk.later(wait, Task::Signal(pid));
        }
    }

    fn look_anew(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let dice = &mut desk.shared.dice;
        let kind = dice.pick(&Kind::ALL).unwrap_or(Kind::Sem);
        let wanted = Wanted {
            kind,
            key: 1 + dice.roll(self.habits.keys) as i32,
            size: match kind {
                Kind::Sem => NSEMS,
                Kind::Msg => 0,
                Kind::Shm => GRANULES * GRANULE,
            },
            create: !dice.once_in(8),
            not: None,
        };
        self.look(pid, wanted, desk);
    }

    fn use_set(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        let dice = &mut desk.shared.dice;
        let num = dice.roll(NSEMS) as i32;
        let (call, payload) = match dice.roll(40) {
            0 => (
                Call::Sem {
                    id,
                    command: SemCommand::SetValue(num, dice.roll(4) as i32),
                },
                Payload::Nothing,
            ),
            1..4 => (
                Call::Sem {
                    id,
                    command: SemCommand::GetAll,
                },
                Payload::Nothing,
            ),
            _ => {
                let nowait = if dice.once_in(4) { flags::NOWAIT } else { 0 };
                let undo = if dice.roll(5) < 2 { flags::UNDO } else { 0 };
                let count = if dice.once_in(5) { 2 } else { 1 };
                let ops = (0..count).map(|_| SemOp {
                    num: dice.roll(NSEMS) as u16,
                    op: dice.pick(&[1, 1, 1, 2, -1, -1, -1, -2, 0]).unwrap_or(1),
                    flags: (nowait | undo) as u16,
                });
                let ops = Payload::Ops(ops.collect());
                let timeout = dice.once_in(4).then(|| 1_000 * (1 + dice.roll(T)));
                (Call::SemOp { id, timeout }, ops)
            }
        };
        self.call(pid, call, payload, desk);
    }

    fn use_queue(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        let unique = desk.record.tick();
        let dice = &mut desk.shared.dice;
        let flags = if dice.once_in(4) { flags::NOWAIT } else { 0 };
        let (call, payload) = if dice.roll(2) == 0 {
            let mtype = 1 + dice.roll(3) as i64;
            let mut text = unique.to_le_bytes().to_vec();
            text.resize(8 + dice.roll(24) as usize, 0);
            (Call::MsgSnd { id, mtype, flags }, Payload::Text(text))
        } else {
            let mtype = dice.pick(&[0, 0, 1, 2, 3, -2, -3]).unwrap_or(0);
            (
                Call::MsgRcv {
                    id,
                    mtype,
                    size: 64,
                    flags,
                },
                Payload::Nothing,
            )
        };
        self.call(pid, call, payload, desk);
    }

    fn use_segment(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        if !self.is_attached(pid, id) {
            return self.attach(pid, id, desk);
        }
        let dice = &mut desk.shared.dice;
        if dice.once_in(12) {
            return self.detach(pid, id, desk);
        }
        let access = if dice.roll(3) == 0 {
            Access::Write
        } else {
            Access::Read
        };
        let granule = dice.roll(GRANULES);
        self.touch(pid, id, granule, access, desk);
    }
}
