//! Every schedule of three nodes and their referee, explored with stateright.
//!
//! The world is the one of the random schedules: nodes as their author should
//! write them, and the real machine. From each state everything is tried that
//! can come next: a message is heard by either side, a grant is used, a node
//! whose link is lost comes back, the next deadline passes (before or after
//! that); and, as long as it is allowed ([`Left`]), a node asks for a key,
//! removes one, loses its link, dies, joins anew, or the referee is restarted.
//!
//! Keys only: room for objects is the random schedules' business.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Sabotage, World};

const NODES: usize = 3;
/// Steps that are tried for one configuration, breadth first: nothing shorter
/// than the depth that these reach is left out.
const MOST: usize = 250_000;

/// How often programs and fate may still act, all nodes together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Left {
    asks: u8,
    releases: u8,
    lost_links: u8,
    crashes: u8,
    /// By a node that has crashed, as a new incarnation.
    joins: u8,
    restarts: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    world: World,
    left: Left,
    failure: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The referee hears a node's next message.
    RefereeHears(usize),
    /// A node hears the referee's next.
    NodeHears(usize),
    UseGrant(usize),
    ComeBack(usize),
    /// The referee's next deadline.
    TimePasses,
    Ask(usize, i32),
    Release(usize, i32),
    LoseLink(usize),
    Crash(usize),
    Join(usize),
    Restart,
}

struct Cluster {
    keys: i32,
    left: Left,
    sabotage: Option<Sabotage>,
}

impl State {
    /// What happens without anybody wanting it.
    fn events(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (i, node) in self.world.nodes.iter().enumerate() {
            if node.welcomed() && !node.outbox.is_empty() {
                steps.push(Step::RefereeHears(i));
            }
            if !node.inbox.is_empty() {
                steps.push(Step::NodeHears(i));
            }
            if !node.grants.is_empty() {
                steps.push(Step::UseGrant(i));
            }
            if node.link.is_none() && node.me.is_some() {
                steps.push(Step::ComeBack(i));
            }
        }
        if self.world.naming.deadline().is_some() {
            steps.push(Step::TimePasses);
        }
        steps
    }

    fn apply(&mut self, step: Step) {
        let Self { world, left, .. } = self;
        match step {
            Step::RefereeHears(i) => _ = world.process(i),
            Step::NodeHears(i) => _ = world.deliver(i),
            Step::UseGrant(i) => world.redeem(i, true),
            Step::ComeBack(i) => world.connect(i),
            Step::TimePasses => {
                let deadline = world.naming.deadline().unwrap_or(world.now);
                world.pass(deadline.saturating_sub(world.now));
            }
            Step::Ask(i, key) => {
                left.asks -= 1;
                world.ask(i, key, Some(0));
            }
            Step::Release(i, key) => {
                left.releases -= 1;
                world.release(i, key);
            }
            Step::LoseLink(i) => {
                left.lost_links -= 1;
                world.drop_link(i, true);
            }
            Step::Crash(i) => {
                left.crashes -= 1;
                world.crash(i);
            }
            Step::Join(i) => {
                left.joins -= 1;
                world.connect(i);
            }
            Step::Restart => {
                left.restarts -= 1;
                world.restart();
            }
        }
        world.sort_mail();
        world.check();
        if self.events().is_empty() {
            self.world.check_at_rest();
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut world = World::of(NODES, self.sabotage);
        for i in 0..NODES {
            world.connect(i);
            world.sort_mail();
        }
        for i in 0..NODES {
            while world.deliver(i) || world.process(i) {}
        }
        for i in 0..NODES {
            while world.deliver(i) {}
        }
        vec![State {
            world,
            left: self.left,
            failure: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.failure.is_some() {
            return;
        }
        steps.extend(state.events());
        let left = state.left;
        for (i, node) in state.world.nodes.iter().enumerate() {
            if left.asks > 0 && node.welcomed() {
                let busy = |key: &i32| {
                    let asked = node.asked.values().map(|asked| asked.0);
                    let granted = node.grants.values().map(|grant| grant.0);
                    node.owned.contains_key(key) || asked.chain(granted).any(|k| k == *key)
                };
                let free = (1..=self.keys).filter(|key| !busy(key));
                steps.extend(free.map(|key| Step::Ask(i, key)));
            }
            if left.releases > 0 {
                steps.extend(node.owned.keys().map(|&key| Step::Release(i, key)));
            }
            if left.lost_links > 0 && node.link.is_some() {
                steps.push(Step::LoseLink(i));
            }
            if left.crashes > 0 && node.me.is_some() {
                steps.push(Step::Crash(i));
            }
            if left.joins > 0 && node.me.is_none() && node.link.is_none() {
                steps.push(Step::Join(i));
            }
        }
        if left.restarts > 0 {
            steps.push(Step::Restart);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        // The world's checks are assertions.
        let outcome = catch_unwind(AssertUnwindSafe(|| state.apply(step)));
        state.failure = outcome.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let literal = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
            text.or(literal).unwrap_or_default()
        });
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn says(state: &State, what: &str) -> bool {
            let failure = state.failure.as_ref();
            failure.is_some_and(|failure| failure.contains(what))
        }
        vec![
            Property::always("one home and one creator a key", |_, state| {
                !says(state, " homes")
            }),
            Property::always("every request ends", |_, state| {
                !says(state, "without answer")
            }),
            Property::always("a dead incarnation changes nothing", |_, state| {
                !says(state, " li") || says(state, "limit")
            }),
            Property::always("all know who is here", |_, state| {
                !says(state, "who is here")
            }),
            Property::always("nothing else fails", |_, state: &State| {
                state.failure.is_none()
                    || [" homes", "without answer", " li", "who is here"]
                        .iter()
                        .any(|what| says(state, what))
            }),
        ]
    }
}

/// A line for whoever reads the run: what passing tests print by `println!` is
/// swallowed by the runner, this is not.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "model: {line}");
}

fn explore(what: &str, keys: i32, left: Left) {
    let begin = std::time::Instant::now();
    let sabotage = None;
    let cluster = Cluster {
        keys,
        left,
        sabotage,
    };
    let checker = cluster.checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_state_count(MOST).spawn_bfs().join();
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let failure = path.last_state().failure.clone();
        panic!(
            "`{property}` does not hold: {:#?} {failure:?}",
            path.into_actions()
        );
    }
    let whole = checker.state_count() < MOST;
    let reach = if whole {
        "whole space"
    } else {
        "up to that depth"
    };
    say(&format!(
        "naming, 3 nodes, {keys} keys, {what}: {} states, depth {}, {} properties hold, \
         {reach}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().properties().len(),
        begin.elapsed().as_secs_f32(),
    ));
}

