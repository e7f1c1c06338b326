//! What a seed decides beforehand: how large the cluster is, how its programs
//! behave, and what fate has for it.

use std::collections::BTreeMap;

use super::network::T;
use super::node::Habits;
use crate::dice::Dice;

/// What happens to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// A daemon is started on this host, unless one runs.
    Start(usize),
    /// A daemon is killed: its keeper fences its programs, then its links close.
    Kill(usize, u64),
    /// A whole host stops; nobody is told.
    PowerOff(usize, u64),
    /// A daemon ends in an orderly way.
    Leave(usize, u64),
    /// The referee is killed, and another one started after so long.
    KillReferee(u64),
    /// The new one.
    StartReferee,
    /// Nothing gets from one to another, and back if so, for so long.
    Cut(usize, usize, bool, u64),
    /// The other end of that.
    Heal(usize, usize),
    /// A host is cut off from everybody, in both directions.
    Isolate(usize, u64),
    /// A program of this host is killed, and another one started.
    KillProgram(usize),
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) hosts: usize,
    pub(super) programs: usize,
    pub(super) habits: Habits,
    pub(super) slow: BTreeMap<(usize, usize), u64>,
    pub(super) fates: Vec<(u64, Fate)>,
    /// When programs stop to begin anything, cuts heal and nothing more breaks.
    pub(super) end: u64,
}

/// Where the referee runs.
pub(super) const REFEREE: usize = 99;

impl Plan {
    pub(super) fn drawn(dice: &mut Dice) -> Plan {
        let hosts = match dice.roll(32) {
            0 => 20 + dice.roll(21),
            1..4 => 7 + dice.roll(8),
            _ => 2 + dice.roll(5),
        } as usize;
        let programs = if hosts > 12 {
            1
        } else {
            1 + dice.roll(3) as usize
        };
        let end = T * 2 + dice.roll(3 * T);
        let calls = 400 + dice.roll(1_200);
        let think = (2 * end * (hosts * programs) as u64 / calls).min(T);
        let habits = Habits {
            quantum: dice.pick(&[0, 200, 2_000]).unwrap_or(0),
            keys: 1 + dice.roll(3),
            think,
        };
        let mut slow = BTreeMap::new();
        for _ in 0..dice.roll(3) {
            let (a, b) = (some_host(dice, hosts), some_host(dice, hosts));
            slow.insert((a.min(b), a.max(b)), T / 50 + dice.roll(T / 10));
        }
        let count = match dice.roll(4) {
            0 => 0,
            _ => 1 + dice.roll(10),
        };
        let mut fates: Vec<(u64, Fate)> = (0..count)
            .map(|_| (T / 4 + dice.roll(end - T / 4), some_fate(dice, hosts)))
            .collect();
        let kills = dice.roll(40);
        fates.extend((0..kills).map(|_| {
            (
                T / 4 + dice.roll(end - T / 4),
                Fate::KillProgram(dice.roll(hosts as u64) as usize),
            )
        }));
        Plan {
            hosts,
            programs,
            habits,
            slow,
            fates,
            end,
        }
    }
}

/// A host, or the referee's.
fn some_host(dice: &mut Dice, hosts: usize) -> usize {
    match dice.roll(hosts as u64 + 1) as usize {
        host if host == hosts => REFEREE,
        host => host,
    }
}

fn some_fate(dice: &mut Dice, hosts: usize) -> Fate {
    let host = dice.roll(hosts as u64) as usize;
    let other = match some_host(dice, hosts) {
        other if other == host => (host + 1) % hosts,
        other => other,
    };
    // Back before anybody could know, within the time-out, or after.
    let away = dice.pick(&[T / 20, T / 2, 2 * T]).unwrap_or(T) + dice.roll(T / 4);
    let cut = dice.pick(&[T / 8, T / 2, T, 2 * T]).unwrap_or(T) + dice.roll(T / 4);
    match dice.roll(20) {
        0..4 => Fate::Kill(host, away),
        4..6 => Fate::PowerOff(host, away),
        6..7 => Fate::Leave(host, away),
        7..10 => Fate::KillReferee(away),
        10..13 => Fate::Cut(host, other, false, cut),
        13..17 => Fate::Cut(host, other, true, cut),
        17..18 => Fate::Cut(other, host, false, cut),
        _ => Fate::Isolate(host, cut),
    }
}
