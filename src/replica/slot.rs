//! A record as a batch works on it.

use bytes::Bytes;

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
    dirty: bool,
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
        Self {
            record,
            bytes: stored,
            dirty: false,
        }
    }

    /// The record; an empty one when there is none.
    pub(super) fn record(&self) -> Result<&Record, Refusal> {
        self.record.as_ref().ok_or(Refusal::Damaged)
    }

    /// Its encoding.
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
        *self = Self {
            record: Some(record),
            bytes: Some(bytes),
            dirty: true,
        };
    }

    /// What is to be stored, if it changed.
    pub(super) fn into_change(self) -> Option<Bytes> {
        if self.dirty { self.bytes } else { None }
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
