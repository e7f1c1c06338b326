//! What x86-TSO allows, by its abstract machine: each process has a buffer of
//! stores, first in first out; a load sees the youngest store to its variable in
//! its own buffer, else memory; a fence waits until the buffer is empty; the
//! oldest store of any buffer may reach memory at any time (Owens, Sarkar and
//! Sewell 2009). With a fence between any two steps that is sequential
//! consistency.

use std::collections::{BTreeSet, HashSet};

use crate::shapes::Shape;

/// What was read, by register, and what is left in x and y.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Outcome {
    pub(crate) registers: [u8; 4],
    pub(crate) left: [u8; 2],
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Store(usize, u8),
    Load(usize, usize),
    Fence,
}

fn variable(name: &str) -> usize {
    usize::from(name == "y")
}

fn parse(word: &str) -> Step {
    match word.split_once('=') {
        None => Step::Fence,
        Some((register, from)) if register.starts_with('r') => {
            let register = register[1..].parse().expect("a register's number");
            Step::Load(variable(from), register)
        }
        Some((to, value)) => Step::Store(variable(to), value.parse().expect("a value")),
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Machine {
    memory: [u8; 2],
    registers: [u8; 4],
    /// How many of its steps each process has done, and what it has buffered.
    processes: Vec<(usize, Vec<(usize, u8)>)>,
}

impl Machine {
    fn step(&self, process: usize, step: Step) -> Option<Machine> {
        let mut next = self.clone();
        let (done, buffer) = &mut next.processes[process];
        match step {
            Step::Store(variable, value) => buffer.push((variable, value)),
            Step::Load(variable, register) => {
                let own = buffer.iter().rev().find(|store| store.0 == variable);
                next.registers[register] = own.map_or(self.memory[variable], |store| store.1);
            }
            Step::Fence if !buffer.is_empty() => return None,
            Step::Fence => {}
        }
        *done += 1;
        Some(next)
    }

    fn write_back(&self, process: usize) -> Option<Machine> {
        let mut next = self.clone();
        let buffer = &mut next.processes[process].1;
        if buffer.is_empty() {
            return None;
        }
        let (variable, value) = buffer.remove(0);
        next.memory[variable] = value;
        Some(next)
    }
}

/// All outcomes that x86-TSO allows.
pub(crate) fn allowed(shape: &Shape, fenced: bool) -> BTreeSet<Outcome> {
    let programs: Vec<Vec<Step>> = (0..shape.processes.len())
        .map(|process| {
            let steps = shape.steps(process, fenced);
            steps.split(' ').map(parse).collect()
        })
        .collect();
    let mut open = vec![Machine {
        memory: [0; 2],
        registers: [0; 4],
        processes: vec![(0, Vec::new()); programs.len()],
    }];
    let mut seen: HashSet<Machine> = open.iter().cloned().collect();
    let mut outcomes = BTreeSet::new();
    while let Some(machine) = open.pop() {
        let processes = 0..programs.len();
        let steps = processes.clone().filter_map(|process| {
            let step = programs[process].get(machine.processes[process].0)?;
            machine.step(process, *step)
        });
        let write_backs = processes.filter_map(|process| machine.write_back(process));
        let next: Vec<Machine> = steps.chain(write_backs).collect();
        // A fence that waits has a buffer behind it that can be written back.
        if next.is_empty() {
            outcomes.insert(Outcome {
                registers: machine.registers,
                left: machine.memory,
            });
        }
        open.extend(next.into_iter().filter(|next| seen.insert(next.clone())));
    }
    outcomes
}

/// Whether it is the outcome that a shape was made to see.
pub(crate) fn is_weak(shape: &Shape, outcome: &Outcome) -> bool {
    let (registers, left) = shape.weak;
    let fits = |wanted: &[Option<u8>], found: &[u8]| {
        let pairs = wanted.iter().zip(found);
        pairs.into_iter().all(|(w, f)| w.is_none_or(|w| w == *f))
    };
    fits(&registers, &outcome.registers) && fits(&left, &outcome.left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::SHAPES;

    fn allows_weak(shape: &Shape, fenced: bool) -> bool {
        allowed(shape, fenced).iter().any(|o| is_weak(shape, o))
    }

    #[test]
    fn the_weak_outcomes_are_judged_as_the_literature_does() {
        for shape in &SHAPES {
            assert_eq!(
                allows_weak(shape, false),
                shape.tso_allows,
                "{}",
                shape.name
            );
            assert!(!allows_weak(shape, true), "{} with fences", shape.name);
        }
    }

    #[test]
    fn fences_forbid_only_what_is_not_sequentially_consistent() {
        for shape in &SHAPES {
            let (plain, fenced) = (allowed(shape, false), allowed(shape, true));
            assert!(fenced.is_subset(&plain), "{}", shape.name);
            assert_eq!(plain == fenced, !shape.tso_allows, "{}", shape.name);
        }
    }
}
