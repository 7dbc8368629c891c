//! `pairdb migrate`: the tables of the metadata store, brought up to date by hand before processes of a new version
//! start.

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output;
use crate::adapters::sql_migrations::Migration;
use crate::adapters::{postgres, sqlite};
use crate::config::{DatabaseKind, DatabaseSettings, Layers};
use crate::ports::StoreError;

/// What `migrate --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  PAIRDB_DATABASE__URL=postgres://pairdb@db/pairdb pairdb migrate
  pairdb migrate --check --config /etc/pairdb.toml    # changes nothing; exit code 7 when something is missing

Coordinators and storage nodes do the same when they start; whoever comes first does it, others wait.
Where they are not allowed to make tables, run this as somebody who is.";

/// The arguments of `migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// The metadata store: postgres://USER:PASSWORD@HOST/NAME or sqlite:PATH
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,

    /// Change nothing; say what is applied and what is missing
    #[arg(long)]
    check: bool,

    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

impl Migrate {
    /// Does it.
    pub fn run(self, layers: Layers) -> Result<(), Failure> {
        let layers = layers.flag("--metadata", "database.url", self.metadata.as_ref())?;
        let config = layers.build()?;
        super::one_thread::on_one_thread(self.migrate(config.database))
    }

    async fn migrate(self, database: DatabaseSettings) -> Result<(), Failure> {
        let migrations = migrations(&database, self.check).await.map_err(|error| {
            Failure::new(
                Exit::Unavailable,
                "METADATA_STORE",
                format!("database.url: {error}"),
            )
        })?;
        if self.json {
            let migrations: Vec<_> = migrations
                .iter()
                .map(|migration| {
                    json!({
                        "version": migration.version,
                        "name": migration.name,
                        "applied": migration.is_applied,
                    })
                })
                .collect();
            output::json(&json!({ "migrations": migrations }))?;
        } else {
            for migration in &migrations {
                let state = match migration.is_applied {
                    true => output::styled(output::GOOD, "applied"),
                    false => output::styled(output::BAD, "missing"),
                };
                output::line(&format!(
                    "{:04} {state}  {}",
                    migration.version, migration.name
                ))?;
            }
        }
        let missing = migrations
            .iter()
            .filter(|migration| !migration.is_applied)
            .count();
        match missing {
            0 => Ok(()),
            _ => Err(Failure::new(
                Exit::Refused,
                "MIGRATIONS_MISSING",
                format!("{missing} of {} migrations are missing", migrations.len()),
            )
            .hint("`pairdb migrate` applies them")),
        }
    }
}

async fn migrations(
    database: &DatabaseSettings,
    only_look: bool,
) -> Result<Vec<Migration>, StoreError> {
    match (database.kind(), only_look) {
        (Some(DatabaseKind::Sqlite(path)), true) => sqlite::migrations(&path).await,
        (Some(DatabaseKind::Sqlite(path)), false) => sqlite::migrate(&path).await,
        (_, true) => postgres::migrations(&database.url).await,
        (_, false) => postgres::migrate(&database.url).await,
    }
}
