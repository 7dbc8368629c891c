//! When what is read may be given out, sentence by sentence.

use super::super::test::{Trial, asks, no_answer, waits};
use super::super::{Next, Positions, Wait};
use super::*;
use crate::coordinator::order::tests::order;
use crate::placement::PartitionId;
use crate::ports::TenantId;
use crate::quorum::{Quorum, Quorums};
use crate::version::Rank;

fn key() -> RecordKey {
    RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), "k")
}

fn slowest(positions: impl IntoIterator<Item = usize>) -> Wait {
    Wait::ForSlowest(positions.into_iter().collect())
}

/// Owner 0 holds it, owner 2 holds something older, owner 1 was not asked.
fn settling(policy: ConflictPolicy, is_deleted: bool, then: impl FnOnce(Trial<Settle<'_>>)) {
    let key = key();
    let mut tally = Tally::new(2, 3);
    tally.success(0);
    let given_out = (Bytes::from_static(b"record"), is_deleted, policy);
    let owners = (vec![0], Positions::one(2), order(&[1]));
    then(Trial::of(Settle::new(&key, given_out, owners, tally)));
}

fn lww(then: impl FnOnce(Trial<Settle<'_>>)) {
    settling(ConflictPolicy::LastWriteWins, false, then);
}

fn joined(standing: Standing) -> Result<Joined, CallError> {
    let greatest = Rank::default();
    Ok(Joined { greatest, standing })
}

#[test]
fn stale_owners_are_brought_up_before_it_is_given_out() {
    lww(|mut settle| {
        assert_eq!(settle.start(), asks([2], slowest([2])));
        assert_eq!(
            settle.answers(2, joined(Standing::Leading)),
            Next::done(Settled::Held)
        );
        assert_eq!(settle.plan.holders, [0, 2]);
    });
}

#[test]
fn a_silent_owner_is_made_good_by_one_that_was_not_asked() {
    lww(|mut settle| {
        settle.start();
        assert_eq!(settle.loses_patience(), asks([1], slowest([1])));
        assert_eq!(settle.loses_patience(), waits(Wait::UntilDeadline));
        assert_eq!(
            settle.answers(1, joined(Standing::Leading)),
            Next::done(Settled::Held)
        );
    });
}

#[test]
fn an_owner_that_fails_is_made_good_likewise() {
    lww(|mut settle| {
        settle.start();
        assert_eq!(settle.answers(2, Err(no_answer())), asks([1], Wait::On));
        assert_eq!(settle.answers(1, Err(no_answer())), Next::fail());
        assert!(
            !settle.missing.may_have_happened,
            "nothing that was not written before"
        );
    });
}

#[test]
fn where_a_greater_write_stands_by_now_the_read_is_overtaken() {
    for standing in [Standing::Overwritten, Standing::Outstripped] {
        lww(|mut settle| {
            settle.start();
            assert_eq!(
                settle.answers(2, joined(standing)),
                Next::done(Settled::Overtaken)
            );
        });
    }
}

#[test]
fn with_siblings_no_write_overtakes_another() {
    settling(ConflictPolicy::Siblings, false, |mut settle| {
        settle.start();
        let held = Next::done(Settled::Held);
        assert_eq!(settle.answers(2, joined(Standing::Outstripped)), held);
    });
}

#[test]
fn a_value_that_all_purged_what_overwrote_it_is_not_given_out() {
    let purged = || Err(CallError::Refused(Refusal::Purged));
    lww(|mut settle| {
        settle.start();
        assert_eq!(settle.answers(2, purged()), Next::done(Settled::WasPurged));
    });
    settling(ConflictPolicy::LastWriteWins, true, |mut settle| {
        settle.start();
        assert_eq!(
            settle.answers(2, purged()),
            Next::done(Settled::Held),
            "a tombstone was there"
        );
    });
}

#[test]
fn one_that_is_being_refilled_does_not_count_and_another_one_is_asked() {
    lww(|mut settle| {
        settle.start();
        assert_eq!(
            settle.answers(2, Err(Refusal::Refilling.into())),
            asks([1], Wait::On)
        );
    });
}

#[test]
fn at_all_every_stale_owner_is_brought_up() {
    let key = key();
    let mut tally = Tally::new(3, 3);
    tally.success(0);
    let given_out = (
        Bytes::from_static(b"record"),
        false,
        ConflictPolicy::Siblings,
    );
    let stale = [1, 2].into_iter().collect();
    let settle = Settle::new(&key, given_out, (vec![0], stale, order(&[])), tally);
    let mut settle = Trial::of(settle);
    assert_eq!(settle.start(), asks([1, 2], slowest([1, 2])));
    assert_eq!(
        settle.answers(1, joined(Standing::Leading)),
        waits(Wait::On)
    );
    assert_eq!(
        settle.answers(2, joined(Standing::Leading)),
        Next::done(Settled::Held)
    );
}

#[test]
fn whatever_happens_it_asks_nobody_twice_and_ends() {
    let key = key();
    for seed in 0..500 {
        let mut tally = Tally::new(2, 3);
        tally.success(0);
        let given_out = (
            Bytes::from_static(b"r"),
            false,
            ConflictPolicy::LastWriteWins,
        );
        let owners = (vec![0], Positions::one(2), order(&[1]));
        let settle = Settle::new(&key, given_out, owners, tally);
        super::super::test::walk(settle, seed, |drawn| match drawn {
            0 => Err(no_answer()),
            1 => Err(Refusal::Purged.into()),
            _ => joined(Standing::Leading),
        });
    }
}

#[test]
fn while_owners_change_as_many_are_asked_as_both_quorums_need() {
    let key = key();
    // Position 3 takes the place of position 0. Owner 0 holds it, owner 1 is stale: the new owners need one more.
    let quorums = Quorums {
        first: Quorum::of_first(2, 3),
        second: Some(Quorum {
            required: 2,
            owners: 0b1110,
        }),
    };
    let mut tally = Tally::of(quorums, 4);
    tally.success(0);
    let given_out = (
        Bytes::from_static(b"record"),
        false,
        ConflictPolicy::LastWriteWins,
    );
    let owners = (vec![0], Positions::one(1), order(&[3, 2]));
    let mut settle = Trial::of(Settle::new(&key, given_out, owners, tally));
    assert_eq!(settle.start(), asks([1, 3], slowest([1, 3])));
    let leading = || joined(Standing::Leading);
    assert_eq!(settle.answers(1, leading()), waits(Wait::On));
    assert_eq!(settle.answers(3, leading()), Next::done(Settled::Held));
}
