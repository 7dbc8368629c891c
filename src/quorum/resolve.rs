//! What a client is shown of a record. Nothing is merged or dropped here: the record stays as it is.

use std::cmp::Reverse;

use super::ConflictPolicy;
use crate::mutant::{self, Mutant};
use crate::version::{Record, Version};

/// The versions a read returns, no tombstone among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolution<'a> {
    /// The first of the siblings: the answer for who wants just one. None: there is no such key.
    pub value: Option<&'a Version>,
    /// All there is to show, the greatest (rank, dot) first. At most one under `last_write_wins`.
    pub siblings: Vec<&'a Version>,
}

/// Chooses what to show of `record`.
pub fn resolve(record: &Record, policy: ConflictPolicy) -> Resolution<'_> {
    let siblings = match policy {
        ConflictPolicy::LastWriteWins => winner(record).into_iter().collect(),
        ConflictPolicy::Siblings => maximal(record),
    };
    Resolution {
        value: siblings.first().copied(),
        siblings,
    }
}

/// The latest version; nothing if that is a delete, whatever older values stand beside it.
fn winner(record: &Record) -> Option<&Version> {
    let latest = if mutant::on(Mutant::ResolveOldest) {
        record.siblings().iter().min_by_key(|v| (v.rank(), v.dot))
    } else {
        record.latest()
    };
    let shown = |version: &&Version| !version.is_tombstone();
    if mutant::on(Mutant::TombstoneShowsOlder) {
        let values = record.siblings().iter().filter(shown);
        return values.max_by_key(|v| (v.rank(), v.dot));
    }
    latest.filter(shown)
}

/// Every value, one for each logical write: a write retried at a second replica has two dots, and the greater is shown.
fn maximal(record: &Record) -> Vec<&Version> {
    let mut values: Vec<&Version> = match mutant::on(Mutant::AttemptOverwrittenAlone) {
        true => record.siblings().iter().collect(),
        false => record.shown().collect(),
    };
    values.retain(|version| !version.is_tombstone());
    values.sort_unstable_by_key(|version| (version.write_id, Reverse(version.dot)));
    if !mutant::on(Mutant::RetriedShownTwice) {
        values.dedup_by_key(|version| version.write_id);
    }
    values.sort_unstable_by_key(|version| Reverse((version.rank(), version.dot)));
    values
}

#[cfg(test)]
#[path = "resolve_test.rs"]
mod tests;
