//! When enough owners have said what they hold, sentence by sentence.

use super::super::test::{Trial, asks, no_answer, waits};
use super::super::{Next, Wait};
use super::*;
use crate::coordinator::order::tests::order;
use crate::placement::PartitionId;
use crate::ports::{Refusal, TenantId};
use crate::version::{Actor, Content, Dot, Stamp, Version, VersionVector, WriteId};

const USUAL: Duration = Duration::from_millis(7);

fn key() -> RecordKey {
    RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k")
}

fn record(counter: u64) -> Record {
    let dot = Dot {
        actor: Actor(counter),
        counter: 1,
    };
    let mut seen = VersionVector::default();
    seen.advance(dot);
    let version = Version {
        dot,
        stamp: Stamp(counter),
        write_id: WriteId(counter.into()),
        content: Content::Value(Bytes::from_static(b"v")),
    };
    Record::new(seen, vec![version]).unwrap()
}

fn covering(counter: u64) -> Context {
    Context {
        shown: record(counter).seen().clone(),
        written: None,
    }
}

/// Reads at a quorum of owners 2, 0 and 1, in this order, and calls `then` with that.
fn at_quorum(floor: &Context, then: impl FnOnce(Trial<Gather<'_>>)) {
    at(2, floor, then);
}

fn at(required: usize, floor: &Context, then: impl FnOnce(Trial<Gather<'_>>)) {
    let key = key();
    let (tally, order) = (Tally::new(required, 3), order(&[2, 0, 1]));
    then(Trial::of(Gather::new(&key, floor, tally, order, USUAL)));
}

fn has(counter: u64) -> Result<Option<Bytes>, CallError> {
    Ok(Some(record(counter).encode()))
}

fn gathered(next: Next<Reached>) -> (Record, Vec<usize>) {
    match next.then {
        Then::Done(Reached::Floor(Gathered {
            record,
            answers,
            encoded,
        })) => {
            // Settling compares the owners' answers with just this.
            let expected = (!record.is_empty()).then(|| record.encode());
            assert_eq!(encoded, expected);
            let answered = answers.into_iter().map(|(position, _)| position);
            (record, answered.collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_are_asked_as_have_to_answer_and_what_they_hold_is_joined() {
    at_quorum(&Context::default(), |mut gather| {
        assert_eq!(gather.start(), asks([2, 0], Wait::For(USUAL)));
        assert_eq!(gather.answers(0, has(1)), waits(Wait::On));
        let both = record(1).join(&record(2));
        assert_eq!(gathered(gather.answers(2, has(2))), (both, vec![0, 2]));
    });
}

#[test]
fn not_there_is_an_answer() {
    at_quorum(&Context::default(), |mut gather| {
        gather.start();
        gather.answers(0, Ok(None));
        let (record, answers) = gathered(gather.answers(2, Ok(None)));
        assert!(record.is_empty() && answers == [0, 2]);
    });
}

#[test]
fn at_all_a_quorum_is_not_enough() {
    at(3, &Context::default(), |mut gather| {
        assert_eq!(gather.start(), asks([2, 0, 1], Wait::For(USUAL)));
        gather.answers(0, has(1));
        assert_eq!(gather.answers(1, has(1)), waits(Wait::On));
        assert_eq!(gather.answers(2, Err(no_answer())), Next::fail());
    });
}

#[test]
fn one_that_fails_is_made_good_by_another_one() {
    at_quorum(&Context::default(), |mut gather| {
        gather.start();
        assert_eq!(gather.answers(2, Err(no_answer())), asks([1], Wait::On));
        gather.answers(1, has(1));
        assert_eq!(gathered(gather.answers(0, has(1))).1, [1, 0]);
    });
}

#[test]
fn one_that_is_being_refilled_does_not_count() {
    at_quorum(&Context::default(), |mut gather| {
        gather.start();
        assert_eq!(
            gather.answers(2, Err(Refusal::Refilling.into())),
            asks([1], Wait::On)
        );
    });
}

#[test]
fn a_read_that_fails_never_says_that_something_may_have_happened() {
    at_quorum(&Context::default(), |mut gather| {
        gather.start();
        gather.answers(2, Err(no_answer()));
        assert_eq!(gather.answers(0, Err(no_answer())), Next::fail());
        assert!(!gather.missing.may_have_happened);
    });
}

#[test]
fn one_that_is_slow_is_hedged_by_one_more_at_a_time() {
    at_quorum(&Context::default(), |mut gather| {
        gather.start();
        assert_eq!(gather.loses_patience(), asks([1], Wait::For(USUAL)));
        assert_eq!(gather.loses_patience(), waits(Wait::UntilDeadline));
        gather.answers(1, has(1));
        assert_eq!(
            gathered(gather.answers(2, has(1))).1,
            [1, 2],
            "the slow one may still be in time"
        );
    });
}

#[test]
fn a_malformed_record_is_a_failure() {
    at(1, &Context::default(), |mut gather| {
        assert_eq!(gather.start(), asks([2], Wait::For(USUAL)));
        let malformed = Ok(Some(Bytes::from_static(b"?")));
        assert_eq!(gather.answers(2, malformed), asks([0], Wait::On));
        assert_eq!(gathered(gather.answers(0, has(1))), (record(1), vec![0]));
    });
}

#[test]
fn a_context_is_a_floor_and_more_are_asked_until_it_is_covered() {
    at_quorum(&covering(2), |mut gather| {
        gather.start();
        gather.answers(2, has(1));
        assert_eq!(gather.answers(0, has(1)), asks([1], Wait::On));
        assert_eq!(gathered(gather.answers(1, has(2))).1, [2, 0, 1]);
    });
}

#[test]
fn a_floor_that_nobody_covers_is_told_when_everybody_was_heard() {
    at_quorum(&covering(9), |mut gather| {
        gather.start();
        gather.answers(2, has(1));
        gather.answers(0, has(1));
        let next = gather.answers(1, has(1));
        let Then::Done(Reached::Everybody(all)) = next.then else {
            panic!("{next:?}");
        };
        assert_eq!(all.answers.len(), 3);
    });
}

#[test]
fn a_hedge_does_not_answer_for_two_when_the_slow_one_fails() {
    at_quorum(&covering(2), |mut gather| {
        gather.start();
        gather.loses_patience();
        assert_eq!(gather.answers(2, Err(no_answer())), waits(Wait::On));
        assert_eq!(gather.answers(0, has(1)), waits(Wait::On));
        assert_eq!(gathered(gather.answers(1, has(2))).1, [0, 1]);
    });
}

#[test]
fn whatever_happens_it_asks_nobody_twice_and_ends() {
    let (key, floor) = (key(), covering(2));
    for seed in 0..500 {
        let tally = Tally::new(2, 3);
        let gather = Gather::new(&key, &floor, tally, order(&[2, 0, 1]), USUAL);
        super::super::test::walk(gather, seed, |drawn| match drawn {
            0 => Err(no_answer()),
            1 => Ok(None),
            counter => has(counter),
        });
    }
}
