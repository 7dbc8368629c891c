//! What a read returns, by policy.

use bytes::Bytes;
use proptest::prelude::*;

use super::ConflictPolicy::{LastWriteWins, Siblings};
use super::*;
use crate::version::{Actor, Content, Dot, Stamp, WriteId};

fn version(actor: u64, write_id: u128, stamp: u64, content: Content) -> Version {
    let dot = Dot {
        actor: Actor(actor),
        counter: 1,
    };
    Version {
        dot,
        write_id: WriteId(write_id),
        stamp: Stamp(stamp),
        content,
    }
}

fn value(actor: u64, write_id: u128, stamp: u64) -> Version {
    version(actor, write_id, stamp, Content::Value(Bytes::new()))
}

fn tombstone(actor: u64, write_id: u128, stamp: u64) -> Version {
    version(actor, write_id, stamp, Content::Tombstone)
}

fn record(siblings: impl IntoIterator<Item = Version>) -> Record {
    let siblings: Vec<Version> = siblings.into_iter().collect();
    let seen = siblings.iter().map(|v| (v.dot.actor, v.dot.counter));
    Record::new(seen.collect(), siblings).unwrap()
}

/// The actors of the versions that are shown.
fn shown(record: &Record, policy: ConflictPolicy) -> Vec<u64> {
    let resolution = resolve(record, policy);
    assert_eq!(resolution.value, resolution.siblings.first().copied());
    resolution.siblings.iter().map(|v| v.dot.actor.0).collect()
}

#[test]
fn nothing_written_is_nothing_shown() {
    for policy in [LastWriteWins, Siblings] {
        assert_eq!(shown(&Record::default(), policy), [0u64; 0]);
    }
}

#[test]
fn the_last_write_wins_and_an_equal_stamp_is_settled_by_the_dot() {
    let older_beside_newer = record([value(1, 1, 9), value(2, 2, 5)]);
    assert_eq!(shown(&older_beside_newer, LastWriteWins), [1]);
    let equal = record([value(1, 1, 5), value(2, 2, 5)]);
    assert_eq!(shown(&equal, LastWriteWins), [2]);
}

#[test]
fn a_delete_that_is_last_hides_every_value() {
    let deleted = record([value(1, 1, 5), tombstone(2, 2, 9)]);
    assert_eq!(shown(&deleted, LastWriteWins), [0u64; 0]);
    let written_again = record([value(1, 1, 9), tombstone(2, 2, 5)]);
    assert_eq!(shown(&written_again, LastWriteWins), [1]);
}

#[test]
fn siblings_are_all_values_the_latest_first() {
    let three = record([
        value(1, 1, 5),
        value(2, 2, 9),
        tombstone(3, 3, 99),
        value(4, 4, 5),
    ]);
    assert_eq!(shown(&three, Siblings), [2, 4, 1]);
}

#[test]
fn a_write_retried_elsewhere_is_shown_once_at_its_greatest_dot() {
    let retried = record([value(1, 7, 9), value(2, 7, 5), value(3, 8, 6)]);
    assert_eq!(shown(&retried, Siblings), [3, 2]);
}

fn any_record() -> impl Strategy<Value = Record> {
    prop::collection::vec((0..5u128, 0..4u64, any::<bool>()), 0..9).prop_map(|parts| {
        record((1..).zip(parts).map(|(actor, (write_id, stamp, deleted))| {
            if deleted {
                tombstone(actor, write_id, stamp)
            } else {
                value(actor, write_id, stamp)
            }
        }))
    })
}

proptest! {
    #[test]
    fn siblings_agree_with_the_definition(record in any_record()) {
        let resolution = resolve(&record, Siblings);
        let values = || record.siblings().iter().filter(|v| !v.is_tombstone());
        for version in &resolution.siblings {
            let of_one_write = values().filter(|v| v.write_id == version.write_id);
            prop_assert_eq!(of_one_write.max_by_key(|v| v.dot), Some(*version));
        }
        for version in values() {
            let times = resolution.siblings.iter().filter(|v| v.write_id == version.write_id);
            prop_assert_eq!(times.count(), 1);
        }
        let falls = |pair: &[&Version]| {
            (pair[0].rank(), pair[0].dot) > (pair[1].rank(), pair[1].dot)
        };
        prop_assert!(resolution.siblings.windows(2).all(falls));
        prop_assert_eq!(resolution.value, resolution.siblings.first().copied());
    }

    #[test]
    fn the_winner_is_above_every_other(record in any_record()) {
        let resolution = resolve(&record, LastWriteWins);
        let latest = record.siblings().iter().max_by_key(|v| (v.rank(), v.dot));
        prop_assert_eq!(resolution.value, latest.filter(|v| !v.is_tombstone()));
        prop_assert!(resolution.siblings.len() <= 1);
    }
}
