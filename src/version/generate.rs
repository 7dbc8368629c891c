//! Well-formed values for property tests, honest or not.
//!
//! Actors, counters, stamps and ids come from small sets, so that collisions are the rule: two records often hold one
//! dot with different content, which no honest replica produces, and counters and stamps at the very end of their
//! range.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    Actor, Content, Context, Dot, Overwritten, Record, Stamp, Version, VersionVector, WriteId,
};

const ACTORS: u64 = 4;

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 1..=4_u64, 1 => u64::MAX - 1..=u64::MAX]
}

pub(super) fn vector() -> impl Strategy<Value = VersionVector> {
    vec((0..ACTORS, counter()), 0..=4).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(actor, counter)| (Actor(actor), counter))
            .collect()
    })
}

pub(super) fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        1 => Just(Content::Tombstone),
        3 => vec(0..=1_u8, 0..=2).prop_map(|value| Content::Value(Bytes::from(value))),
    ]
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    let stamp = prop_oneof![9 => 0..=2_u64, 1 => Just(u64::MAX)];
    (0..ACTORS, counter(), 0..=1_u128, stamp, content()).prop_map(
        |(actor, counter, write_id, stamp, content)| Version {
            dot: Dot {
                actor: Actor(actor),
                counter,
            },
            write_id: WriteId(write_id),
            stamp: Stamp(stamp),
            content,
        },
    )
}

/// Any well-formed record. A sibling that the vector does not cover raises it or is left out, half and half; some are
/// remembered as overwritten instead.
pub(super) fn record() -> impl Strategy<Value = Record> {
    let candidate = (version(), any::<bool>(), prop::bool::weighted(0.3));
    let forgotten = prop_oneof![3 => Just(0_u64), 1 => 1..=3_u64];
    (vector(), vec(candidate, 0..=5), forgotten).prop_map(|(mut seen, candidates, forgotten)| {
        let mut siblings: Vec<Version> = Vec::new();
        let mut overwritten: Vec<Overwritten> = Vec::new();
        for (version, raise, is_overwritten) in candidates {
            let Version {
                dot,
                write_id,
                stamp,
                ..
            } = version;
            let stands = |other: Dot| other == dot;
            if siblings.iter().any(|other| stands(other.dot))
                || overwritten.iter().any(|other| stands(other.dot))
            {
                continue;
            }
            if raise {
                seen.advance(dot);
            }
            match (seen.covers(dot), is_overwritten) {
                (true, false) => siblings.push(version),
                (true, true) => overwritten.push(Overwritten {
                    dot,
                    write_id,
                    stamp,
                    by: Stamp(3),
                }),
                (false, _) => {}
            }
        }
        let mut record = Record::new(seen, siblings).expect("generated records are well-formed");
        overwritten.sort_unstable();
        record.overwritten = overwritten;
        record.forgotten = Stamp(forgotten);
        record
    })
}

/// Any context. An own write that the vector covers is none.
pub(super) fn context() -> impl Strategy<Value = Context> {
    (vector(), prop::option::of((0..ACTORS, counter()))).prop_map(|(shown, written)| {
        let written = written
            .map(|(actor, counter)| Dot {
                actor: Actor(actor),
                counter,
            })
            .filter(|dot| !shown.covers(*dot));
        Context { shown, written }
    })
}
