//! What a replica stores for one (tenant, key).
//!
//! Invariants: siblings are sorted by dot, no dot occurs twice, every dot has a counter of at least 1 and is covered by
//! `seen`. A dot that `seen` covers and that has no sibling was overwritten; the last ones are [remembered by
//! name](super::overwritten), under dots that are covered and of no sibling. Only [`Record::overwrite`] (a replica that
//! stamps),
//! [`Record::latest_alone`] (one that is told that the latest version counts) and [`Record::join`](super::join)
//! (everybody else) make new records out of old ones.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Context, Dot, Overwritten, Rank, Stamp, Version, VersionVector, WriteId};

/// All versions of a key that no other one is known to have overwritten, and all dots seen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Record {
    pub(super) seen: VersionVector,
    pub(super) siblings: Vec<Version>,
    /// Sorted by dot.
    pub(super) overwritten: Vec<Overwritten>,
    pub(super) forgotten: Stamp,
}

/// Why parts don't make a record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
pub enum MalformedRecord {
    /// A sibling that was never seen.
    #[error("sibling {0} is not covered by what the record has seen")]
    Uncovered(Dot),
    /// One dot, two siblings.
    #[error("two siblings have the dot {0}")]
    DuplicateDot(Dot),
    /// Counters start at 1.
    #[error("sibling {0} has the counter 0")]
    ZeroCounter(Dot),
}

impl Record {
    /// A record of these parts; siblings may come in any order.
    pub fn new(seen: VersionVector, mut siblings: Vec<Version>) -> Result<Record, MalformedRecord> {
        siblings.sort_by_key(|version| version.dot);
        if let Some(pair) = siblings.windows(2).find(|pair| pair[0].dot == pair[1].dot) {
            return Err(MalformedRecord::DuplicateDot(pair[0].dot));
        }
        for version in &siblings {
            if version.dot.counter == 0 {
                return Err(MalformedRecord::ZeroCounter(version.dot));
            }
            if !seen.covers(version.dot) {
                return Err(MalformedRecord::Uncovered(version.dot));
            }
        }
        Ok(Record {
            seen,
            siblings,
            ..Record::default()
        })
    }

    /// Whether it is what honest replicas hold.
    #[cfg(test)]
    pub(super) fn is_well_formed(&self) -> bool {
        let parts = Record::new(self.seen.clone(), self.siblings.clone());
        let sorted = self.overwritten.is_sorted_by(|a, b| a.dot < b.dot);
        let overwritten = self.overwritten.iter().all(|old| {
            let is_sibling = self.siblings.iter().any(|sibling| sibling.dot == old.dot);
            old.dot.counter > 0 && self.seen.covers(old.dot) && !is_sibling
        });
        parts.is_ok_and(|parts| parts.siblings == self.siblings) && sorted && overwritten
    }

    /// Every dot that the record knows of, overwritten or not.
    pub fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// The versions that nothing seen overwrote, in the order of their dots.
    pub fn siblings(&self) -> &[Version] {
        &self.siblings
    }

