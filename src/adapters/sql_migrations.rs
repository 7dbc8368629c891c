//! What the versions of a database are called, and which of them it has.

use sqlx::migrate::{AppliedMigration, Migrator};

/// Where the database keeps what was applied.
pub(super) const TABLE: &str = "_sqlx_migrations";

/// One step from a version of the tables to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    /// Its number; they are applied in this order.
    pub version: i64,
    /// What it is about.
    pub name: String,
    /// Whether the database has it.
    pub is_applied: bool,
}

/// All that this program has, and what only the database has.
pub(super) fn list(migrator: &Migrator, applied: &[AppliedMigration]) -> Vec<Migration> {
    let is_applied = |version| applied.iter().any(|applied| applied.version == version);
    let mut all: Vec<Migration> = migrator
        .iter()
        .map(|migration| Migration {
            version: migration.version,
            name: migration.description.to_string(),
            is_applied: is_applied(migration.version),
        })
        .collect();
    let unknown = applied
        .iter()
        .filter(|applied| !migrator.version_exists(applied.version));
    all.extend(unknown.map(|applied| Migration {
        version: applied.version,
        name: "of a newer version of this program".to_owned(),
        is_applied: true,
    }));
    all
}
