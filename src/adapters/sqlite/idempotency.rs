//! Claims and answers.
//!
//! Each call is one change of the committer's: it looks at the row by the store's clock, decides, and writes. What has
//! expired counts as absent, and is removed a few rows at a time by later claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sqlx::SqliteConnection;

use super::database::Database;
use super::entries::{Entry, Seen, end_lease, look, put, remove_claim, remove_expired};
use crate::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, StoreError,
};

const STORE: &str = "idempotency store";

/// Every so many claims, expired rows are removed: several times as many as were added meanwhile.
const CLAIMS_PER_REMOVAL: u64 = 16;

/// The idempotency store in a SQLite file. Copies share its connections.
#[derive(Clone, Debug)]
pub struct SqliteIdempotency {
    database: Arc<Database>,
    claims: Arc<AtomicU64>,
}

impl SqliteIdempotency {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            claims: Arc::default(),
        }
    }
}

impl IdempotencyStore for SqliteIdempotency {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let earlier_claims = self.claims.fetch_add(1, Ordering::Relaxed);
        let removes = earlier_claims.is_multiple_of(CLAIMS_PER_REMOVAL);
        let scope = scope.clone();
        self.database
            .write(STORE, move |connection| {
                Box::pin(set_claim(
                    connection, scope, claim, lease, retention, removes,
                ))
            })
            .await
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        let scope = scope.clone();
        self.database
            .write(STORE, move |connection| {
                Box::pin(set_answer(connection, scope, claim, answer, retention))
            })
            .await
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.database
            .write(STORE, move |connection| {
                Box::pin(async move { remove_claim(connection, &scope, claim.holder).await })
            })
            .await
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.database
            .write(STORE, move |connection| {
                Box::pin(async move { end_lease(connection, &scope, claim.holder).await })
            })
            .await
    }
}

async fn set_claim(
    connection: &mut SqliteConnection,
    scope: IdempotencyScope,
    claim: Claim,
    lease: Duration,
    retention: Duration,
    removes: bool,
) -> sqlx::Result<ClaimOutcome> {
    let Seen { now_ms, entry } = look(connection, &scope).await?;
    let (claim, outcome) = match entry {
        None => (claim, ClaimOutcome::Claimed),
        Some(Entry::Answered {
            fingerprint,
            answer,
        }) => {
            return Ok(ClaimOutcome::Answered {
                fingerprint,
                answer,
            });
        }
        Some(Entry::Pending {
            claim: held,
            lease_until_ms,
        }) => match claim.meets(held, lease_until_ms <= now_ms) {
            ClaimOutcome::TakenOver(taken) => (taken, ClaimOutcome::TakenOver(taken)),
            ClaimOutcome::Claimed => (claim, ClaimOutcome::Claimed),
            other => return Ok(other),
        },
    };
    if removes {
        remove_expired(connection, now_ms).await?;
    }
    let (lease_until_ms, expires_ms) = (after(now_ms, lease), after(now_ms, retention));
    put(connection, &scope, claim, lease_until_ms, expires_ms, None).await?;
    Ok(outcome)
}

async fn set_answer(
    connection: &mut SqliteConnection,
    scope: IdempotencyScope,
    claim: Claim,
    answer: Bytes,
    retention: Duration,
) -> sqlx::Result<Completion> {
    let Seen { now_ms, entry } = look(connection, &scope).await?;
    if let Some(Entry::Answered { answer, .. }) = entry {
        return Ok(Completion::Already(answer));
    }
    let expires_ms = after(now_ms, retention);
    put(connection, &scope, claim, now_ms, expires_ms, Some(&answer)).await?;
    Ok(Completion::Stored)
}

fn after(now_ms: i64, duration: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
