//! When a write is acknowledged, and when it has to be stamped again, sentence by sentence.

use bytes::Bytes;

use super::super::test::{Trial, asks, no_answer, waits};
use super::super::{Next, Wait};
use super::*;
use crate::placement::PartitionId;
use crate::ports::{Judged, RecordKey, TenantId};
use crate::quorum::Quorum;
use crate::version::{Actor, Dot, Stamp, WriteId};

const WRITE: Rank = rank(50);

const fn rank(stamp: u64) -> Rank {
    Rank {
        stamp: Stamp(stamp),
        write_id: WriteId(1),
    }
}

fn question() -> JoinRecord {
    let key = RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k");
    JoinRecord::new(key, Bytes::from_static(b"record"))
}

/// Accepted by owner 1 of 0, 1 and 2; as many have to have it as are `required`.
fn write(required: usize, judges: bool) -> Trial<Join> {
    let tally = (Tally::new(required, 3), 3, shown(required.min(2)));
    Trial::of(Join::new(question(), 1, (WRITE, WRITE, judges), tally))
}

fn leads() -> Result<Joined, CallError> {
    joined(Standing::Leading, 50)
}

fn joined(standing: Standing, greatest: u64) -> Result<Joined, CallError> {
    let greatest = rank(greatest);
    Ok(Joined { greatest, standing })
}

fn done<T: Default>() -> Next<T> {
    Next::done(T::default())
}

#[test]
fn all_other_owners_are_asked_at_once_and_a_quorum_is_enough() {
    let mut join = write(2, true);
    assert_eq!(join.start(), asks([0, 2], Wait::UntilDeadline));
    assert_eq!(join.answers(2, leads()), done());
    assert_eq!((join.plan.replicas(), join.plan.outranked_by()), (2, None));
    assert_eq!(join.plan.holders, [1, 2]);
}

#[test]
fn at_one_it_is_done_where_it_was_accepted_and_the_others_are_asked_all_the_same() {
    let mut join = write(1, true);
    let next = join.start();
    assert_eq!(next.then, Then::Done(()));
    assert_eq!(next.ask, [0, 2].into_iter().collect());
}

#[test]
fn at_all_every_owner_has_to_have_it() {
    let mut join = write(3, true);
    join.start();
    assert_eq!(join.answers(0, leads()), waits(Wait::On));
    assert_eq!(join.answers(2, leads()), done());
    let mut join = write(3, true);
    join.start();
    assert_eq!(join.answers(0, Err(no_answer())), Next::fail());
    assert!(join.missing.may_have_happened);
}

#[test]
fn one_that_fails_is_made_good_by_another_one_and_missed_it() {
    let mut join = write(2, true);
    join.start();
    assert_eq!(join.answers(0, Err(no_answer())), waits(Wait::On));
    assert_eq!(join.answers(2, leads()), done());
    assert_eq!(join.plan.missed, [0]);
}

#[test]
fn one_that_is_being_refilled_does_not_count_but_did_not_miss_it() {
    let mut join = write(2, true);
    join.start();
    join.answers(0, Err(Refusal::Refilling.into()));
    assert_eq!(join.plan.replicas(), 1);
    assert_eq!(join.answers(2, leads()), done());
    assert!(join.plan.missed.is_empty());
}

#[test]
fn two_that_fail_leave_no_quorum() {
    let mut join = write(2, true);
    join.start();
    join.answers(0, Err(no_answer()));
    assert_eq!(join.answers(2, Err(no_answer())), Next::fail());
}

#[test]
fn where_a_greater_one_is_held_all_are_heard_before_it_is_stamped_again() {
    let mut join = write(2, true);
    join.start();
    assert_eq!(
        join.answers(2, joined(Standing::Outstripped, 90)),
        waits(Wait::ForQuickest)
    );
    assert_eq!(join.answers(0, joined(Standing::Outstripped, 80)), done());
    assert_eq!(join.plan.outranked_by(), Some(rank(90)));
}

#[test]
fn where_a_quorum_held_it_leading_it_keeps_its_stamp_whatever_overwrote_it() {
    let mut join = write(2, true);
    join.start();
    join.answers(2, joined(Standing::Outstripped, 90));
    assert_eq!(join.answers(0, joined(Standing::Leading, 90)), done());
    assert_eq!(join.plan.outranked_by(), None);
}

#[test]
fn those_that_are_silent_are_given_the_time_that_the_quickest_may_take() {
    let mut join = write(2, true);
    join.start();
    join.answers(2, joined(Standing::Outstripped, 90));
    assert_eq!(join.loses_patience(), done());
    assert_eq!(join.plan.outranked_by(), Some(rank(90)));
    assert_eq!(
        join.plan.at_deadline(),
        Some(()),
        "also when that is the deadline"
    );
}

#[test]
fn a_quorum_that_is_not_there_by_the_deadline_is_no_quorum() {
    let mut join = write(2, true);
    join.start();
    assert_eq!(join.plan.at_deadline(), None);
}

#[test]
fn with_siblings_or_a_fixed_stamp_nobody_is_waited_for_to_judge_it() {
    let mut join = write(2, false);
    join.start();
    assert_eq!(join.answers(2, joined(Standing::Outstripped, 90)), done());
    assert_eq!(join.plan.outranked_by(), None);
    assert_eq!(
        join.plan.greatest,
        rank(90),
        "clocks learn of it all the same"
    );
}

#[test]
fn at_all_a_quorum_of_leaders_tells_that_the_stamp_is_great_enough() {
    // A, B, A: had two owners to be heard more than readers are, it would be stamped again though it was read.
    let mut join = write(3, true);
    join.start();
    join.answers(0, joined(Standing::Leading, 90));
    assert_eq!(join.answers(2, joined(Standing::Outstripped, 90)), done());
    assert_eq!(join.plan.outranked_by(), None);
}

#[test]
fn where_the_owner_that_accepted_it_holds_a_greater_one_it_is_asked_how_this_one_stands() {
    let dot = Dot {
        actor: Actor(7),
        counter: 1,
    };
    let judged = JoinRecord {
        judged: Some(Judged { dot, rank: WRITE }),
        ..question()
    };
    let ranks = (WRITE, rank(90), true);
    let join = Join::new(judged, 1, ranks, (Tally::new(2, 3), 3, shown(2)));
    let mut join = Trial::of(join);
    assert_eq!(join.start(), asks([0, 1, 2], Wait::UntilDeadline));
    // It does not count twice, and its silence is no failure.
    assert_eq!(join.answers(1, Err(no_answer())), waits(Wait::On));
    assert!(join.plan.missed.is_empty() && !join.missing.may_have_happened);
    assert_eq!(join.plan.replicas(), 1);
    let waits_for_all = waits(Wait::ForQuickest);
    assert_eq!(
        join.answers(0, joined(Standing::Leading, 90)),
        waits_for_all
    );
    assert_eq!(join.answers(2, joined(Standing::Leading, 90)), done());
    assert_eq!(join.plan.outranked_by(), None);
}

#[test]
fn whatever_happens_it_asks_nobody_twice_and_ends() {
    for seed in 0..500 {
        let tally = (Tally::new(2, 3), 3, shown(2));
        let join = Join::new(question(), 1, (WRITE, WRITE, true), tally);
        super::super::test::walk(join, seed, |drawn| match drawn {
            0 => Err(no_answer()),
            1 => leads(),
            2 => joined(Standing::Outstripped, 90),
            _ => joined(Standing::Overwritten, 80),
        });
    }
}

/// So many of three owners.
fn shown(required: usize) -> Quorums {
    Quorums::one(Quorum::of_first(required, 3))
}
