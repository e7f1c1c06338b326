//! Three nodes that have a stake in each other, and what is to be seen when one
//! of them is lost.
//!
//! ```text
//!   node K has   a set of its own; a program that waits there (for somebody's post)
//!   node 1 has   a program that waits at node 2's set, and node 2 one at node 1's
//!   node 3 has   two programs, which wait at the sets of node 1 and node 2;
//!                a lock of 2, of which the programs of nodes 1 and 2 took one each
//!                with SEM_UNDO; a segment with a page that only node 1 has written,
//!                one that only node 2 has, and one that both have a copy of
//! ```

use std::process::Command;

use dipc_tests::cluster::Options;
use dipc_tests::observe::are_at_rest;
use dipc_tests::{CREATE, Cluster, Cost, FIND, Network, Program, UNDO, artifacts, network, wait};
use serde_json::Value;

/// The pages of the segment.
pub(crate) const PAGE: i64 = 4096;
const BOTH: i64 = 2 * PAGE;
/// A word that both nodes 1 and 2 have a copy of.
const SHARED: i64 = 77;
const LOCK: &str = "0x10c";

/// After so long a silent node is dead, where a test waits for that.
pub(crate) const SOON: &str = "2s";
/// The same where no node shall die.
pub(crate) const LATE: &str = "20s";

/// A cluster of three nodes in a network of its own; `None` where that cannot be.
pub(crate) fn cluster(what: &str, timeout: &'static str) -> Option<Cluster> {
    network::can_be_made(what).then(|| {
        Cluster::with(Options {
            network: true,
            timeout,
            ..Options::nodes(3)
        })
    })
}

/// The scene of a loss.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    /// The set of each node, from node 1 on.
    pub(crate) sets: [i64; 3],
    pub(crate) segment: i64,
    lock: i64,
    /// The programs with memory and a lock, of each node.
    pub(crate) actors: [Program; 3],
    /// Of node 1 at node 2's set, of node 2 at node 1's.
    waiters: [Program; 2],
    /// Of node 3 at the sets of node 1 and node 2.
    onlookers: [Program; 2],
    costs: Vec<Cost>,
}

impl Stage {
    /// Sets it, with this time-out.
    pub(crate) fn set(what: &str, timeout: &'static str) -> Option<Self> {
        let cluster = cluster(what, timeout)?;
        let mut actors = [1, 2, 3].map(|node| cluster.program(node));
        let sets = [0, 1, 2].map(|i| actors[i].must(format!("semget {} 1 {CREATE}", 0xa + i)));
        let lock = actors[2].must(format!("semget {LOCK} 1 {CREATE}"));
        actors[2].must(format!("setval {lock} 0 2"));
        let segment = actors[2].must(format!("shmget 0 {} {CREATE}", 3 * PAGE));
        for actor in &mut actors {
            assert_eq!(actor.must(format!("shmat {segment} 0")), 0);
        }
        for (i, actor) in actors[..2].iter_mut().enumerate() {
            actor.must(format!("semop {lock} 0:-1:{UNDO}"));
            actor.must(format!("poke 0 {} {}", i as i64 * PAGE, 11 + i));
        }
        actors[0].must(format!("poke 0 {BOTH} {SHARED}"));
        assert_eq!(actors[1].must(format!("peek 0 {BOTH}")), SHARED);
        // At a thread's first call to another node dipcd opens its folder in /proc, and
        // keeps it: what is counted below must have that already.
        actors[2].must(format!("getval {} 0", sets[0]));
        let waits = |node: usize, set: i64| {
            let mut program = cluster.program(node);
            program.begin(format!("semop {set} 0:-1"));
            cluster.node(node).until_blocked(&program);
            program
        };
        Some(Stage {
            waiters: [waits(1, sets[1]), waits(2, sets[0])],
            onlookers: [waits(3, sets[0]), waits(3, sets[1])],
            costs: costs(&cluster),
            cluster,
            sets,
            segment,
            lock,
            actors,
        })
    }

