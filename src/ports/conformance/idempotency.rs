//! What every [`IdempotencyStore`] does: one claim at a time, one answer for good.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use crate::placement::PartitionId;
use crate::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, RecordKey, StoreError,
    TenantId,
};
use crate::version::{Stamp, WriteId};

/// Longer than any suite runs.
const LONG: Duration = Duration::from_secs(3600);

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(20);

/// Panics unless the stores made by `fresh` keep to [`IdempotencyStore`].
///
/// `pass` lets time go by on the stores' clock: it advances a clock that goes by hand, or sleeps.
pub async fn idempotency_store<S: IdempotencyStore>(
    fresh: impl AsyncFn() -> S,
    pass: impl AsyncFn(Duration),
) {
    one_claim_then_one_answer(&fresh().await).await;
    another_fingerprint_is_told_apart(&fresh().await, &pass).await;
    scopes_do_not_mix(&fresh().await).await;
    every_bit_comes_back(&fresh().await).await;
    only_the_holder_releases(&fresh().await).await;
    a_claim_met_by_its_own_holder_stands(&fresh().await, &pass).await;
    an_abandoned_claim_is_taken_over_at_once(&fresh().await).await;
    a_claim_is_taken_over_after_its_lease(&fresh().await, &pass).await;
    the_first_answer_wins(&fresh().await, &pass).await;
    an_answer_needs_no_claim(&fresh().await).await;
    entries_expire(&fresh().await, &pass).await;
    of_many_claims_one_stands(&fresh().await).await;
    of_many_takeovers_one_succeeds(&fresh().await, &pass).await;
    of_many_answers_one_stands(&fresh().await).await;
}

async fn one_claim_then_one_answer(store: &impl IdempotencyStore) {
    let (scope, first, retry) = (
        scope("k", "once"),
        claim(1),
        Claim {
            holder: 99,
            ..claim(1)
        },
    );
    assert_eq!(
        ok(store.claim(&scope, first, LONG, LONG).await),
        ClaimOutcome::Claimed
    );
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        ClaimOutcome::Pending(first)
    );
    assert_eq!(
        ok(store.complete(&scope, first, answer(1), LONG).await),
        Completion::Stored
    );
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        answered(first, answer(1))
    );
    assert_eq!(
        ok(store.claim(&scope, first, LONG, LONG).await),
        answered(first, answer(1)),
        "not used up by reading"
    );
}

async fn another_fingerprint_is_told_apart(
    store: &impl IdempotencyStore,
    pass: &impl AsyncFn(Duration),
) {
    let (scope, first, other) = (scope("k", "one key, two requests"), claim(1), claim(2));
    assert_eq!(
        ok(store.claim(&scope, first, SHORT, LONG).await),
        ClaimOutcome::Claimed
    );
    assert_eq!(
        ok(store.claim(&scope, other, LONG, LONG).await),
        ClaimOutcome::Pending(first)
    );
    pass(SHORT * 2).await;
    let outcome = ok(store.claim(&scope, other, LONG, LONG).await);
    assert_eq!(
        outcome,
        ClaimOutcome::Pending(first),
        "another request may not take a claim over"
    );
    ok(store.complete(&scope, first, answer(1), LONG).await);
    assert_eq!(
        ok(store.claim(&scope, other, LONG, LONG).await),
        answered(first, answer(1))
    );
}

async fn scopes_do_not_mix(store: &impl IdempotencyStore) {
    let elsewhere = |partition, tenant: &str, key, idempotency_key: &str| {
        let tenant = TenantId::new(tenant).expect("a tenant's name");
        let record = RecordKey::new(PartitionId(partition), &tenant, key);
        IdempotencyScope {
            record,
            idempotency_key: idempotency_key.to_owned(),
        }
    };
    let scopes = [
        elsewhere(1, "a", "k", "i"),
        elsewhere(2, "a", "k", "i"),
        elsewhere(1, "b", "k", "i"),
        elsewhere(1, "a", "K", "i"),
        elsewhere(1, "a", "k", "I"),
        elsewhere(1, "a", "k", "i "),
        elsewhere(1, "a", "ki", "i"),
        elsewhere(1, "ak", "i", "i"),
        elsewhere(1, "a", "k", "ii"),
        elsewhere(1, "a", "k", "'; --\u{0}\u{1F600}%_"),
        elsewhere(1, "a", "k", &"long".repeat(63)),
    ];
    for (n, scope) in (1..).zip(&scopes) {
        assert_eq!(
            ok(store.claim(scope, claim(n), LONG, LONG).await),
            ClaimOutcome::Claimed,
            "{scope:?}"
        );
    }
    for (n, scope) in (1..).zip(&scopes) {
        assert_eq!(
            ok(store.claim(scope, claim(99), LONG, LONG).await),
            ClaimOutcome::Pending(claim(n)),
            "{scope:?}"
        );
    }
    ok(store.release(&scopes[0], claim(1)).await);
    ok(store.complete(&scopes[1], claim(2), answer(2), LONG).await);
    assert_eq!(
        ok(store.claim(&scopes[2], claim(99), LONG, LONG).await),
        ClaimOutcome::Pending(claim(3))
    );
}

