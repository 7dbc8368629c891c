//! Who of the node's callers is of an older release, for whoever must wait until all are upgraded.
//!
//! Coordinators ask every node how it is every second, so one that runs is seen again and again; one that was upgraded
//! is forgotten after a while. Bounded: of more than a few the first are enough to name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ports::Instant;

/// Who was not seen for so long is there no more: several times what coordinators wait between two probes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// So many are remembered.
const CALLERS_MAX: usize = 16;

/// When each was last seen.
#[derive(Default)]
pub(super) struct OlderCallers(Mutex<BTreeMap<Arc<str>, Instant>>);

impl OlderCallers {
    /// This one asks for something.
    pub(super) fn saw(&self, name: &Arc<str>, now: Instant) {
        let mut callers = self.lock();
        if let Some(at) = callers.get_mut(name) {
            *at = now;
            return;
        }
        forget(&mut callers, now);
        if callers.len() < CALLERS_MAX {
            callers.insert(Arc::clone(name), now);
        }
    }

    /// Those that asked for something a moment ago.
    pub(super) fn recent(&self, now: Instant) -> Vec<Arc<str>> {
        let mut callers = self.lock();
        forget(&mut callers, now);
        callers.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(callers: &mut BTreeMap<Arc<str>, Instant>, now: Instant) {
    callers.retain(|_, at| now.since(*at) < FORGOTTEN_AFTER);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().copied().map(Arc::from).collect()
    }

    #[test]
    fn who_was_seen_a_moment_ago_is_named() {
        let callers = OlderCallers::default();
        assert!(callers.recent(at(0)).is_empty());
        callers.saw(&"b".into(), at(1));
        callers.saw(&"a".into(), at(2));
        callers.saw(&"b".into(), at(4));
        assert_eq!(callers.recent(at(6)), names(&["a", "b"]));
        assert_eq!(callers.recent(at(7)), names(&["b"]));
        assert!(callers.recent(at(9)).is_empty());
    }

    #[test]
    fn no_more_are_remembered_than_are_worth_naming() {
        let callers = OlderCallers::default();
        for number in 0..1_000 {
            callers.saw(&format!("caller {number}").into(), at(0));
        }
        assert_eq!(callers.recent(at(1)).len(), CALLERS_MAX);
        callers.saw(&"after them".into(), at(5));
        assert_eq!(callers.recent(at(5)), names(&["after them"]));
    }
}
