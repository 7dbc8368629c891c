//! A record as a batch works on it.

use bytes::Bytes;

use super::tombstone_state::TombstoneState;
use crate::marks::{self, Mark};
use crate::ports::{RecordKey, Refusal};
use crate::version::Record;

/// One key's record: as stored, or as an earlier operation of the batch left it.
#[derive(Debug)]
pub(super) struct Slot {
    /// An empty one when there is none; `None` when it can't be read.
    record: Option<Record>,
    /// The record's encoding, when there is one.
    bytes: Option<Bytes>,
    /// What the engine had before the batch, and what that waited for.
    stored: (Option<Bytes>, TombstoneState),
    dirty: bool,
}

/// What a batch did to one record.
pub(super) struct Changed {
    /// What was stored before.
    pub(super) before: Option<Bytes>,
    /// What is to be stored.
    pub(super) after: Option<Bytes>,
    /// What it waited for before.
    pub(super) was: TombstoneState,
    /// And now.
    pub(super) is: TombstoneState,
}

impl Slot {
    /// What the engine had for `key`.
    pub(super) fn load(key: &RecordKey, stored: Option<Bytes>) -> Self {
        let record = match stored.clone().map(Record::decode).transpose() {
            Ok(record) => Some(record.unwrap_or_default()),
            Err(error) => {
                damaged(key, &error);
                None
            }
        };
        let was = record
            .as_ref()
            .map_or(TombstoneState::None, TombstoneState::of);
        Self {
            record,
            bytes: stored.clone(),
            stored: (stored, was),
            dirty: false,
        }
    }

    /// The record; an empty one when there is none.
    pub(super) fn record(&self) -> Result<&Record, Refusal> {
        self.record.as_ref().ok_or(Refusal::Damaged)
    }

    /// Whether there is no record.
    pub(super) const fn is_absent(&self) -> bool {
        self.bytes.is_none()
    }

    /// Its encoding, as it is to be stored.
    pub(super) const fn encoded(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }

    /// Its encoding; an empty record's when there is none.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes
            .clone()
            .unwrap_or_else(|| Record::default().encode())
    }

    /// Whether this is its encoding, byte for byte.
    pub(super) fn is(&self, encoded: &Bytes) -> bool {
        self.bytes.as_ref() == Some(encoded)
    }

    /// Replaces the record.
    pub(super) fn set(&mut self, record: Record, bytes: Bytes) {
        debug_assert!(
            self.record.is_some(),
            "a damaged record is not written over"
        );
        self.record = Some(record);
        self.bytes = Some(bytes);
        self.dirty = true;
    }

    /// Removes the record.
    pub(super) fn remove(&mut self) {
        self.record = Some(Record::default());
        self.bytes = None;
        self.dirty = true;
    }

    /// What is to be stored, if it changed.
    pub(super) fn into_change(self) -> Option<Changed> {
        let (before, was) = self.stored;
        self.dirty.then(|| Changed {
            before,
            after: self.bytes,
            was,
            is: self
                .record
                .as_ref()
                .map_or(TombstoneState::None, TombstoneState::of),
        })
    }

    /// What the record waited for as it was stored; nothing, as far as is known, if it is damaged.
    pub(super) const fn was(&self) -> TombstoneState {
        self.stored.1
    }

    pub(super) const fn is_damaged(&self) -> bool {
        self.record.is_none()
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }
}

/// Says that a stored record fails its checksum. Keys are clients' data and stay out of the log.
pub(super) fn damaged(key: &RecordKey, error: &dyn std::fmt::Display) {
    marks::reached(Mark::RecordDamaged);
    tracing::error!(partition = key.partition().0, tenant = key.tenant(), %error, "a stored record is damaged");
}
