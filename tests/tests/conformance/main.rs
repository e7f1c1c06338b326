//! The twin test of System V's behaviour: the same cases against the kernel, on
//! one node, and with the participants on two nodes.
//!
//! ```text
//!   cases/     130 behaviours, each a function over a Stage
//!     │
//!     ▼        ┌ kernel      programs in an IPC namespace of the case's own
//!   stage.rs ──┼ one node    programs under the library, all on node 1
//!     │        └ two nodes   every other program on node 2
//!     ▼
//!   report.rs  docs/conformance.md, which must say what was found
//! ```
//!
//! A case states what it expects itself, so that running it against the kernel
//! proves the expectation. `DIPC_CASES=23,40-47` runs some of them, without a
//! look at the document; `DIPC_BLESS=1` rewrites the document.

mod case;
mod cases;
mod report;
mod run;
mod stage;

use crate::case::Case;
use crate::report::Report;

/// How many behaviours there are.
const BEHAVIOURS: u32 = 130;

/// Behaviours of one area, which are tried one after another.
struct Section {
    title: &'static str,
    cases: &'static [Case],
}

const SECTIONS: [Section; 9] = [
    Section {
        title: "Making and finding objects",
        cases: cases::get::CASES,
    },
    Section {
        title: "Semaphore operations",
        cases: cases::semop::CASES,
    },
    Section {
        title: "SEM_UNDO",
        cases: cases::undo::CASES,
    },
    Section {
        title: "semctl",
        cases: cases::semctl::CASES,
    },
    Section {
        title: "Message queues",
        cases: cases::queues::CASES,
    },
    Section {
        title: "Attaching shared memory",
        cases: cases::attach::CASES,
    },
    Section {
        title: "shmctl and what is listed",
        cases: cases::shmctl::CASES,
    },
    Section {
        title: "Permissions and identity",
        cases: cases::permissions::CASES,
    },
    Section {
        title: "Traps for a preloaded library",
        cases: cases::traps::CASES,
    },
];

#[test]
fn every_behaviour_has_exactly_one_case() {
    let numbers = SECTIONS
        .iter()
        .flat_map(|section| section.cases)
        .map(|case| case.number);
    assert!(numbers.eq(1..=BEHAVIOURS), "in order, none left out");
}

#[test]
fn every_case_passes_where_it_must_and_the_document_says_so() {
    let selection = run::Selection::from_environment();
    let outcomes = run::all(&SECTIONS, &selection);
    run::say_skipped(&outcomes);
    let wrong = run::complaints(&outcomes);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    if selection.is_everything() {
        Report::new(&SECTIONS, &outcomes).compare_or_bless();
    }
}
