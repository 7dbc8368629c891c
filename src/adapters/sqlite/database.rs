//! The file's connections: one that writes, a few that read, and a deadline on everything.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tempfile::TempDir;

use super::SqliteSettings;
use crate::ports::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Several processes that open a new file at once get into each other's way; each tries again for so long.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
    options: SqliteConnectOptions,
    pub(super) settings: SqliteSettings,
    _ephemeral: Option<TempDir>,
}

impl Database {
    pub(super) async fn open(path: &Path, settings: SqliteSettings) -> Result<Self, StoreError> {
        Self::open_in(path, settings, None).await
    }

    pub(super) async fn ephemeral(settings: SqliteSettings) -> Result<Self, StoreError> {
        let directory = tempfile::Builder::new().prefix("pairdb-").tempdir();
        let directory = directory.map_err(|error| failed(STORE, sqlx::Error::Io(error)))?;
        Self::open_in(
            &directory.path().join("stores.sqlite"),
            settings,
            Some(directory),
        )
        .await
    }

    async fn open_in(
        path: &Path,
        settings: SqliteSettings,
        ephemeral: Option<TempDir>,
    ) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(settings.call_timeout);
        prepare(&options).await?;

        let pool = SqlitePoolOptions::new()
            .acquire_timeout(settings.call_timeout)
            .idle_timeout(None)
            .max_lifetime(None);
        let reading = options.clone().pragma("query_only", "ON");
        Ok(Self {
            writer: pool
                .clone()
                .max_connections(1)
                .connect_lazy_with(options.clone()),
            readers: pool
                .max_connections(settings.readers_max)
                .connect_lazy_with(reading),
            options,
            settings,
            _ephemeral: ephemeral,
        })
    }

    /// Whatever reads.
    pub(super) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A transaction that no other writer's, of any process, overlaps. Dropped without a commit it has no effect.
    pub(super) async fn write(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// A connection apart from all others, to watch them by.
    pub(super) async fn watcher(&self) -> sqlx::Result<SqliteConnection> {
        SqliteConnection::connect_with(&self.options.clone().pragma("query_only", "ON")).await
    }

    /// Runs `work` for at most the time a call may take. When time is up it is not known whether it had its effect.
    pub(super) async fn call<T>(
        &self,
        store: &'static str,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.settings.call_timeout, work).await {
            Ok(result) => result.map_err(|error| failed(store, error)),
            Err(_) => {
                let cause = format!("no answer within {:?}", self.settings.call_timeout);
                Err(StoreError::Unavailable { store, cause })
            }
        }
    }

    pub(super) async fn close(&self) {
        futures::join!(self.writer.close(), self.readers.close());
    }
}

const STORE: &str = "SQLite file";

/// Makes the file and its tables, whoever else may be at it.
async fn prepare(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let give_up = tokio::time::Instant::now() + OPEN_TIMEOUT;
    loop {
        match migrate(options).await {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < give_up => {
                tokio::time::sleep(OPEN_RETRY).await;
            }
            result => return result.map_err(|error| failed(STORE, error)),
        }
    }
}

/// Applies what is missing in one transaction: all of it or nothing, and one process at a time.
async fn migrate(options: &SqliteConnectOptions) -> sqlx::Result<()> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await?;
    transaction.commit().await?;
    connection.close().await
}

/// SQLite's primary result code, if the error is SQLite's.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code = match error {
        sqlx::Error::Database(error) => error.code()?.parse::<i32>().ok()?,
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                return result_code(error);
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(code & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    matches!(result_code(error), Some(BUSY | LOCKED))
}

/// Tells what can't be read from what can't be reached.
fn failed(store: &'static str, error: sqlx::Error) -> StoreError {
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    let cause = error.to_string();
    let unreadable = match &error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::RowNotFound => true,
        sqlx::Error::Migrate(error) => matches!(
            **error,
            MigrateError::VersionMissing(_)
                | MigrateError::VersionMismatch(_)
                | MigrateError::Dirty(_)
        ),
        _ => false,
    };
    if unreadable || matches!(result_code(&error), Some(CORRUPT | NOT_A_DATABASE)) {
        StoreError::Unreadable { store, cause }
    } else {
        StoreError::Unavailable { store, cause }
    }
}
