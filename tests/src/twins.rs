//! The same steps in the kernel and in a cluster: what every twin answers, and what
//! the segments look like afterwards, must be the same.
//!
//! ```text
//!   kernel      a program without dipc, in an IPC namespace of its own
//!   here        a program of node 1, whose segments have their home there
//!   elsewhere   a program of node 2, with segments of node 1
//! ```

use crate::apart::{apart, can_be_apart};
use crate::{Answer, CREATE, Cluster, Options, Program, wait};

/// Three programs that are told the same.
pub struct Twins {
    twins: Vec<Twin>,
    /// Of node 1: makes segments for the twin of node 2.
    maker: Program,
    /// The cluster of the last two.
    pub cluster: Cluster,
}

struct Twin {
    name: &'static str,
    program: Program,
    segments: Vec<i64>,
}

impl Twins {
    /// Starts them. `None`, with a word about `what`, where this machine gives no
    /// IPC namespaces.
    #[must_use]
    pub fn start(what: &str) -> Option<Self> {
        Self::with(what, Options::nodes(2))
    }

    /// The same on another cluster, of two nodes too.
    #[must_use]
    pub fn with(what: &str, options: Options) -> Option<Self> {
        if !can_be_apart(what) {
            return None;
        }
        let cluster = Cluster::with(options);
        let kernel = Program::start(|command| {
            apart(command);
        });
        let twin = |name, program| Twin {
            name,
            program,
            segments: Vec::new(),
        };
        Some(Twins {
            twins: vec![
                twin("kernel", kernel),
                twin("here", cluster.program(1)),
                twin("elsewhere", cluster.program(2)),
            ],
            maker: cluster.program(1),
            cluster,
        })
    }

    /// A new segment, which commands call `$0`, `$1` ...
    pub fn segment(&mut self, size: i64) {
        for twin in &mut self.twins {
            let maker = match twin.name {
                "elsewhere" => &mut self.maker,
                _ => &mut twin.program,
            };
            let id = maker.must(format!("shmget 0 {size} {CREATE}"));
            twin.segments.push(id);
        }
    }

    /// Gives all the same command. They must answer the same, and so must
    /// `shmwho` of every segment from then on, at once.
    #[track_caller]
    pub fn all(&mut self, command: &str) -> Answer {
        let answer = self.only(command);
        for i in 0..self.twins[0].segments.len() {
            self.only(&format!("shmwho ${i}"));
            self.witness(i);
        }
        answer
    }

    /// The same for what takes effect elsewhere: the segments look alike soon.
    #[track_caller]
    pub fn soon(&mut self, command: &str) -> Answer {
        let answer = self.only(command);
        for i in 0..self.twins[0].segments.len() {
            let who = format!("shmwho ${i}");
            wait::until(&format!("{who} is the same after {command}"), || {
                let answers = self.ask(&who);
                answers.iter().all(|answer| *answer == answers[0])
            });
            self.witness(i);
        }
        answer
    }

    /// Gives a command and compares nothing but the answers.
    #[track_caller]
    pub fn only(&mut self, command: &str) -> Answer {
        let mut answers = self.ask(command);
        for (twin, answer) in self.twins.iter().zip(&answers) {
            let name = twin.name;
            assert_eq!(*answer, answers[0], "{command}: {name}, and the kernel");
        }
        answers.swap_remove(0)
    }

    /// Gives a command whose answers differ by their nature.
    pub fn ask(&mut self, command: &str) -> Vec<Answer> {
        let ask = |twin: &mut Twin| {
            let mut command = command.to_owned();
            for (i, id) in twin.segments.iter().enumerate() {
                command = command.replace(&format!("${i}"), &id.to_string());
            }
            twin.program.ask(command)
        };
        self.twins.iter_mut().map(ask).collect()
    }

    /// The process ids.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.twins.iter().map(|twin| twin.program.pid()).collect()
    }

    /// Another node counts the same attachments.
    #[track_caller]
    fn witness(&mut self, segment: usize) {
        let kernel = self.ask(&format!("shmstat ${segment}")).swap_remove(0);
        let id = self.twins[2].segments[segment];
        let seen = self.maker.ask(format!("shmstat {id}"));
        assert_eq!(seen, kernel, "segment {segment}, from another node");
    }
}
