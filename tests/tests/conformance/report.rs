//! `docs/conformance.md`, made of what was found.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use dipc_tests::artifacts::workspace;

use crate::case::Case;
use crate::run::{Outcome, Outcomes};
use crate::stage::World;
use crate::{BEHAVIOURS, Section};

/// What may differ at most: more would be another system.
const MOST_DIFFERENCES: usize = 5;

const HEADER: &str = "\
# Conformance

What System V IPC does on Linux, line by line, and whether distributed objects do
the same. This file is written by the test that tries every line:

    cargo test -p dipc-tests --test conformance                 compares
    DIPC_BLESS=1 cargo test -p dipc-tests --test conformance    rewrites (as root)

Each line is one program of a few processes, played three times:

- **kernel**: without dipc, in an IPC namespace of its own. The kernel so proves
  that the line is right; where a manual says otherwise, the kernel wins.
- **one node**: all processes under `libdipc.so` with `DIPC_KEYS=all`, on one node.
- **two nodes**: every other process is on a second node; the object's home is
  the first one's.

`yes` is seen to be so, by every process that takes part. `differs` is otherwise
on purpose, with the reason below. `–` marks rules of dipc's own, which the kernel
cannot be asked about, or which are about several nodes.
";

const PIDS: &str = "\
## Pids of other nodes

GETPID, `msg_lspid`, `msg_lrpid`, `shm_cpid` and `shm_lpid` name a process of the
reader's own node by its pid. A process of another node is named by its pid there
plus the number of its node times 2^22, for example 8388608 + 1234 for process
1234 of node 2. Linux gives no pid of that size, so `kill` of one fails with ESRCH
and hits no stranger; the process that reads and the one that is named agree on
which is meant.
";

/// The document, as it should be.
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// Of all cases. A cell that could not be tried here stays as it is.
    pub(crate) fn new(sections: &[Section], outcomes: &Outcomes) -> Self {
        let before = fs::read_to_string(path()).unwrap_or_default();
        let mut tables = String::new();
        for section in sections {
            let heading =
                "| | behaviour | kernel | one node | two nodes |\n|--:|---|---|---|---|\n";
            let _ = write!(tables, "\n## {}\n\n{heading}", section.title);
            for case in section.cases {
                let _ = writeln!(tables, "{}", row(case, outcomes, &before));
            }
        }
        let summary = summary(&tables);
        let differences = differences(outcomes, &before);
        Report {
            text: format!("{HEADER}\n{summary}\n{tables}\n{differences}\n{PIDS}"),
        }
    }

    /// Writes it if `DIPC_BLESS` is set; else it must be there already.
    pub(crate) fn compare_or_bless(&self) {
        let path = path();
        if std::env::var_os("DIPC_BLESS").is_some() {
            fs::write(&path, &self.text).expect("docs can be written");
            return;
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        let other = self
            .text
            .lines()
            .find(|line| !there.lines().any(|l| l == *line));
        assert!(
            there == self.text,
            "docs/conformance.md is not what was found, e.g. {other:?}: \
             run as root with DIPC_BLESS=1 to rewrite docs/conformance.md"
        );
    }
}

fn path() -> PathBuf {
    workspace().join("docs/conformance.md")
}

fn row(case: &Case, outcomes: &Outcomes, before: &str) -> String {
    let mut row = format!("| {} | {} |", case.number, case.behaviour);
    for (column, world) in World::ALL.into_iter().enumerate() {
        let cell = match outcomes.get(&(case.number, world)) {
            None => "–".to_owned(),
            Some(Outcome::Passed) => "yes".to_owned(),
            Some(Outcome::Differs(_)) => "differs".to_owned(),
            Some(Outcome::Skipped(_)) => cell_before(before, case.number, column),
            Some(Outcome::Failed) => "no".to_owned(),
        };
        let _ = write!(row, " {cell} |");
    }
    row
}

/// How many lines are what.
fn summary(tables: &str) -> String {
    let rows = tables
        .lines()
        .filter(|line| line.ends_with(" |") && !line.starts_with("| |"));
    let differ = rows.filter(|row| row.contains("| differs |")).count();
    let text = format!("Of {BEHAVIOURS} lines {differ} differ");
    assert!(differ <= MOST_DIFFERENCES, "{text}: too many");
    text + "; all others are the kernel's."
}

/// A cell of the document that is there.
fn cell_before(before: &str, number: u32, column: usize) -> String {
    let start = format!("| {number} |");
    let row = before.lines().find(|line| line.starts_with(&start));
    let cell = row.and_then(|row| row.trim_end_matches('|').rsplit('|').nth(2 - column));
    cell.unwrap_or_default().trim().to_owned()
}

/// The reasons. Those of cases that could not be tried here stay as they are.
fn differences(outcomes: &Outcomes, before: &str) -> String {
    let mut lines = BTreeSet::new();
    for ((number, _), outcome) in outcomes {
        let start = format!("- **{number}**: ");
        match outcome {
            Outcome::Differs(reason) => {
                lines.insert((*number, format!("{start}{reason}")));
            }
            Outcome::Skipped(_) => {
                let kept = before.lines().filter(|line| line.starts_with(&start));
                lines.extend(kept.map(|line| (*number, line.to_owned())));
            }
            _ => {}
        }
    }
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line + "\n").collect();
    format!("## Deliberate differences\n\n{}", lines.concat())
}