async fn every_bit_comes_back(store: &impl IdempotencyStore) {
    let fingerprint = std::array::from_fn(|i| 255 - i as u8);
    let numbers = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX];
    for number in numbers {
        let scope = scope("k", &format!("number {number}"));
        let write_id = WriteId(u128::from(number) << 64 | 5);
        let first = Claim {
            fingerprint,
            write_id,
            stamp: Stamp(number),
            holder: number,
        };
        ok(store.claim(&scope, first, LONG, LONG).await);
        let other = Claim { holder: 7, ..first };
        assert_eq!(
            ok(store.claim(&scope, other, LONG, LONG).await),
            ClaimOutcome::Pending(first)
        );
    }
    for bytes in [
        Bytes::new(),
        Bytes::from_static(&[0, 255, 0]),
        Bytes::from(vec![7; 100_000]),
    ] {
        let scope = scope("k", &format!("answer of {} bytes", bytes.len()));
        ok(store.complete(&scope, claim(1), bytes.clone(), LONG).await);
        assert_eq!(
            ok(store.claim(&scope, claim(1), LONG, LONG).await),
            answered(claim(1), bytes)
        );
    }
}

async fn only_the_holder_releases(store: &impl IdempotencyStore) {
    let (scope, first) = (scope("k", "release"), claim(1));
    ok(store.release(&scope, first).await); // nothing there: nothing to do
    ok(store.claim(&scope, first, LONG, LONG).await);
    ok(store
        .release(
            &scope,
            Claim {
                holder: 99,
                ..first
            },
        )
        .await);
    assert_eq!(
        ok(store.claim(&scope, claim(2), LONG, LONG).await),
        ClaimOutcome::Pending(first),
        "released by another"
    );
    ok(store.release(&scope, first).await);
    assert_eq!(
        ok(store.claim(&scope, claim(2), LONG, LONG).await),
        ClaimOutcome::Claimed
    );
    ok(store.complete(&scope, claim(2), answer(2), LONG).await);
    ok(store.release(&scope, claim(2)).await);
    let outcome = ok(store.claim(&scope, claim(2), LONG, LONG).await);
    assert_eq!(
        outcome,
        answered(claim(2), answer(2)),
        "an answer can't be released"
    );
}

/// As when the answer was lost on the way and the adapter asks again.
async fn a_claim_met_by_its_own_holder_stands(
    store: &impl IdempotencyStore,
    pass: &impl AsyncFn(Duration),
) {
    let (scope, first) = (scope("k", "asked twice"), claim(1));
    for _ in 0..3 {
        assert_eq!(
            ok(store.claim(&scope, first, SHORT, LONG).await),
            ClaimOutcome::Claimed
        );
    }
    pass(SHORT * 2).await;
    assert_eq!(
        ok(store.claim(&scope, first, SHORT, LONG).await),
        ClaimOutcome::Claimed,
        "nobody else came meanwhile"
    );
    pass(SHORT * 2).await;
    let retry = Claim {
        holder: 99,
        write_id: WriteId(77),
        stamp: Stamp(77),
        ..first
    };
    let taken = Claim {
        holder: 99,
        ..first
    };
    for _ in 0..3 {
        assert_eq!(
            ok(store.claim(&scope, retry, LONG, LONG).await),
            ClaimOutcome::TakenOver(taken)
        );
    }
    let outcome = ok(store.claim(&scope, first, LONG, LONG).await);
    assert_eq!(
        outcome,
        ClaimOutcome::Pending(taken),
        "the first holder is another one now"
    );
    let other_request = Claim {
        fingerprint: [9; 32],
        ..taken
    };
    let outcome = ok(store.claim(&scope, other_request, LONG, LONG).await);
    assert_eq!(
        outcome,
        ClaimOutcome::Pending(taken),
        "one holder, two requests"
    );
}

