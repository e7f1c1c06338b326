//! What happens next, decided by a seed.

use dipc_wire::NodeId;
use dipc_wire::coherence::Access;

use super::checks::Failure;
use super::world::{Sabotage, World, node};
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

/// What can happen without anybody wanting anything new.
#[derive(Clone, Copy)]
enum Event {
    Deliver(NodeId, NodeId),
    Learn(NodeId, NodeId),
    Attempt(NodeId, usize),
    Alarm(NodeId, u64, u64),
    LateDrop(NodeId),
}

/// Runs a plan to its end.
pub(super) fn run(plan: Plan) -> Result<World, Failure> {
    let mut world = World::new(plan.nodes, plan.granules, plan.quantum);
    world.sabotage = plan.sabotage;
    let mut dice = Dice(plan.seed);
    for step in 0..plan.steps {
        if plan.home_dies && step == plan.steps / 4 * 3 {
            world.kill(world.home);
        }
        world.now += dice.roll(4);
        disturb(&mut world, &mut dice, &plan)?;
        if let Some(event) = dice.pick(&events(&world)) {
            happen(&mut world, event)?;
        }
    }
    drain(&mut world, &mut dice)?;
    read_all(&mut world, &mut dice)?;
    Ok(world)
}

/// Programs and fate.
fn disturb(world: &mut World, dice: &mut Dice, plan: &Plan) -> Result<(), Failure> {
    let at = node(1 + dice.roll(u64::from(plan.nodes)) as u8);
    match dice.roll(200) {
        0..90 => {
            let thread = dice.roll(3) as usize;
            let busy = world
                .nodes
                .get(&at)
                .is_none_or(|n| n.threads[thread].wants.is_some());
            let access = if dice.roll(2) == 0 {
                Access::Read
            } else {
                Access::Write
            };
            let granule = dice.roll(plan.granules);
            if !busy {
                world.want(at, thread, granule, access);
            }
        }
        90..93 => world.detach(at)?,
        93 if plan.deaths && at != world.home => {
            // Nobody attaches a segment whose home is dead.
            let home_lives = world.nodes.contains_key(&world.home);
            let known = home_lives && !world.news.iter().any(|&(_, dead)| dead == at);
            match world.nodes.contains_key(&at) {
                true => world.kill(at),
                false if known => world.start(at),
                false => {}
            }
        }
        _ => {}
    }
    Ok(())
}

fn events(world: &World) -> Vec<Event> {
    let mut events: Vec<Event> = world
        .links
        .keys()
        .map(|&(f, t)| Event::Deliver(f, t))
        .collect();
    events.extend(
        world
            .news
            .iter()
            .map(|&(learner, dead)| Event::Learn(learner, dead)),
    );
    for (&id, node) in &world.nodes {
        let ready = (0..node.threads.len())
            .filter(|&t| node.threads[t].wants.is_some() && !node.threads[t].waits);
        events.extend(ready.map(|thread| Event::Attempt(id, thread)));
        let due = node.alarms.iter().filter(|&&(at, _)| at <= world.now);
        events.extend(due.map(|&(at, granule)| Event::Alarm(id, at, granule)));
        events.extend(node.late_drops.iter().map(|_| Event::LateDrop(id)));
    }
    events
}

fn happen(world: &mut World, event: Event) -> Result<(), Failure> {
    match event {
        Event::Deliver(from, to) => world.deliver(from, to),
        Event::Learn(learner, dead) => world.learn(learner, dead),
        Event::Attempt(at, thread) => world.attempt(at, thread),
        Event::Alarm(at, time, granule) => {
            let node = world.nodes.get_mut(&at);
            node.map(|node| node.alarms.remove(&(time, granule)));
            world.expire(at, granule)
        }
        Event::LateDrop(at) => {
            if let Some(node) = world.nodes.get_mut(&at)
                && let Some(granule) = node.late_drops.pop()
            {
                node.memory.remove(&granule);
            }
            Ok(())
        }
    }
}

/// Lets everything that is under way come to its end. A thread that may go on
/// does so before anything is taken from it, as the quantum sees to.
fn drain(world: &mut World, dice: &mut Dice) -> Result<(), Failure> {
    for _ in 0..20_000 {
        let mut events = events(world);
        if events
            .iter()
            .any(|event| matches!(event, Event::Attempt(..)))
        {
            events.retain(|event| matches!(event, Event::Attempt(..)));
        }
        match dice.pick(&events) {
            Some(event) => happen(world, event)?,
            None => match world.nodes.values().filter_map(|n| n.alarms.first()).min() {
                Some(&(at, _)) => world.now = at,
                None => return world.check_at_rest(),
            },
        }
    }
    Err(Failure::Stuck {
        what: "the traffic",
    })
}

/// In the end everybody can still read everything, and sees the last write.
fn read_all(world: &mut World, dice: &mut Dice) -> Result<(), Failure> {
    for granule in 0..world.granules {
        let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
        ids.into_iter()
            .for_each(|id| world.want(id, 0, granule, Access::Read));
        drain(world, dice)?;
    }
    Ok(())
}
