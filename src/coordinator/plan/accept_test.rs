//! How one owner is found that accepts a write, sentence by sentence.

use bytes::Bytes;

use super::super::test::{Trial, asks, no_answer, not_sent, waits};
use super::super::{Next, Positions, Wait};
use super::*;
use crate::coordinator::order::tests::order;
use crate::placement::PartitionId;
use crate::ports::{RecordKey, TenantId};
use crate::version::{Actor, Context};

const DOT: Dot = Dot {
    actor: Actor(7),
    counter: 1,
};
const GREATER: Rank = Rank {
    stamp: Stamp(90),
    write_id: WriteId(2),
};

fn request() -> AcceptRequest {
    AcceptRequest {
        key: RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k"),
        write_id: WriteId(1),
        stamp: Stamp(50),
        overwrites: Overwrites::All(Context::default()),
        content: Content::Value(Bytes::from_static(b"v")),
        siblings_max: 8,
    }
}

fn siblings() -> AcceptRequest {
    AcceptRequest {
        overwrites: Overwrites::Covered(Context::default()),
        ..request()
    }
}

fn delete() -> AcceptRequest {
    AcceptRequest {
        content: Content::Tombstone,
        ..siblings()
    }
}

/// Owners 2, 0 and 1, in this order.
fn of(request: AcceptRequest) -> Trial<Accept> {
    Trial::of(Accept::new(request, false, false, order(&[2, 0, 1])))
}

fn claimed(is_fixed: bool) -> Trial<Accept> {
    Trial::of(Accept::new(request(), is_fixed, true, order(&[2, 0, 1])))
}

fn slowest(position: usize) -> Wait {
    Wait::ForSlowest(Positions::one(position))
}

fn record() -> Bytes {
    Bytes::from_static(b"record")
}

fn superseded(may_be_over: bool) -> Result<AcceptAnswer, CallError> {
    Ok(AcceptAnswer::Superseded {
        greatest: GREATER,
        may_be_over,
        record: record(),
    })
}

fn stamped_at(position: usize) -> Next<Accepted> {
    Next::done(Accepted::Made {
        position,
        dot: Some(DOT),
        record: record(),
    })
}

fn yes() -> Result<AcceptAnswer, CallError> {
    Ok(AcceptAnswer::Accepted {
        dot: DOT,
        record: record(),
    })
}

#[test]
fn the_most_promising_owner_is_asked_and_its_yes_is_enough() {
    let mut accept = of(request());
    assert_eq!(accept.start(), asks([2], slowest(2)));
    assert_eq!(accept.answers(2, yes()), stamped_at(2));
    assert!(accept.missing.may_have_happened, "it has happened there");
}

#[test]
fn an_owner_that_takes_too_long_is_noted_and_the_next_one_is_asked_beside_it() {
    let mut accept = of(request());
    accept.start();
    assert_eq!(accept.loses_patience(), asks([0], slowest(0)));
    assert_eq!(accept.too_slow, Some(2));
    assert_eq!(
        accept.answers(2, yes()),
        stamped_at(2),
        "the first may still answer first"
    );
}

#[test]
fn every_attempt_is_the_same_write_with_the_same_stamp() {
    let mut accept = of(request());
    accept.start();
    let first = accept.plan.question();
    accept.loses_patience();
    assert_eq!(accept.plan.question(), first);
    assert_eq!(accept.plan.write_id(), WriteId(1));
}

#[test]
fn an_owner_that_fails_is_made_good_by_the_next_one_at_once() {
    let mut accept = of(request());
    accept.start();
    assert_eq!(accept.answers(2, Err(not_sent())), asks([0], slowest(0)));
    assert!(!accept.missing.may_have_happened, "it was not asked");
    assert_eq!(accept.answers(0, Err(no_answer())), asks([1], slowest(1)));
    assert!(
        accept.missing.may_have_happened,
        "it may have it all the same"
    );
}

#[test]
fn when_nobody_is_left_the_last_ones_are_waited_for_until_the_deadline() {
    let mut accept = of(request());
    accept.start();
    accept.loses_patience();
    accept.loses_patience();
    assert_eq!(accept.loses_patience(), waits(Wait::UntilDeadline));
    assert_eq!(
        accept.answers(0, Err(no_answer())),
        waits(Wait::UntilDeadline)
    );
    assert_eq!(
        accept.answers(1, Err(no_answer())),
        waits(Wait::UntilDeadline)
    );
    assert_eq!(accept.answers(2, Err(no_answer())), Next::fail());
}

#[test]
fn an_owner_that_holds_a_greater_rank_asks_for_a_greater_stamp_and_is_asked_again_first() {
    let mut accept = of(request());
    accept.start();
    let outranked = Next::done(Accepted::Outranked {
        position: 2,
        by: GREATER,
    });
    assert_eq!(accept.answers(2, superseded(false)), outranked);
    accept.plan.raised(Stamp(91), 2);
    assert_eq!(accept.start(), asks([2], slowest(2)));
    assert_eq!(accept.plan.question().stamp, Stamp(91));
    assert_eq!(accept.plan.question().write_id, WriteId(1));
}

#[test]
fn what_was_asked_elsewhere_before_a_stamp_is_raised_may_have_happened() {
    let mut accept = of(request());
    accept.start();
    accept.loses_patience();
    accept.answers(2, superseded(false));
    assert!(accept.missing.may_have_happened);
    accept.plan.raised(Stamp(91), 2);
    accept.start();
    let refused = Err(CallError::Refused(Refusal::Malformed("odd".into())));
    assert_eq!(
        accept.answers(2, refused),
        Next::fail(),
        "no clear refusal any more"
    );
}

