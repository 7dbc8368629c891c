//! The tables of this version, made by whoever comes first.

use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::connection::{connect, options};
use super::error::{STORE, failed, is_missing_table, is_unsupported, late};
use crate::adapters::sql_migrations::{self, Migration, TABLE, Tables};
use crate::ports::StoreError;

pub(super) static MIGRATIONS: Migrator = Migrator {
    locking: false, // `lock` does it
    ..sqlx::migrate!("migrations/postgres")
};

/// How long to wait for others that migrate, and for a migration.
const PATIENCE: Duration = Duration::from_secs(60);

/// Without a lock, those who get in each other's way begin anew, so often and after this long.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Names the lock among all that are taken in the database: "pairdb" in ASCII.
const LOCK: i64 = 0x7061_6972_6462;

/// Applies the migrations that the database lacks. Returns all of them.
///
/// # Errors
/// When the database can't be reached in time, or was migrated by a newer version of this program.
pub async fn migrate(url: &str) -> Result<Vec<Migration>, StoreError> {
    let options = options(url).map_err(|error| failed(&error))?;
    bring_up_to_date(&options).await?;
    migrations(url).await
}

/// All migrations and whether the database has them. Changes nothing.
///
/// # Errors
/// When the database can't be reached in time.
pub async fn migrations(url: &str) -> Result<Vec<Migration>, StoreError> {
    let options = options(url).map_err(|error| failed(&error))?;
    let mut connection = connect(&options, PATIENCE).await?;
    let applied = applied(&mut connection).await?;
    Ok(sql_migrations::list(&MIGRATIONS, &applied))
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<AppliedMigration>, StoreError> {
    match connection.list_applied_migrations(TABLE).await {
        Ok(applied) => Ok(applied),
        Err(error) => match sqlx::Error::from(error) {
            error if is_missing_table(&error) => Ok(Vec::new()),
            error => Err(failed(&error)),
        },
    }
}

/// How many migrations after this one do more than add.
const NOT_ADDITIVE: &str = "
    SELECT count(*) FROM _sqlx_migrations
    WHERE version > $1 AND NOT (success AND substr(description, 1, 9) = 'additive ')";

/// Whether the database has just what this version makes, or what a newer one has added to that. Then nothing needs
/// doing, and nobody needs to be allowed to do it.
async fn is_current(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let newest = match sql_migrations::compare(&MIGRATIONS, &applied(connection).await?) {
        Tables::Current => return Ok(true),
        Tables::Other => return Ok(false),
        Tables::Later(newest) => newest,
    };
    let others = sqlx::query_scalar(NOT_ADDITIVE).bind(newest);
    let others: i64 = others
        .fetch_one(connection)
        .await
        .map_err(|error| failed(&error))?;
    if others == 0 {
        sql_migrations::tell_of_later(STORE);
    }
    Ok(others == 0)
}

pub(super) async fn bring_up_to_date(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        let mut connection = connect(options, PATIENCE).await?;
        if is_current(&mut connection).await? {
            return Ok(());
        }
        let is_locked = lock(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        let migrating = async {
            MIGRATIONS.run_direct(None, &mut connection, false).await?;
            connection.close().await // and with it the lock
        };
        match timeout(PATIENCE, migrating).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if is_locked || attempt == ATTEMPTS_MAX => return Err(failed(&error)),
            Ok(Err(error)) => tracing::info!(%error, "another process migrates the database, too"),
            Err(_) => return Err(late(&format!("{PATIENCE:?}"))),
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// Waits until nobody else migrates, and keeps others from it until the connection closes. False where there are no
/// such locks.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK);
    match lock.execute(connection).await {
        Ok(_) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
