//! How a record stands to the tombstones in it: what it waits for.
//!
//! What this is not: since when it waits is kept beside the records (see [`tombstones`](super::tombstones)).

use crate::version::Record;

/// What a record waits for, by the tombstones in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TombstoneState {
    /// Nothing: a value is the latest, or there is no record.
    None,
    /// To be settled, if the last write wins: older values beneath a tombstone.
    Hides,
    /// To be purged: nothing but tombstones.
    Deleted,
}

impl TombstoneState {
    /// What this one waits for.
    pub(super) fn of(record: &Record) -> Self {
        match () {
            () if record.is_deleted() => Self::Deleted,
            () if record.hides_values() => Self::Hides,
            () => Self::None,
        }
    }
}
