//! The library and its daemons as target: the same actors under `LD_PRELOAD`,
//! all on one node, or over two.
//!
//! What the machines leave to the layers around them is judged here: see
//! [`super::calls`].

use std::process::Command;
use std::sync::Arc;

use dipc_tests::apart::can_be_apart;
use dipc_tests::observe::are_at_rest;
use dipc_tests::wait::until;
use dipc_tests::{Cluster, Node};
use dipc_wire::{NodeId, Pid};

use super::actors::{Actors, concerns_processes};
use super::campaign::{campaign, setting};
use super::generate::Shape;
use super::history::ACTORS;
use super::judge::{Disagreement, Target, judge};
use super::namespace::{conductor, identities};
use super::plan::{Plan, Planned, Waits};
use crate::semantics::{Credentials, Rights};

/// How many calls the library is asked, if nobody says: each waiting one costs
/// some looks at the daemons.
const ON_ONE_NODE: u64 = 20_000;
const ON_TWO_NODES: u64 = 8_000;

const SHAPE: Shape = Shape {
    steps: 100,
    deaths: 60,
    same: 3,
};

/// A cluster, and actors that go round its nodes.
struct Library {
    nodes: usize,
    identities: [Credentials; ACTORS],
    // Dropped in this order.
    actors: Actors,
    cluster: Cluster,
}

impl Library {
    fn new(nodes: usize) -> Self {
        let mut identities = identities();
        if nodes > 1 {
            // There a login says who somebody is, and it has no others.
            for who in &mut identities {
                if let Rights::Known { groups, .. } = &mut who.rights {
                    *groups = Arc::default();
                }
            }
        }
        let (cluster, actors) = start(nodes, &identities);
        Library {
            nodes,
            identities,
            actors,
            cluster,
        }
    }

    /// Waits until every daemon has done what it was told, and every actor has said
    /// what it has to: all sleep, and what was on a link when they began to is
    /// answered for. An actor may sleep before its call has begun, since its first
    /// opens a connection; but then the daemon is awake, or the actor will be.
    fn settle(&self) {
        let nodes = self.cluster.nodes();
        let idle = || {
            let mut all = self.actors.processes();
            all.extend(nodes.iter().map(Node::pid));
            are_at_rest(&all)
        };
        until("the daemons have nothing to do", idle);
        if self.nodes > 1 {
            for node in nodes {
                assert!(node.status().is_some(), "{} answers", node.name);
            }
            until("the daemons have nothing to do", idle);
        }
    }
}

fn start(nodes: usize, identities: &[Credentials; ACTORS]) -> (Cluster, Actors) {
    let cluster = Cluster::start(nodes);
    let environment = |actor: usize| variables(&cluster.nodes()[actor % nodes]);
    let command = conductor("library", identities, environment);
    let actors = Actors::start(command).expect("it is permitted");
    (cluster, actors)
}

/// The environment of a program of this node.
fn variables(node: &Node) -> Vec<String> {
    let mut command = Command::new("actors");
    node.enter(&mut command);
    let set = command.get_envs().filter_map(|(name, value)| {
        let (name, value) = (name.to_str()?, value?.to_str()?);
        Some(format!("{name}={value}"))
    });
    set.collect()
}

/// What others see of a step may take a moment.
fn must_settle(planned: &Planned) -> bool {
    planned.waits == Waits::Yes || concerns_processes(planned)
}

impl Target for Library {
    fn identities(&self) -> &[Credentials; ACTORS] {
        &self.identities
    }

    fn play(&mut self, plan: &Plan) -> Result<(), Disagreement> {
        let (first_pids, nodes) = (self.actors.pids, self.nodes);
        let seen = |pid: u32, node: usize, asker: usize| {
            let number = |actor: usize| NodeId::new((actor % nodes) as u8 + 1);
            match (number(node), number(asker)) {
                (Some(node), Some(asker)) => Pid { node, pid }.seen_from(asker).into(),
                _ => -1,
            }
        };
        let (mut first, mut judged) = (0, Ok(()));
        while first < plan.steps.len() && judged.is_ok() {
            let stop = plan.steps[first..].iter().position(must_settle);
            let end = stop.map_or(plan.steps.len(), |stop| first + stop + 1);
            let (reached, given) = self
                .actors
                .play(plan, first, end)
                .unwrap_or_else(|error| panic!("the conductor is gone: {error}"));
            if reached == end && stop.is_some() {
                self.settle();
            }
            if reached < end || end == plan.steps.len() {
                judged = judge(plan, reached, &given, &first_pids, &seen);
            }
            first = end;
        }
        if judged.is_err() {
            (self.cluster, self.actors) = start(self.nodes, &self.identities);
        }
        judged
    }
}

fn compare(nodes: usize, what: &str, calls: u64) {
    if can_be_apart(what) {
        let share = setting("DIPC_DIFFERENTIAL_LIBRARY_CALLS").unwrap_or(calls);
        campaign(&mut Library::new(nodes), what, SHAPE, share, 60);
    }
}

#[test]
fn the_library_on_one_node_does_what_the_machines_do() {
    compare(1, "machines and library on one node", ON_ONE_NODE);
}

#[test]
fn the_library_on_two_nodes_does_what_the_machines_do() {
    compare(2, "machines and library on two nodes", ON_TWO_NODES);
}
