//! Keeps the rosters that a loop was given: the loop frees no memory, so another thread must.

use std::sync::{Arc, Mutex, PoisonError};

use faceptor_gallery::Roster;

/// Keeps each roster until neither the loop nor a result refers to it.
#[derive(Debug, Default)]
pub(crate) struct RosterKeeper {
    states: Mutex<Vec<Arc<Roster>>>,
}

impl RosterKeeper {
    /// Keeps a roster before the loop gets it, and frees rosters that nothing refers to any more.
    pub fn keep(&self, roster: &Arc<Roster>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|state| Arc::strong_count(state) > 1);
        states.push(roster.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kept_as_long_as_they_are_in_use() {
        let (keeper, first) = (RosterKeeper::default(), Arc::new(Roster::default()));
        keeper.keep(&first);
        let weak = Arc::downgrade(&first);
        let in_use = first.clone();
        drop(first);
        keeper.keep(&Arc::new(Roster::default()));
        drop(in_use);
        assert_eq!(weak.strong_count(), 1, "the last one is the keeper's");
        keeper.keep(&Arc::new(Roster::default()));
        assert_eq!(weak.strong_count(), 0);
    }
}
