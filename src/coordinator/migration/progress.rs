//! How the changes of owners go on, in numbers, for metrics.
//!
//! Whoever leads writes them down after each step; whoever is asked for metrics reads them. What it is not: the state
//! of a migration, which is in the metadata store and in the topology.
//!
//! Invariant: how long nothing has moved grows by itself, so a leader that hangs is seen to hang.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::ports::Instant;

/// What the coordinator that leads knows. All zero where another one leads.
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
    /// Records that this coordinator had copied since it started.
    pub keys: u64,
    /// Bytes that this took.
    pub bytes: u64,
    /// For how long the migration under way has moved nothing; 0 while none is.
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
pub struct MigrationBoard(Mutex<Option<(MigrationGauges, Instant)>>);

impl MigrationBoard {
    /// Replaces them. `now` is when they were true.
    pub fn update(&self, gauges: MigrationGauges, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((gauges, now));
    }

    /// Them, as they are at `now`.
    #[must_use]
    pub fn gauges(&self, now: Instant) -> MigrationGauges {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((gauges, since)) = kept.as_ref() else {
            return MigrationGauges::default();
        };
        let silence: Duration = match gauges.leads && gauges.in_progress() > 0 {
            true => now.since(*since),
            false => Duration::ZERO,
        };
        MigrationGauges {
            stalled_seconds: gauges.stalled_seconds.saturating_add(silence.as_secs()),
            ..gauges.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        board.update(
            MigrationGauges {
                pending: 2,
                stalled_seconds: 0,
                ..gauges
            },
            start,
        );
        assert_eq!(board.gauges(later).stalled_seconds, 0, "nothing is to move");
    }
}
