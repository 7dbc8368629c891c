//! The file's connections: one that writes, a few that read, and a timeout on everything.

use std::path::Path;

use futures::TryFutureExt;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tempfile::TempDir;

use super::committer::Committer;
use super::error::{STORE, failed, timed_out};
use super::migrations::prepare;
use super::place;
use super::settings::SqliteSettings;
use crate::ports::StoreError;

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    writer: SqlitePool,
    committer: Committer,
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
        let directory = directory.map_err(|error| failed(STORE, &sqlx::Error::Io(error)))?;
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
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(settings.call_timeout);
        prepare(path, &options).await?;

        let pool = SqlitePoolOptions::new()
            .acquire_timeout(settings.call_timeout)
            .idle_timeout(None)
            .max_lifetime(None);
        let reading = options.clone().pragma("query_only", "ON");
        let writer = pool
            .clone()
            .max_connections(1)
            .connect_lazy_with(options.clone());
        Ok(Self {
            committer: Committer::start(writer.clone(), settings.clone(), path),
            writer,
            readers: pool
                .max_connections(settings.readers_max)
                .connect_lazy_with(reading),
            options,
            settings,
            _ephemeral: ephemeral,
        })
    }

    /// Makes the reserve if there is room for it beside what the open connections have.
    pub(super) fn keep_reserve(&self) {
        place::keep_reserve(self.options.get_filename());
    }

    /// A connection apart from all others, to watch them by.
    pub(super) async fn watcher(&self) -> sqlx::Result<SqliteConnection> {
        SqliteConnection::connect_with(&self.options.clone().pragma("query_only", "ON")).await
    }

    /// The connections that can't write. What is done with them goes through [`Database::read`].
    pub(super) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(super) async fn read<T>(
        &self,
        store: &'static str,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, StoreError> {
        self.within_timeout(store, work.map_err(|error| failed(store, &error)))
            .await
    }

    /// Runs `work` in a transaction that no other writer's, of any process, overlaps; durable when this returns.
    /// Failing work has no effect.
    pub(super) async fn write<T, W>(&self, store: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> FnOnce(&'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<T>>
            + Send
            + 'static,
    {
        self.within_timeout(store, self.committer.write(store, work))
            .await
    }

    /// When time is up it is not known whether the work had its effect.
    async fn within_timeout<T>(
        &self,
        store: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.settings.call_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(failed(store, &timed_out(&self.settings))),
        }
    }

    pub(super) async fn close(&self) {
        futures::join!(self.writer.close(), self.readers.close());
    }
}
