//! A change that waits for the mutation loop, and who waits for its answer.
//!
//! What this is not: it changes nothing itself. The loop applies it (see `mutations.rs`).

use bytes::Bytes;
use futures::channel::oneshot;

use super::fences::Asked;
use super::maintenance_change::MaintenanceChange;
use crate::placement::Epoch;
use crate::ports::{
    AcceptRequest, Dropped, JoinSource, Judged, RecordKey, Refusal, Reply, StorageError, TreeName,
};
use crate::version::Content;

/// Who waits for what became of a change.
pub(super) type Answer = oneshot::Sender<Result<Reply, Refusal>>;

/// A change, and by which epoch it was asked for.
pub(super) struct Mutation {
    /// `None`: it is the node's own doing, which no fence refuses.
    pub(super) asked: Option<Asked>,
    pub(super) change: Change,
}

/// What one page of a tree was that was dropped.
pub(super) struct DroppedPage {
    pub(super) dropped: Dropped,
    /// Bytes of its keys and records.
    pub(super) bytes: u64,
}

/// What is to be changed.
pub(super) enum Change {
    Accept {
        request: Box<AcceptRequest>,
        answer: Answer,
    },
    Join {
        key: RecordKey,
        record: Bytes,
        judged: Option<Judged>,
        source: JoinSource,
        answer: Answer,
    },
    /// Refuse older epochs if nothing is held. Not part of any batch.
    AdoptIfEmpty {
        epoch: Epoch,
        is_new: bool,
        answer: Answer,
    },
    /// Drop a page of a tree, by this epoch. Not part of any batch.
    DropTree {
        tree: TreeName,
        epoch: Epoch,
        answer: oneshot::Sender<Result<DroppedPage, Refusal>>,
    },
    /// Look after what is stored.
    Maintenance {
        task: MaintenanceChange,
        answer: Answer,
    },
    /// Come back from later epochs.
    Reset { to: Epoch, answer: Answer },
    /// The last one.
    Stop {
        answer: oneshot::Sender<Result<(), StorageError>>,
    },
}

impl Change {
    /// What it takes of the queue's room.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Accept { request, .. } => {
                let value = match &request.content {
                    Content::Value(value) => value.len(),
                    Content::Tombstone => 0,
                };
                request.key.as_bytes().len() + value
            }
            Self::Join { key, record, .. } => key.as_bytes().len() + record.len(),
            Self::Maintenance { task, .. } => task.cost(),
            Self::AdoptIfEmpty { .. }
            | Self::DropTree { .. }
            | Self::Reset { .. }
            | Self::Stop { .. } => 0,
        }
    }

    /// The records that it reads or changes.
    pub(super) fn keys<'a>(&'a self, into: &mut Vec<&'a RecordKey>) {
        match self {
            Self::Accept { request, .. } => into.push(&request.key),
            Self::Join { key, .. } => into.push(key),
            Self::Maintenance { task, .. } => into.extend(task.keys()),
            Self::AdoptIfEmpty { .. }
            | Self::DropTree { .. }
            | Self::Reset { .. }
            | Self::Stop { .. } => {}
        }
    }
}
