//! The tally against hand-counted cases, and against a model that keeps every answer.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn two_of_three_reach_a_quorum() {
    let mut tally = Tally::new(2, 3);
    assert_eq!(tally.verdict(), Verdict::Pending);
    tally.success(2);
    assert_eq!(tally.verdict(), Verdict::Pending);
    tally.failure(0);
    assert_eq!(tally.verdict(), Verdict::Pending);
    tally.success(1);
    assert_eq!(tally.verdict(), Verdict::Reached);
    assert_eq!(tally.missing().collect::<Vec<_>>(), [0]);
}

#[test]
fn two_failures_of_three_make_a_quorum_impossible() {
    let mut tally = Tally::new(2, 3);
    tally.failure(0);
    tally.failure(1);
    assert_eq!(tally.verdict(), Verdict::Impossible);
    assert_eq!(
        (tally.answered(), tally.required(), tally.pending()),
        (0, 2, 1)
    );
}

#[test]
fn an_owner_that_answers_twice_counts_once() {
    let mut tally = Tally::new(2, 3);
    tally.success(1);
    tally.success(1);
    tally.failure(2);
    tally.failure(2);
    assert_eq!(
        (tally.verdict(), tally.answered(), tally.pending()),
        (Verdict::Pending, 1, 1)
    );
}

#[test]
fn a_success_outweighs_a_failure_in_either_order() {
    let mut late = Tally::new(1, 1);
    late.failure(0);
    assert_eq!(late.verdict(), Verdict::Impossible);
    late.success(0);
    let mut early = Tally::new(1, 1);
    early.success(0);
    early.failure(0);
    assert_eq!(late, early);
    assert_eq!(late.verdict(), Verdict::Reached);
    assert!(late.succeeded(0) && !late.failed(0));
}

#[test]
fn more_than_there_are_owners_is_impossible_at_once() {
    assert_eq!(Tally::new(3, 2).verdict(), Verdict::Impossible);
    assert_eq!(Tally::new(1, 0).verdict(), Verdict::Impossible);
}

#[test]
fn the_last_position_counts_like_any_other() {
    let mut tally = Tally::new(MAX_POSITIONS, MAX_POSITIONS);
    (0..MAX_POSITIONS).for_each(|position| tally.success(position));
    assert_eq!(tally.verdict(), Verdict::Reached);
    assert_eq!(tally.missing().next(), None);
}

#[test]
#[should_panic]
fn a_position_that_is_none_is_a_bug() {
    Tally::new(1, 3).success(3);
}

/// The same, as plainly as it can be said.
#[derive(Default)]
struct Model {
    succeeded: BTreeSet<usize>,
    failed: BTreeSet<usize>,
}

impl Model {
    fn verdict(&self, required: usize, owners: usize) -> Verdict {
        let may_yet_succeed = (0..owners)
            .filter(|position| self.succeeded.contains(position) || !self.failed.contains(position))
            .count();
        if self.succeeded.len() >= required {
            Verdict::Reached
        } else if may_yet_succeed < required {
            Verdict::Impossible
        } else {
            Verdict::Pending
        }
    }
}

fn operations() -> impl Strategy<Value = (usize, usize, Vec<(usize, bool)>)> {
    (1..=MAX_POSITIONS).prop_flat_map(|owners| {
        let answers = prop::collection::vec((0..owners, any::<bool>()), 0..40);
        (0..=owners + 1, Just(owners), answers)
    })
}

fn tally_of(required: usize, owners: usize, answers: &[(usize, bool)]) -> Tally {
    let mut tally = Tally::new(required, owners);
    for &(position, success) in answers {
        if success {
            tally.success(position);
        } else {
            tally.failure(position);
        }
    }
    tally
}

proptest! {
    #[test]
    fn agrees_with_the_model((required, owners, answers) in operations()) {
        let mut tally = Tally::new(required, owners);
        let mut model = Model::default();
        for (position, success) in answers {
            let before = tally.verdict();
            if success {
                tally.success(position);
                model.succeeded.insert(position);
            } else {
                tally.failure(position);
                model.failed.insert(position);
            }
            prop_assert_eq!(tally.verdict(), model.verdict(required, owners));
            prop_assert!(before != Verdict::Reached || tally.verdict() == Verdict::Reached);
            prop_assert_eq!(tally.answered(), model.succeeded.len());
            prop_assert_eq!(tally.required(), required);
            let heard = model.succeeded.union(&model.failed).count();
            prop_assert_eq!(tally.pending(), owners - heard);
            let missing: Vec<_> = (0..owners).filter(|p| !model.succeeded.contains(p)).collect();
            prop_assert_eq!(tally.missing().collect::<Vec<_>>(), missing);
            for position in 0..owners {
                let (succeeded, failed) =
                    (model.succeeded.contains(&position), model.failed.contains(&position));
                prop_assert_eq!(tally.succeeded(position), succeeded);
                prop_assert_eq!(tally.failed(position), failed && !succeeded);
            }
        }
    }

    #[test]
    fn neither_order_nor_repetition_matters((required, owners, answers) in operations()) {
        let mut other: Vec<_> = answers.iter().rev().copied().collect();
        other.extend(&answers);
        prop_assert_eq!(
            tally_of(required, owners, &answers),
            tally_of(required, owners, &other)
        );
    }
}

#[test]
fn two_sets_of_owners_both_have_to_be_reached() {
    // Of 0, 1, 2 two are needed; position 3 takes the place of position 0.
    let quorums = Quorums {
        first: Quorum::of_first(2, 3),
        second: Some(Quorum {
            required: 2,
            owners: 0b1110,
        }),
    };
    let moving = || Tally::of(quorums, 4);
    let after = |successes: &[usize], failures: &[usize]| {
        let mut tally = moving();
        failures
            .iter()
            .for_each(|position| tally.failure(*position));
        successes
            .iter()
            .for_each(|position| tally.success(*position));
        tally.verdict()
    };
    assert_eq!(after(&[], &[]), Verdict::Pending);
    assert_eq!(
        after(&[0, 1], &[]),
        Verdict::Pending,
        "the new owners have one only"
    );
    assert_eq!(after(&[0, 1, 3], &[]), Verdict::Reached);
    assert_eq!(
        after(&[1, 2], &[]),
        Verdict::Reached,
        "these are owners of both"
    );
    assert_eq!(
        after(&[1, 3], &[]),
        Verdict::Pending,
        "the old owners have one only"
    );
    assert_eq!(
        after(&[0, 1], &[2, 3]),
        Verdict::Impossible,
        "the new ones can't be reached"
    );
    assert_eq!(
        after(&[1, 3], &[0, 2]),
        Verdict::Impossible,
        "the old ones can't be reached"
    );
    assert_eq!(moving().pending(), 4);
}

#[test]
fn what_is_still_to_be_asked_is_told_ahead_for_both_sets() {
    let quorums = Quorums {
        first: Quorum::of_first(2, 3),
        second: Some(Quorum {
            required: 2,
            owners: 0b1110,
        }),
    };
    let mut tally = Tally::of(quorums, 4);
    tally.success(0);
    assert!(
        !tally.would_be_reached_with([1]),
        "the new owners would have one only"
    );
    assert!(
        !tally.would_be_reached_with([3]),
        "the old owners would have one only"
    );
    assert!(tally.would_be_reached_with([1, 3]));
    assert!(
        tally.would_be_reached_with([0, 1, 3]),
        "one that succeeded does not count less when it is asked again"
    );
    assert_eq!(
        tally.verdict(),
        Verdict::Pending,
        "nothing has been counted"
    );
}
