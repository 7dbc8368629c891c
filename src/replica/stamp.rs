//! What a stamping owner does with one write.
//!
//! A write that was applied here is not applied again: an answer that was lost on its way, or a second attempt, gets the
//! same dot. The exception is a last-write-wins write that comes back with a greater stamp, because its coordinator
//! learned of a version it has to win over: it overwrites its older self.

use super::crowd::{self, Room};
use super::recent::Known;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::ports::{Overwrites, Refusal, StampRequest};
use crate::sabotage::{self, Sabotage};
use crate::version::{Context, Dot, Rank, Record, Stamp, Version, VersionVector, WriteId};

/// Stamps beyond this (in the year 6429) are refused: a key that held the greatest stamp could never be written again.
pub(super) const STAMP_MAX: Stamp = Stamp(u64::MAX >> 1);

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was applied before, as this dot.
    Known(Dot),
    /// What is held has a greater rank, this one; or, with siblings, it can't be told from a repetition unless it gets a
    /// greater rank than this one.
    Superseded(Rank),
    /// The client's own last write was not seen here, so what it overwrote can't be told.
    Behind,
    /// It is applied: as this dot, with this stamp, resulting in this record.
    Applied(Known, Record),
}

/// What bounds a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What it may leave beside it; one that resolves everything is always welcome.
    pub(super) room: Room,
    /// No write with a greater stamp was forgotten here.
    pub(super) horizon: Stamp,
    /// Of a key that is not there: no tombstone with a greater stamp was purged from its tree.
    pub(super) purged: Option<Stamp>,
}

/// Decides, and applies the write to `held`; `before` is what was seen before a purge. `recent` is what is remembered of it, if anything; `give` a new dot.
pub(super) fn stamp(
    held: &Record,
    before: &VersionVector,
    recent: Option<Known>,
    request: StampRequest,
    Limits {
        room,
        horizon,
        purged,
    }: Limits,
    give: impl FnOnce() -> Result<Dot, Refusal>,
) -> Result<Outcome, Refusal> {
    if request.stamp > STAMP_MAX {
        return Err(Refusal::Malformed(format!(
            "the stamp {} is too far in the future",
            request.stamp
        )));
    }
    let among_held = held
        .siblings()
        .iter()
        .filter(|sibling| sibling.write_id == request.write_id);
    let among_held = among_held.map(|sibling| Known {
        dot: sibling.dot,
        stamp: sibling.stamp,
    });
    let recent = recent.filter(|_| {
        // A coordinator that asks again under last-write-wins asks with a stamp that says what it is about.
        !matches!(request.overwrites, Overwrites::All(_)) || !buggify::on(Site::RecentForgotten)
    });
    let known = among_held
        .chain(recent)
        .max_by_key(|known| (known.stamp, known.dot));
    let stamped_higher = matches!(request.overwrites, Overwrites::All(_)).then_some(request.stamp);
    if let Some(known) = known
        && stamped_higher.is_none_or(|stamp| stamp <= known.stamp)
        && !sabotage::on(Sabotage::WriteIdForgotten)
    {
        let is_held = held
            .siblings()
            .iter()
            .any(|sibling| sibling.dot == known.dot);
        marks::reached(match is_held {
            true => Mark::KnownFromRecord,
            false => Mark::KnownFromMemory,
        });
        return Ok(Outcome::Known(known.dot));
    }

    // It may be a repetition of one that was overwritten, and then forgotten or purged.
    let forgotten = matches!(request.overwrites, Overwrites::Covered(_)).then_some(horizon);
    let purged = purged.filter(|_| !sabotage::on(Sabotage::PurgedForgotten));
    if let Some(stamp) = forgotten.max(purged)
        && request.stamp <= stamp
    {
        return Ok(Outcome::Superseded(Rank {
            stamp,
            write_id: WriteId(u128::MAX),
        }));
    }
    if let Overwrites::Covered(Context {
        written: Some(written),
        ..
    }) = &request.overwrites
        && !held.seen().covers(*written)
        && !before.covers(*written)
        && !sabotage::on(Sabotage::BehindIgnored)
    {
        marks::reached(Mark::Behind);
        return Ok(Outcome::Behind);
    }
    let overwritten = |sibling: &Version| match &request.overwrites {
        Overwrites::All(_) => true,
        Overwrites::Covered(context) => {
            context.covers(sibling.dot)
                || crowd::is_hidden(sibling)
                || sabotage::on(Sabotage::UnseenOverwritten)
        }
    };
    let left = held.siblings().iter();
    let left = left.filter(|sibling| !overwritten(sibling));
    let leaves_any = left.clone().next().is_some();
    room.check(left)?;
    let greatest = held
        .siblings()
        .iter()
        .filter(|sibling| overwritten(sibling))
        .map(Version::rank)
        .max();
    let stamp = match (&request.overwrites, greatest) {
        _ if sabotage::on(Sabotage::StampNotAboveOverwritten) => request.stamp,
        (_, None) => request.stamp,
        (Overwrites::All(_), Some(greatest)) if greatest > request.rank() => {
            return Ok(Outcome::Superseded(greatest));
        }
        (Overwrites::All(_), Some(_)) => request.stamp,
        (Overwrites::Covered(_), Some(greatest)) => {
            let above = greatest
                .stamp
                .next()
                .ok_or_else(|| Refusal::Malformed("no stamp is greater".into()))?;
            if above > request.stamp {
                marks::reached(Mark::StampRaisedLocally);
            }
            request.stamp.max(above)
        }
    };
    let dot = give()?;
    if known.is_some() {
        marks::reached(Mark::StampedAgain);
    }
    if leaves_any {
        marks::reached(Mark::SiblingsKept);
    }
    let version = Version {
        dot,
        write_id: request.write_id,
        stamp,
        content: request.content,
    };
    // Under last-write-wins stamps decide: to count what was not seen here as overwritten would let a write with a smaller
    // stamp remove one with a greater stamp, and nobody could tell afterwards.
    let record = match &request.overwrites {
        Overwrites::All(_) => held.overwrite(version, &VersionVector::default(), overwritten),
        Overwrites::Covered(_)
            if version.is_tombstone() && sabotage::on(Sabotage::DeleteForgetsContext) =>
        {
            held.overwrite(version, &VersionVector::default(), overwritten)
        }
        Overwrites::Covered(context) => held.overwrite(version, &context.shown, overwritten),
    };
    Ok(Outcome::Applied(Known { dot, stamp }, record))
}