#[test]
fn a_write_of_a_fixed_stamp_that_is_outranked_was_made_and_overwritten() {
    let mut accept = claimed(true);
    accept.start();
    let overwritten = Next::done(Accepted::Made {
        position: 2,
        dot: None,
        record: record(),
    });
    assert_eq!(accept.answers(2, superseded(false)), overwritten);
}

#[test]
fn a_write_that_may_be_over_is_left_indeterminate_if_it_may_have_been_attempted() {
    for mut accept in [claimed(true), claimed(false)] {
        accept.start();
        assert_eq!(accept.answers(2, superseded(true)), Next::fail());
        assert!(accept.missing.may_have_happened);
    }
    let mut accept = of(siblings());
    accept.start();
    accept.answers(2, Err(no_answer()));
    assert_eq!(accept.answers(0, superseded(true)), Next::fail());
}

#[test]
fn one_that_can_not_have_been_attempted_is_made_with_a_greater_stamp() {
    let mut accept = of(siblings());
    accept.start();
    let outranked = Next::done(Accepted::Outranked {
        position: 2,
        by: GREATER,
    });
    assert_eq!(accept.answers(2, superseded(true)), outranked);
}

#[test]
fn a_delete_beside_siblings_is_made_again_since_it_overwrites_the_same() {
    let mut accept = of(delete());
    accept.start();
    accept.answers(2, Err(no_answer()));
    let outranked = Next::done(Accepted::Outranked {
        position: 0,
        by: GREATER,
    });
    assert_eq!(accept.answers(0, superseded(true)), outranked);
}

#[test]
fn an_owner_that_is_behind_is_brought_up_and_asked_again() {
    let mut accept = of(siblings());
    accept.start();
    let behind = Next::done(Accepted::Behind { position: 2 });
    assert_eq!(accept.answers(2, Ok(AcceptAnswer::Behind)), behind);
    assert!(!accept.missing.may_have_happened);
    accept.plan.brought_up(2);
    assert_eq!(accept.start(), asks([2], slowest(2)));
}

#[test]
fn a_refusal_of_the_request_is_the_clients_to_hear_if_nothing_can_have_happened() {
    let crowded = || Refusal::Crowded("too many siblings".into());
    let mut accept = of(siblings());
    accept.start();
    let refused = Next::done(Accepted::Refused(crowded()));
    assert_eq!(accept.answers(2, Err(crowded().into())), refused);
    let mut accept = of(siblings());
    accept.start();
    accept.loses_patience();
    assert_eq!(accept.answers(0, Err(crowded().into())), Next::fail());
    assert!(
        accept.missing.may_have_happened,
        "the first may have it yet"
    );
}

#[test]
fn an_owner_that_is_being_refilled_accepts_nothing_and_the_next_one_is_asked() {
    let mut accept = of(request());
    accept.start();
    assert_eq!(
        accept.answers(2, Err(Refusal::Refilling.into())),
        asks([0], slowest(0))
    );
    assert!(!accept.missing.may_have_happened);
}

#[test]
fn a_claimed_write_stays_claimed_whatever_stamp_it_is_given() {
    let claimed = Accept::new(siblings(), false, true, order(&[2, 0, 1]));
    let mut accept = Trial::of(claimed);
    accept.start();
    accept.answers(2, superseded(false));
    accept.plan.raised(Stamp(91), 2);
    accept.start();
    assert_eq!(accept.answers(2, superseded(true)), Next::fail());
    assert!(accept.missing.may_have_happened);
}

#[test]
fn after_a_stamp_was_raised_answers_to_smaller_ones_are_not_waited_for() {
    let mut accept = of(request());
    accept.start();
    accept.loses_patience();
    accept.answers(0, superseded(false));
    accept.plan.raised(Stamp(91), 0);
    accept.start();
    accept.answers(0, Err(not_sent()));
    assert_eq!(
        accept.answers(1, Err(not_sent())),
        Next::fail(),
        "owner 2 was given up"
    );
}

#[test]
fn what_is_under_way_elsewhere_while_an_owner_is_brought_up_may_happen() {
    let mut accept = of(siblings());
    accept.start();
    accept.loses_patience();
    accept.answers(0, Ok(AcceptAnswer::Behind));
    assert!(accept.missing.may_have_happened);
    accept.plan.brought_up(0);
    accept.start();
    accept.answers(0, Err(not_sent()));
    let waits_for_the_first = waits(Wait::UntilDeadline);
    assert_eq!(accept.answers(1, Err(not_sent())), waits_for_the_first);
}

#[test]
fn a_value_that_may_be_over_is_left_while_another_owner_may_have_it() {
    let mut accept = of(siblings());
    accept.start();
    accept.loses_patience();
    assert!(!accept.missing.may_have_happened);
    assert_eq!(accept.answers(0, superseded(true)), Next::fail());
    assert!(accept.missing.may_have_happened);
}

#[test]
fn an_owner_whose_copy_is_damaged_accepts_nothing_and_the_next_one_is_asked() {
    let mut accept = of(request());
    accept.start();
    assert_eq!(
        accept.answers(2, Err(Refusal::Damaged.into())),
        asks([0], slowest(0))
    );
}

#[test]
fn whatever_happens_it_asks_nobody_twice_and_ends() {
    for seed in 0..500 {
        let accept = Accept::new(request(), false, false, order(&[2, 0, 1]));
        super::super::test::walk(accept, seed, |drawn| match drawn {
            0 => Err(no_answer()),
            1 => Err(Refusal::Damaged.into()),
            2 => Err(not_sent()),
            _ => yes(),
        });
    }
}
