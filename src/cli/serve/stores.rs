//! The stores that the configuration names.

use super::super::exit::{Exit, Failure};
use crate::adapters::sqlite::{SqliteSettings, SqliteStores};
use crate::config::Config;

/// Opens metadata and idempotency; the file and its directory are made if need be.
pub async fn open_stores(config: &Config) -> Result<SqliteStores, Failure> {
    let failed = |cause: String| Failure::new(Exit::Unavailable, "METADATA_STORE", cause);
    let path = config
        .metadata
        .sqlite_path()
        .ok_or_else(|| failed("metadata.url is not sqlite:PATH".into()))?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| failed(format!("{}: {error}", directory.display())))?;
    }
    SqliteStores::open(path, SqliteSettings::default())
        .await
        .map_err(|error| failed(format!("{}: {error}", path.display())))
}
