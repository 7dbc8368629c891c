//! A migration as the metadata store keeps it: a change of owners that was asked for, and what became of it.
//!
//! What is asked for waits in a queue, in the order in which it was asked for, until it is begun; how far its
//! partitions have come is part of the topology. Here is what people want to know of it, and a checkpoint for each
//! partition that has been moved.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::placement::{ChangeId, ChangeRequest, NodeChange, NodeId, PartitionId};

/// What became of a change.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationStatus {
    /// It waits for its turn.
    Pending,
    /// It is under way.
    InProgress,
    /// All partitions have their new owners, and who was one before has given up its copies.
    Completed,
    /// It could not be begun.
    Failed,
    /// Everything is as it was before.
    Cancelled,
}

impl MigrationStatus {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The name as the wire and the metadata store have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether something is left to be done.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::InProgress)
    }
}

impl fmt::Display for MigrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A status that isn't one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a migration's status is pending, in_progress, completed, failed or cancelled")]
pub struct UnknownMigrationStatus;

impl FromStr for MigrationStatus {
    type Err = UnknownMigrationStatus;

    fn from_str(name: &str) -> Result<Self, UnknownMigrationStatus> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == name)
            .ok_or(UnknownMigrationStatus)
    }
}

/// How far a change has come, as its leader last wrote it down.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct MigrationProgress {
    /// Partitions that move.
    pub partitions: u64,
    /// Those that have their new owners, and whose old copies are gone.
    pub partitions_done: u64,
    /// Records that were copied to an owner that lacked them.
    pub keys: u64,
    /// How many there were to be copied when it began; about.
    pub keys_total: u64,
    /// Bytes of keys, hashes and records that were moved.
    pub bytes: u64,
}

/// A change of owners that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    /// What it is called.
    pub id: ChangeId,
    /// What was asked for.
    pub request: ChangeRequest,
    /// What became of it.
    pub status: MigrationStatus,
    /// Whether it is to be cancelled: then it leads back to where it began.
    pub cancel: bool,
    /// When it was asked for, Unix seconds.
    pub created_at: i64,
    /// When it was begun.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// How far it has come.
    pub progress: MigrationProgress,
    /// What it waits for, and what would help.
    pub waits_for: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// How many bytes it may move in a second; `None`: as many as storage nodes let pass. 0: none, it rests.
    pub bytes_per_second: Option<u64>,
    /// For optimistic locking: starts at 1 and grows by one with each change.
    pub version: u64,
}

impl Migration {
    /// One that is asked for, and waits for its turn; `created_at` in Unix seconds.
    #[must_use]
    pub fn asked(id: ChangeId, request: ChangeRequest, created_at: i64) -> Self {
        Self {
            id,
            request,
            status: MigrationStatus::Pending,
            cancel: false,
            created_at,
            started_at: None,
            ended_at: None,
            progress: MigrationProgress::default(),
            waits_for: None,
            error: None,
            bytes_per_second: None,
            version: 1,
        }
    }

    /// What kind of change it is, in one word, as the wire has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.request.nodes.first() {
            None => "replication_factor",
            Some(NodeChange::Add(_)) => "node_addition",
            Some(NodeChange::Remove { .. }) => "node_deletion",
            Some(NodeChange::Replace { .. }) => "node_replacement",
            Some(NodeChange::Set { .. }) => "node_change",
        }
    }

    /// The first node that it is about, if it is about any.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.request.nodes.first().map(NodeChange::node)
    }
}

/// A partition that has been moved.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Which one.
    pub partition: PartitionId,
    /// Records that were copied for it.
    pub keys: u64,
    /// Bytes that this took.
    pub bytes: u64,
}
