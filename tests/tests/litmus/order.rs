//! Every shape on the running system.

use std::env;
use std::io::{Write, stderr};

use dipc_tests::scratch::Scratch;
use dipc_tests::{Cluster, Mode, Options, Program, in_each_mode, network};

use crate::shapes::{SHAPES, Shape};
use crate::stage::{Histogram, LAYOUTS, Layout, SEGMENT, Stage};
use crate::tso::allowed;

/// How often each shape is run in each layout, if nobody says.
const RUNS: usize = 20;

fn runs() -> usize {
    let given = env::var("DIPC_LITMUS_RUNS").ok();
    given.map_or(RUNS, |text| {
        text.parse().expect("DIPC_LITMUS_RUNS is a number")
    })
}

/// One line of a report: what was run, and how often each outcome came.
fn describe(shape: &Shape, fenced: bool, layout: Layout, histogram: &Histogram) -> String {
    let fences = if fenced { "+fences" } else { "" };
    let registers = shape.processes.join(" ").matches('r').count();
    let outcomes: Vec<String> = histogram
        .iter()
        .map(|(outcome, times)| {
            let read = &outcome.registers[..registers];
            format!("{read:?}{:?}×{times}", outcome.left)
        })
        .collect();
    let name = format!("{}{fences}", shape.name);
    format!("{name:12} {:13} {}", layout.name, outcomes.join("  "))
}

/// Runs everything, and fails if anything came that may not come. What it says
/// is shown even where tests pass, for whoever counts.
fn try_all(mode: &str, stage: &mut Stage, runs: usize) {
    let (mut total, mut kinds) = (0, 0);
    for shape in &SHAPES {
        for layout in LAYOUTS {
            for fenced in [false, true] {
                let histogram = stage.run(shape, fenced, layout, runs);
                let line = describe(shape, fenced, layout, &histogram);
                println!("{line}");
                let allowed = allowed(shape, fenced);
                for outcome in histogram.keys() {
                    assert!(
                        allowed.contains(outcome),
                        "{outcome:?} is forbidden, but came in {mode}:\n{line}"
                    );
                }
                total += histogram.values().sum::<u64>();
                kinds += histogram.len();
            }
        }
    }
    // A memory that never lets processes meet would show few outcomes.
    let shapes = SHAPES.len() * LAYOUTS.len() * 2;
    assert!(
        kinds > 2 * shapes,
        "only {kinds} outcomes of {shapes} tests"
    );
    let _ = writeln!(
        stderr(),
        "litmus: {total} runs of {} shapes in {mode}, {kinds} outcomes seen, 0 forbidden",
        SHAPES.len()
    );
}

in_each_mode!(no_outcome_comes_that_x86_tso_forbids);

fn no_outcome_comes_that_x86_tso_forbids(mode: Mode) {
    let cluster = mode.cluster(4);
    let mut stage = Stage::new(&cluster, |node| cluster.program(node));
    try_all(&format!("{mode:?} mode"), &mut stage, runs());
}

/// Each node in a network namespace of its own, and TLS between them.
#[test]
fn no_outcome_comes_that_x86_tso_forbids_over_encrypted_links_of_a_network() {
    if !network::can_be_made("litmus tests over a network") {
        return;
    }
    let cluster = Cluster::with(Options {
        network: true,
        ..Options::nodes(4)
    });
    let mut stage = Stage::new(&cluster, |node| cluster.program(node));
    // What differs is below the protocol: fewer runs are enough.
    let mode = "page mode over TLS in network namespaces";
    try_all(mode, &mut stage, runs().div_ceil(4));
}

#[test]
fn memory_that_is_not_shared_is_found_out() {
    let folder = Scratch::new();
    let programs = (0..4).map(|_| {
        let mut program = Program::start(|_| {});
        for slot in 0..2 {
            assert_eq!(program.must(format!("alone {SEGMENT}")), slot);
        }
        program
    });
    let mut stage = Stage::of(programs.collect(), folder.join("meeting"));
    let found = SHAPES.iter().filter(|shape| {
        let histogram = stage.run(shape, true, LAYOUTS[1], 20);
        let allowed = allowed(shape, true);
        histogram.keys().any(|outcome| !allowed.contains(outcome))
    });
    let found: Vec<&str> = found.map(|shape| shape.name).collect();
    assert!(found.len() >= 6, "only by {found:?}");
}
