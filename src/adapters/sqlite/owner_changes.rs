//! Changes of owners that were asked for: a row for each, in a queue, and one for each partition that was moved.

use sqlx::SqliteConnection;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::adapters::sql_rows as rows;
use crate::placement::ChangeId;
use crate::ports::{Change, Checkpoint, Migration};

/// Both take a migration's fields in their order and return the row, if they wrote one.
pub(super) const CREATE: &str = "
    INSERT INTO migrations (id, request, status, cancel, created_at, started_at, ended_at, partitions, partitions_done,
                            keys, keys_total, bytes, waits_for, error, bytes_per_second, version, place)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
            (SELECT coalesce(max(place), 0) + 1 FROM migrations))
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
pub(super) const UPDATE: &str = "
    UPDATE migrations
    SET request = ?2, status = ?3, cancel = ?4, created_at = ?5, started_at = ?6, ended_at = ?7, partitions = ?8,
        partitions_done = ?9, keys = ?10, keys_total = ?11, bytes = ?12, waits_for = ?13, error = ?14,
        bytes_per_second = ?15, version = version + 1
    WHERE id = ?1 AND version = ?16
    RETURNING *";

const FIND: &str = "SELECT * FROM migrations WHERE id = ?";
const NEWEST: &str = "SELECT * FROM migrations ORDER BY place DESC LIMIT ?";
const OPEN: &str = "
    SELECT * FROM migrations WHERE status IN ('pending', 'in_progress') ORDER BY place LIMIT ?";

const FORGET_NOTES: &str = "
    DELETE FROM migration_checkpoints
    WHERE migration_id NOT IN (SELECT id FROM migrations WHERE status IN ('pending', 'in_progress'))";
const FORGET: &str = "
    DELETE FROM migrations
    WHERE place IN (SELECT place FROM migrations WHERE status NOT IN ('pending', 'in_progress')
                    ORDER BY place DESC LIMIT -1 OFFSET ?)";

pub(super) async fn find(pool: &SqlitePool, id: &ChangeId) -> sqlx::Result<Option<Migration>> {
    let query = sqlx::query(FIND).bind(id.as_str());
    migration(query.fetch_optional(pool).await?)
}

/// Those asked for last first.
pub(super) async fn newest(pool: &SqlitePool, limit: usize) -> sqlx::Result<Vec<Migration>> {
    list(pool, NEWEST, limit).await
}

/// In the order in which they were asked for.
pub(super) async fn open(pool: &SqlitePool, limit: usize) -> sqlx::Result<Vec<Migration>> {
    list(pool, OPEN, limit).await
}

async fn list(
    pool: &SqlitePool,
    statement: &'static str,
    limit: usize,
) -> sqlx::Result<Vec<Migration>> {
    let query = sqlx::query(statement).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = query.fetch_all(pool).await?;
    rows.iter().map(rows::migration).collect()
}

pub(super) async fn change(
    connection: &mut SqliteConnection,
    statement: &'static str,
    change: Migration,
) -> sqlx::Result<Change<Migration>> {
    let progress = change.progress;
    let written = sqlx::query(statement)
        .bind(change.id.as_str())
        .bind(rows::json(&change.request)?)
        .bind(change.status.as_str())
        .bind(change.cancel)
        .bind(change.created_at)
        .bind(change.started_at)
        .bind(change.ended_at)
        .bind(progress.partitions.cast_signed())
        .bind(progress.partitions_done.cast_signed())
        .bind(progress.keys.cast_signed())
        .bind(progress.keys_total.cast_signed())
        .bind(progress.bytes.cast_signed())
        .bind(&change.waits_for)
        .bind(&change.error)
        .bind(change.bytes_per_second.map(u64::cast_signed))
        .bind(i64::try_from(change.version).unwrap_or(0)) // which no stored version is
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(made) = migration(written)? {
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query(FIND).bind(change.id.as_str());
    Ok(Change::Conflict(migration(
        stored.fetch_optional(connection).await?,
    )?))
}

/// What was noted before stays as it was.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    id: ChangeId,
    checkpoints: Vec<Checkpoint>,
) -> sqlx::Result<()> {
    let sql = "
        INSERT INTO migration_checkpoints (migration_id, partition_id, keys, bytes) VALUES (?, ?, ?, ?)
        ON CONFLICT DO NOTHING";
    for checkpoint in checkpoints {
        sqlx::query(sql)
            .bind(id.as_str())
            .bind(checkpoint.partition.0)
            .bind(checkpoint.keys.cast_signed())
            .bind(checkpoint.bytes.cast_signed())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn noted(pool: &SqlitePool, id: &ChangeId) -> sqlx::Result<Vec<Checkpoint>> {
    let sql = "SELECT * FROM migration_checkpoints WHERE migration_id = ? ORDER BY partition_id";
    let rows = sqlx::query(sql).bind(id.as_str()).fetch_all(pool).await?;
    rows.iter().map(rows::checkpoint).collect()
}

/// Removes those that are over, but for the newest `keep`, and what was noted of all that are over.
pub(super) async fn forget(connection: &mut SqliteConnection, keep: usize) -> sqlx::Result<()> {
    sqlx::query(FORGET_NOTES).execute(&mut *connection).await?;
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    sqlx::query(FORGET).bind(keep).execute(connection).await?;
    Ok(())
}

fn migration(row: Option<SqliteRow>) -> sqlx::Result<Option<Migration>> {
    row.as_ref().map(rows::migration).transpose()
}
