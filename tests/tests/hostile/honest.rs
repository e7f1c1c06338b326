//! Programs on two nodes that use all three mechanisms.

use dipc_tests::{CREATE, Cluster, Options, Program};

/// Bytes of the segment.
const LENGTH: i64 = 8192;

/// One program a node, and what they share: a set, a queue and a segment that node 1
/// is home of.
pub(crate) struct Honest {
    pub(crate) cluster: Cluster,
    programs: [Program; 2],
    pub(crate) set: i64,
    pub(crate) queue: i64,
    pub(crate) segment: i64,
    byte: u8,
}

impl Honest {
    /// On a cluster of two nodes.
    pub(crate) fn new() -> Self {
        Self::with(Options::nodes(2))
    }

    pub(crate) fn with(options: Options) -> Self {
        let cluster = Cluster::with(options);
        let mut programs = [1, 2].map(|node| cluster.program(node));
        let [set, queue, segment] = ["semget 0x60d 2", "msgget 0x60d", "shmget 0x60d 8192"]
            .map(|get| programs[0].must(format!("{get} {CREATE}")));
        for program in &mut programs {
            assert_eq!(program.must(format!("shmat {segment} 0")), 0);
        }
        Honest {
            cluster,
            programs,
            set,
            queue,
            segment,
            byte: 0,
        }
    }

    /// Each of them makes calls of all kinds, which succeed, and sees what the other
    /// has done.
    #[track_caller]
    pub(crate) fn go_on(&mut self) {
        let Honest { set, queue, .. } = *self;
        for (one, other) in [(0, 1), (1, 0)] {
            self.byte = self.byte % 250 + 1;
            let byte = self.byte;
            let one = &mut self.programs[one];
            one.must(format!("semop {set} 0:1"));
            one.must(format!("msgsnd {queue} {byte} 0 77"));
            one.must(format!("fill 0 0 {LENGTH} {byte}"));
            let other = &mut self.programs[other];
            other.must(format!("semop {set} 0:-1"));
            other.must(format!("msgrcv {queue} 100 {byte} 0"));
            assert_eq!(other.must(format!("differ 0 0 {LENGTH} {byte}")), 0);
            assert_eq!(other.must(format!("getval {set} 0")), 0);
        }
    }

    /// Somebody new comes in on a node, and finds what is there by its key.
    #[track_caller]
    pub(crate) fn newcomer(&self, node: usize) -> Program {
        let mut program = self.cluster.program(node);
        assert_eq!(program.must("semget 0x60d 2 010000"), self.set);
        program
    }
}
