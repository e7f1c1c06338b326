//! The shortest way to what goes wrong, to be read.

use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

use super::{Bounds, Cluster, State, Step};

/// What went wrong, and how.
pub(super) struct Counterexample {
    pub(super) property: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) states: usize,
    last: State,
}

/// Breadth first, by one thread: the same bounds give the same counterexample.
pub(super) fn shortest(bounds: Bounds) -> Option<Counterexample> {
    let (mut best, mut states) = (None::<Counterexample>, 0);
    loop {
        let search = Cluster::new(bounds).checker();
        let search = search.finish_when(HasDiscoveries::AnyFailures);
        // The checker looks at some states more once it has found one, and the
        // last that it finds may be deeper: there may be a shorter way.
        let search = match &best {
            Some(best) => search.target_max_depth(best.steps.len() + 1),
            None => search,
        };
        let checker = search.spawn_bfs().join();
        states += checker.unique_state_count();
        let found = checker.discoveries().into_iter();
        let Some((property, path)) =
            found.min_by_key(|(name, path)| (path.clone().into_actions().len(), *name))
        else {
            return best.map(|best| Counterexample { states, ..best });
        };
        best = Some(Counterexample {
            property,
            last: path.last_state().clone(),
            steps: path.into_actions(),
            states,
        });
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}` does not hold:", self.property)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:4}  {step:?}", number + 1)?;
        }
        match self.last.failure {
            Some(failure) => writeln!(f, "      {failure}"),
            None => writeln!(f, "      {:#?}", self.last.world),
        }
    }
}
