//! Random schedules of honest nodes.

use proptest::prelude::*;

use super::schedule::{Plan, Seen, run};
use crate::coherence::world::KINDS;

fn plans() -> impl Strategy<Value = Plan> {
    let quantum = prop_oneof![Just(0_u64), 1..200_u64];
    let sizes = (2..=5_u8, 1..=3_u64, 50..600_u32);
    let fate = (any::<bool>(), prop::bool::weighted(0.1));
    (any::<u64>(), sizes, quantum, fate).prop_map(|(seed, sizes, quantum, fate)| {
        let (nodes, granules, steps) = sizes;
        let (deaths, home_dies) = fate;
        let sabotage = None;
        Plan {
            seed,
            nodes,
            granules,
            quantum,
            steps,
            deaths,
            home_dies,
            sabotage,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn memory_is_coherent_and_every_request_ends_under_any_schedule(plan in plans()) {
        if let Err(failure) = run(plan) {
            prop_assert!(false, "{failure}");
        }
    }
}

#[test]
fn the_schedules_reach_every_message_of_the_protocol() {
    let mut seen = Seen::new();
    for seed in 0..600 {
        let quantum = if seed % 2 == 0 { 0 } else { 60 };
        let plan = Plan {
            seed,
            nodes: 4,
            granules: 2,
            quantum,
            steps: 500,
            deaths: true,
            home_dies: false,
            sabotage: None,
        };
        let met = run(plan).unwrap_or_else(|failure| panic!("{plan:?}: {failure}"));
        for (what, times) in met {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in KINDS.into_iter().chain(["accesses"]) {
        assert!(
            seen.get(what).is_some_and(|&times| times > 10),
            "{what} in {seen:?}"
        );
    }
}
