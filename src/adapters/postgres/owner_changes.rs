//! Changes of owners that were asked for: a row for each, in a queue, and one for each partition that was moved.

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{PgConnection, Row};

use crate::adapters::sql_rows as rows;
use crate::placement::ChangeId;
use crate::ports::{Change, Checkpoint, Migration};

/// Whoever takes a place keeps others from doing so until it is committed.
const TAKE_PLACE: &str = "UPDATE migration_places SET newest = newest + 1 RETURNING newest";

/// Both take a migration's fields in their order and return the row, if they wrote one; the first one its place, too.
const CREATE: &str = "
    INSERT INTO migrations (id, request, status, cancel, created_at, started_at, ended_at, partitions, partitions_done,
                            keys, keys_total, bytes, waits_for, error, bytes_per_second, version, place)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const UPDATE: &str = "
    UPDATE migrations
    SET request = $2, status = $3, cancel = $4, created_at = $5, started_at = $6, ended_at = $7, partitions = $8,
        partitions_done = $9, keys = $10, keys_total = $11, bytes = $12, waits_for = $13, error = $14,
        bytes_per_second = $15, version = version + 1
    WHERE id = $1 AND version = $16
    RETURNING *";

const FIND: &str = "SELECT * FROM migrations WHERE id = $1";
const NEWEST: &str = "SELECT * FROM migrations ORDER BY place DESC LIMIT $1";
const OPEN: &str = "
    SELECT * FROM migrations WHERE status IN ('pending', 'in_progress') ORDER BY place LIMIT $1";

const NOTE: &str = "
    INSERT INTO migration_checkpoints (migration_id, partition_id, keys, bytes)
    SELECT $1::TEXT, * FROM unnest($2::BIGINT[], $3::BIGINT[], $4::BIGINT[])
    ON CONFLICT DO NOTHING";

const FORGET_NOTES: &str = "
    DELETE FROM migration_checkpoints
    WHERE migration_id NOT IN (SELECT id FROM migrations WHERE status IN ('pending', 'in_progress'))";
const FORGET: &str = "
    DELETE FROM migrations
    WHERE id IN (SELECT id FROM migrations WHERE status NOT IN ('pending', 'in_progress')
                 ORDER BY place DESC OFFSET $1)";

pub(super) async fn find(pool: &PgPool, id: &ChangeId) -> sqlx::Result<Option<Migration>> {
    let query = sqlx::query(FIND).bind(id.as_str());
    migration(query.fetch_optional(pool).await?)
}

/// Those asked for last first.
pub(super) async fn newest(pool: &PgPool, limit: usize) -> sqlx::Result<Vec<Migration>> {
    list(pool, NEWEST, limit).await
}

/// In the order in which they were asked for.
pub(super) async fn open(pool: &PgPool, limit: usize) -> sqlx::Result<Vec<Migration>> {
    list(pool, OPEN, limit).await
}

async fn list(
    pool: &PgPool,
    statement: &'static str,
    limit: usize,
) -> sqlx::Result<Vec<Migration>> {
    let query = sqlx::query(statement).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = query.fetch_all(pool).await?;
    rows.iter().map(rows::migration).collect()
}

/// In a transaction of its own.
pub(super) async fn create(
    connection: &mut PgConnection,
    new: &Migration,
) -> sqlx::Result<Change<Migration>> {
    let take = sqlx::query(TAKE_PLACE).fetch_one(&mut *connection);
    let place: i64 = take.await?.try_get(0)?;
    let written = with_fields(CREATE, new)?.bind(place);
    let written = written.fetch_optional(&mut *connection).await?;
    made_or_stored(connection, written, &new.id).await
}

/// In a transaction of its own.
pub(super) async fn update(
    connection: &mut PgConnection,
    change: &Migration,
) -> sqlx::Result<Change<Migration>> {
    let written = with_fields(UPDATE, change)?;
    let written = written.fetch_optional(&mut *connection).await?;
    made_or_stored(connection, written, &change.id).await
}

async fn made_or_stored(
    connection: &mut PgConnection,
    written: Option<PgRow>,
    id: &ChangeId,
) -> sqlx::Result<Change<Migration>> {
    if let Some(made) = migration(written)? {
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query(FIND).bind(id.as_str());
    Ok(Change::Conflict(migration(
        stored.fetch_optional(connection).await?,
    )?))
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn with_fields(statement: &'static str, fields: &Migration) -> sqlx::Result<Query> {
    let progress = fields.progress;
    // PostgreSQL's texts have no zero bytes.
    let text = |text: &Option<String>| text.as_ref().map(|text| text.replace('\0', "\u{fffd}"));
    Ok(sqlx::query(statement)
        .bind(fields.id.as_str().to_owned())
        .bind(rows::json(&fields.request)?)
        .bind(fields.status.as_str())
        .bind(i64::from(fields.cancel))
        .bind(fields.created_at)
        .bind(fields.started_at)
        .bind(fields.ended_at)
        .bind(progress.partitions.cast_signed())
        .bind(progress.partitions_done.cast_signed())
        .bind(progress.keys.cast_signed())
        .bind(progress.keys_total.cast_signed())
        .bind(progress.bytes.cast_signed())
        .bind(text(&fields.waits_for))
        .bind(text(&fields.error))
        .bind(fields.bytes_per_second.map(u64::cast_signed))
        .bind(i64::try_from(fields.version).unwrap_or(0))) // which no stored version is
}

/// What was noted before stays as it was.
pub(super) async fn note(
    pool: &PgPool,
    id: &ChangeId,
    checkpoints: &[Checkpoint],
) -> sqlx::Result<()> {
    let numbers =
        |number: fn(&Checkpoint) -> i64| -> Vec<i64> { checkpoints.iter().map(number).collect() };
    let note = sqlx::query(NOTE)
        .bind(id.as_str())
        .bind(numbers(|checkpoint| checkpoint.partition.0.into()))
        .bind(numbers(|checkpoint| checkpoint.keys.cast_signed()))
        .bind(numbers(|checkpoint| checkpoint.bytes.cast_signed()));
    note.execute(pool).await?;
    Ok(())
}

/// Removes those that are over, but for the newest `keep`, and what was noted of all that are over.
pub(super) async fn forget(connection: &mut PgConnection, keep: usize) -> sqlx::Result<()> {
    sqlx::query(FORGET_NOTES).execute(&mut *connection).await?;
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    sqlx::query(FORGET).bind(keep).execute(connection).await?;
    Ok(())
}

pub(super) async fn noted(pool: &PgPool, id: &ChangeId) -> sqlx::Result<Vec<Checkpoint>> {
    let sql = "SELECT * FROM migration_checkpoints WHERE migration_id = $1 ORDER BY partition_id";
    let rows = sqlx::query(sql).bind(id.as_str()).fetch_all(pool).await?;
    rows.iter().map(rows::checkpoint).collect()
}

fn migration(row: Option<PgRow>) -> sqlx::Result<Option<Migration>> {
    row.as_ref().map(rows::migration).transpose()
}
