//! Four nodes with a process each, and where the two variables lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dipc_tests::wait::DEADLINE;
use dipc_tests::{CREATE, Cluster, Program};

use crate::shapes::Shape;
use crate::tso::Outcome;

/// Bytes of one of a test's segments: more than one granule in every mode but
/// that of whole segments.
pub(crate) const SEGMENT: usize = 128 << 10;
/// From one variable to another that is to be in another granule.
const APART: usize = 64 << 10;
/// From one variable to another in the same page: behind what processes write
/// to have the page, see `warm` in `litmus.c`.
const BESIDE: usize = 1024;
/// How the file begins that the processes meet in: `struct meeting`.
const HEAD: usize = 8;
/// `struct record`
const RECORD: usize = 8;

/// Where x and y lie: the slot of a segment, and the offset there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    x: (usize, usize),
    y: (usize, usize),
}

/// All of them.
pub(crate) const LAYOUTS: [Layout; 3] = [
    Layout {
        name: "one page",
        x: (0, 0),
        y: (0, BESIDE),
    },
    Layout {
        name: "two pages",
        x: (0, 0),
        y: (0, APART),
    },
    Layout {
        name: "two segments",
        x: (0, 0),
        y: (1, 0),
    },
];

/// How often each outcome came.
pub(crate) type Histogram = BTreeMap<Outcome, u64>;

/// Processes that take part, the first on node 1 and so on.
pub(crate) struct Stage {
    programs: Vec<Program>,
    meeting: PathBuf,
    seed: u64,
}

impl Stage {
    /// One process on each of a cluster's nodes, with two segments; the homes
    /// are nodes 1 and 2.
    pub(crate) fn new(cluster: &Cluster, enter: impl Fn(usize) -> Program) -> Self {
        let nodes = cluster.nodes().len();
        let mut programs: Vec<Program> = (1..=nodes).map(enter).collect();
        for home in 0..2 {
            let id = programs[home].must(format!("shmget 0 {SEGMENT} {CREATE}"));
            for program in &mut programs {
                assert_eq!(program.must(format!("shmat {id} 0")), home as i64);
            }
        }
        Stage::of(programs, cluster.file("meeting"))
    }

    /// These processes, whose slots 0 and 1 are memory of [`SEGMENT`] bytes.
    pub(crate) fn of(programs: Vec<Program>, meeting: PathBuf) -> Self {
        Stage {
            programs,
            meeting,
            seed: 1,
        }
    }

    /// Runs a shape so often. The shape's processes are on other nodes each time
    /// that this is called.
    pub(crate) fn run(
        &mut self,
        shape: &Shape,
        fenced: bool,
        layout: Layout,
        runs: usize,
    ) -> Histogram {
        fs::write(&self.meeting, vec![0; HEAD + runs * RECORD]).expect("a file of the test");
        self.seed += 1;
        let parties = shape.processes.len();
        let places = self.programs.len();
        let place = |process: usize| (process + self.seed as usize) % places;
        for process in 0..parties {
            let (x, y) = (layout.x, layout.y);
            let command = format!(
                "litmus {} {runs} {parties} {process} {} {} {} {} {} {}",
                self.meeting.display(),
                self.seed * 31 + process as u64,
                x.0,
                x.1,
                y.0,
                y.1,
                shape.steps(process, fenced)
            );
            let at = place(process);
            self.programs[at].begin(command);
        }
        for process in 0..parties {
            // Most runs take far less than a millisecond.
            let patience = DEADLINE + DEADLINE * (runs / 1000) as u32;
            let answer = self.programs[place(process)].answer_within(patience);
            assert_eq!(answer.number(), runs as i64);
        }
        self.histogram()
    }

    fn histogram(&self) -> Histogram {
        let bytes = fs::read(&self.meeting).expect("the file of the test");
        let mut histogram = Histogram::new();
        for record in bytes[HEAD..].chunks_exact(RECORD) {
            let (registers, rest) = record.split_at(4);
            let outcome = Outcome {
                registers: registers.try_into().expect("four registers"),
                left: rest[..2].try_into().expect("two variables"),
            };
            *histogram.entry(outcome).or_default() += 1;
        }
        histogram
    }
}
