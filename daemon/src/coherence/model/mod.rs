//! Every schedule of a small cluster, explored with stateright.
//!
//! A state is a [`World`]: the machines that the daemon runs, one a node, with
//! their memory, links and threads; and what programs and fate may still do
//! ([`Left`]). From it, everything that can happen next is tried: a letter of
//! any link arrives, a node hears of a death, a thread that was let go on
//! touches its granule, a quantum ends; or, as long as it is allowed, a thread
//! wants to read or write, a node is killed, comes back, or loses its last
//! process. So what is found is true of every order in which these can come.
//!
//! # What makes it finite
//!
//! - Programs and fate have a budget ([`Bounds`]).
//! - Time stands still: an alarm is a call from the end of time, and may come
//!   at any moment. Each quantum is thus over sooner or later than any message,
//!   which is more than any clock allows. Only a thread that was let go on is
//!   faster, since a quantum is long enough for that.
//! - Without a quantum, a thread that is let go on touches its granule at once:
//!   otherwise two writers could take it from each other for ever.
//! - Bytes are the latest or old.
//!
//! A read that would succeed at once is not tried: it changes nothing, and
//! that every copy is the last completed write is looked at in every state.
//!
//! # That every request ends
//!
//! Nobody waits in a state where nothing can happen unless somebody wants
//! something new. And such a state is reached: the count of messages is part of the
//! state, so no endless exchange is taken for states seen before, and it has a
//! bound. All else that happens by itself is an answer to a message.

mod broken;
mod configurations;
mod counterexample;

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use dipc_wire::NodeId;
use dipc_wire::coherence::Access;
use stateright::{Model, Property};

use super::world::checks::Failure;
use super::world::sabotage::Sabotage;
use super::world::{Event, KINDS, World, kind, node};

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nodes: u8,
    granules: u64,
    /// Granules are kept for a while; otherwise they are given up when asked for.
    quantum: bool,
    left: Left,
    sabotage: Option<Sabotage>,
}

/// How often programs and fate may still act, all nodes together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Left {
    /// A thread begins to want to read or write a granule.
    wishes: u8,
    /// A node is killed, the home included.
    kills: u8,
    /// A node that was killed is back in a new incarnation.
    returns: u8,
    /// The last process of a node ends.
    detaches: u8,
}

/// The cluster at a moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    world: World,
    left: Left,
    failure: Option<Failure>,
}

/// What can happen to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Event(Event),
    Want {
        at: NodeId,
        granule: u64,
        access: Access,
    },
    Kill(NodeId),
    Return(NodeId),
    Detach(NodeId),
}

/// A cluster within bounds, for the checker.
struct Cluster {
    bounds: Bounds,
    /// Which [`KINDS`] of messages have arrived in any state, one bit each.
    met: AtomicU32,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds {
            nodes, granules, ..
        } = self;
        let Left {
            wishes,
            kills,
            returns,
            detaches,
        } = self.left;
        let quantum = if self.quantum { "a" } else { "no" };
        write!(
            f,
            "{nodes} nodes, {granules} granules, {quantum} quantum, {wishes} wishes, \
             {kills} crashes, {returns} returns, {detaches} detaches"
        )
    }
}

impl Cluster {
    fn new(bounds: Bounds) -> Self {
        Cluster {
            bounds,
            met: AtomicU32::new(0),
        }
    }

    /// The messages that no schedule has led to.
    fn unmet(&self) -> Vec<&'static str> {
        let met = self.met.load(Ordering::Relaxed);
        let kinds = KINDS.iter().enumerate();
        kinds
            .filter(|(bit, _)| met & (1 << bit) == 0)
            .map(|(_, &kind)| kind)
            .collect()
    }

    fn meet(&self, world: &World, event: Event) {
        if let Event::Deliver { from, to } = event
            && let Some(letter) = world.next_letter(from, to)
        {
            let kind = kind(&letter.message);
            let bit = KINDS.iter().position(|&known| known == kind);
            self.met
                .fetch_or(bit.map_or(0, |bit| 1 << bit), Ordering::Relaxed);
        }
    }

    /// The numbers of all nodes, dead or alive.
    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.bounds.nodes).map(node)
    }

    /// More messages than this, and there is no end to them.
    fn most_messages(&self) -> u64 {
        let Left {
            wishes,
            kills,
            detaches,
            ..
        } = self.bounds.left;
        let causes = u64::from(wishes) + u64::from(kills) + u64::from(detaches);
        causes * 6 * u64::from(self.bounds.nodes)
    }
}