async fn an_abandoned_claim_is_taken_over_at_once(store: &impl IdempotencyStore) {
    let (scope, first) = (scope("k", "abandon"), claim(1));
    ok(store.abandon(&scope, first).await); // nothing there: nothing to do
    ok(store.claim(&scope, first, LONG, LONG).await);
    let retry = Claim {
        holder: 99,
        write_id: WriteId(77),
        stamp: Stamp(77),
        ..first
    };
    ok(store.abandon(&scope, retry).await);
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        ClaimOutcome::Pending(first),
        "abandoned by another"
    );
    ok(store.abandon(&scope, first).await);
    assert_eq!(
        ok(store.claim(&scope, claim(2), LONG, LONG).await),
        ClaimOutcome::Pending(first),
        "it still belongs to its request"
    );
    let taken = Claim {
        holder: 99,
        ..first
    };
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        ClaimOutcome::TakenOver(taken),
        "with the first write id and stamp"
    );
    ok(store.abandon(&scope, first).await);
    assert_eq!(
        ok(store.claim(&scope, first, LONG, LONG).await),
        ClaimOutcome::Pending(taken),
        "the first holder holds it no more"
    );
    ok(store.complete(&scope, first, answer(1), LONG).await);
    ok(store.abandon(&scope, taken).await);
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        answered(first, answer(1)),
        "an answer can't be abandoned"
    );
}

async fn a_claim_is_taken_over_after_its_lease(
    store: &impl IdempotencyStore,
    pass: &impl AsyncFn(Duration),
) {
    let (scope, first) = (scope("k", "take over"), claim(1));
    // A retry proposes its own write id and stamp, and gets the first ones.
    let retry = Claim {
        holder: 99,
        write_id: WriteId(77),
        stamp: Stamp(77),
        ..first
    };
    let taken = Claim {
        holder: 99,
        ..first
    };
    ok(store.claim(&scope, first, SHORT, LONG).await);
    pass(SHORT * 2).await;
    assert_eq!(
        ok(store.claim(&scope, retry, LONG, LONG).await),
        ClaimOutcome::TakenOver(taken)
    );
    assert_eq!(
        ok(store.claim(&scope, first, LONG, LONG).await),
        ClaimOutcome::Pending(taken),
        "the lease runs anew"
    );
    ok(store.release(&scope, first).await);
    let outcome = ok(store.claim(&scope, first, LONG, LONG).await);
    assert_eq!(
        outcome,
        ClaimOutcome::Pending(taken),
        "the first holder holds it no more"
    );
}

async fn the_first_answer_wins(store: &impl IdempotencyStore, pass: &impl AsyncFn(Duration)) {
    let (scope, first) = (scope("k", "two answers"), claim(1));
    let second = Claim {
        holder: 99,
        ..first
    };
    ok(store.claim(&scope, first, SHORT, LONG).await);
    pass(SHORT * 2).await;
    ok(store.claim(&scope, second, LONG, LONG).await);
    let completion = ok(store.complete(&scope, first, answer(1), LONG).await);
    assert_eq!(
        completion,
        Completion::Stored,
        "the first holder was only slow, and its write is the same"
    );
    assert_eq!(
        ok(store.complete(&scope, second, answer(2), LONG).await),
        Completion::Already(answer(1))
    );
    assert_eq!(
        ok(store.complete(&scope, first, answer(3), LONG).await),
        Completion::Already(answer(1))
    );
    assert_eq!(
        ok(store.claim(&scope, second, LONG, LONG).await),
        answered(first, answer(1))
    );
}

async fn an_answer_needs_no_claim(store: &impl IdempotencyStore) {
    let scope = scope("k", "unclaimed");
    assert_eq!(
        ok(store.complete(&scope, claim(1), answer(1), LONG).await),
        Completion::Stored
    );
    assert_eq!(
        ok(store.claim(&scope, claim(1), LONG, LONG).await),
        answered(claim(1), answer(1))
    );
}

