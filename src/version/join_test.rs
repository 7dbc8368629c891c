//! The laws of `join`, on arbitrary well-formed records.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::generate::{record, vector, version};
use super::{Actor, Content, Dot, Record, Stamp, Version, WriteId};

fn assert_well_formed(record: &Record) {
    assert!(record.is_well_formed(), "{record:?}");
}

proptest! {
    #[test]
    fn laws_of_a_semilattice(a in record(), b in record(), c in record()) {
        let ab = a.join(&b);
        assert_well_formed(&ab);
        prop_assert_eq!(&a.join(&a), &a, "idempotent");
        prop_assert_eq!(&ab, &b.join(&a), "commutative");
        prop_assert_eq!(ab.join(&c), a.join(&b.join(&c)), "associative");
        prop_assert_eq!(ab.join(&a), ab, "absorbs what it has");
        prop_assert_eq!(a.join(&Record::default()), a, "the empty record is neutral");
    }

    #[test]
    fn laws_of_what_a_join_knows(a in record(), b in record()) {
        let joined = a.join(&b);
        let mut seen = a.seen().clone();
        seen.merge(b.seen());
        prop_assert_eq!(joined.seen(), &seen);
        for version in joined.siblings() {
            prop_assert!(a.siblings().contains(version) || b.siblings().contains(version), "from nowhere");
        }
        for (mine, other) in [(&a, &b), (&b, &a)] {
            for version in mine.siblings() {
                let held = other.siblings().iter().any(|theirs| theirs.dot == version.dot);
                let kept = joined.siblings().iter().any(|kept| kept.dot == version.dot);
                prop_assert_eq!(kept, held || !other.seen().covers(version.dot));
            }
        }
    }

    /// A stamped write absorbs the record it was made from, whatever the context and whatever it overwrites.
    #[test]
    fn laws_of_overwriting(
        a in record(),
        context in vector(),
        version in version(),
        overwritten in vec(any::<bool>(), 4),
    ) {
        let Some(counter) = a.seen().get(version.dot.actor).checked_add(1) else { return Ok(()) };
        let dot = Dot { counter, ..version.dot };
        let version = Version { dot, ..version };
        let overwritten = |old: &Version| overwritten[(old.dot.counter % 4) as usize];
        let after = a.overwrite(version.clone(), &context, overwritten);
        assert_well_formed(&after);
        prop_assert_eq!(&a.join(&after), &after, "absorbs what it was made from");
        let remembering = after.clone().remembering(&a, version.stamp);
        assert_well_formed(&remembering);
        prop_assert_eq!(&a.join(&remembering), &remembering, "whatever it remembers");
        let settled = remembering.clone().without_further_attempts();
        assert_well_formed(&settled);
        prop_assert_eq!(&settled.join(&remembering), &settled);
        prop_assert!(after.seen().descends(&context));
        let stays = a.siblings().iter().filter(|old| !overwritten(old)).cloned();
        let expected = Record::new(after.seen().clone(), stays.chain([version]).collect());
        let expected = expected.unwrap();
        prop_assert_eq!(after.siblings(), expected.siblings());
    }

    /// Replicas that got the same records, each of them at least once, are equal: whatever came first, was repeated, or
    /// was joined on the way.
    #[test]
    fn laws_of_arrival(
        records in vec(record(), 1..=5),
        on_the_way in vec((any::<Index>(), any::<Index>()), 0..=8),
        order in vec(any::<Index>(), 5),
    ) {
        let join_all = |records: &[Record]| records.iter().fold(Record::default(), |all, next| all.join(next));
        let expected = join_all(&records);

        let mut messages = records;
        for (a, b) in on_the_way {
            let joined = a.get(&messages).join(b.get(&messages));
            messages.push(joined);
        }
        for (at, swap) in order.iter().enumerate() {
            let with = swap.index(messages.len());
            let len = messages.len();
            messages.swap(at % len, with);
        }
        prop_assert_eq!(join_all(&messages), expected);
    }
}

/// The same dot with different content can't come from honest replicas; should it come, all end with the same one.
#[test]
fn one_dot_with_two_contents_ends_with_the_greater() {
    let holds = |write_id, stamp, content| {
        let version = Version {
            dot: Dot {
                actor: Actor(1),
                counter: 1,
            },
            write_id: WriteId(write_id),
            stamp: Stamp(stamp),
            content,
        };
        Record::new([(Actor(1), 1)].into_iter().collect(), vec![version]).unwrap()
    };
    let value = |bytes: &'static str| Content::Value(bytes.into());
    let ascending = [
        holds(9, 1, value("z")),
        holds(1, 2, value("z")),
        holds(2, 2, value("a")),
        holds(2, 2, value("b")),
        holds(2, 2, Content::Tombstone),
        Record::new([(Actor(1), 1)].into_iter().collect(), vec![]).unwrap(),
    ];
    for (at, less) in ascending.iter().enumerate() {
        for more in &ascending[at..] {
            assert_eq!(&less.join(more), more);
            assert_eq!(&more.join(less), more);
        }
    }
}
