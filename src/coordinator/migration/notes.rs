//! What who leads notes of a change for who leads next, and what it tells people.

use std::collections::BTreeSet;

use super::lead::Leader;
use super::memory::Memory;
use super::progress::MigrationGauges;
use super::stored::open_migrations;
use super::turn::Outcome;
use crate::placement::{MoveState, PartitionId, TopologyChange};
use crate::ports::{
    Checkpoint, Clock, CoordinatorWorld, MetadataStore, Migration, MigrationStatus, StoreError,
};

impl<W: CoordinatorWorld> Leader<W> {
    /// What was noted of a change.
    pub(super) async fn remembered(
        &self,
        change: &TopologyChange,
        migration: &Migration,
    ) -> Result<Memory, StoreError> {
        let checkpoints = self.metadata.store().migration_checkpoints(&change.id);
        let checkpoints = self
            .metadata
            .in_time(self.metadata.deadline(), checkpoints)
            .await?;
        let now = self.world.clock().now();
        let mut memory = Memory::of(change, &checkpoints, now);
        memory.goes_on_from(&migration.progress);
        Ok(memory)
    }

    /// Notes partitions that are done.
    pub(super) async fn note(
        &self,
        change: &TopologyChange,
        cleaned: BTreeSet<PartitionId>,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        if cleaned.is_empty() {
            return Ok(());
        }
        let checkpoint = |partition: &PartitionId| {
            let (keys, bytes) = memory.moved.get(partition).copied().unwrap_or_default();
            Checkpoint {
                partition: *partition,
                keys,
                bytes,
            }
        };
        let checkpoints: Vec<Checkpoint> = cleaned.iter().map(checkpoint).collect();
        let store = self.metadata.store();
        let noted = store.checkpoint_migration(&change.id, checkpoints);
        self.metadata
            .in_time(self.metadata.deadline(), noted)
            .await?;
        for partition in cleaned {
            let (keys, bytes) = memory.moved.remove(&partition).unwrap_or_default();
            memory.noted = (memory.noted.0 + keys, memory.noted.1 + bytes);
            memory.cleaned.insert(partition);
        }
        Ok(())
    }

    /// Writes down how far the change has come, if that is news.
    pub(super) async fn tell(
        &self,
        mut migration: Migration,
        change: &TopologyChange,
        outcome: &Outcome,
        memory: &Memory,
    ) -> Result<(), StoreError> {
        let before = migration.clone();
        let moving = memory.moved.values();
        let (keys, bytes) = moving.fold(memory.noted, |all, it| (all.0 + it.0, all.1 + it.1));
        let progress = &mut migration.progress;
        progress.partitions = change.moves.len() as u64;
        progress.partitions_done = memory.cleaned.len() as u64;
        progress.keys = progress.keys.max(keys);
        progress.bytes = progress.bytes.max(bytes);
        migration.waits_for.clone_from(&outcome.waits_for);
        let is_over = !migration.status.is_open() || migration.ended_at.is_some();
        if is_over || migration == before {
            return Ok(());
        }
        self.update(migration).await?; // if somebody else changed it, it is told in the next turn
        Ok(())
    }

    /// Has metrics tell how it goes on.
    pub(super) async fn show(
        &self,
        change: Option<&TopologyChange>,
        waits_for: Option<String>,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        let open = open_migrations(&self.metadata).await?;
        let is_pending = |it: &&Migration| it.status == MigrationStatus::Pending;
        let count = |state| change.map_or(0, |change| change.in_state(state));
        let states = MoveState::ALL.map(count);
        let moving = memory.moved.values();
        let keys = moving.fold(memory.noted.0, |all, it| all + it.0);
        let now = self.world.clock().now();
        let far = Some((keys + memory.cleaned.len() as u64, states));
        // One that was told to rest does not stand still.
        let rests = change.is_some_and(|change| {
            let mut open = open.iter();
            open.any(|it| it.id == change.id && it.bytes_per_second == Some(0))
        });
        if memory.far != far || open.is_empty() || rests {
            (memory.far, memory.moved_at) = (far, now);
        }
        let [waiting, copying, handing_over, moved] = states.map(|count| count as u64);
        let gauges = MigrationGauges {
            open: open.len() as u64,
            pending: open.iter().filter(is_pending).count() as u64,
            waiting,
            copying,
            handing_over,
            moved,
            stalled_seconds: now.since(memory.moved_at).as_secs(),
            at_once: self.window().under_way_max() as u64,
            leads: true,
            waits_for,
            ..MigrationGauges::default()
        };
        self.board.update(gauges, now);
        Ok(())
    }
}