#[test]
fn races_for_a_key_and_its_removal_end_well_through_a_crash_and_a_return() {
    let left = Left {
        asks: 2,
        releases: 1,
        crashes: 1,
        joins: 1,
        ..Left::default()
    };
    explore("2 creations, 1 removal, 1 crash, 1 return", 1, left);
}

#[test]
fn races_for_two_keys_end_well_when_a_link_is_lost() {
    let left = Left {
        asks: 2,
        lost_links: 1,
        ..Left::default()
    };
    explore("2 creations, 1 lost link", 2, left);
}

#[test]
fn a_restarted_referee_learns_again_who_has_the_key() {
    let left = Left {
        asks: 2,
        restarts: 1,
        ..Left::default()
    };
    explore("2 creations, 1 restart of the referee", 1, left);
}

fn is_caught(sabotage: Sabotage, left: Left, as_one_of: &[&str]) {
    let cluster = Cluster {
        keys: 1,
        left,
        sabotage: Some(sabotage),
    };
    let checker = cluster.checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries().into_iter();
    let found = found.map(|(name, path)| (path.into_actions().len(), name));
    let (steps, property) = found.min().expect("it is not noticed");
    say(&format!(
        "broken, {sabotage:?}: `{property}` fails after {steps} steps"
    ));
    assert!(as_one_of.contains(&property), "{property}");
}

#[test]
fn a_grant_that_outlives_its_nodes_death_is_caught() {
    let left = Left {
        asks: 2,
        crashes: 1,
        ..Left::default()
    };
    is_caught(
        Sabotage::DeathNotHeard,
        left,
        &["every request ends", "all know who is here"],
    );
}

#[test]
fn a_node_that_comes_back_without_its_keys_is_caught() {
    let left = Left {
        asks: 2,
        lost_links: 1,
        ..Left::default()
    };
    is_caught(
        Sabotage::OwnsNotSaid,
        left,
        &["one home and one creator a key"],
    );
}

#[test]
fn a_death_that_is_not_told_is_caught() {
    let left = Left {
        crashes: 1,
        ..Left::default()
    };
    is_caught(Sabotage::GoneNotSaid, left, &["all know who is here"]);
}
