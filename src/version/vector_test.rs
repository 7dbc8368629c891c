//! The laws of version vectors: a partial order, and `merge` its least upper bound.

use proptest::prelude::*;

use super::generate::vector;
use super::{Actor, Causality, Dot, VersionVector};

proptest! {
    #[test]
    fn laws_of_a_partial_order(a in vector(), b in vector(), c in vector()) {
        prop_assert!(a.descends(&a), "reflexive");
        if a.descends(&b) && b.descends(&a) {
            prop_assert_eq!(&a, &b, "antisymmetric");
        }
        if a.descends(&b) && b.descends(&c) {
            prop_assert!(a.descends(&c), "transitive");
        }
    }

    #[test]
    fn laws_of_comparing(a in vector(), b in vector()) {
        let covers_all =
            |a: &VersionVector, b: &VersionVector| b.iter().all(|(actor, n)| a.get(actor) >= n);
        let (expected, mirrored) = match (covers_all(&a, &b), covers_all(&b, &a)) {
            (true, true) => (Causality::Identical, Causality::Identical),
            (true, false) => (Causality::After, Causality::Before),
            (false, true) => (Causality::Before, Causality::After),
            (false, false) => (Causality::Concurrent, Causality::Concurrent),
        };
        prop_assert_eq!(a.compare(&b), expected);
        prop_assert_eq!(b.compare(&a), mirrored);
        prop_assert_eq!(a.descends(&b), covers_all(&a, &b));
        prop_assert_eq!(a == b, expected == Causality::Identical);
    }

    #[test]
    fn laws_of_merging(a in vector(), b in vector(), c in vector()) {
        let merged = |a: &VersionVector, b: &VersionVector| {
            let mut merged = a.clone();
            merged.merge(b);
            merged
        };
        let both = merged(&a, &b);
        prop_assert!(both.descends(&a) && both.descends(&b), "an upper bound");
        prop_assert!(!(c.descends(&a) && c.descends(&b)) || c.descends(&both), "the least");
        prop_assert_eq!(&both, &merged(&b, &a));
        prop_assert_eq!(merged(&both, &c), merged(&a, &merged(&b, &c)));
        for actor in (0..5).map(Actor) {
            prop_assert_eq!(both.get(actor), a.get(actor).max(b.get(actor)));
        }
        prop_assert_eq!(both.max_timestamp(), a.max_timestamp().max(b.max_timestamp()));
        prop_assert_eq!(&both.iter().collect::<VersionVector>(), &both);
    }

    #[test]
    fn laws_of_dots(a in vector(), actor in 0..5_u64, counter in 1..6_u64) {
        let dot = Dot { actor: Actor(actor), counter };
        let mut advanced = a.clone();
        advanced.advance(dot);
        prop_assert!(advanced.covers(dot) && advanced.descends(&a));
        prop_assert_eq!(a.covers(dot), advanced == a);

        let mut incremented = a.clone();
        let next = incremented.increment(dot.actor);
        if a.get(dot.actor) < u64::MAX {
            prop_assert!(!a.covers(next) && incremented.covers(next));
            prop_assert_eq!(incremented.compare(&a), Causality::After);
        }
    }
}
