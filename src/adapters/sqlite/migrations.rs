//! The tables of this version, made by whoever comes first.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::error::{STORE, failed, is_busy, is_short_of_room};
use super::place::{give_up_reserve, place};
use crate::adapters::sql_migrations::{self, Migration, TABLE, Tables};
use crate::ports::StoreError;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Several processes that open a new file at once get into each other's way; each tries again for so long.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// Makes the file and its tables, whoever else may be at it.
pub(super) async fn prepare(file: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    place(file).map_err(|error| StoreError::Unavailable {
        store: STORE,
        cause: error.to_string(),
    })?;
    let give_up = tokio::time::Instant::now() + OPEN_TIMEOUT;
    loop {
        match apply(options).await {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < give_up => {
                tokio::time::sleep(OPEN_RETRY).await;
            }
            Err(error) if is_short_of_room(&error) && give_up_reserve(file) => {
                tracing::warn!(%error, file = %file.display(), "the disk is full: the reserve's room is used to open the file");
            }
            result => return result.map_err(|error| failed(STORE, &error)),
        }
    }
}

/// Applies what is missing in one transaction: all of it or nothing, and one process at a time. Where nothing is
/// missing nothing is written: a full disk can still be read.
async fn apply(options: &SqliteConnectOptions) -> sqlx::Result<()> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    if is_current(&mut connection).await? {
        return connection.close().await;
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await?;
    transaction.commit().await?;
    connection.close().await
}

/// Applies the migrations that the file lacks, which is made if there is none. Returns all of them.
///
/// # Errors
/// When the file can't be used, or was written by a newer version of this program.
pub async fn migrate(path: &Path) -> Result<Vec<Migration>, StoreError> {
    let options = SqliteConnectOptions::new().filename(path);
    prepare(path, &options).await?;
    migrations(path).await
}

/// All migrations and whether the file has them. Changes nothing.
///
/// # Errors
/// When the file can't be read.
pub async fn migrations(path: &Path) -> Result<Vec<Migration>, StoreError> {
    let applied = match path.exists() {
        true => applied(path).await.map_err(|error| failed(STORE, &error))?,
        false => Vec::new(),
    };
    Ok(sql_migrations::list(&MIGRATIONS, &applied))
}

/// How many migrations after this one do more than add.
const NOT_ADDITIVE: &str = "
    SELECT count(*) FROM _sqlx_migrations WHERE version > ? AND substr(description, 1, 9) <> 'additive '";

/// Whether the file has just what this version makes, or what a newer one has added to that.
async fn is_current(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let applied = applied_on(connection).await?;
    if applied.is_empty() || connection.dirty_version(TABLE).await?.is_some() {
        return Ok(false);
    }
    let newest = match sql_migrations::compare(&MIGRATIONS, &applied) {
        Tables::Current => return Ok(true),
        Tables::Other => return Ok(false),
        Tables::Later(newest) => newest,
    };
    let others = sqlx::query_scalar(NOT_ADDITIVE).bind(newest);
    let others: i64 = others.fetch_one(&mut *connection).await?;
    if others == 0 {
        sql_migrations::tell_of_later(STORE);
    }
    Ok(others == 0)
}

async fn applied(path: &Path) -> sqlx::Result<Vec<AppliedMigration>> {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    applied_on(&mut connection).await
}

async fn applied_on(connection: &mut SqliteConnection) -> sqlx::Result<Vec<AppliedMigration>> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = ?")
        .bind(TABLE)
        .fetch_one(&mut *connection)
        .await?;
    match tables {
        0 => Ok(Vec::new()),
        _ => Ok(connection.list_applied_migrations(TABLE).await?),
    }
}
