//! The source of stamps.
//!
//! It is not a clock by itself: whoever ticks it brings the wall time, so it is a plain value and deterministic.
//!
//! Invariant: every stamp that [`tick`](HybridClock::tick) returns is greater than all that this clock returned or
//! followed before, whatever the wall clock does.

use super::Stamp;

/// Wall time beyond this millisecond (the year 6429) is nonsense and not followed, neither our own nor another's. Half
/// of all stamps lie above it, so that a clock once driven here can still tick for ever.
const HORIZON_MS: u64 = 1 << 47;

/// A hybrid logical clock (Kulkarni et al. 2014).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// A clock that goes on after `last`, as a replica does after a restart.
    pub fn resume(last: Stamp) -> HybridClock {
        HybridClock { last }
    }

    /// The greatest stamp given out or followed.
    pub fn last(&self) -> Stamp {
        self.last
    }

    /// A new stamp: the wall time if that is later than all before, else the one after the last.
    pub fn tick(&mut self, wall_ms: u64) -> Stamp {
        let wall = Stamp::new(wall_ms.min(HORIZON_MS), 0);
        let after_last = self
            .last
            .next()
            .expect("a clock resumed at the very last stamp can't go on");
        self.last = wall.max(after_last);
        self.last
    }

    /// Follows a stamp seen elsewhere, unless its wall part is beyond `limit_wall_ms`.
    ///
    /// True promises that the next tick is greater than `seen`. False means that its clock is too far ahead of ours to
    /// be followed, and that this clock did not move.
    pub fn observe(&mut self, seen: Stamp, limit_wall_ms: u64) -> bool {
        if seen <= self.last {
            return true;
        }
        if seen.wall_ms() > limit_wall_ms.min(HORIZON_MS) {
            return false;
        }
        self.last = seen;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_wall_when_it_advances() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.tick(1000), Stamp::new(1000, 0));
        assert_eq!(clock.tick(1005), Stamp::new(1005, 0));
    }

    #[test]
    fn goes_on_logically_when_the_wall_stands_or_goes_back() {
        let mut clock = HybridClock::default();
        clock.tick(1000);
        assert_eq!(clock.tick(1000), Stamp::new(1000, 1));
        assert_eq!(clock.tick(3), Stamp::new(1000, 2));
    }

    #[test]
    fn follows_another_clock_within_the_limit_only() {
        let mut clock = HybridClock::default();
        clock.tick(1000);
        assert!(clock.observe(Stamp::new(1500, 9), 1500));
        assert_eq!(clock.tick(1001), Stamp::new(1500, 10));
        assert!(!clock.observe(Stamp::new(1501, 0), 1500));
        assert_eq!(clock.tick(1001), Stamp::new(1500, 11));
    }

    #[test]
    fn a_stamp_already_passed_needs_no_limit() {
        let mut clock = HybridClock::resume(Stamp::new(9000, 0));
        assert!(clock.observe(Stamp::new(8000, 0), 1000));
        assert_eq!(clock.last(), Stamp::new(9000, 0));
    }

    #[test]
    fn no_wall_uses_the_stamps_up() {
        let mut clock = HybridClock::default();
        let first = clock.tick(u64::MAX);
        assert!(clock.tick(u64::MAX) > first);
        assert!(!clock.observe(Stamp::MAX, u64::MAX));
        assert!(clock.last() < Stamp(u64::MAX / 2 + 10));
    }
}
