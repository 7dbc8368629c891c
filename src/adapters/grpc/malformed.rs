//! What comes from outside and makes no sense: a refusal that says so.

use bytes::Bytes;

use crate::ports::{RecordKey, Refusal};

pub(super) fn key(bytes: Bytes) -> Result<RecordKey, Refusal> {
    RecordKey::from_bytes(bytes).map_err(malformed)
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Malformed(error.to_string())
}
