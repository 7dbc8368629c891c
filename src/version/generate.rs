//! Well-formed values for property tests, honest or not.
//!
//! Actors, counters, stamps and ids come from small sets, so that collisions are the rule: two records often hold one dot
//! with different content, which no honest replica produces, and counters and stamps at the very end of their range.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Actor, Content, Context, Dot, Record, Stamp, Version, VersionVector, WriteId};

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

/// Any well-formed record. A sibling that the vector does not cover raises it or is left out, half and half.
pub(super) fn record() -> impl Strategy<Value = Record> {
    (vector(), vec((version(), any::<bool>()), 0..=4)).prop_map(|(mut seen, candidates)| {
        let mut siblings: Vec<Version> = Vec::new();
        for (version, raise) in candidates {
            if siblings.iter().any(|sibling| sibling.dot == version.dot) {
                continue;
            }
            if raise {
                seen.advance(version.dot);
            }
            if seen.covers(version.dot) {
                siblings.push(version);
            }
        }
        Record::new(seen, siblings).expect("generated records are well-formed")
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
