//! Histories by chance. What is rolled is what programs do, and what lies just
//! beside each limit; mostly the youngest objects, so that calls meet.

use dipc_wire::call::flags;

use super::history::{ACTORS, History, Step, Verb};
use crate::dice::Dice;

/// How a history is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) steps: usize,
    /// Once in so many steps a process dies, forks or runs another program.
    pub(super) deaths: u64,
    /// Once in so many steps, besides what the calls bring with them, the next
    /// one is another actor's.
    pub(super) same: u64,
}

const NOWAIT: i64 = flags::NOWAIT as i64;
const UNDO: i64 = flags::UNDO as i64;

/// The history of this seed.
pub(super) fn history(seed: u64, shape: Shape) -> History {
    let mut chance = Chance {
        dice: Dice(seed),
        // Most histories are about one kind, so that they get somewhere.
        kinds: &[],
    };
    chance.kinds = chance.of(&[
        &[Kind::Sem] as &[Kind],
        &[Kind::Sem],
        &[Kind::Msg],
        &[Kind::Shm],
        &[Kind::Sem, Kind::Msg, Kind::Shm],
    ]);
    let mut steps = Vec::with_capacity(shape.steps);
    let mut actor = 1;
    for number in 0..shape.steps {
        if chance.dice.once_in(shape.same) {
            actor = chance.below(ACTORS as i64) as usize;
        }
        // There is something to begin with.
        if number < chance.kinds.len() {
            let kind = chance.kinds[number];
            steps.push(chance.make(actor, kind, 0o1666));
        } else if chance.dice.once_in(shape.deaths) {
            steps.push(chance.process(actor));
        } else if chance.dice.once_in(12) {
            actor = 1 + chance.below(ACTORS as i64 - 1) as usize;
            steps.push(Step::new(actor, Verb::Signal, []));
        } else {
            steps.push(chance.call(actor));
        }
    }
    History(steps)
}

#[derive(Clone, Copy)]
enum Kind {
    Sem,
    Msg,
    Shm,
}

struct Chance {
    dice: Dice,
    kinds: &'static [Kind],
}

