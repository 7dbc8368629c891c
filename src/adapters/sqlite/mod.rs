//! Metadata and idempotency in one SQLite file: what a machine on its own, or a few processes on it, need.
//!
//! Several processes may have the file open: every conditional change is decided by SQL inside one immediate
//! transaction, never by what a process remembers. A change is durable when its call returns (write-ahead log,
//! `synchronous=FULL`). Leases and retention run by the machine's wall clock as SQLite tells it
//! (`unixepoch('subsec')`), which is the one clock all those processes have in common; a clock that jumps ends leases
//! early or late, and an early end is harmless because whoever takes over repeats the same write.
//!
//! What this is not: a store for several machines. SQLite's locks don't hold on network file systems.

mod api_keys;
mod committer;
mod database;
mod entries;
mod error;
mod idempotency;
mod leases;
mod metadata;
mod migrations;
mod owner_changes;
mod place;
mod settings;
mod watch;

use std::path::Path;
use std::sync::Arc;

use database::Database;
pub use idempotency::SqliteIdempotency;
pub use metadata::SqliteMetadata;
pub use migrations::{migrate, migrations};
pub use place::{PlaceError, place};
pub use settings::SqliteSettings;

use crate::ports::StoreError;

/// Both stores on one file. Copies share its connections.
#[derive(Clone, Debug)]
pub struct SqliteStores {
    /// Tenants and topology.
    pub metadata: SqliteMetadata,
    /// Claims and answers.
    pub idempotency: SqliteIdempotency,
    database: Arc<Database>,
}

impl SqliteStores {
    /// Opens the file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file can't be used, or was written by a newer version of this program.
    pub async fn open(path: &Path, settings: SqliteSettings) -> Result<Self, StoreError> {
        Self::on(Database::open(path, settings).await?).await
    }

    /// A new file in a temporary directory, removed with the last copy.
    ///
    /// # Errors
    /// When there is no place for it.
    pub async fn ephemeral(settings: SqliteSettings) -> Result<Self, StoreError> {
        Self::on(Database::ephemeral(settings).await?).await
    }

    async fn on(database: Database) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let metadata = SqliteMetadata::new(Arc::clone(&database)).await?;
        database.keep_reserve(); // not before a connection is open: it must not take the room that one needs
        Ok(Self {
            metadata,
            idempotency: SqliteIdempotency::new(Arc::clone(&database)),
            database,
        })
    }

    /// Ends all work on the file and closes it; every later call fails.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[cfg(test)]
#[path = "sqlite_test.rs"]
mod tests;
