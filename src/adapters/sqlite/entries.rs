//! The rows of the idempotency table, and the clock they live by.

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::adapters::sql_rows::unreadable;
use crate::ports::{Claim, Fingerprint, IdempotencyScope};
use crate::version::{Stamp, WriteId};

/// How many expired rows one removal takes away at most.
const REMOVALS_MAX: i64 = 64;

const STORE_ENTRY: &str = "
    INSERT OR REPLACE INTO idempotency (record_key, idempotency_key, fingerprint, write_id, stamp, holder,
                                        lease_until_ms, expires_ms, answer)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// A look at the store: its clock, and the row of a scope unless it has expired.
pub(super) struct Seen {
    pub(super) now_ms: i64,
    pub(super) entry: Option<Entry>,
}

pub(super) enum Entry {
    Pending {
        claim: Claim,
        lease_until_ms: i64,
    },
    Answered {
        fingerprint: Fingerprint,
        answer: Bytes,
    },
}

pub(super) async fn look(
    connection: &mut SqliteConnection,
    scope: &IdempotencyScope,
) -> sqlx::Result<Seen> {
    let row = sqlx::query(
        "SELECT now_ms, idempotency.*
         FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms)
         LEFT JOIN idempotency ON record_key = ? AND idempotency_key = ? AND expires_ms > now_ms",
    )
    .bind(&scope.record.as_bytes()[..])
    .bind(&scope.idempotency_key)
    .fetch_one(connection)
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

pub(super) async fn put(
    connection: &mut SqliteConnection,
    scope: &IdempotencyScope,
    claim: Claim,
    lease_until_ms: i64,
    expires_ms: i64,
    answer: Option<&[u8]>,
) -> sqlx::Result<()> {
    sqlx::query(STORE_ENTRY)
        .bind(&scope.record.as_bytes()[..])
        .bind(&scope.idempotency_key)
        .bind(&claim.fingerprint[..])
        .bind(&claim.write_id.0.to_be_bytes()[..])
        .bind(claim.stamp.0.cast_signed())
        .bind(claim.holder.cast_signed())
        .bind(lease_until_ms)
        .bind(expires_ms)
        .bind(answer)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn remove_expired(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM idempotency
         WHERE rowid IN (SELECT rowid FROM idempotency WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?)",
    )
    .bind(now_ms)
    .bind(REMOVALS_MAX)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn remove_claim(
    connection: &mut SqliteConnection,
    scope: &IdempotencyScope,
    holder: u64,
) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM idempotency
         WHERE record_key = ? AND idempotency_key = ? AND holder = ? AND answer IS NULL",
    )
    .bind(&scope.record.as_bytes()[..])
    .bind(&scope.idempotency_key)
    .bind(holder.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn end_lease(
    connection: &mut SqliteConnection,
    scope: &IdempotencyScope,
    holder: u64,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE idempotency SET lease_until_ms = 0
         WHERE record_key = ? AND idempotency_key = ? AND holder = ? AND answer IS NULL",
    )
    .bind(&scope.record.as_bytes()[..])
    .bind(&scope.idempotency_key)
    .bind(holder.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}