    pub(crate) fn network(&self) -> &Network {
        self.cluster.network()
    }

    /// Node 2 reaches nobody any more, and nobody node 2.
    pub(crate) fn isolate_node_2(&self) {
        for other in ["node1", "node3", "referee"] {
            self.network().cut_both("node2", other);
        }
    }

    /// The opposite.
    pub(crate) fn rejoin_node_2(&self) {
        for other in ["node1", "node3", "referee"] {
            self.network().heal_both("node2", other);
        }
    }

    /// Node 1 or 2 is lost: what the others see of it, and that they go on.
    pub(crate) fn others_go_on_without(&mut self, lost: usize) {
        let (left, l, k) = (3 - lost, lost - 1, 2 - lost);
        assert_eq!(
            self.waiters[k].answer(),
            "! EIDRM",
            "node {left}, which waited there"
        );
        assert_eq!(
            self.onlookers[l].answer(),
            "! EIDRM",
            "node 3, which waited there"
        );
        for node in [left, 3] {
            self.cluster.until_peers(node, 1);
        }
        let gone = self.sets[l];
        let (lock, segment) = (self.lock, self.segment);
        for i in [k, 2] {
            let actor = &mut self.actors[i];
            assert_eq!(actor.ask(format!("semop {gone} 0:1")), "! EINVAL");
            assert_eq!(
                actor.ask(format!("semget {} 1 {FIND}", 0xa + l)),
                "! ENOENT"
            );
            // Only the lost node had it; the others have the rest.
            let theirs = l as i64 * PAGE;
            assert_eq!(actor.ask(format!("peek 0 {theirs}")), "! SIGBUS");
            let ours = k as i64 * PAGE;
            assert_eq!(actor.must(format!("peek 0 {ours}")), 11 + k as i64);
            assert_eq!(actor.must(format!("peek 0 {BOTH}")), SHARED);
        }
        // Its SEM_UNDO and its attachment are taken back, nobody else's are.
        let three = &mut self.actors[2];
        wait::until("what the lost node took is given back", || {
            three.must(format!("getval {lock} 0")) == 1
        });
        wait::until("the lost node's attachment does not count", || {
            three.must(format!("shmstat {segment}")) == 2
        });
        // Who waits for those who are left, waits on, and is served.
        assert!(self.onlookers[k].is_silent());
        let set = self.sets[k];
        self.actors[k].must(format!("semop {set} 0:1"));
        assert_eq!(self.onlookers[k].answer(), "= 0");
        self.nothing_of(lost);
        // A name that the lost node had is free.
        let new = self.actors[k].must(format!("semget {} 1 {}", 0xa + l, CREATE | 0o2000));
        assert_eq!(
            self.actors[2].must(format!("semget {} 1 {FIND}", 0xa + l)),
            new
        );
        self.actors[2].must(format!("semrm {new}"));
        self.actors[k].must(format!("poke 0 {BOTH} {}", SHARED + 1));
        assert_eq!(self.actors[2].must(format!("peek 0 {BOTH}")), SHARED + 1);
    }

    /// The cluster's list names no object of a lost node, and every other.
    fn nothing_of(&self, lost: usize) {
        let homes = |at: usize| -> Vec<String> {
            let mut list = Command::new(artifacts::built("dipc"));
            list.args(["ls", "--json"]);
            let output = list
                .env("DIPC_SOCKET", &self.cluster.node(at).socket)
                .output();
            let list: Value =
                serde_json::from_slice(&output.expect("dipc ls").stdout).expect("JSON");
            let rows = list["objects"].as_array().expect("it lists objects").iter();
            rows.map(|row| row["home"].as_str().expect("a home").to_owned())
                .collect()
        };
        let left = 3 - lost;
        for at in [left, 3] {
            let mut homes = homes(at);
            homes.sort();
            assert_eq!(
                homes,
                [&format!("node{left}")[..], "node3", "node3", "node3"]
            );
        }
    }

