//! The changes of maintenance that go through the mutation loop: one step with the records they are about.

use bytes::Bytes;

use super::batch::Batch;
use super::hints;
use crate::placement::{Epoch, Node, NodeId, PartitionId};
use crate::ports::{KeyHash, Maintained, Purged, Random, RecordKey, Refusal, Reply, TreeName};
use crate::version::{Actor, Stamp};

pub(super) enum MaintenanceChange {
    /// Note that nodes may lack what is held of a key.
    Hint { key: RecordKey, targets: Vec<Node> },
    /// The target has these records now, by their hashes (`None`: there was none to deliver).
    Delivered {
        target: NodeId,
        keys: Vec<(RecordKey, Option<u128>)>,
    },
    /// The target is a node no more.
    Forget {
        target: NodeId,
        keys: Vec<RecordKey>,
    },
    /// All owners hold these tombstones.
    Purge { keys: Vec<KeyHash> },
    /// Another owner has purged what overwrote these.
    DropPurged { keys: Vec<KeyHash> },
    /// The last write wins: drop the values that hide beneath tombstones.
    Settle { keys: Vec<RecordKey> },
    /// Put a record in the place of a damaged one. Not part of any batch.
    Heal {
        damaged: KeyHash,
        record: Option<Bytes>,
    },
    /// Another owner has purged this of a tree.
    KeepPurged { tree: TreeName, purged: Purged },
    /// Refuse older epochs.
    Fence {
        epoch: Epoch,
        /// For these; `None`: for all.
        partitions: Option<Vec<PartitionId>>,
        leaving: bool,
        /// Nothing is remembered of writes up to here.
        horizon: Stamp,
    },
    /// This incarnation has got all that it lost.
    Refilled { incarnation: Actor },
    /// Make the digests of the next partition that lacks them. Not part of any batch.
    Rebuild,
}

impl MaintenanceChange {
    /// The records that it is about.
    pub(super) fn keys(&self) -> Vec<&RecordKey> {
        match self {
            Self::Hint { key, .. } => vec![key],
            Self::Delivered { keys, .. } => keys.iter().map(|(key, _)| key).collect(),
            Self::Purge { keys } | Self::DropPurged { keys } => {
                keys.iter().map(|entry| &entry.key).collect()
            }
            Self::Settle { keys } => keys.iter().collect(),
            Self::Forget { .. }
            | Self::Heal { .. }
            | Self::KeepPurged { .. }
            | Self::Fence { .. }
            | Self::Refilled { .. }
            | Self::Rebuild => Vec::new(),
        }
    }

    /// The tree that it is about, if it is about what was purged of it.
    pub(super) const fn tree(&self) -> Option<&TreeName> {
        match self {
            Self::KeepPurged { tree, .. } => Some(tree),
            _ => None,
        }
    }

    /// The hints that it may change or heeds; `hinted` is who has hints here.
    pub(super) fn hints(&self, hinted: &[NodeId], into: &mut Vec<Bytes>) {
        match self {
            Self::Hint { key, targets } => {
                into.extend(targets.iter().map(|node| hints::name(&node.id, key)));
            }
            Self::Delivered { target, keys } => {
                into.extend(keys.iter().map(|(key, _)| hints::name(target, key)));
            }
            Self::Forget { target, keys } => {
                into.extend(keys.iter().map(|key| hints::name(target, key)));
            }
            Self::Purge { keys } | Self::DropPurged { keys } => {
                for target in hinted {
                    into.extend(keys.iter().map(|e| hints::name(target, &e.key)));
                }
            }
            Self::Settle { .. }
            | Self::Heal { .. }
            | Self::KeepPurged { .. }
            | Self::Fence { .. }
            | Self::Refilled { .. }
            | Self::Rebuild => {}
        }
    }

    /// What it takes of the queue's room.
    pub(super) fn cost(&self) -> usize {
        let keys = |keys: &mut dyn Iterator<Item = &RecordKey>| -> usize {
            keys.map(|key| key.as_bytes().len()).sum()
        };
        match self {
            Self::Hint { key, targets } => key.as_bytes().len() * (1 + targets.len()),
            Self::Delivered { keys: all, .. } => keys(&mut all.iter().map(|(key, _)| key)),
            Self::Forget { keys: all, .. } | Self::Settle { keys: all } => keys(&mut all.iter()),
            Self::Purge { keys: all } | Self::DropPurged { keys: all } => {
                keys(&mut all.iter().map(|entry| &entry.key))
            }
            Self::Heal { damaged, record } => {
                damaged.key.as_bytes().len() + record.as_ref().map_or(0, Bytes::len)
            }
            Self::KeepPurged { tree, purged } => {
                tree.as_bytes().len() + 16 * purged.seen.iter().count()
            }
            Self::Fence { partitions, .. } => partitions.as_ref().map_or(0, |all| 2 * all.len()),
            Self::Refilled { .. } | Self::Rebuild => 0,
        }
    }

    /// Does it, in memory.
    pub(super) fn apply<R: Random>(&self, batch: &mut Batch<'_, R>) -> Result<Reply, Refusal> {
        match self {
            Self::Hint { key, targets } => return batch.hint(key, targets),
            Self::Delivered { target, keys } => {
                for (key, hash) in keys {
                    batch.delivered(target, key, *hash)?;
                }
            }
            Self::Forget { target, keys } => keys.iter().for_each(|key| batch.forget(target, key)),
            Self::Purge { keys } => {
                for entry in keys {
                    batch.purge(entry)?;
                }
            }
            Self::DropPurged { keys } => {
                for entry in keys {
                    batch.drop_purged(entry)?;
                }
            }
            Self::Settle { keys } => {
                for key in keys {
                    batch.settle(key)?;
                }
            }
            Self::KeepPurged { tree, purged } => batch.keep_purged(tree, purged),
            Self::Fence {
                epoch,
                partitions,
                leaving,
                horizon,
            } => {
                batch.fence(*epoch, partitions.as_deref(), *leaving);
                let horizon = batch.remember_from(*horizon);
                return Ok(Reply::Maintained(Maintained::Fenced { horizon }));
            }
            Self::Refilled { incarnation } => batch.refilled(*incarnation)?,
            Self::Heal { .. } | Self::Rebuild => {}
        }
        Ok(Reply::Maintained(Maintained::Done))
    }
}
