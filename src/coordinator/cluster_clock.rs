//! Where the stamps of writes come from: a hybrid clock over a wall clock that is not trusted.
//!
//! Probes tell how far each storage node's wall clock is from ours. When ours is ahead of their median by more than a
//! bound, it is reported and followed no further than the bound. Stamps of others that are further ahead than that are
//! overtaken for their own key only and do not pull this clock along.
//!
//! Nothing here is needed for safety: an owner accepts a stamp only above what it holds.
//! Source: Kulkarni, Demirbas, Madappa, Avva, Leone, *Logical Physical Clocks*, 2014.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::NodeId;
use crate::version::{HybridClock, Stamp};

/// Draws stamps.
#[derive(Debug)]
pub(super) struct ClusterClock {
    ahead_max_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hybrid: HybridClock,
    /// Node's wall clock minus ours, by node; one entry for each probed node of the topology.
    offset_ms: BTreeMap<NodeId, i64>,
    /// The median of the above.
    median_ms: Option<i64>,
}

impl ClusterClock {
    pub(super) fn new(ahead_max: Duration) -> Self {
        let ahead_max_ms = u64::try_from(ahead_max.as_millis()).unwrap_or(u64::MAX);
        Self {
            ahead_max_ms,
            state: Mutex::default(),
        }
    }

    /// A stamp above all that were drawn here before.
    pub(super) fn tick(&self, wall_ms: u64) -> Stamp {
        let mut state = self.lock();
        let bounded = self.bounded(&state, wall_ms);
        state.hybrid.tick(bounded)
    }

    /// A stamp above `greatest` and above all that were drawn here before. `None` at the end of time.
    pub(super) fn tick_above(&self, greatest: Stamp, wall_ms: u64) -> Option<Stamp> {
        let mut state = self.lock();
        let bounded = self.bounded(&state, wall_ms);
        state
            .hybrid
            .observe(greatest, bounded.saturating_add(self.ahead_max_ms));
        let drawn = state.hybrid.tick(bounded);
        if mutant::on(Mutant::RaiseNotAbove) {
            return Some(drawn);
        }
        Some(drawn.max(greatest.next()?))
    }

    /// Learns of a stamp, so that the next one drawn is above it unless it is too far ahead.
    pub(super) fn observe(&self, seen: Stamp, wall_ms: u64) {
        let mut state = self.lock();
        let bounded = self.bounded(&state, wall_ms);
        if seen.wall_ms() > bounded.saturating_add(self.ahead_max_ms) {
            marks::reached(Mark::StampAheadIgnored);
        }
        state
            .hybrid
            .observe(seen, bounded.saturating_add(self.ahead_max_ms));
    }

    /// Learns how far a node's wall clock is from ours. Returns how far ours is ahead of the median, in milliseconds
    /// (negative: behind).
    pub(super) fn probed(&self, node: &NodeId, offset_ms: i64) -> i64 {
        let mut state = self.lock();
        state.offset_ms.insert(node.clone(), offset_ms);
        let mut sorted: Vec<i64> = state.offset_ms.values().copied().collect();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        state.median_ms = Some(median);
        median.saturating_neg()
    }

    /// How far each storage node's wall clock is ahead of ours, in milliseconds (negative: behind), and the median of
    /// that.
    pub(super) fn offsets_ms(&self) -> (Vec<(NodeId, i64)>, Option<i64>) {
        let state = self.lock();
        let offsets = state
            .offset_ms
            .iter()
            .map(|(node, offset)| (node.clone(), *offset));
        (offsets.collect(), state.median_ms)
    }

    /// Forgets nodes that left.
    pub(super) fn keep(&self, stays: impl Fn(&NodeId) -> bool) {
        self.lock().offset_ms.retain(|node, _| stays(node));
    }

    fn bounded(&self, state: &State, wall_ms: u64) -> u64 {
        let Some(median) = state.median_ms else {
            return wall_ms;
        };
        let most = wall_ms
            .saturating_add_signed(median)
            .saturating_add(self.ahead_max_ms);
        if wall_ms > most {
            marks::reached(Mark::ClockBounded);
        }
        wall_ms.min(most)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> ClusterClock {
        ClusterClock::new(Duration::from_secs(1))
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn a_wall_clock_an_hour_ahead_of_the_nodes_is_followed_a_second_only() {
        let clock = clock();
        for name in ["a", "b", "c"] {
            assert_eq!(clock.probed(&node(name), -3_600_000), 3_600_000);
        }
        assert_eq!(
            clock.tick(10_000_000).wall_ms(),
            10_000_000 - 3_600_000 + 1_000
        );
    }

    #[test]
    fn one_node_that_is_off_does_not_move_the_median() {
        let clock = clock();
        clock.probed(&node("a"), 0);
        clock.probed(&node("b"), 1);
        assert_eq!(clock.probed(&node("c"), -3_600_000), 0);
        assert_eq!(clock.tick(5_000).wall_ms(), 5_000);
    }

    #[test]
    fn a_stamp_far_ahead_is_overtaken_but_not_followed() {
        let clock = clock();
        let far = Stamp::new(1_000_000, 0);
        assert!(clock.tick_above(far, 10_000).unwrap() > far);
        assert_eq!(clock.tick(10_001).wall_ms(), 10_001);
    }

    #[test]
    fn stamps_never_go_back_when_the_wall_clock_does() {
        let clock = clock();
        let before = clock.tick(10_000);
        assert!(clock.tick(1) > before);
    }

    #[test]
    fn there_is_nothing_above_the_greatest_stamp() {
        assert_eq!(clock().tick_above(Stamp::MAX, 1), None);
    }
}
