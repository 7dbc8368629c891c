//! The stores that the configuration names.

mod idempotency;
mod metadata;

use std::path::Path;

pub use idempotency::ChosenIdempotency;
pub use metadata::ChosenMetadata;

use super::super::exit::{Exit, Failure};
use crate::adapters::postgres::PostgresMetadata;
use crate::adapters::redis::RedisIdempotency;
use crate::adapters::sqlite::{SqliteSettings, SqliteStores, place};
use crate::config::{Config, DatabaseKind};

/// The way out when the file can't be used.
const OWN_FILE: &str = "the user that runs this must be able to write to it and to its directory; database.url \
                        (PAIRDB_DATABASE__URL, --metadata, or --data of `pairdb dev`) names another";

/// What a coordinator needs.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Tenants, topology and leases.
    pub metadata: ChosenMetadata,
    /// Claims and answers.
    pub idempotency: ChosenIdempotency,
}

impl Stores {
    /// Both in one SQLite file; it and its directory are made if need be.
    pub async fn in_file(path: &Path) -> Result<Self, Failure> {
        let stores = open_file(path).await?;
        Ok(Self {
            idempotency: ChosenIdempotency::Sqlite(stores.idempotency.clone()),
            metadata: ChosenMetadata::Sqlite(stores),
        })
    }

    /// Ends all work on them; every later call fails.
    pub async fn close(&self) {
        self.metadata.close().await;
    }
}

/// Opens the metadata store and brings its tables up to date.
pub async fn open_metadata(config: &Config) -> Result<ChosenMetadata, Failure> {
    let database = &config.database;
    match database.kind() {
        Some(DatabaseKind::Sqlite(path)) => Ok(ChosenMetadata::Sqlite(open_file(&path).await?)),
        Some(DatabaseKind::Postgres) => {
            let opened = PostgresMetadata::open(&database.url, database.postgres()).await;
            let store = opened.map_err(|error| failed(format!("database.url: {error}")))?;
            Ok(ChosenMetadata::Postgres(store))
        }
        None => Err(failed("database.url names no database".into())),
    }
}

/// Opens metadata and idempotency. Redis may be down meanwhile.
pub async fn open_stores(config: &Config) -> Result<Stores, Failure> {
    let wrong = |problem: String| Failure::usage(format!("redis: {problem}"));
    let redis = match config.redis.parsed().map_err(wrong)? {
        Some(url) => {
            let settings = config.redis.settings().map_err(wrong)?;
            let redis = RedisIdempotency::new(&url, settings);
            Some(redis.map_err(|error| wrong(error.to_string()))?)
        }
        None => None,
    };
    if let Some(redis) = &redis {
        match redis.doubts().await {
            Ok(doubts) => doubts
                .iter()
                .for_each(|doubt| tracing::warn!(doubt, "Redis may lose idempotency keys")),
            Err(error) => tracing::warn!(%error, "starting without knowing Redis"),
        }
    }
    let metadata = open_metadata(config).await?;
    let idempotency = match (redis, &metadata) {
        (Some(redis), _) => ChosenIdempotency::Redis(redis),
        (None, ChosenMetadata::Sqlite(stores)) => {
            ChosenIdempotency::Sqlite(stores.idempotency.clone())
        }
        (None, ChosenMetadata::Postgres(_)) => {
            return Err(wrong("redis.url must be given beside PostgreSQL".into()));
        }
    };
    Ok(Stores {
        metadata,
        idempotency,
    })
}

async fn open_file(path: &Path) -> Result<SqliteStores, Failure> {
    place(path).map_err(|error| failed(error.to_string()).hint(OWN_FILE))?;
    SqliteStores::open(path, SqliteSettings::default())
        .await
        .map_err(|error| failed(format!("{}: {error}", path.display())))
}

fn failed(cause: String) -> Failure {
    Failure::new(Exit::Unavailable, "METADATA_STORE", cause)
}
