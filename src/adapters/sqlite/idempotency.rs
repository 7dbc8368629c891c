//! Claims and answers.
//!
//! Each call is one immediate transaction: it looks at the row by the store's clock, decides, and writes. What has
//! expired counts as absent, and is removed a few rows at a time by later claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::database::Database;
use super::rows::unreadable;
use crate::ports::{
    Claim, ClaimOutcome, Completion, Fingerprint, IdempotencyScope, IdempotencyStore, StoreError,
};
use crate::version::{Stamp, WriteId};

const STORE: &str = "idempotency store";

/// Every so many claims, expired rows are removed,
const CLAIMS_PER_REMOVAL: u64 = 16;

/// at most so many: more than come in meanwhile, and soon done.
const REMOVALS_MAX: i64 = 64;

/// The idempotency store in a SQLite file. Copies share its connections.
#[derive(Clone, Debug)]
pub struct SqliteIdempotency {
    database: Arc<Database>,
    claims: Arc<AtomicU64>,
}

/// A look at the store: its clock, and the row of a scope unless it has expired.
struct Seen {
    now_ms: i64,
    entry: Option<Entry>,
}

enum Entry {
    Pending {
        claim: Claim,
        lease_until_ms: i64,
    },
    Answered {
        fingerprint: Fingerprint,
        answer: Bytes,
    },
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
        let removes = self
            .claims
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(CLAIMS_PER_REMOVAL);
        let work = async {
            let mut transaction = self.database.write().await?;
            let Seen { now_ms, entry } = look(&mut transaction, scope).await?;
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
                }) if now_ms < lease_until_ms || held.fingerprint != claim.fingerprint => {
                    return Ok(ClaimOutcome::Pending(held));
                }
                Some(Entry::Pending { claim: held, .. }) => {
                    let taken = Claim {
                        holder: claim.holder,
                        ..held
                    };
                    (taken, ClaimOutcome::TakenOver(taken))
                }
            };
            if removes {
                remove_expired(&mut transaction, now_ms).await?;
            }
            let (lease_until_ms, expires_ms) = (after(now_ms, lease), after(now_ms, retention));
            put(
                &mut transaction,
                scope,
                claim,
                lease_until_ms,
                expires_ms,
                None,
            )
            .await?;
            transaction.commit().await?;
            Ok(outcome)
        };
        self.database.call(STORE, work).await
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        let work = async {
            let mut transaction = self.database.write().await?;
            let Seen { now_ms, entry } = look(&mut transaction, scope).await?;
            if let Some(Entry::Answered { answer, .. }) = entry {
                return Ok(Completion::Already(answer));
            }
            put(
                &mut transaction,
                scope,
                claim,
                now_ms,
                after(now_ms, retention),
                Some(&answer),
            )
            .await?;
            transaction.commit().await?;
            Ok(Completion::Stored)
        };
        self.database.call(STORE, work).await
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.write().await?;
            sqlx::query(
                "DELETE FROM idempotency
                 WHERE record_key = ? AND idempotency_key = ? AND holder = ? AND answer IS NULL",
            )
            .bind(&scope.record.as_bytes()[..])
            .bind(&scope.idempotency_key)
            .bind(claim.holder.cast_signed())
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        self.database.call(STORE, work).await
    }
}

async fn look(
    transaction: &mut Transaction<'static, Sqlite>,
    scope: &IdempotencyScope,
) -> sqlx::Result<Seen> {
    let row = sqlx::query(
        "SELECT now_ms, idempotency.*
         FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms)
         LEFT JOIN idempotency ON record_key = ? AND idempotency_key = ? AND expires_ms > now_ms",
    )
    .bind(&scope.record.as_bytes()[..])
    .bind(&scope.idempotency_key)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Seen {
        now_ms: row.try_get("now_ms")?,
        entry: entry(&row)?,
    })
}

fn entry(row: &SqliteRow) -> sqlx::Result<Option<Entry>> {
    if row.try_get::<Option<&[u8]>, _>("fingerprint")?.is_none() {
        return Ok(None);
    }
    let fingerprint = bytes(row, "fingerprint")?;
    if let Some(answer) = row.try_get::<Option<Vec<u8>>, _>("answer")? {
        return Ok(Some(Entry::Answered {
            fingerprint,
            answer: answer.into(),
        }));
    }
    let claim = Claim {
        fingerprint,
        write_id: WriteId(u128::from_be_bytes(bytes(row, "write_id")?)),
        stamp: Stamp(row.try_get::<i64, _>("stamp")?.cast_unsigned()),
        holder: row.try_get::<i64, _>("holder")?.cast_unsigned(),
    };
    Ok(Some(Entry::Pending {
        claim,
        lease_until_ms: row.try_get("lease_until_ms")?,
    }))
}

fn bytes<const N: usize>(row: &SqliteRow, column: &str) -> sqlx::Result<[u8; N]> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|_| unreadable(column, format!("{} bytes instead of {N}", bytes.len())))
}

async fn put(
    transaction: &mut Transaction<'static, Sqlite>,
    scope: &IdempotencyScope,
    claim: Claim,
    lease_until_ms: i64,
    expires_ms: i64,
    answer: Option<&[u8]>,
) -> sqlx::Result<()> {
    sqlx::query("INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(&scope.record.as_bytes()[..])
        .bind(&scope.idempotency_key)
        .bind(&claim.fingerprint[..])
        .bind(&claim.write_id.0.to_be_bytes()[..])
        .bind(claim.stamp.0.cast_signed())
        .bind(claim.holder.cast_signed())
        .bind(lease_until_ms)
        .bind(expires_ms)
        .bind(answer)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn remove_expired(
    transaction: &mut Transaction<'static, Sqlite>,
    now_ms: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM idempotency
         WHERE rowid IN (SELECT rowid FROM idempotency WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?)",
    )
    .bind(now_ms)
    .bind(REMOVALS_MAX)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn after(now_ms: i64, duration: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
