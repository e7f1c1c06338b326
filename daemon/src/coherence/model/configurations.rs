//! What is explored: every configuration to its end, the whole space.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::{Bounds, Cluster, Left, counterexample, say};
use crate::coherence::world::KINDS;

/// Explores all there is, says how much that was, and which kinds of messages
/// were not met.
fn explore(bounds: Bounds) -> Vec<&'static str> {
    let begin = Instant::now();
    let checker = Cluster::new(bounds)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    if !checker.discoveries().is_empty() {
        let found = counterexample::shortest(bounds).expect("it was found before");
        panic!("{bounds}: {found}");
    }
    say(&format!(
        "coherence, {bounds}: {} states, depth {}, {} properties hold, whole space, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().properties().len(),
        begin.elapsed().as_secs_f32(),
    ));
    checker.model().unmet()
}

const NOTHING: Bounds = Bounds {
    nodes: 3,
    granules: 1,
    quantum: true,
    left: Left {
        wishes: 0,
        kills: 0,
        returns: 0,
        detaches: 0,
    },
    sabotage: None,
};

#[test]
fn two_granules_stay_coherent_through_a_crash_and_a_return() {
    explore(Bounds {
        granules: 2,
        left: Left {
            wishes: 3,
            kills: 1,
            returns: 1,
            ..Left::default()
        },
        ..NOTHING
    });
}

#[test]
fn two_granules_without_a_quantum_stay_coherent_through_a_crash_and_evictions() {
    explore(Bounds {
        granules: 2,
        quantum: false,
        left: Left {
            wishes: 3,
            kills: 1,
            detaches: 2,
            ..Left::default()
        },
        ..NOTHING
    });
}

#[test]
fn one_granule_of_three_nodes_survives_a_crash_a_return_and_an_eviction_by_every_message() {
    let unmet = explore(Bounds {
        left: Left {
            wishes: 3,
            kills: 1,
            returns: 1,
            detaches: 1,
        },
        ..NOTHING
    });
    assert_eq!(unmet, [""; 0], "of {KINDS:?}");
}

#[test]
fn four_nodes_agree_on_one_granule_through_a_crash_and_a_return() {
    explore(Bounds {
        nodes: 4,
        left: Left {
            wishes: 3,
            kills: 1,
            returns: 1,
            ..Left::default()
        },
        ..NOTHING
    });
}

#[test]
fn two_crashes_and_a_return_leave_one_granule_coherent() {
    explore(Bounds {
        left: Left {
            wishes: 3,
            kills: 2,
            returns: 1,
            ..Left::default()
        },
        ..NOTHING
    });
}

/// `DIPC_MODEL_BOUNDS`: nodes, granules, quantum (0 or 1), wishes, kills,
/// returns, detaches; separated by commas.
#[test]
#[ignore = "as long as the bounds make it; see docs/testing.md"]
fn bounds_from_the_environment() {
    let text = std::env::var("DIPC_MODEL_BOUNDS").expect("DIPC_MODEL_BOUNDS=3,2,1,4,1,1,1");
    let numbers: Vec<u8> = text.split(',').map(|n| n.trim().parse().unwrap()).collect();
    let [nodes, granules, quantum, wishes, kills, returns, detaches] = numbers[..] else {
        panic!("DIPC_MODEL_BOUNDS has seven numbers, not {}", numbers.len());
    };
    explore(Bounds {
        nodes,
        granules: granules.into(),
        quantum: quantum != 0,
        left: Left {
            wishes,
            kills,
            returns,
            detaches,
        },
        sabotage: None,
    });
}
