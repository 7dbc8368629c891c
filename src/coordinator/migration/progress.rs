//! How the changes of owners go on, in numbers, for metrics.
//!
//! Whoever leads writes them down after each turn; whoever is asked for metrics reads them. What it is not: the state
//! of a migration, which is in the metadata store and in the topology.
//!
//! Invariant: how long nothing has moved grows by itself, so a leader that hangs is seen to hang.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ports::Instant;

/// What the coordinator that leads knows. Where another one leads, or nobody does, only how many there are is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MigrationGauges {
    /// Migrations that are not over.
    pub open: u64,
    /// Those of them that wait for their turn.
    pub pending: u64,
    /// Partitions of the one under way whose owners are still the old ones alone.
    pub waiting: u64,
    /// Partitions whose data is copied to the new owners.
    pub copying: u64,
    /// Partitions whose requests use the old owners and the new ones.
    pub handing_over: u64,
    /// Partitions whose owners are the new ones alone.
    pub moved: u64,
    /// How many partitions may be worked on at the same time now: few while that would hold up requests.
    pub at_once: u64,
    /// Records that this coordinator had exchanged for changes of owners since it started, whether it leads now or not.
    pub keys: u64,
    /// Bytes that this took.
    pub bytes: u64,
    /// For how long there have been migrations and none of them has moved anything.
    pub stalled_seconds: u64,
    /// Whether this coordinator leads.
    pub leads: bool,
    /// What it waits for, and what would help.
    pub waits_for: Option<String>,
}

impl MigrationGauges {
    /// Migrations that have begun and are not over.
    #[must_use]
    pub const fn in_progress(&self) -> u64 {
        self.open.saturating_sub(self.pending)
    }
}

/// Where the gauges are kept.
#[derive(Debug, Default)]
pub struct MigrationBoard {
    told: Mutex<Option<(MigrationGauges, Instant)>>,
    keys: AtomicU64,
    bytes: AtomicU64,
}

impl MigrationBoard {
    /// Counts records and bytes that were exchanged. While there are any, nothing stands still.
    pub(super) fn moved(&self, (keys, bytes): (u64, u64), now: Instant) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((gauges, since)) = told.as_mut().filter(|_| keys + bytes > 0) {
            (gauges.stalled_seconds, *since) = (0, now);
        }
    }

    /// Replaces them, but for what is counted here. `now` is when they were true.
    pub fn update(&self, gauges: MigrationGauges, now: Instant) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((gauges, now));
    }

    /// Them, as they are at `now`.
    #[must_use]
    pub fn gauges(&self, now: Instant) -> MigrationGauges {
        let kept = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, bytes) = (&self.keys, &self.bytes);
        let (keys, bytes) = (keys.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        let Some((gauges, since)) = kept.as_ref() else {
            return MigrationGauges {
                keys,
                bytes,
                ..MigrationGauges::default()
            };
        };
        let silence: Duration = match gauges.leads && gauges.open > 0 {
            true => now.since(*since),
            false => Duration::ZERO,
        };
        MigrationGauges {
            stalled_seconds: gauges.stalled_seconds.saturating_add(silence.as_secs()),
            keys,
            bytes,
            ..gauges.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_counted_on_whoever_leads_and_whatever_is_moved_next() {
        let board = MigrationBoard::default();
        board.moved((3, 300), Instant(1));
        board.update(MigrationGauges::default(), Instant(1));
        board.moved((2, 20), Instant(1));
        let gauges = board.gauges(Instant(2));
        assert_eq!((gauges.keys, gauges.bytes), (5, 320));
    }

    #[test]
    fn a_leader_that_hangs_is_seen_to_hang() {
        let board = MigrationBoard::default();
        let start = Instant(1_000_000_000);
        let later = start + Duration::from_secs(90);
        assert_eq!(board.gauges(later), MigrationGauges::default());
        let gauges = MigrationGauges {
            open: 2,
            pending: 1,
            stalled_seconds: 5,
            leads: true,
            ..MigrationGauges::default()
        };
        board.update(gauges.clone(), start);
        assert_eq!(board.gauges(start), gauges);
        assert_eq!(board.gauges(later).stalled_seconds, 95);
        board.moved((0, 0), later);
        assert_eq!(board.gauges(later).stalled_seconds, 95, "nothing was moved");
        board.moved((1, 1), later);
        assert_eq!(
            board.gauges(later).stalled_seconds,
            0,
            "in the middle of a turn"
        );
        board.update(
            MigrationGauges {
                open: 0,
                pending: 0,
                stalled_seconds: 0,
                ..gauges
            },
            start,
        );
        assert_eq!(board.gauges(later).stalled_seconds, 0, "nothing is to move");
    }
}
