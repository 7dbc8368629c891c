//! What who leads remembers of the change under way, from one turn to the next.
//!
//! What counts is the topology: nothing here decides that a partition may step.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::Factors;
use crate::placement::{ChangeId, PartitionId, TopologyChange};
use crate::ports::{Checkpoint, Instant, MigrationProgress};

/// A change has another shape when it was cancelled, or a node was given up.
#[derive(PartialEq, Eq)]
struct Shape {
    id: ChangeId,
    cancelled: bool,
    given_up: usize,
}

impl Shape {
    fn of(change: &TopologyChange) -> Self {
        Self {
            id: change.id.clone(),
            cancelled: change.cancelled,
            given_up: change.given_up.len(),
        }
    }
}

/// What who leads remembers of the change under way. Nothing of it is needed by who leads next.
#[derive(Default)]
pub(super) struct Memory {
    /// Of which change, in which shape.
    of: Option<Shape>,
    /// Partitions whose old copies are gone, and are noted as such.
    pub(super) cleaned: BTreeSet<PartitionId>,
    /// Records and bytes that were exchanged for partitions that are not noted yet.
    pub(super) moved: BTreeMap<PartitionId, (u64, u64)>,
    /// Partitions that are handed over, whose new owners know how far back writes may be that they never heard of.
    pub(super) horizons: BTreeSet<PartitionId>,
    /// Replication factors that were in use in the last turn.
    pub(super) factors: Option<Factors>,
    /// Records and bytes that were exchanged for those that are.
    pub(super) noted: (u64, u64),
    /// When all that was moved is paid for.
    pub(super) paid_at: Instant,
    /// At this pace, in bytes a second.
    pub(super) pace: Option<u64>,
    /// Where copying is to go on: the first partition to which the last turn did not come.
    pub(super) next: Option<PartitionId>,
    /// The same of giving up copies.
    pub(super) next_clean: Option<PartitionId>,
    /// When something last moved, and how far it was then.
    pub(super) moved_at: Instant,
    /// See above.
    pub(super) far: Option<(u64, [usize; 4])>,
}

impl Memory {
    /// What is known of a change from what was noted of its partitions.
    pub(super) fn of(change: &TopologyChange, checkpoints: &[Checkpoint], now: Instant) -> Self {
        let sum = |of: fn(&Checkpoint) -> u64| checkpoints.iter().map(of).sum();
        // Those of before a cancelled change led back say nothing of the way back, nor those of what moves again.
        let counts = |partition: &PartitionId| {
            let moving = change.of(*partition);
            !change.cancelled && moving.is_some_and(|moving| !moving.again)
        };
        let partitions = checkpoints.iter().map(|it| it.partition);
        Self {
            of: Some(Shape::of(change)),
            noted: (sum(|it| it.keys), sum(|it| it.bytes)),
            cleaned: partitions.filter(counts).collect(),
            moved_at: now,
            ..Self::default()
        }
    }

    /// What was told already was exchanged, though not all of it was noted partition by partition: it is not exchanged
    /// once more, so what is counted from now on comes on top of it.
    pub(super) fn goes_on_from(&mut self, told: &MigrationProgress) {
        self.noted = (self.noted.0.max(told.keys), self.noted.1.max(told.bytes));
    }

    /// Whether it is of this change, as it is now.
    pub(super) fn is_of(&self, change: &TopologyChange) -> bool {
        self.of == Some(Shape::of(change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_never_shows_less_than_was_shown() {
        let told = |keys, bytes| MigrationProgress {
            keys,
            bytes,
            ..MigrationProgress::default()
        };
        let mut memory = Memory {
            noted: (10, 700),
            ..Memory::default()
        };
        memory.goes_on_from(&told(12, 900));
        assert_eq!(
            memory.noted,
            (12, 900),
            "not all was noted partition by partition"
        );
        memory.goes_on_from(&told(3, 1_000));
        assert_eq!(
            memory.noted,
            (12, 1_000),
            "told before the last partitions were noted"
        );
    }
}
