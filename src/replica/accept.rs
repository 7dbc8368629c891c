//! What an owner does with one write that it is asked to accept.
//!
//! A write that was applied here is not applied again: an answer that was lost on its way, or a second attempt, gets
//! the same dot. The exception is a last-write-wins write that comes back with a greater stamp, because its coordinator
//! learned of a version it has to win over: it overwrites its older self.

use super::crowd::{self, Room};
use super::recent::Known;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::ports::{AcceptRequest, Overwrites, Refusal};
use crate::version::{Context, Dot, Rank, Record, Stamp, Version, VersionVector, WriteId};

/// Stamps beyond this (in the year 6429) are refused: a key that held the greatest stamp could never be written again.
pub(super) const STAMP_MAX: Stamp = Stamp(u64::MAX >> 1);

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was applied before, as this dot.
    Known(Dot),
    /// What is held has a greater rank, this one; or, with siblings, it can't be told from a repetition unless it gets
    /// a greater rank than this one.
    Superseded(Rank),
    /// It may have been applied, here or elsewhere, and overwritten or deleted since, and nobody remembers. Unless it
    /// gets a greater rank than this one, it can't be told from a repetition.
    MayBeOver(Rank),
    /// Something that the client was shown was not seen here, so what it overwrites can't be told.
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

/// Decides, and applies the write to `held`; `before` is what was seen before a purge. `recent` is what is remembered
/// of it, if anything; `give` a new dot.
pub(super) fn accept(
    held: &Record,
    before: &VersionVector,
    recent: Option<Known>,
    request: AcceptRequest,
    limits: Limits,
    give: impl FnOnce() -> Result<Dot, Refusal>,
) -> Result<Outcome, Refusal> {
    if request.stamp > STAMP_MAX {
        return Err(Refusal::Malformed(format!(
            "the stamp {} is too far in the future",
            request.stamp
        )));
    }
    let known = known(held, recent, &request);
    if let Some(known) = known.filter(|known| is_repetition(*known, &request)) {
        mark_known(held, known.dot);
        return Ok(Outcome::Known(known.dot));
    }
    if let Some(outcome) = may_be_repetition(held, limits, &request) {
        return Ok(outcome);
    }
    if let Overwrites::Covered(context) = &request.overwrites
        && is_behind(context, held, before)
        && !mutant::on(Mutant::BehindIgnored)
    {
        marks::reached(Mark::Behind);
        return Ok(Outcome::Behind);
    }
    let is_overwritten = |sibling: &Version| is_overwritten(sibling, held, &request.overwrites);
    let siblings = held.siblings().iter();
    let (gone, left): (Vec<_>, Vec<_>) = siblings.partition(|sibling| is_overwritten(sibling));
    limits.room.check(left.iter().copied())?;
    let greatest = gone.into_iter().map(Version::rank).max();
    let stamp = match stamp_above(greatest, &request)? {
        Above::Stamp(stamp) => stamp,
        Above::Outranked(greatest) => return Ok(Outcome::Superseded(greatest)),
    };
    let dot = give()?;
    if known.is_some() {
        marks::reached(Mark::StampedAgain);
    }
    if !left.is_empty() {
        marks::reached(Mark::SiblingsKept);
    }
    let version = Version {
        dot,
        write_id: match known.is_some() && mutant::on(Mutant::WriteIdForgotten) {
            true => WriteId(request.write_id.0 ^ u128::from(dot.counter)),
            false => request.write_id,
        },
        stamp,
        content: request.content,
    };
    let record = overwritten_by(version, held, &request.overwrites);
    Ok(Outcome::Applied(Known { dot, stamp }, record))
}

/// What is known of the write here, from the record and from memory: of several attempts the one with the greatest
/// stamp.
fn known(held: &Record, recent: Option<Known>, request: &AcceptRequest) -> Option<Known> {
    let siblings = held.siblings().iter();
    let among_held = siblings
        .filter(|sibling| sibling.write_id == request.write_id)
        .map(|sibling| Known {
            dot: sibling.dot,
            stamp: sibling.stamp,
        });
    let recent = recent.filter(|_| {
        // A coordinator that asks again under last-write-wins asks with a stamp that says what it is about.
        !matches!(request.overwrites, Overwrites::All(_)) || !buggify::on(Site::RecentForgotten)
    });
    let overwritten = held.overwritten().iter();
    let overwritten = overwritten
        .filter(|old| old.write_id == request.write_id)
        .map(|old| Known {
            dot: old.dot,
            stamp: old.stamp,
        });
    among_held
        .chain(overwritten)
        .chain(recent)
        .max_by_key(|known| (known.stamp, known.dot))
}

/// Whether the request asks for what is known already. Where the last write wins, one with a greater stamp does not.
fn is_repetition(known: Known, request: &AcceptRequest) -> bool {
    let is_raised = matches!(request.overwrites, Overwrites::All(_)) && request.stamp > known.stamp;
    !is_raised && !mutant::on(Mutant::WriteIdForgotten)
}

