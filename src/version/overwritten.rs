//! The writes that were overwritten lately, by name: so that another attempt of one of them, which got another dot at
//! another owner, is known for what it is and not shown again.
//!
//! A dot names an attempt, a write id names the write. What a client overwrites is the write; a record therefore keeps
//! the names of the values that were overwritten last under `siblings`, under the dot of each attempt that stood there:
//! who has covered a dot and does not remember it has forgotten it, so one dot for all attempts would be lost as soon
//! as two owners keep different ones. They are carried and joined like siblings, one step further on: a dot is
//! *unknown*, then *present*, then *remembered as overwritten*, then *forgotten*. A sibling whose write is among them
//! is not
//! [shown](super::Record::shown), and an owner that comes to hold both takes it for
//! [overwritten](super::Record::without_further_attempts), too. (That is a step of its own after a join: within it, a
//! join would no longer be associative.)
//!
//! Bounded, by an owner that accepts and nobody else: the last [`REMEMBERED_MIN`] writes, for [`REMEMBERED_FOR`]; of
//! what was overwritten within a [`BURST`] up to [`REMEMBERED_MAX`]. Their order and age are told by the stamps of what
//! overwrote them, and where a clock went back by what the record had known before, so that they never go back along a
//! chain of overwrites. What is dropped raises `forgotten`: an attempt of a write up to that stamp can't be told from a
//! new write.
//!
//! So what is left is this: an attempt that takes effect at an owner only after its write was overwritten elsewhere
//! *and* the key was then overwritten that often is shown once more.

use std::time::Duration;

use super::past_write::Overwritten;
use super::{Record, Stamp, Version, WriteId};
use crate::mutant::{self, Mutant};

/// A record remembers so many overwritten writes, unless they are old.
pub const REMEMBERED_MIN: usize = 16;
/// A write that is so much older than the newest one of its record is remembered no longer.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A record remembers no more overwritten writes in any case: 1.8 kB.
pub const REMEMBERED_MAX: usize = 64;
/// More than [`REMEMBERED_MIN`] are remembered only of those that are no older.
pub const BURST: Duration = Duration::from_secs(60);

impl Record {
    /// The values that were overwritten lately, in the order of their dots.
    pub fn overwritten(&self) -> &[Overwritten] {
        &self.overwritten
    }

    /// No write with a greater stamp was overwritten here and is not remembered any more.
    pub fn forgotten(&self) -> Stamp {
        self.forgotten
    }

    /// Whether this write is known to have been overwritten.
    pub fn was_overwritten(&self, write_id: WriteId) -> bool {
        let mut overwritten = self.overwritten.iter();
        overwritten.any(|overwritten| overwritten.write_id == write_id)
    }

    /// The siblings that count: all but further attempts of what was overwritten.
    pub fn shown(&self) -> impl Iterator<Item = &Version> {
        let siblings = self.siblings.iter();
        siblings.filter(|sibling| !self.was_overwritten(sibling.write_id))
    }

    /// This record, made from `before` by a write with this stamp, remembering the values that the write overwrote.
    #[must_use]
    pub fn remembering(mut self, before: &Record, by: Stamp) -> Record {
        let by = self.after_all_overwrites(before, by);
        for old in before.siblings.iter().filter(|old| !old.is_tombstone()) {
            let Version {
                dot,
                write_id,
                stamp,
                ..
            } = *old;
            let stays = self
                .siblings
                .binary_search_by_key(&dot, |sibling| sibling.dot)
                .is_ok();
            let is_old = stamp < by.earlier(REMEMBERED_FOR);
            if !stays && is_old {
                self.forgotten = self.forgotten.max(stamp);
            } else if !stays {
                self.overwritten.push(Overwritten {
                    dot,
                    write_id,
                    stamp,
                    by,
                });
            }
        }
        self.overwritten
            .sort_unstable_by_key(|old| std::cmp::Reverse((old.by, old.dot)));
        // Of no more than so many writes, and no older than this: how many names are these?
        let within = |writes: usize, age| {
            let from = by.earlier(age);
            let mut known = Vec::with_capacity(writes);
            let fits = |old: &&Overwritten| {
                if !known.contains(&old.write_id) {
                    known.push(old.write_id);
                }
                old.by >= from && known.len() <= writes
            };
            self.overwritten.iter().take_while(fits).count()
        };
        let burst = within(REMEMBERED_MAX, BURST);
        let recent = within(REMEMBERED_MIN, REMEMBERED_FOR).max(burst);
        for old in self.overwritten.drain(recent..) {
            self.forgotten = self.forgotten.max(old.stamp);
        }
        self.overwritten.sort_unstable();
        self
    }