    /// Node 1 or 2 ends, by itself or by its keeper if that is awake first, and says
    /// why; what its programs are told.
    pub(crate) fn ends(&mut self, lost: usize) {
        assert!(!self.cluster.node_ended(lost).success());
        let log = self.cluster.node(lost).log();
        let says_why = log.contains("this node ends: ") || log.contains("It is killed");
        assert!(says_why, "it says why: {log}");
        self.programs_are_told(lost);
    }

    /// The programs of a node whose dipcd has ended because the node was lost.
    pub(crate) fn programs_are_told(&mut self, lost: usize) {
        let l = lost - 1;
        assert_eq!(self.waiters[l].answer(), "! EIDRM");
        let actor = &mut self.actors[l];
        for page in 0..3 {
            // What it still reads, until its keeper has heard of the end, is no zero.
            wait::until("its memory is lost", || {
                let answer = actor.ask(format!("peek 0 {}", page * PAGE));
                assert!(answer != "= 0", "a zero");
                answer == "! SIGBUS"
            });
        }
        for set in self.sets {
            assert_eq!(actor.ask(format!("semop {set} 0:1")), "! EINVAL");
        }
    }

    /// The lost node is started again: it is a new one, all works with it, and
    /// nothing has been left over anywhere.
    pub(crate) fn returns(&mut self, lost: usize) {
        self.cluster.restart_node(lost);
        for node in 1..=3 {
            self.cluster.until_peers(node, 2);
        }
        let k = 2 - lost;
        let mut again = self.cluster.program(lost);
        let old = self.sets[lost - 1];
        assert_eq!(again.ask(format!("semop {old} 0:1")), "! EINVAL");
        let mine = again.must(format!("semget {} 1 {}", 0xa + lost - 1, CREATE | 0o2000));
        let here = &mut self.actors[k];
        here.begin(format!("semop {mine} 0:-1"));
        self.cluster.node(3 - lost).until_blocked(here);
        again.must(format!("semop {mine} 0:1"));
        assert_eq!(here.answer(), "= 0");
        again.must(format!("shmat {} 0", self.segment));
        again.must(format!("poke 0 {BOTH} 5"));
        assert_eq!(here.must(format!("peek 0 {BOTH}")), 5);
        again.exit();
        self.nothing_is_left(lost);
    }

    /// Descriptors and threads of those who were there all the time.
    fn nothing_is_left(&self, lost: usize) {
        let same = |before: &Cost, after: &Cost| {
            (before.descriptors, before.threads) == (after.descriptors, after.threads)
        };
        let mut now = Vec::new();
        let came_back = wait::within_deadline(|| {
            now = costs(&self.cluster);
            let pairs = self.costs.iter().zip(&now).enumerate();
            pairs
                .filter(|(i, _)| *i != lost)
                .all(|(_, (before, after))| same(before, after))
        });
        assert!(came_back, "before {:?}, afterwards {now:?}", self.costs);
    }
}

/// Of the referee, and of each node's daemon, when nothing is under way in them: who
/// has just asked for their status is not counted.
fn costs(cluster: &Cluster) -> Vec<Cost> {
    let daemons = cluster.nodes().iter().map(|node| node.pid());
    let pids: Vec<u32> = [cluster.referee_pid()].into_iter().chain(daemons).collect();
    wait::until("the daemons are at rest", || are_at_rest(&pids));
    pids.into_iter().map(Cost::of).collect()
}

/// Whether these nodes live the same life as then, with all their peers.
pub(crate) fn lives(cluster: &Cluster) -> Vec<(u64, usize)> {
    let life = |node: &dipc_tests::Node| {
        let status = node.own_status().expect("it answers");
        (status.incarnation, status.peers)
    };
    cluster.nodes().iter().map(life).collect()
}
