//! Who is killed when.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use dipc_tests::Cluster;

use crate::crew::Crew;

/// Between two looks at the crew.
const TICK: Duration = Duration::from_millis(20);
/// How long a daemon that was killed stays away, at most.
const AWAY: u64 = 1500;

/// Which kills there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kills {
    /// Programs, often; a daemon or the referee, sometimes; one at a time.
    Random,
    /// Daemons alone, one after the other.
    InTurn {
        /// How often.
        every: Duration,
    },
}

/// What kills, by a seed, and whom it has killed.
#[derive(Debug)]
pub(crate) struct Fate {
    state: u64,
    kills: Kills,
    programs: u64,
    daemons: u64,
    referees: u64,
    /// A node whose daemon is dead, and when it is started again.
    down: Option<(usize, Instant)>,
    next: Instant,
}

impl Fate {
    pub(crate) fn new(seed: u64, kills: Kills) -> Self {
        Fate {
            state: seed,
            kills,
            programs: 0,
            daemons: 0,
            referees: 0,
            down: None,
            next: Instant::now(),
        }
    }

    /// SplitMix64: a number below `below`.
    fn roll(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    /// Lets the crew work, and kills, for so long. All daemons live when it returns.
    pub(crate) fn rule(&mut self, cluster: &mut Cluster, crew: &mut Crew, duration: Duration) {
        let end = Instant::now() + duration;
        self.next = Instant::now() + self.pause();
        while Instant::now() < end || self.down.is_some() {
            crew.muster(cluster, self.down.map(|(node, _)| node));
            if let Some((node, _)) = self.down.filter(|&(_, until)| until <= Instant::now()) {
                cluster.restart_node(node);
                self.down = None;
            }
            if Instant::now() >= self.next && self.down.is_none() && Instant::now() < end {
                self.strike(cluster, crew);
                self.next = Instant::now() + self.pause();
            }
            thread::sleep(TICK);
        }
    }

    fn pause(&mut self) -> Duration {
        match self.kills {
            Kills::Random => Duration::from_millis(50 + self.roll(500) as u64),
            Kills::InTurn { every } => every,
        }
    }

    fn strike(&mut self, cluster: &mut Cluster, crew: &mut Crew) {
        let nodes = cluster.nodes().len();
        match self.kills {
            Kills::InTurn { .. } => {
                let node = self.daemons as usize % nodes + 1;
                self.kill_daemon(cluster, node, Duration::from_millis(200));
            }
            Kills::Random => match self.roll(10) {
                0 | 1 => {
                    let away = Duration::from_millis(self.roll(AWAY as usize) as u64);
                    let node = 1 + self.roll(nodes);
                    self.kill_daemon(cluster, node, away);
                }
                2 => {
                    cluster.kill_referee();
                    cluster.restart_referee();
                    self.referees += 1;
                }
                _ => self.programs += u64::from(crew.kill(self.roll(crew.len()))),
            },
        }
    }

    fn kill_daemon(&mut self, cluster: &mut Cluster, node: usize, away: Duration) {
        cluster.kill_node(node);
        self.daemons += 1;
        self.down = Some((node, Instant::now() + away));
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fate {
            programs,
            daemons,
            referees,
            ..
        } = self;
        write!(
            f,
            "{programs} programs, {daemons} daemons, {referees} referees"
        )
    }
}
