//! The actors' side: a plan is played by real processes, see
//! `tests/programs/actors/actors.h`.

use dipc_tests::observe::descendants;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::history::{ACTORS, Verb};
use super::plan::{Plan, Planned};

/// Steps that the actors can be told at once, `STEPS` of `actors.h`.
pub(super) const STEPS: usize = 512;
const ARGUMENTS: usize = 16;
const MORE: usize = 14;
const RESULT: usize = 16 + MORE * 8;

/// What a step came to.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Its call has returned.
    pub(super) ended: bool,
    /// 0 if it succeeded.
    pub(super) errno: i32,
    /// What it told: its result first.
    pub(super) told: Vec<i64>,
}

/// A conductor and its actors. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Actors {
    conductor: Child,
    script: Option<ChildStdin>,
    results: ChildStdout,
    /// The processes that the actors are.
    pub(super) pids: [u32; ACTORS],
}

impl Actors {
    /// The processes that the actors are now.
    pub(super) fn processes(&self) -> Vec<u32> {
        descendants(self.conductor.id())
    }

    /// Starts a conductor by this command, and its actors.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let mut conductor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (script, results) = (conductor.stdin.take(), conductor.stdout.take());
        let mut actors = Actors {
            conductor,
            script,
            results: results.ok_or(io::ErrorKind::BrokenPipe)?,
            pids: [0; ACTORS],
        };
        actors.tell(&[1, 0, 0].map(i32::to_ne_bytes).concat())?;
        for actor in 0..ACTORS {
            actors.pids[actor] = actors.number()? as u32;
        }
        Ok(actors)
    }

    /// Plays the steps from `first` up to `end`, of which those before were
    /// played. Returns the first that did not go as planned, or `end`, and
    /// what all steps so far came to.
    pub(super) fn play(
        &mut self,
        plan: &Plan,
        first: usize,
        end: usize,
    ) -> io::Result<(usize, Vec<Given>)> {
        assert!(end <= STEPS, "the actors cannot be told {end} steps");
        let numbers = [0, first as i32, (end - first) as i32];
        let mut script = numbers.map(i32::to_ne_bytes).concat();
        for planned in &plan.steps[first..end] {
            encode(planned, &mut script);
        }
        self.tell(&script)?;
        let reached = self.number()? as usize;
        let mut bytes = vec![0; end * RESULT];
        self.results.read_exact(&mut bytes)?;
        let given: Vec<Given> = bytes.chunks_exact(RESULT).map(decode).collect();
        for (planned, given) in plan.steps[..reached].iter().zip(&given).skip(first) {
            if let Some((_, actor)) = planned.born {
                self.pids[actor] = given.told[0] as u32;
            }
        }
        Ok((reached, given))
    }

    fn tell(&mut self, bytes: &[u8]) -> io::Result<()> {
        let script = self.script.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        script.write_all(bytes)
    }

    fn number(&mut self) -> io::Result<i32> {
        let mut bytes = [0; 4];
        self.results.read_exact(&mut bytes)?;
        Ok(i32::from_ne_bytes(bytes))
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        // At the end of its script the conductor kills the actors and ends.
        self.script = None;
        let _ = self.conductor.wait();
    }
}

/// `struct step`
fn encode(planned: &Planned, into: &mut Vec<u8>) {
    let place = |place: Option<usize>| place.map_or(-1, |place| place as i32);
    let wakes = planned
        .wakes
        .iter()
        .fold(0, |mask, actor| mask | 1 << actor);
    let fields: [i32; 8] = [
        planned.step.verb as i32,
        planned.step.actor as i32,
        place(planned.object),
        place(planned.binds),
        planned.waits as i32,
        wakes,
        planned.settles.into(),
        planned.step.numbers.len() as i32,
    ];
    into.extend(fields.map(i32::to_ne_bytes).concat());
    for at in 0..ARGUMENTS {
        into.extend(planned.step.number(at).to_ne_bytes());
    }
}

/// `struct result`
fn decode(bytes: &[u8]) -> Given {
    let long = |at: usize| {
        let bytes = bytes[8 + at * 8..].first_chunk().copied();
        i64::from_ne_bytes(bytes.unwrap_or_default())
    };
    let int = |at: usize| {
        let bytes = bytes[at * 4..].first_chunk().copied();
        i32::from_ne_bytes(bytes.unwrap_or_default())
    };
    Given {
        ended: int(0) != 0,
        errno: int(1),
        told: (0..=MORE).map(long).collect(),
    }
}

/// Whether a step is about processes, and not a System V call.
pub(super) fn concerns_processes(planned: &Planned) -> bool {
    planned.step.verb as i32 >= Verb::Signal as i32
}
