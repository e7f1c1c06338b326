//! Whether what was given is what was planned.

use std::fmt;

use dipc_wire::Errno;

use super::actors::{Actors, Given};
use super::history::ACTORS;
use super::plan::{Answer, Plan, Planned, Value, Waits};
use crate::semantics::Credentials;

/// The machines say one thing, and those who were asked another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Disagreement {
    /// The step, and what was said of it.
    what: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Disagreement {
    pub(super) fn at(number: usize, planned: &Planned, what: &str) -> Self {
        let Planned {
            step, waits, wakes, ..
        } = planned;
        let mut told = format!("step {number}, `{step}`: {what}");
        if *waits == Waits::Yes {
            told += ", in a call that waits";
        }
        if !wakes.is_empty() {
            told += &format!(", in a step that wakes {wakes:?}");
        }
        Disagreement { what: told }
    }
}

/// How a pid field shows a process: its real number, and who looks on whose node.
pub(super) type Seen<'a> = &'a dyn Fn(u32, usize, usize) -> i64;

/// Compares what `reached` steps came to; `first` are the processes that the
/// actors were when the plan began.
pub(super) fn judge(
    plan: &Plan,
    reached: usize,
    given: &[Given],
    first: &[u32],
    seen: Seen<'_>,
) -> Result<(), Disagreement> {
    let mut pids = first.to_vec();
    let mut ids: Vec<Option<i64>> = Vec::new();
    for (number, planned) in plan.steps.iter().enumerate().take(given.len()) {
        let given = &given[number];
        let went = number < reached || given.ended;
        if let (Some((process, _)), true) = (planned.born, went) {
            debug_assert!(process == pids.len(), "processes are born in order");
            pids.push(given.told[0] as u32);
        }
        let Some(answer) = planned.answer.as_ref().filter(|_| given.ended) else {
            continue;
        };
        if let (Some(place), Ok(_), 0) = (planned.binds, answer, given.errno) {
            ids.resize(ids.len().max(place + 1), None);
            ids[place].get_or_insert(given.told[0]);
        }
        let shows = |value: &Value| match *value {
            Value::Number(number) => Some(number),
            Value::Process(None) => Some(0),
            Value::Process(Some(process)) => {
                let asker = plan.nodes[process_of(plan, number, planned.asker)];
                Some(seen(pids[process], plan.nodes[process], asker))
            }
            Value::Object(place) => ids.get(place).copied().flatten(),
            Value::Any => None,
        };
        if !agrees(answer, given, shows) {
            let ours = match answer {
                Ok(values) => format!("{:?}", values.iter().map(shows).collect::<Vec<_>>()),
                Err(errno) => name(errno.raw()),
            };
            let theirs = match (given.errno, answer) {
                (0, Ok(values)) => {
                    let told = values.len().min(given.told.len());
                    format!("{:?}", &given.told[..told])
                }
                (0, Err(_)) => format!("{:?}", &given.told[..1]),
                (errno, _) => name(errno),
            };
            let what = format!("the machine says {ours}, but it is {theirs}");
            return Err(Disagreement::at(number, planned, &what));
        }
    }
    match plan.steps.get(reached) {
        Some(planned) if given[reached].ended => Err(Disagreement::at(
            reached,
            planned,
            "who waits and who wakes is not as the machine says",
        )),
        Some(planned) => Err(Disagreement::at(
            reached,
            planned,
            "the machine says that it returns, but it waits",
        )),
        None => Ok(()),
    }
}

fn name(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// Which process an actor was in a step.
fn process_of(plan: &Plan, number: usize, actor: usize) -> usize {
    let births = plan.steps[..number]
        .iter()
        .rev()
        .filter_map(|step| step.born);
    let mut of_actor = births.filter(|&(_, born)| born == actor);
    of_actor.next().map_or(actor, |(process, _)| process)
}

fn agrees(answer: &Answer, given: &Given, shows: impl Fn(&Value) -> Option<i64>) -> bool {
    match answer {
        Err(errno) => Errno::raw(*errno) == given.errno,
        Ok(values) => {
            let mut told = values.iter().zip(&given.told);
            given.errno == 0
                && told.all(|(value, &told)| shows(value).is_none_or(|shown| shown == told))
        }
    }
}

/// Whoever plays plans, and how.
pub(super) trait Target {
    /// Who the actors are.
    fn identities(&self) -> &[Credentials; ACTORS];

    /// Plays a plan from a clean beginning.
    fn play(&mut self, plan: &Plan) -> Result<(), Disagreement>;
}

/// Plays a whole plan at once, where a pid is the same for all who look.
pub(super) fn play_at_once(actors: &mut Actors, plan: &Plan) -> Result<(), Disagreement> {
    let first = actors.pids;
    let (reached, given) = actors
        .play(plan, 0, plan.steps.len())
        .unwrap_or_else(|error| panic!("the conductor is gone: {error}"));
    judge(plan, reached, &given, &first, &|pid, _, _| pid.into())
}
