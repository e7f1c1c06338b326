//! The workers: who works where, and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dipc_tests::process::{Process, into_file};
use dipc_tests::{Cluster, artifacts};
use nix::sys::signal::Signal;

use crate::board::{Board, WORKERS};

/// A worker that does nothing for so long hangs. Longer than anything may take: a
/// key that is asked for without a referee is refused after twice the time-out.
const PATIENCE: Duration = Duration::from_secs(40);
/// How a worker ends whom something was taken from.
const LOST: i32 = 3;

/// What a worker may find lost, as `docs/failures.md` says.
const LOSSES: [&str; 6] = ["EIDRM", "EINVAL", "ETIMEDOUT", "ENOENT", "EEXIST", "SIGBUS"];

/// A place in the crew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    pub(crate) role: &'static str,
    /// The node, from 1.
    pub(crate) node: usize,
    /// Which bank or queue.
    pub(crate) thing: usize,
}

struct Member {
    post: Post,
    process: Option<Process>,
    /// What it had done when it was last seen to do something, and when that was.
    done: u64,
    since: Instant,
}

/// All workers.
pub(crate) struct Crew {
    members: Vec<Member>,
    board: Board,
    report: PathBuf,
    started: u64,
    /// How often one ended since something was lost.
    pub(crate) losses: u64,
}

impl Crew {
    /// Nobody works yet.
    pub(crate) fn new(cluster: &Cluster, posts: &[Post]) -> Self {
        assert!(posts.len() <= WORKERS);
        let absent = |&post| Member {
            post,
            process: None,
            done: 0,
            since: Instant::now(),
        };
        Crew {
            members: posts.iter().map(absent).collect(),
            board: Board::new(cluster.file("board")),
            report: cluster.file("workers.txt"),
            started: 0,
            losses: 0,
        }
    }

    /// How many posts there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Starts whoever does not work, but for those whose node is down. Those who
    /// have ended since the last look must have had a reason.
    pub(crate) fn muster(&mut self, cluster: &Cluster, down: Option<usize>) {
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            if let Some(process) = &mut member.process {
                let ended = process.child().try_wait().expect("a child of ours");
                match ended.map(|status| (status.code(), status)) {
                    None => self.see_that_it_gets_on(slot),
                    Some((Some(LOST), _)) => {
                        self.losses += 1;
                        member.process = None;
                    }
                    Some((_, status)) => {
                        let said = fs::read_to_string(&self.report).unwrap_or_default();
                        panic!("{:?}: {status}\n{said}", member.post);
                    }
                }
            }
            if self.members[slot].process.is_none() && down != Some(self.members[slot].post.node) {
                self.start(cluster, slot);
            }
        }
    }

    fn start(&mut self, cluster: &Cluster, slot: usize) {
        self.started += 1;
        let member = &mut self.members[slot];
        let Post { role, node, thing } = member.post;
        let mut command: Command = cluster.node(node).command(artifacts::soak());
        command
            .arg(self.board.path())
            .arg(role)
            .args([slot, thing].map(|number| number.to_string()))
            .arg(self.started.to_string())
            .env("DIPC_REQUIRE", "1")
            .stdin(Stdio::null())
            .stdout(into_file(&self.report));
        member.process = Some(Process::start(role, &mut command));
        member.since = Instant::now();
    }

    fn see_that_it_gets_on(&mut self, slot: usize) {
        let done = self.board.done(slot);
        let member = &mut self.members[slot];
        if done != member.done {
            (member.done, member.since) = (done, Instant::now());
        }
        // Who waits for a bank or a message that others are to make may wait long.
        let waited = member.since.elapsed();
        assert!(waited < PATIENCE, "{:?} hangs for {waited:?}", member.post);
    }

    /// Kills one by SIGKILL; whether there was one.
    pub(crate) fn kill(&mut self, slot: usize) -> bool {
        let process = self.members[slot].process.take();
        process.map(|mut process| process.kill()).is_some()
    }

    /// What all in a role have done.
    pub(crate) fn done(&self, role: &str) -> u64 {
        let slots = (0..self.members.len()).filter(|&slot| self.members[slot].post.role == role);
        slots.map(|slot| self.board.done(slot)).sum()
    }

    /// Messages that were under way with who was killed.
    pub(crate) fn gaps(&self) -> u64 {
        self.board.gaps()
    }

    /// Has all of them end their work.
    pub(crate) fn dismiss(&mut self) {
        self.board.stop();
        let deadline = Instant::now() + PATIENCE;
        for member in &mut self.members {
            let Some(mut process) = member.process.take() else {
                continue;
            };
            // One that is about to wait when the signal comes gets the next one.
            while process.child().try_wait().expect("a child").is_none() {
                process.signal(Signal::SIGUSR1);
                std::thread::sleep(Duration::from_millis(2));
                assert!(Instant::now() < deadline, "{:?} does not stop", member.post);
            }
        }
    }

    /// What was lost, by what it was lost as, and how often.
    pub(crate) fn what_was_lost(&self) -> BTreeMap<String, u64> {
        let said = fs::read_to_string(&self.report).unwrap_or_default();
        let mut losses = BTreeMap::new();
        for line in said.lines() {
            let loss = line.strip_prefix("lost ");
            let loss = loss.unwrap_or_else(|| panic!("a worker says: {line}\n{said}"));
            let error = loss.rsplit(' ').next().unwrap_or_default();
            assert!(LOSSES.contains(&error), "{loss} is not in docs/failures.md");
            *losses.entry(loss.to_owned()).or_default() += 1;
        }
        losses
    }
}