    /// A stamp that is no smaller than `by`, and greater than all in `before` and all that overwrote what is
    /// remembered: by clocks alone, the latest overwrite would be the first to be forgotten after one went back.
    fn after_all_overwrites(&self, before: &Record, by: Stamp) -> Stamp {
        let siblings = before.siblings.iter().map(|sibling| sibling.stamp);
        let overwrites = self.overwritten.iter().map(|old| old.by);
        let latest = siblings.chain(overwrites).max();
        by.max(latest.and_then(Stamp::next).unwrap_or(by))
    }

    /// This record without further attempts of what was overwritten: an owner that has both knows that they are.
    #[must_use]
    pub fn without_further_attempts(mut self) -> Record {
        let mut further = Vec::new();
        if !self.overwritten.is_empty() {
            let overwritten = &self.overwritten;
            self.siblings.retain(|sibling| {
                let mut names = overwritten.iter();
                let old = names.find(|old| old.write_id == sibling.write_id);
                further.extend(old.map(|old| Overwritten {
                    dot: sibling.dot,
                    stamp: sibling.stamp,
                    ..*old
                }));
                old.is_none()
            });
        }
        if !further.is_empty() && !mutant::on(Mutant::AttemptLeavesNoName) {
            self.overwritten.append(&mut further);
            self.overwritten.sort_unstable();
        }
        self
    }