impl State {
    /// Something happens even if nobody wants anything new.
    fn goes_on(&self, event: &Event) -> bool {
        match *event {
            Event::Alarm { at, granule, .. } => !self.world.nodes[&at].is_about_to_touch(granule),
            _ => true,
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = self.world.events();
        events.retain(|event| self.goes_on(event));
        events
    }

    fn apply(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Event(event) => self.world.happen(event),
            Step::Want {
                at,
                granule,
                access,
            } => {
                self.left.wishes -= 1;
                self.world.want(at, granule, access)
            }
            Step::Kill(node) => {
                self.left.kills -= 1;
                self.world.kill(node);
                Ok(())
            }
            Step::Return(node) => {
                self.left.returns -= 1;
                self.world.start(node);
                Ok(())
            }
            Step::Detach(node) => {
                self.left.detaches -= 1;
                self.world.detach(node)
            }
        }
    }

    /// Threads that may go on do.
    fn touch(&mut self) -> Result<(), Failure> {
        let retry = |event: &Event| matches!(event, Event::Retry { .. });
        while let Some(event) = self.world.events().into_iter().find(retry) {
            self.world.happen(event)?;
        }
        Ok(())
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let Bounds {
            nodes,
            granules,
            quantum,
            left,
            sabotage,
        } = self.bounds;
        let quantum = if quantum { u64::MAX } else { 0 };
        vec![State {
            world: World::new(nodes, granules, quantum, sabotage),
            left,
            failure: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.failure.is_some() {
            return;
        }
        steps.extend(state.events().into_iter().map(Step::Event));
        let State { world, left, .. } = state;
        for (&at, node) in &world.nodes {
            if left.wishes > 0 {
                let granules = 0..self.bounds.granules;
                let wishes = granules.flat_map(|g| [(g, Access::Read), (g, Access::Write)]);
                let new = wishes.filter(|want| {
                    let hit = want.1 == Access::Read && node.can(want.0, want.1);
                    !hit && !node.wants.contains_key(want)
                });
                steps.extend(new.map(|(granule, access)| Step::Want {
                    at,
                    granule,
                    access,
                }));
            }
            if left.kills > 0 {
                steps.push(Step::Kill(at));
            }
            if left.detaches > 0 && node.protocol.cache().lines().next().is_some() {
                steps.push(Step::Detach(at));
            }
        }
        if left.returns > 0 {
            let back = self.ids().filter(|&id| world.can_start(id));
            steps.extend(back.map(Step::Return));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        if let Step::Event(event) = step {
            self.meet(&last.world, event);
        }
        let mut state = last.clone();
        state.failure = state.apply(step).err();
        if state.failure.is_none() && !self.bounds.quantum {
            state.failure = state.touch().err();
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        use Failure as F;
        macro_rules! never {
            ($name:literal, $failure:pat) => {
                Property::always($name, |_, state: &State| {
                    !matches!(state.failure, Some($failure))
                })
            };
        }
        vec![
            never!("one writer or many readers", F::NotAlone { .. }),
            never!("a read returns the last completed write", F::Stale { .. }),
            never!(
                "only what was truly lost is poisoned",
                F::LostWrongly { .. } | F::Vanished { .. }
            ),
            never!(
                "a dead incarnation changes nothing",
                F::DeadHeard { .. } | F::DeadCounted { .. }
            ),
            never!("no honest node is accused", F::Accused { .. }),
            never!("every action fits the memory", F::Impossible { .. }),
            never!("directory, caches and memory agree", F::Disagree { .. }),
            Property::always("every request ends", |_, state: &State| {
                state.failure.is_some()
                    || !state.events().is_empty()
                    || state.world.check_at_rest().is_ok()
            }),
            Property::always("it comes to rest", |cluster: &Cluster, state: &State| {
                state.world.posted <= cluster.most_messages()
            }),
        ]
    }
}

/// A line for whoever reads the run: what passing tests print by `println!` is
/// swallowed by the runner, this is not.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "model: {line}");
}
