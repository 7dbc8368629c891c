//! What the log says of wall clocks that are ahead: once when one is found to be, once when it no longer is, and a
//! reminder now and then. Clocks are compared every second, and metrics have each comparison.
//!
//! Invariant: of one clock no two lines come within [`PAUSE`], also where it goes to and fro over the bound.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::placement::NodeId;
use crate::ports::Instant;

/// Between two lines of one clock.
const PAUSE: Duration = Duration::from_secs(60);
/// After so long the same is said again.
const REMINDER: Duration = Duration::from_secs(3600);

/// Whose clock: a node's, or (`None`) the coordinator's own.
type Whose = Option<NodeId>;

/// What is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tell {
    /// It is ahead.
    Ahead,
    /// It was, and is no longer.
    RightAgain,
}

/// What was said last of each clock that was ahead once.
#[derive(Debug, Default)]
pub(super) struct ClockWatch(Mutex<BTreeMap<Whose, Told>>);

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    is_ahead: bool,
}

impl ClockWatch {
    /// What is to be said of a clock that is ahead, or is not.
    pub(super) fn saw(&self, whose: Whose, is_ahead: bool, now: Instant) -> Option<Tell> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = all.get(&whose).copied();
        let is_news = match told {
            None => is_ahead,
            Some(told) => {
                let silence = now.since(told.at);
                let changed = told.is_ahead != is_ahead;
                changed && silence >= PAUSE || is_ahead && silence >= REMINDER
            }
        };
        if !is_news {
            return None;
        }
        all.insert(whose, Told { at: now, is_ahead });
        Some(match is_ahead {
            true => Tell::Ahead,
            false => Tell::RightAgain,
        })
    }

    /// Forgets nodes that left.
    pub(super) fn keep(&self, stays: impl Fn(&NodeId) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|whose, _| whose.as_ref().is_none_or(&stays));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(of: impl Fn(u64) -> bool, seconds: u64) -> Vec<(u64, Tell)> {
        let watch = ClockWatch::default();
        let at = |second| Instant(0) + Duration::from_secs(second);
        let told = (0..seconds).filter_map(|now| Some((now, watch.saw(None, of(now), at(now))?)));
        told.collect()
    }

    #[test]
    fn a_clock_that_stays_ahead_is_told_of_once_and_then_every_hour() {
        let told = said(|_| true, 2 * 3600 + 1);
        assert_eq!(
            told,
            [(0, Tell::Ahead), (3600, Tell::Ahead), (7200, Tell::Ahead)]
        );
        assert_eq!(said(|_| false, 7200), []);
    }

    #[test]
    fn a_change_is_told_of() {
        let told = said(|now| (10..100).contains(&now), 7200);
        assert_eq!(told, [(10, Tell::Ahead), (100, Tell::RightAgain)]);
    }

    #[test]
    fn a_clock_that_goes_to_and_fro_makes_a_line_a_minute_at_most() {
        let told = said(|now| now % 2 == 0, 600);
        assert!(told.len() <= 10, "{told:?}");
        assert!(told.windows(2).all(|two| two[1].0 - two[0].0 >= 60));
    }

    #[test]
    fn clocks_are_told_apart_and_forgotten() {
        let watch = ClockWatch::default();
        let node = || Some(NodeId::new("n1").unwrap());
        let now = Instant(0);
        assert_eq!(watch.saw(node(), true, now), Some(Tell::Ahead));
        assert_eq!(watch.saw(None, true, now), Some(Tell::Ahead));
        assert_eq!(watch.saw(node(), true, now), None);
        watch.keep(|_| false);
        assert_eq!(watch.saw(node(), true, now), Some(Tell::Ahead));
        assert_eq!(watch.saw(None, true, now), None);
    }
}
