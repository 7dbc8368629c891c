//! A change that waits for the mutation loop, and who waits for its answer.
//!
//! What this is not: it changes nothing itself. The loop applies it (see `mutations.rs`).

use bytes::Bytes;
use futures::channel::oneshot;

use super::maintenance_change::MaintenanceChange;
use crate::placement::Epoch;
use crate::ports::{AcceptRequest, JoinSource, Judged, RecordKey, Refusal, Reply, StorageError};
use crate::version::Content;

/// Who waits for what became of a change.
pub(super) type Answer = oneshot::Sender<Result<Reply, Refusal>>;

/// A change, and the epoch by which it was asked for.
pub(super) struct Mutation {
    pub(super) epoch: Epoch,
    pub(super) change: Change,
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
    AdoptIfEmpty {
        epoch: Epoch,
        is_new: bool,
        answer: Answer,
    },
    /// Look after what is stored.
    Maintenance {
        task: MaintenanceChange,
        answer: Answer,
    },
    /// Take on the mutation's epoch and do nothing else.
    Learn { answer: Answer },
    /// Come back from a later epoch to the mutation's.
    Reset { answer: Answer },
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
            | Self::Learn { .. }
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
            | Self::Learn { .. }
            | Self::Reset { .. }
            | Self::Stop { .. } => {}
        }
    }
}