impl Chance {
    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.dice.roll(values.len() as u64) as usize]
    }

    fn below(&mut self, below: i64) -> i64 {
        self.dice.roll(below as u64) as i64
    }

    /// Usually this, seldom one of those.
    fn mostly(&mut self, times: u64, usual: i64, else_of: &[i64]) -> i64 {
        if self.dice.once_in(times) {
            self.of(else_of)
        } else {
            usual
        }
    }

    fn object(&mut self) -> i64 {
        match self.below(40) {
            0 => -1 - self.below(3),
            1..=3 => self.below(8),
            4..=12 => 1,
            _ => 0,
        }
    }

    fn mode(&mut self) -> i64 {
        match self.below(8) {
            0 => self.below(0o1000),
            1 => self.of(&[0o600, 0o400, 0o200, 0o060, 0o006, 0o644, 0]),
            _ => 0o666,
        }
    }

    fn make(&mut self, actor: usize, kind: Kind, flags: i64) -> Step {
        let key = self.of(&[0, 1, 1, 2, 3]);
        match kind {
            Kind::Sem => {
                let nsems = self.of(&[1, 1, 2, 3, 3]);
                Step::new(actor, Verb::SemGet, [key, nsems, flags])
            }
            Kind::Msg => Step::new(actor, Verb::MsgGet, [key, flags]),
            Kind::Shm => {
                let size = self.of(&[1, 4096, 4097, 10_000]);
                Step::new(actor, Verb::ShmGet, [key, size, flags])
            }
        }
    }

    /// A `*get` of any kind.
    fn get(&mut self, actor: usize, kind: Kind) -> Step {
        let flags = self.mode() | self.of(&[0, 0o1000, 0o1000, 0o3000, 0o2000]);
        let mut step = self.make(actor, kind, flags);
        let strange: &[i64] = match kind {
            Kind::Sem => &[0, 4, -1, 32_001, 32_000],
            Kind::Shm => &[0, -1, 20_000],
            Kind::Msg => return step,
        };
        step.numbers[1] = self.mostly(4, step.numbers[1], strange);
        step
    }

    fn call(&mut self, actor: usize) -> Step {
        let kind = self.of(self.kinds);
        if self.dice.once_in(14) {
            return self.get(actor, kind);
        }
        if self.dice.once_in(25) {
            let verb = match kind {
                Kind::Sem => Verb::SemRm,
                Kind::Msg => Verb::MsgRm,
                Kind::Shm => Verb::ShmRm,
            };
            return Step::new(actor, verb, [self.object()]);
        }
        let (verb, numbers) = match kind {
            Kind::Sem => self.semaphore_call(),
            Kind::Msg => self.queue_call(),
            Kind::Shm => self.segment_call(),
        };
        Step::new(actor, verb, numbers)
    }

    fn semaphore_call(&mut self) -> (Verb, Vec<i64>) {
        let object = self.object();
        let num = self.below(3);
        let num = self.mostly(20, num, &[-1, 3, 4, 70_000]);
        match self.below(24) {
            0..=11 => (Verb::SemOp, self.operations(object)),
            12 => (Verb::GetVal, vec![object, num]),
            13 => (Verb::GetPid, vec![object, num]),
            14 => (Verb::GetNcnt, vec![object, num]),
            15 => (Verb::GetZcnt, vec![object, num]),
            16 | 17 => (Verb::GetAll, vec![object]),
            18 => (Verb::SemStat, vec![object]),
            19 | 20 => {
                let value = self.below(4);
                let value =
                    self.mostly(8, value, &[-1, 32_767, 32_768, 32_766, i64::from(i32::MAX)]);
                (Verb::SetVal, vec![object, num, value])
            }
            21 => {
                let mut numbers = vec![object];
                for _ in 0..4 {
                    let value = self.below(3);
                    numbers.push(self.mostly(16, value, &[32_767, 32_768, 65_535]));
                }
                (Verb::SetAll, numbers)
            }
            22 => (Verb::SemSet, self.setting(object)),
            _ => (Verb::SemCtl, vec![object]),
        }
    }

    fn operations(&mut self, object: i64) -> Vec<i64> {
        let timeout = match self.below(16) {
            0 => self.of(&[-2, -3, -4]),
            1 => self.of(&[0, 0, 300_000]),
            _ => -1,
        };
        let copies = self.mostly(50, 0, &[496, 499, 500, 501, 1]);
        let mut numbers = vec![object, timeout, copies];
        let count = self.of(&[1, 1, 1, 1, 2, 2, 3, 4]);
        for _ in 0..self.mostly(60, count, &[0]) {
            let num = self.below(3);
            numbers.push(self.mostly(40, num, &[3, 65_535]));
            let op = self.of(&[-1, -1, -1, -2, 1, 1, 1, 2, 0, 0]);
            numbers.push(self.mostly(25, op, &[-32_768, 32_767, -20_000, 20_000, -3]));
            let flags = self.of(&[0, 0, 0, 0, NOWAIT, NOWAIT, UNDO, UNDO, UNDO | NOWAIT]);
            numbers.push(self.mostly(40, flags, &[0o2000, 1, 0o10000]));
        }
        numbers
    }

    fn setting(&mut self, object: i64) -> Vec<i64> {
        let (owner, group) = (self.below(ACTORS as i64), self.below(ACTORS as i64));
        let mode = self.mode() | self.mostly(8, 0, &[0o1000, 0o2000, 0o7000]);
        vec![
            object,
            self.mostly(12, owner, &[-1]),
            self.mostly(12, group, &[-1]),
            mode,
        ]
    }

    fn queue_call(&mut self) -> (Verb, Vec<i64>) {
        let object = self.object();
        match self.below(20) {
            0..=7 => {
                let mtype = self.of(&[1, 1, 2, 3, 4]);
                let len = self.of(&[0, 1, 2, 3, 8]);
                (
                    Verb::MsgSnd,
                    vec![
                        object,
                        self.mostly(30, mtype, &[0, -1, i64::MAX, i64::MIN]),
                        self.mostly(10, len, &[-1, 8192, 8193, 4096]),
                        self.of(&[0, 0, 0, NOWAIT]),
                        self.below(256),
                    ],
                )
            }
            8..=14 => {
                let mtype = self.of(&[0, 0, 1, 2, 3, 4, -1, -2, -4]);
                let room = self.of(&[0, 1, 2, 8, 9000, 9000]);
                let (noerror, except) = (i64::from(flags::NOERROR), i64::from(flags::EXCEPT));
                let copy = i64::from(flags::COPY);
                let flags = self.of(&[0, 0, 0, noerror, except, except | noerror]);
                let copying = [
                    copy | NOWAIT,
                    copy | NOWAIT | noerror,
                    copy,
                    copy | NOWAIT | except,
                ];
                (
                    Verb::MsgRcv,
                    vec![
                        object,
                        self.mostly(30, mtype, &[i64::MIN, i64::MAX, -i64::MAX]),
                        self.mostly(40, room, &[-1]),
                        self.mostly(12, flags, &copying) | self.of(&[0, 0, NOWAIT]),
                    ],
                )
            }
            15..=17 => (Verb::MsgStat, vec![object]),
            _ => {
                let mut numbers = self.setting(object);
                numbers.push(self.of(&[0, 1, 3, 3, 8, 8, 16_384, 16_384, 16_385]));
                (Verb::MsgSet, numbers)
            }
        }
    }

    fn segment_call(&mut self) -> (Verb, Vec<i64>) {
        let object = self.object();
        let (rdonly, exec) = (i64::from(flags::RDONLY), i64::from(flags::EXEC));
        match self.below(14) {
            0..=3 => (
                Verb::ShmAt,
                vec![
                    object,
                    self.of(&[0, 0, 0, rdonly, rdonly, exec, exec | rdonly]),
                ],
            ),
            4..=6 => (Verb::ShmDt, vec![self.below(4)]),
            7..=10 => (Verb::ShmStat, vec![object]),
            11 => (Verb::ShmSet, self.setting(object)),
            _ => (Verb::ShmLock, vec![object, self.below(2)]),
        }
    }

    fn process(&mut self, actor: usize) -> Step {
        let verb = self.of(&[Verb::Kill, Verb::Exit, Verb::Exit, Verb::Fork, Verb::Exec]);
        // Whoever waits can only be killed.
        match verb {
            Verb::Kill => {
                let actor = self.below(ACTORS as i64) as usize;
                Step::new(actor, verb, [])
            }
            Verb::Fork => Step::new(actor, verb, [self.below(ACTORS as i64)]),
            _ => Step::new(actor, verb, []),
        }
    }
}