    /// What both remember together.
    pub(super) fn join_overwritten(&self, other: &Record) -> Vec<Overwritten> {
        let none = self.overwritten.is_empty() && other.overwritten.is_empty();
        // Whoever keeps what was overwritten has not heard its name either.
        if none || mutant::on(Mutant::JoinIgnoresSeen) {
            return Vec::new();
        }
        let kept = |old: &&Overwritten, absent_from: &Record| {
            let is_sibling = |dot| {
                absent_from
                    .siblings
                    .binary_search_by_key(&dot, |s| s.dot)
                    .is_ok()
            };
            !absent_from.seen.covers(old.dot)
                || is_sibling(old.dot)
                || absent_from
                    .overwritten
                    .iter()
                    .any(|other| other.dot == old.dot)
        };
        let ours = self.overwritten.iter().filter(|old| kept(old, other));
        let theirs = other.overwritten.iter().filter(|old| kept(old, self));
        let mut all: Vec<Overwritten> = ours.chain(theirs).copied().collect();
        // Of two that a hostile node puts under one dot the greater one stays.
        all.sort_unstable_by(|a, b| a.dot.cmp(&b.dot).then(b.cmp(a)));
        all.dedup_by_key(|old| old.dot);
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::version::{Actor, Content, Dot, VersionVector};

    fn version(actor: u64, counter: u64, write: u128, millis: u64) -> Version {
        Version {
            dot: Dot {
                actor: Actor(actor),
                counter,
            },
            write_id: WriteId(write),
            stamp: Stamp::new(millis, 0),
            content: Content::Value(Bytes::from_static(b"v")),
        }
    }

    fn alone(version: Version) -> Record {
        let mut seen = VersionVector::default();
        seen.advance(version.dot);
        Record::new(seen, vec![version]).unwrap()
    }

    /// `record` after a write that overwrites all of it.
    fn overwritten(record: &Record, by: Version) -> Record {
        let stamp = by.stamp;
        let after = record.overwrite(by, &VersionVector::default(), |_| true);
        after.remembering(record, stamp)
    }

    fn shown(record: &Record) -> Vec<u128> {
        record.shown().map(|version| version.write_id.0).collect()
    }

    #[test]
    fn another_attempt_of_what_was_overwritten_is_not_shown() {
        let second_attempt = alone(version(2, 1, 7, 10));
        let after = overwritten(&second_attempt, version(2, 2, 8, 20));
        let first_attempt = alone(version(1, 1, 7, 10));
        let joined = after.join(&first_attempt);
        assert_eq!(joined.siblings().len(), 2);
        assert_eq!(shown(&joined), [8]);
        assert_eq!(shown(&first_attempt.join(&after)), [8]);
        let settled = joined.clone().without_further_attempts();
        assert_eq!(settled.siblings().len(), 1);
        assert_eq!(settled.seen(), joined.seen());
        assert_eq!(settled.join(&joined), settled, "and nobody brings it back");
        let next = overwritten(&joined, version(1, 2, 9, 30));
        assert_eq!(shown(&next.join(&first_attempt).join(&second_attempt)), [9]);
    }

    #[test]
    fn owners_that_met_different_attempts_know_the_write_together() {
        let attempts = [1, 2, 3].map(|actor| alone(version(actor, 1, 7, 10)));
        let both = attempts[0].join(&attempts[1]);
        let [one, other] = [0, 1].map(|met: usize| {
            let over = version(4 + met as u64, 1, 8 + met as u128, 20);
            let after = overwritten(&attempts[met], over);
            after.join(&both).without_further_attempts()
        });
        let together = one.join(&other).without_further_attempts();
        assert_eq!(shown(&together), [8, 9]);
        assert_eq!(shown(&together.join(&attempts[2])), [8, 9]);
    }

    #[test]
    fn a_join_with_who_still_holds_it_remembers_it() {
        let before = alone(version(2, 1, 7, 10));
        let after = overwritten(&before, version(2, 2, 8, 20));
        assert_eq!(before.join(&after), after);
        assert_eq!(after.join(&before), after);
    }

    #[test]
    fn what_is_forgotten_by_a_write_is_forgotten_by_joins() {
        let mut record = alone(version(2, 1, 1, 10));
        let mut earlier = Vec::new();
        for n in 2..=70 {
            earlier.push(record.clone());
            record = overwritten(&record, version(2, n, n.into(), 10 * n));
        }
        assert_eq!(record.overwritten().len(), REMEMBERED_MAX);
        assert_eq!(record.forgotten(), Stamp::new(50, 0));
        let minutes = BURST.as_millis() as u64 * 2;
        let record = overwritten(&record, version(2, 71, 71, minutes));
        assert_eq!(record.overwritten().len(), REMEMBERED_MIN);
        assert_eq!(record.forgotten(), Stamp::new(540, 0));
        for before in &earlier {
            assert_eq!(before.join(&record), record);
        }
        let later = REMEMBERED_FOR.as_millis() as u64 + minutes + 1;
        let record = overwritten(&record, version(2, 72, 72, later));
        assert_eq!(record.overwritten(), [], "all are old");
        assert_eq!(record.forgotten(), Stamp::new(minutes, 0));
    }

    #[test]
    fn what_was_overwritten_last_is_remembered_though_a_clock_went_back() {
        let hour = 3_600_000;
        let mut record = alone(version(2, 1, 1, hour));
        for n in 2..=40 {
            record = overwritten(&record, version(2, n, n.into(), hour + n));
        }
        for n in 41..=60 {
            record = overwritten(&record, version(2, n, n.into(), n));
            assert!(record.was_overwritten(WriteId(u128::from(n) - 1)));
        }
        let by: Vec<Stamp> = record.overwritten().iter().map(|old| old.by).collect();
        assert!(by.is_sorted_by(|a, b| a < b), "in the order it happened");
    }

    #[test]
    fn deletes_are_not_remembered() {
        let mut delete = version(2, 1, 7, 10);
        delete.content = Content::Tombstone;
        let after = overwritten(&alone(delete), version(2, 2, 8, 20));
        assert_eq!(after.overwritten(), []);
        assert_eq!(after.forgotten(), Stamp::ZERO);
    }
}
