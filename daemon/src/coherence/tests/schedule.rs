//! What happens next, decided by a seed.

use std::collections::BTreeMap;

use dipc_wire::NodeId;
use dipc_wire::coherence::Access;

use crate::coherence::world::checks::Failure;
use crate::coherence::world::sabotage::Sabotage;
use crate::coherence::world::{Event, World, kind, node};
use crate::dice::Dice;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: u8,
    pub(super) granules: u64,
    pub(super) quantum: u64,
    pub(super) steps: u32,
    /// Nodes other than the home die and come back.
    pub(super) deaths: bool,
    /// The home dies when three quarters of the steps are done.
    pub(super) home_dies: bool,
    pub(super) sabotage: Option<Sabotage>,
}

/// What a run has met: the kinds of messages, accesses that succeeded.
pub(super) type Seen = BTreeMap<&'static str, u64>;

/// Runs a plan to its end.
pub(super) fn run(plan: Plan) -> Result<Seen, Failure> {
    let mut run = Run {
        world: World::new(plan.nodes, plan.granules, plan.quantum, plan.sabotage),
        dice: Dice(plan.seed),
        seen: Seen::new(),
    };
    for step in 0..plan.steps {
        if plan.home_dies && step == plan.steps / 4 * 3 {
            run.world.kill(run.world.rules.home);
        }
        run.world.now += run.dice.roll(4);
        run.disturb(&plan)?;
        let events = run.due();
        if let Some(event) = run.dice.pick(&events) {
            run.happen(event)?;
        }
    }
    run.drain()?;
    run.read_all()?;
    Ok(run.seen)
}

struct Run {
    world: World,
    dice: Dice,
    seen: Seen,
}

impl Run {
    /// Programs and fate.
    fn disturb(&mut self, plan: &Plan) -> Result<(), Failure> {
        let at = node(1 + self.dice.roll(u64::from(plan.nodes)) as u8);
        match self.dice.roll(200) {
            0..90 => {
                let access = if self.dice.roll(2) == 0 {
                    Access::Read
                } else {
                    Access::Write
                };
                let granule = self.dice.roll(plan.granules);
                self.want(at, granule, access)
            }
            90..93 => self.world.detach(at),
            93 if plan.deaths && at != self.world.rules.home => {
                if self.world.nodes.contains_key(&at) {
                    self.world.kill(at);
                } else if self.world.can_start(at) {
                    self.world.start(at);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn want(&mut self, at: NodeId, granule: u64, access: Access) -> Result<(), Failure> {
        let node = self.world.nodes.get(&at);
        if node.is_none_or(|node| node.wants.contains_key(&(granule, access))) {
            return Ok(());
        }
        self.world.want(at, granule, access)
    }

    /// What can happen by now.
    fn due(&self) -> Vec<Event> {
        let mut events = self.world.events();
        let now = self.world.now;
        events.retain(|event| !matches!(event, Event::Alarm { time, .. } if *time > now));
        events
    }

    fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Deliver { from, to } => {
                if let Some(letter) = self.world.next_letter(from, to) {
                    *self.seen.entry(kind(&letter.message)).or_default() += 1;
                }
            }
            Event::Retry {
                at,
                granule,
                access,
            } if self.world.nodes[&at].can(granule, access) => {
                *self.seen.entry("accesses").or_default() += 1;
            }
            _ => {}
        }
        self.world.happen(event)
    }

    /// Lets everything that is under way come to its end. A thread that may go
    /// on does so before anything is taken from it, as the quantum sees to.
    fn drain(&mut self) -> Result<(), Failure> {
        for _ in 0..20_000 {
            let mut events = self.due();
            let retry = |event: &Event| matches!(event, Event::Retry { .. });
            if events.iter().any(retry) {
                events.retain(retry);
            }
            if let Some(event) = self.dice.pick(&events) {
                self.happen(event)?;
                continue;
            }
            let nodes = self.world.nodes.values();
            match nodes.filter_map(|node| node.alarms.first()).min() {
                Some(&(time, _)) => self.world.now = time,
                None => return self.world.check_at_rest(),
            }
        }
        Err(Failure::Stuck {
            what: "the traffic",
        })
    }

    /// In the end everybody can still read everything, and sees the last write.
    fn read_all(&mut self) -> Result<(), Failure> {
        for granule in 0..self.world.rules.granules {
            let ids: Vec<NodeId> = self.world.nodes.keys().copied().collect();
            for id in ids {
                self.want(id, granule, Access::Read)?;
            }
            self.drain()?;
        }
        Ok(())
    }
}
