//! What a node knows of what its engine holds, read when the engine is opened, and again when it was opened again.

use super::hints::Hints;
use super::identity::{self, Resumed};
use super::{OpenError, digested, tombstones};
use crate::placement::NodeId;
use crate::ports::{Clock, ReplicaWorld, Space, StorageEngine};

/// What a node knows of what its engine holds.
pub(super) struct Known {
    pub(super) resumed: Resumed,
    pub(super) hints: Hints,
    /// Partitions from this one on have no digests.
    pub(super) digested: u32,
    /// Whether anything was ever purged.
    pub(super) purged: bool,
    /// Since when it has been refilled, if it is, Unix milliseconds by its wall clock.
    pub(super) refilling_since_ms: u64,
}

impl Known {
    /// Reads it from the engine.
    pub(super) async fn load(world: &impl ReplicaWorld, node: &NodeId) -> Result<Self, OpenError> {
        let storage = world.storage();
        let resumed = identity::open(storage, world.random(), node, world.speaks()).await?;
        let wall_ms = world.clock().wall_ms();
        let refilling_since_ms =
            identity::refilling_since(storage, &resumed.identity, wall_ms).await?;
        let hints = Hints::load(storage).await?;
        let digested = match resumed.identity.digests_lost {
            true => 0,
            false => digested::digested(storage).await?,
        };
        let (purged, end) = (tombstones::purged_prefix(), tombstones::purged_end());
        let purged = storage.scan(Space::Meta, purged, Some(end), 1).await?;
        Ok(Self {
            resumed,
            hints,
            digested,
            purged: !purged.is_empty(),
            refilling_since_ms,
        })
    }
}
