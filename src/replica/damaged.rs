//! The damaged records that are known.
//!
//! What is known of damage is what was met since the node started; it is bounded, and what does not fit is met again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::ports::RecordKey;
use crate::sizes::{self, Size};

/// Records that were found to be damaged.
///
/// When there are too many, the one that was met first makes room: some can't be healed, and must not keep the others
/// from it. Who still matters is met again.
#[derive(Debug, Default)]
pub(super) struct DamagedRecords(Mutex<VecDeque<RecordKey>>);

impl DamagedRecords {
    pub(super) fn add(&self, key: &RecordKey) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(key) {
            known.truncate(sizes::of(Size::DamagedKnown) - 1);
            known.push_front(key.clone());
        }
    }

    pub(super) fn remove(&self, key: &RecordKey) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other != key);
    }

    pub(super) fn all(&self) -> Vec<RecordKey> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().cloned().collect()
    }
}
