//! The join of two records: the only way in which replicas ever reconcile.
//!
//! Replication, read repair, hinted handoff, anti-entropy and data migration are all this function. It is a semilattice
//! (associative, commutative, idempotent), so replicas that got the same writes in any order, any grouping and any
//! number of repetitions hold equal records. Stamps and conflict policies don't matter here.
//!
//! Why it is one even for hostile records: look at one dot. A record holds it as *unknown* (not seen), as *present*
//! with some version, or as *overwritten* (seen, no sibling; [remembered](super::overwritten) or not). `join` takes the
//! later of the two in the chain
//!
//! ```text
//! unknown  <  present(v), ordered by v's rank  <  overwritten and remembered by name  <  overwritten
//! ```
//!
//! and the maximum of a total order is a semilattice. `seen` is a pointwise maximum and agrees with it: a dot is
//! unknown in the join exactly when it is unknown in both.

use std::cmp::Ordering;

use super::{Record, Version};
use crate::mutant::{self, Mutant};

impl Record {
    /// The least record that knows all that both know.
    #[must_use]
    pub fn join(&self, other: &Record) -> Record {
        let mut seen = self.seen.clone();
        seen.merge(&other.seen);

        let mut siblings = Vec::with_capacity(self.siblings.len().max(other.siblings.len()));
        let (mut ours, mut theirs) = (self.siblings.as_slice(), other.siblings.as_slice());
        loop {
            let order = match (ours.first(), theirs.first()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.dot.cmp(&b.dot),
            };
            match order {
                Ordering::Less => {
                    keep_unless_overwritten(&ours[0], other, &mut siblings);
                    ours = &ours[1..];
                }
                Ordering::Greater => {
                    keep_unless_overwritten(&theirs[0], self, &mut siblings);
                    theirs = &theirs[1..];
                }
                Ordering::Equal => {
                    let theirs_greater = theirs[0].rank_and_content() > ours[0].rank_and_content();
                    siblings.push(if theirs_greater { &theirs[0] } else { &ours[0] }.clone());
                    (ours, theirs) = (&ours[1..], &theirs[1..]);
                }
            }
        }

        if mutant::on(Mutant::JoinDropsConcurrent) {
            let latest = siblings
                .iter()
                .map(|version| (version.rank(), version.dot))
                .max();
            siblings.retain(|version| Some((version.rank(), version.dot)) == latest);
        }
        if mutant::on(Mutant::JoinDropsTombstones) {
            siblings.retain(|version| !version.is_tombstone());
        }
        Record {
            overwritten: self.join_overwritten(other),
            forgotten: self.forgotten.max(other.forgotten),
            seen,
            siblings,
        }
    }
}

/// `absent_from` has no sibling of this dot: either it doesn't know the dot yet, or it knows that it was overwritten.
fn keep_unless_overwritten(version: &Version, absent_from: &Record, kept: &mut Vec<Version>) {
    if !absent_from.seen.covers(version.dot) || mutant::on(Mutant::JoinIgnoresSeen) {
        kept.push(version.clone());
    }
}