    /// Whether nothing was ever seen: neither siblings nor dots.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.siblings.is_empty()
    }

    /// Takes for seen what a client knows and what was purged since: what it overwrote is overwritten.
    pub fn has_seen(&mut self, context: &Context) {
        self.seen.merge(&context.shown);
        if let Some(written) = context.written {
            self.seen.advance(written);
        }
    }

    /// Whether it says that the key was deleted, and nothing else that counts.
    pub fn is_deleted(&self) -> bool {
        !self.siblings.is_empty() && self.shown().all(Version::is_tombstone)
    }

    /// Whether its latest version is a tombstone and older values stand beside it, which `last_write_wins` shows to
    /// nobody.
    pub fn hides_values(&self) -> bool {
        !self.is_deleted() && self.latest().is_some_and(Version::is_tombstone)
    }

    /// This record with its latest version alone: the others are overwritten by it, as far as `last_write_wins` goes.
    #[must_use]
    pub fn latest_alone(&self) -> Record {
        Record {
            siblings: self.latest().into_iter().cloned().collect(),
            ..self.clone()
        }
    }

    /// This record without what was purged before it came: siblings that `purged` covers and `held` does not have.
    #[must_use]
    pub fn without(&self, purged: &VersionVector, held: &Record) -> Record {
        let has = |dot: Dot| held.siblings.iter().any(|sibling| sibling.dot == dot);
        let left = self.siblings.iter();
        let left = left.filter(|sibling| !purged.covers(sibling.dot) || has(sibling.dot));
        Record {
            siblings: left.cloned().collect(),
            seen: self.seen.clone(),
            overwritten: self.overwritten.clone(),
            forgotten: self.forgotten,
        }
    }

    /// How many siblings a reader can be shown: values, each logical write once.
    pub fn shown_writes(&self) -> usize {
        let values = self.shown().filter(|v| !v.is_tombstone());
        let writes: BTreeSet<WriteId> = values.map(|version| version.write_id).collect();
        writes.len()
    }

    /// The greatest stamp of the siblings, [`Stamp::ZERO`] when there is none.
    pub fn greatest_stamp(&self) -> Stamp {
        self.siblings
            .iter()
            .map(|version| version.stamp)
            .max()
            .unwrap_or(Stamp::ZERO)
    }

    /// The greatest rank of the siblings, the least there is when there is none.
    pub fn greatest_rank(&self) -> Rank {
        let ranks = self.siblings.iter().map(Version::rank);
        ranks.max().unwrap_or_default()
    }

    /// The sibling with the greatest (rank, dot): the one that `last_write_wins` shows.
    pub fn latest(&self) -> Option<&Version> {
        self.siblings
            .iter()
            .max_by_key(|version| (version.rank(), version.dot))
    }

    /// A sibling that stands for this logical write (the one with the least dot, should there be several).
    pub fn find(&self, write_id: WriteId) -> Option<&Version> {
        self.siblings
            .iter()
            .find(|version| version.write_id == write_id)
    }

    /// The one mutation: adds `version`, removes the siblings for which `overwritten` holds, and sees all of `context`.
    ///
    /// The dot must be new: a replica takes a counter greater than all it gave out *and* greater than
    /// `seen().get(actor)`. A dot that was seen counts as overwritten wherever it was seen, and its write would be
    /// lost.
    #[must_use]
    pub fn overwrite(
        &self,
        version: Version,
        context: &VersionVector,
        overwritten: impl Fn(&Version) -> bool,
    ) -> Record {
        debug_assert!(
            version.dot.counter > 0 && !self.seen.covers(version.dot),
            "{} is not new",
            version.dot
        );
        let mut seen = self.seen.clone();
        seen.merge(context);
        seen.advance(version.dot);

        let mut siblings = Vec::with_capacity(self.siblings.len() + 1);
        let stays = |sibling: &&Version| sibling.dot != version.dot && !overwritten(sibling);
        siblings.extend(self.siblings.iter().filter(stays).cloned());
        let at = siblings.partition_point(|sibling| sibling.dot < version.dot);
        siblings.insert(at, version);
        Record {
            seen,
            siblings,
            overwritten: self.overwritten.clone(),
            forgotten: self.forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::version::{Actor, Content};

    fn dot(actor: u64, counter: u64) -> Dot {
        Dot {
            actor: Actor(actor),
            counter,
        }
    }

    fn version(actor: u64, counter: u64, stamp: u64) -> Version {
        Version {
            dot: dot(actor, counter),
            write_id: WriteId(u128::from(actor) << 64 | u128::from(counter)),
            stamp: Stamp(stamp),
            content: Content::Value(Bytes::from_static(b"v")),
        }
    }

    fn seen<const N: usize>(entries: [(u64, u64); N]) -> VersionVector {
        entries
            .into_iter()
            .map(|(actor, counter)| (Actor(actor), counter))
            .collect()
    }

    #[test]
    fn parts_must_fit() {
        let new = |counters, siblings| Record::new(seen(counters), siblings);
        assert_eq!(
            new([(1, 1)], vec![version(1, 2, 0)]),
            Err(MalformedRecord::Uncovered(dot(1, 2)))
        );
        assert_eq!(
            new([(1, 1)], vec![version(2, 1, 0)]),
            Err(MalformedRecord::Uncovered(dot(2, 1)))
        );
        assert_eq!(
            new([(1, 1)], vec![version(1, 0, 0)]),
            Err(MalformedRecord::ZeroCounter(dot(1, 0)))
        );
        assert_eq!(
            new([(1, 1)], vec![version(1, 1, 0), version(1, 1, 9)]),
            Err(MalformedRecord::DuplicateDot(dot(1, 1)))
        );
    }

    #[test]
    fn siblings_are_sorted_by_dot() {
        let record = Record::new(
            seen([(1, 9), (2, 9)]),
            vec![version(2, 1, 0), version(1, 7, 0)],
        )
        .unwrap();
        let dots: Vec<_> = record
            .siblings()
            .iter()
            .map(|version| version.dot)
            .collect();
        assert_eq!(dots, [dot(1, 7), dot(2, 1)]);
    }

    #[test]
    fn latest_is_the_greatest_stamp_then_dot() {
        let siblings = vec![version(1, 1, 5), version(2, 1, 7), version(3, 1, 7)];
        let record = Record::new(seen([(1, 1), (2, 1), (3, 1)]), siblings).unwrap();
        assert_eq!(record.latest().unwrap().dot, dot(3, 1));
        assert_eq!(record.greatest_stamp(), Stamp(7));
        assert_eq!(Record::default().latest(), None);
        assert_eq!(Record::default().greatest_stamp(), Stamp::ZERO);
    }

    #[test]
    fn what_a_context_covers_is_seen_the_own_write_too() {
        let mut record = Record::default();
        record.has_seen(&Context {
            shown: seen([(1, 4)]),
            written: Some(dot(2, 7)),
        });
        assert_eq!(record.seen(), &seen([(1, 4), (2, 7)]));
    }

    #[test]
    fn overwrite_removes_what_it_is_told_and_sees_the_context() {
        let before = Record::new(
            seen([(1, 1), (2, 1)]),
            vec![version(1, 1, 1), version(2, 1, 1)],
        )
        .unwrap();
        let context = seen([(1, 1), (9, 4)]);
        let after = before.overwrite(version(1, 5, 2), &context, |old| context.covers(old.dot));
        let expected = Record::new(
            seen([(1, 5), (2, 1), (9, 4)]),
            vec![version(1, 5, 2), version(2, 1, 1)],
        );
        assert_eq!(Ok(after), expected);
    }
}