async fn entries_expire(store: &impl IdempotencyStore, pass: &impl AsyncFn(Duration)) {
    let (pending, done) = (
        scope("k", "expires pending"),
        scope("k", "expires answered"),
    );
    ok(store.claim(&pending, claim(1), LONG, SHORT).await);
    ok(store.claim(&done, claim(1), LONG, LONG).await);
    ok(store.complete(&done, claim(1), answer(1), SHORT).await);
    pass(SHORT * 2).await;
    assert_eq!(
        ok(store.claim(&pending, claim(2), LONG, LONG).await),
        ClaimOutcome::Claimed
    );
    assert_eq!(
        ok(store.complete(&done, claim(2), answer(2), LONG).await),
        Completion::Stored,
        "the old answer expired"
    );
    assert_eq!(
        ok(store.claim(&done, claim(3), LONG, LONG).await),
        answered(claim(2), answer(2))
    );

    // Removing what expired is the store's own business; it must not touch what has not.
    for n in 0..50 {
        ok(store
            .claim(&scope("k", &format!("gone {n}")), claim(n), LONG, SHORT)
            .await);
    }
    pass(SHORT * 2).await;
    for n in (0..50).rev() {
        let scope = scope("k", &format!("gone {n}"));
        assert_eq!(
            ok(store.claim(&scope, claim(99), LONG, LONG).await),
            ClaimOutcome::Claimed
        );
    }
    assert_eq!(
        ok(store.claim(&pending, claim(3), LONG, LONG).await),
        ClaimOutcome::Pending(claim(2))
    );
}

async fn of_many_claims_one_stands(store: &impl IdempotencyStore) {
    let scope = scope("k", "race");
    let claims = (0..200).map(|n| {
        let (store, scope) = (store.clone(), &scope);
        async move {
            ok(store
                .claim(
                    scope,
                    Claim {
                        holder: n,
                        ..claim(1)
                    },
                    LONG,
                    LONG,
                )
                .await)
        }
    });
    let outcomes = join_all(claims).await;
    let winners: Vec<u64> = (0..)
        .zip(&outcomes)
        .filter(|(_, o)| **o == ClaimOutcome::Claimed)
        .map(|(n, _)| n)
        .collect();
    let [winner] = winners[..] else {
        panic!("claimed by {winners:?}")
    };
    let held = ClaimOutcome::Pending(Claim {
        holder: winner,
        ..claim(1)
    });
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == held).count(),
        199
    );
}

async fn of_many_takeovers_one_succeeds(
    store: &impl IdempotencyStore,
    pass: &impl AsyncFn(Duration),
) {
    let scope = scope("k", "race to take over");
    ok(store.claim(&scope, claim(1), SHORT, LONG).await);
    pass(SHORT * 2).await;
    let claims = (0..50).map(|n| {
        let (store, scope) = (store.clone(), &scope);
        async move {
            ok(store
                .claim(
                    scope,
                    Claim {
                        holder: 100 + n,
                        ..claim(1)
                    },
                    LONG,
                    LONG,
                )
                .await)
        }
    });
    let outcomes = join_all(claims).await;
    let taken = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, ClaimOutcome::TakenOver(_)))
        .count();
    assert_eq!(taken, 1, "{outcomes:?}");
}

async fn of_many_answers_one_stands(store: &impl IdempotencyStore) {
    let scope = scope("k", "race to answer");
    let completions = (0..50).map(|n| {
        let (store, scope) = (store.clone(), &scope);
        async move { ok(store.complete(scope, claim(1), answer(n), LONG).await) }
    });
    let completions = join_all(completions).await;
    let ClaimOutcome::Answered { answer, .. } = ok(store.claim(&scope, claim(1), LONG, LONG).await)
    else {
        panic!("no answer was stored");
    };
    assert_eq!(
        completions
            .iter()
            .filter(|completion| **completion == Completion::Stored)
            .count(),
        1
    );
    assert_eq!(
        completions
            .iter()
            .filter(|completion| **completion == Completion::Already(answer.clone()))
            .count(),
        49
    );
}

fn scope(key: &str, idempotency_key: &str) -> IdempotencyScope {
    let tenant = TenantId::new("conformance").expect("a tenant's name");
    let record = RecordKey::new(PartitionId(7), &tenant, key);
    IdempotencyScope {
        record,
        idempotency_key: idempotency_key.to_owned(),
    }
}

fn claim(n: u8) -> Claim {
    let number = u64::from(n);
    Claim {
        fingerprint: [n; 32],
        write_id: WriteId(number.into()),
        stamp: Stamp(number),
        holder: number,
    }
}

fn answer(n: u8) -> Bytes {
    Bytes::from(vec![n; 3])
}

fn answered(claim: Claim, answer: Bytes) -> ClaimOutcome {
    ClaimOutcome::Answered {
        fingerprint: claim.fingerprint,
        answer,
    }
}

fn ok<T: Debug>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}"),
    }
}
