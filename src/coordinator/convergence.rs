//! How far owners are from being equal, as the coordinator that compares them counts it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far the owners are from being equal, as the last round of comparing found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Convergence {
    /// Whether this coordinator leads the comparing.
    pub leads: bool,
    /// Rounds that went through all trees, since this coordinator started.
    pub rounds: u64,
    /// When the last of them ended, Unix milliseconds by this coordinator's clock; 0: none has.
    pub ended_ms: u64,
    /// Of the last complete round: trees whose owners were equal.
    pub equal: u64,
    /// Trees whose owners differed; they were made equal, or not yet.
    pub divergent: u64,
    /// Trees of which an owner did not answer.
    pub unknown: u64,
    /// Trees seen so far in the round under way.
    pub seen: u64,
    /// Records that were exchanged, since this coordinator started.
    pub exchanged: u64,
    /// Bytes of keys, hashes and records that this took.
    pub bytes: u64,
    /// Tombstones that were purged.
    pub purged: u64,
}

/// What the comparing counts.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Convergence>);

impl Progress {
    pub(super) fn lock(&self) -> MutexGuard<'_, Convergence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