fn mark_known(held: &Record, dot: Dot) {
    let is_held = held.siblings().iter().any(|sibling| sibling.dot == dot);
    marks::reached(match is_held {
        true => Mark::KnownFromRecord,
        false => Mark::KnownFromMemory,
    });
}

/// What to answer if it may be a repetition of one that was overwritten, and then forgotten or purged.
fn may_be_repetition(held: &Record, limits: Limits, request: &AcceptRequest) -> Option<Outcome> {
    let covered = matches!(request.overwrites, Overwrites::Covered(_));
    let here = covered.then_some(limits.horizon);
    let purged = limits
        .purged
        .filter(|_| !mutant::on(Mutant::PurgedForgotten));
    let anywhere = Some(held.forgotten()).filter(|_| covered).max(purged);
    let above = |stamp| Rank {
        stamp,
        write_id: WriteId(u128::MAX),
    };
    if let Some(stamp) = anywhere.filter(|stamp| request.stamp <= *stamp) {
        let greatest = here.max(anywhere).unwrap_or(stamp);
        return Some(Outcome::MayBeOver(above(greatest)));
    }
    here.filter(|stamp| request.stamp <= *stamp)
        .map(|stamp| Outcome::Superseded(above(stamp)))
}

/// Whether a write that overwrites this leaves nothing of a sibling that is held. Whoever overwrites what it was shown
/// overwrites the write: all its attempts, under whatever dots.
fn is_overwritten(sibling: &Version, held: &Record, overwrites: &Overwrites) -> bool {
    let Overwrites::Covered(context) = overwrites else {
        return true;
    };
    let is_covered_attempt = |write_id| {
        let mut attempts = held.siblings().iter();
        attempts.any(|other| other.write_id == write_id && context.covers(other.dot))
    };
    let by_name = !mutant::on(Mutant::AttemptOverwrittenAlone)
        && (held.was_overwritten(sibling.write_id) || is_covered_attempt(sibling.write_id));
    context.covers(sibling.dot)
        || by_name
        || crowd::is_hidden(sibling)
        || mutant::on(Mutant::UnseenOverwritten)
}

/// How a write stands to what it overwrites.
enum Above {
    /// With this stamp it has a greater rank.
    Stamp(Stamp),
    /// This rank is greater, and the write may not be raised above it here.
    Outranked(Rank),
}

/// The stamp of a write that overwrites what has the rank `greatest`. Under last-write-wins only its coordinator may
/// raise it.
fn stamp_above(greatest: Option<Rank>, request: &AcceptRequest) -> Result<Above, Refusal> {
    let Some(greatest) = greatest.filter(|_| !mutant::on(Mutant::StampNotAboveOverwritten)) else {
        return Ok(Above::Stamp(request.stamp));
    };
    match &request.overwrites {
        Overwrites::All(_) if greatest > request.rank() => Ok(Above::Outranked(greatest)),
        Overwrites::All(_) => Ok(Above::Stamp(request.stamp)),
        Overwrites::Covered(_) => {
            let above = greatest
                .stamp
                .next()
                .ok_or_else(|| Refusal::Malformed("no stamp is greater".into()))?;
            if above > request.stamp {
                marks::reached(Mark::StampRaisedLocally);
            }
            Ok(Above::Stamp(request.stamp.max(above)))
        }
    }
}

/// The record that `version` makes of `held`.
fn overwritten_by(version: Version, held: &Record, overwrites: &Overwrites) -> Record {
    let is_overwritten = |sibling: &Version| is_overwritten(sibling, held, overwrites);
    let stamp = version.stamp;
    // Under last-write-wins stamps decide: to count what was not seen here as overwritten would let a write with a
    // smaller stamp remove one with a greater stamp, and nobody could tell afterwards.
    match overwrites {
        Overwrites::All(_) => held.overwrite(version, &VersionVector::default(), is_overwritten),
        Overwrites::Covered(context) => {
            let record = held.overwrite(version, &context.shown, is_overwritten);
            match mutant::on(Mutant::AttemptOverwrittenAlone) {
                true => record,
                false => record.remembering(held, stamp),
            }
        }
    }
}