/// What the client had seen.
pub(super) const fn context(overwrites: &Overwrites) -> &Context {
    match overwrites {
        Overwrites::All(context) | Overwrites::Covered(context) => context,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::{RecordKey, TenantId};
    use crate::version::{Actor, Content, WriteId};

    const NEW: Dot = Dot {
        actor: Actor(1),
        counter: 50,
    };

    const LIMITS: Limits = Limits {
        room: Room {
            siblings: 2,
            bytes: 1000,
        },
        horizon: Stamp(5),
        purged: None,
    };

    fn seen<const N: usize>(entries: [(u64, u64); N]) -> VersionVector {
        entries
            .into_iter()
            .map(|(actor, counter)| (Actor(actor), counter))
            .collect()
    }

    fn shown<const N: usize>(entries: [(u64, u64); N]) -> Context {
        Context {
            shown: seen(entries),
            written: None,
        }
    }

    fn version(actor: u64, write_id: u128, stamp: u64) -> Version {
        let dot = Dot {
            actor: Actor(actor),
            counter: 1,
        };
        Version {
            dot,
            write_id: WriteId(write_id),
            stamp: Stamp(stamp),
            content: Content::Value(Bytes::from_static(b"old")),
        }
    }

    /// Siblings of the actors 2 and 3, the writes 20 and 30, with the stamps 200 and 300.
    fn held() -> Record {
        Record::new(
            seen([(2, 1), (3, 1)]),
            vec![version(2, 20, 200), version(3, 30, 300)],
        )
        .unwrap()
    }

    fn request(write_id: u128, stamp: u64, overwrites: Overwrites) -> StampRequest {
        StampRequest {
            key: RecordKey::new(PartitionId(0), &TenantId::new("t").unwrap(), "k"),
            write_id: WriteId(write_id),
            stamp: Stamp(stamp),
            overwrites,
            content: Content::Value(Bytes::from_static(b"new")),
            siblings_max: 256,
        }
    }

    fn all(write_id: u128, stamp: u64) -> StampRequest {
        request(write_id, stamp, Overwrites::All(Context::default()))
    }

    fn covered<const N: usize>(
        write_id: u128,
        stamp: u64,
        context: [(u64, u64); N],
    ) -> StampRequest {
        request(write_id, stamp, Overwrites::Covered(shown(context)))
    }

    fn outcome(request: StampRequest, recent: Option<Known>) -> Result<Outcome, Refusal> {
        stamp(
            &held(),
            &VersionVector::default(),
            recent,
            request,
            LIMITS,
            || Ok(NEW),
        )
    }

    fn superseded() -> Result<Outcome, Refusal> {
        Ok(Outcome::Superseded(held().greatest_rank()))
    }

    /// The siblings left, by write, and the stamp of the new one.
    fn applied(outcome: Result<Outcome, Refusal>) -> (Vec<u128>, u64) {
        applied_to(&held(), outcome)
    }

    fn applied_to(held: &Record, outcome: Result<Outcome, Refusal>) -> (Vec<u128>, u64) {
        let Ok(Outcome::Applied(known, record)) = outcome else {
            panic!("not applied: {outcome:?}")
        };
        assert_eq!(
            record
                .siblings()
                .iter()
                .find(|sibling| sibling.dot == NEW)
                .unwrap()
                .stamp,
            known.stamp
        );
        assert!(record.seen().descends(held.seen()));
        let mut writes: Vec<_> = record
            .siblings()
            .iter()
            .map(|sibling| sibling.write_id.0)
            .collect();
        writes.sort_unstable();
        (writes, known.stamp.0)
    }

    #[test]
    fn last_write_wins_overwrites_all_that_is_older() {
        assert_eq!(applied(outcome(all(1, 301), None)), (vec![1], 301));
        for stamp in [0, 200, 299, 300] {
            assert_eq!(outcome(all(1, stamp), None), superseded());
        }
        assert_eq!(
            applied(outcome(all(31, 300), None)),
            (vec![31], 300),
            "of two writes with one stamp the name decides, at every owner alike"
        );
        let empty = stamp(
            &Record::default(),
            &VersionVector::default(),
            None,
            all(1, 0),
            LIMITS,
            || Ok(NEW),
        );
        assert!(
            matches!(empty, Ok(Outcome::Applied(..))),
            "nothing is there that could supersede it"
        );
    }

    #[test]
    fn a_context_is_seen_from_then_on_where_it_decides_what_is_overwritten() {
        let seen_after = |overwrites| match outcome(request(1, 999, overwrites), None) {
            Ok(Outcome::Applied(_, record)) => record.seen().clone(),
            other => panic!("not applied: {other:?}"),
        };
        assert_eq!(
            seen_after(Overwrites::Covered(shown([(2, 1), (7, 5)]))),
            seen([(1, 50), (2, 1), (3, 1), (7, 5)])
        );
        assert_eq!(
            seen_after(Overwrites::All(shown([(7, 5)]))),
            seen([(1, 50), (2, 1), (3, 1)]),
            "an unseen version with a greater stamp must still win"
        );
    }

    #[test]
    fn with_siblings_exactly_what_is_covered_is_overwritten() {
        assert_eq!(
            applied(outcome(covered(1, 9, [(2, 1)]), None)),
            (vec![1, 30], 201),
            "stamped above it"
        );
        assert_eq!(
            applied(outcome(covered(1, 900, [(2, 1)]), None)),
            (vec![1, 30], 900)
        );
        assert_eq!(
            applied(outcome(covered(1, 9, [(2, 1), (3, 8)]), None)),
            (vec![1], 301)
        );
    }

    #[test]
    fn the_clients_own_write_is_overwritten_alone_and_must_have_been_seen() {
        let own = |actor, counter, write_id| {
            let written = Some(Dot {
                actor: Actor(actor),
                counter,
            });
            request(
                write_id,
                900,
                Overwrites::Covered(Context {
                    written,
                    ..Context::default()
                }),
            )
        };
        assert_eq!(applied(outcome(own(3, 1, 1), None)), (vec![1, 20], 900));
        assert_eq!(outcome(own(3, 2, 1), None), Ok(Outcome::Behind));
        assert_eq!(
            outcome(own(3, 2, 20), None),
            Ok(Outcome::Known(version(2, 20, 200).dot)),
            "known is known"
        );
    }

    #[test]
    fn siblings_are_bounded() {
        assert!(matches!(
            outcome(covered(1, 9, []), None),
            Err(Refusal::Crowded(_))
        ));
        assert_eq!(
            outcome(covered(20, 9, []), None),
            Ok(Outcome::Known(version(2, 20, 200).dot))
        );
    }

    #[test]
    fn bytes_of_siblings_are_bounded() {
        let mut large = version(2, 20, 200);
        large.content = Content::Value(Bytes::from(vec![0; 1001]));
        let held = Record::new(seen([(2, 1)]), vec![large]).unwrap();
        let outcome = |request| {
            let none = VersionVector::default();
            stamp(&held, &none, None, request, LIMITS, || Ok(NEW))
        };
        let refused = outcome(covered(1, 9, []));
        assert!(matches!(refused, Err(Refusal::Crowded(_))), "{refused:?}");
        for resolves in [covered(1, 9, [(2, 1)]), all(1, 999)] {
            assert_eq!(applied_to(&held, outcome(resolves)).0, vec![1]);
        }
    }

    #[test]
    fn a_write_takes_the_place_of_tombstones() {
        let mut deleted = version(2, 20, 200);
        deleted.content = Content::Tombstone;
        let held = Record::new(seen([(2, 1), (3, 1)]), vec![deleted, version(3, 30, 300)]);
        let held = held.unwrap();
        for content in [Content::Tombstone, Content::Value(Bytes::new())] {
            let blind = StampRequest {
                content,
                ..covered(1, 9, [])
            };
            let none = VersionVector::default();
            let outcome = stamp(&held, &none, None, blind, LIMITS, || Ok(NEW));
            assert_eq!(
                applied_to(&held, outcome),
                (vec![1, 30], 201),
                "the value stays, and the stamp is above the tombstone's"
            );
        }
    }

    #[test]
    fn a_write_that_is_held_or_remembered_is_not_applied_again() {
        let of_2 = Ok(Outcome::Known(version(2, 20, 200).dot));
        assert_eq!(outcome(covered(20, 9, [(2, 1)]), None), of_2);
        assert_eq!(outcome(covered(20, 999, [(2, 1)]), None), of_2);
        assert_eq!(outcome(all(20, 200), None), of_2);
        let recent = Known {
            dot: Dot {
                actor: Actor(1),
                counter: 3,
            },
            stamp: Stamp(100),
        };
        assert_eq!(
            outcome(all(1, 100), Some(recent)),
            Ok(Outcome::Known(recent.dot)),
            "overwritten since"
        );
        assert_eq!(
            outcome(covered(1, 500, []), Some(recent)),
            Ok(Outcome::Known(recent.dot))
        );
    }

    #[test]
    fn what_may_be_a_forgotten_repetition_needs_a_greater_stamp() {
        let greatest = Rank {
            stamp: Stamp(5),
            write_id: WriteId(u128::MAX),
        };
        assert_eq!(
            outcome(covered(1, 5, [(2, 1)]), None),
            Ok(Outcome::Superseded(greatest))
        );
        assert_eq!(
            applied(outcome(covered(1, 6, [(2, 1)]), None)),
            (vec![1, 30], 201)
        );
        assert_eq!(
            outcome(covered(20, 5, [(2, 1)]), None),
            Ok(Outcome::Known(version(2, 20, 200).dot)),
            "what is held is no riddle"
        );
    }

    #[test]
    fn a_greater_stamp_stamps_again() {
        let older_self = Some(Known {
            dot: Dot {
                actor: Actor(1),
                counter: 3,
            },
            stamp: Stamp(100),
        });
        assert_eq!(applied(outcome(all(1, 301), older_self)), (vec![1], 301));
        assert_eq!(
            applied(outcome(all(30, 301), None)),
            (vec![30], 301),
            "in place of itself"
        );
        assert_eq!(outcome(all(1, 250), older_self), superseded());
    }

    #[test]
    fn stamps_without_a_successor_are_refused() {
        assert!(matches!(
            outcome(all(1, u64::MAX), None),
            Err(Refusal::Malformed(_))
        ));
        let hostile = Record::new(seen([(2, 1)]), vec![version(2, 20, u64::MAX)]).unwrap();
        let refused = stamp(
            &hostile,
            &VersionVector::default(),
            None,
            covered(1, 9, [(2, 1)]),
            LIMITS,
            || Ok(NEW),
        );
        assert!(matches!(refused, Err(Refusal::Malformed(_))));
    }
}