/// Whether an owner that holds `held`, and purged `before`, has not seen all that the client was shown. It can't know
/// the names of what it would overwrite then; nor whether a context that covers what nobody ever wrote was made up.
fn is_behind(context: &Context, held: &Record, before: &VersionVector) -> bool {
    if context.is_covered_by(held.seen()) {
        return false;
    }
    let mut seen = held.seen().clone();
    seen.merge(before);
    !context.is_covered_by(&seen)
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
            seen([(1, 3), (2, 1), (3, 1)]),
            vec![version(2, 20, 200), version(3, 30, 300)],
        )
        .unwrap()
    }

    fn request(write_id: u128, stamp: u64, overwrites: Overwrites) -> AcceptRequest {
        AcceptRequest {
            key: RecordKey::new(PartitionId(0), &TenantId::new("t").unwrap(), "k"),
            write_id: WriteId(write_id),
            stamp: Stamp(stamp),
            overwrites,
            content: Content::Value(Bytes::from_static(b"new")),
            siblings_max: 256,
        }
    }

    fn all(write_id: u128, stamp: u64) -> AcceptRequest {
        request(write_id, stamp, Overwrites::All(Context::default()))
    }

    fn covered<const N: usize>(
        write_id: u128,
        stamp: u64,
        context: [(u64, u64); N],
    ) -> AcceptRequest {
        request(write_id, stamp, Overwrites::Covered(shown(context)))
    }

    fn outcome(request: AcceptRequest, recent: Option<Known>) -> Result<Outcome, Refusal> {
        accept(
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
        let empty = accept(
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
    fn a_stamp_is_no_greater_than_what_leaves_room_above_it() {
        let greatest = all(1, STAMP_MAX.0);
        assert_eq!(applied(outcome(greatest, None)), (vec![1], STAMP_MAX.0));
        let above = outcome(all(1, STAMP_MAX.0 + 1), None);
        assert!(matches!(above, Err(Refusal::Malformed(_))), "{above:?}");
    }

    #[test]
    fn a_context_that_covers_what_was_not_seen_here_has_to_be_proved() {
        let unseen = || shown([(2, 1), (7, 5)]);
        let write = || request(1, 999, Overwrites::Covered(unseen()));
        assert_eq!(outcome(write(), None), Ok(Outcome::Behind));
        let purged = seen([(7, 9)]);
        let after_a_purge = accept(&held(), &purged, None, write(), LIMITS, || Ok(NEW));
        assert!(
            matches!(after_a_purge, Ok(Outcome::Applied(..))),
            "what was purged here was here"
        );
        let seen_after = |overwrites| match outcome(request(1, 999, overwrites), None) {
            Ok(Outcome::Applied(_, record)) => record.seen().clone(),
            other => panic!("not applied: {other:?}"),
        };
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
            "its stamp is raised above what it overwrites"
        );
        assert_eq!(
            applied(outcome(covered(1, 900, [(2, 1)]), None)),
            (vec![1, 30], 900)
        );
        assert_eq!(
            applied(outcome(covered(1, 9, [(2, 1), (3, 1)]), None)),
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
            accept(&held, &none, None, request, LIMITS, || Ok(NEW))
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
            let blind = AcceptRequest {
                content,
                ..covered(1, 9, [])
            };
            let none = VersionVector::default();
            let outcome = accept(&held, &none, None, blind, LIMITS, || Ok(NEW));
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

    /// Two attempts of the write 20, by the actors 2 and 4, beside the write 30.
    fn attempted_twice() -> Record {
        let mut siblings = vec![
            version(2, 20, 200),
            version(4, 20, 200),
            version(3, 30, 300),
        ];
        for sibling in &mut siblings {
            sibling.content = Content::Value(Bytes::from_static(b"old"));
        }
        Record::new(seen([(2, 1), (3, 1), (4, 1)]), siblings).unwrap()
    }

    fn accepted_on(held: &Record, request: AcceptRequest) -> Result<Outcome, Refusal> {
        let unseen = VersionVector::default();
        accept(held, &unseen, None, request, LIMITS, || Ok(NEW))
    }

    #[test]
    fn whoever_overwrites_one_attempt_of_a_write_overwrites_the_write() {
        let outcome = accepted_on(&attempted_twice(), covered(1, 900, [(2, 1)]));
        let Ok(Outcome::Applied(_, after)) = outcome else {
            panic!("not applied: {outcome:?}")
        };
        let left: Vec<u128> = after.siblings().iter().map(|s| s.write_id.0).collect();
        assert_eq!(left, [1, 30]);
        assert!(after.was_overwritten(WriteId(20)) && !after.was_overwritten(WriteId(30)));
        let again = accepted_on(&after, covered(20, 200, []));
        assert!(matches!(again, Ok(Outcome::Known(_))), "{again:?}");
    }

    #[test]
    fn what_was_overwritten_and_forgotten_may_be_over() {
        let mut held = attempted_twice();
        let mut next = covered(1, 900, [(2, 1), (3, 1), (4, 1)]);
        for n in 0..100 {
            let dot = Dot {
                actor: Actor(1),
                counter: 50 + n,
            };
            next.write_id = WriteId(1000 + u128::from(n));
            next.stamp = Stamp(900 + n);
            let accepted = accept(
                &held,
                &VersionVector::default(),
                None,
                next.clone(),
                LIMITS,
                || Ok(dot),
            );
            let Ok(Outcome::Applied(known, after)) = accepted else {
                panic!("not applied: {accepted:?}")
            };
            next.overwrites = Overwrites::Covered(shown([(1, known.dot.counter)]));
            held = after;
        }
        let again = accepted_on(&held, covered(20, 200, []));
        assert!(matches!(again, Ok(Outcome::MayBeOver(_))), "{again:?}");
    }

    #[test]
    fn a_write_with_a_greater_stamp_is_accepted_again() {
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
        let refused = accept(
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
