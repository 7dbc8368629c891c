//! What the versions of a database are called, which of them it has, and which program can use it.
//!
//! While a cluster is upgraded, programs of two versions use the same tables. A program goes on with migrations that it
//! does not know if each of them is named `additive`, as in `0006_additive_something.sql`. Such a migration adds tables
//! that the version before never looks at, and columns that it need not fill: each of them may be NULL or has a
//! default. It changes and takes away nothing, and means nothing else by what was there. What can't be done so is done
//! in two releases: the first adds and stops using, the second takes away.
//!
//! So that this works, statements name the columns that they write, and rows are changed in place: what a newer version
//! keeps in columns of its own stays.

use sqlx::migrate::{AppliedMigration, MigrateError, Migrator};

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

/// How the tables of a database compare with those that a program makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tables {
    /// Just these.
    Current,
    /// These, and what migrations after the one of this number made of them.
    Later(i64),
    /// Something is missing, or other than it should be.
    Other,
}

/// Compares them, by the migrations that were applied.
pub(super) fn compare(migrator: &Migrator, applied: &[AppliedMigration]) -> Tables {
    let mut of_database = applied.iter().map(|one| (one.version, &one.checksum));
    let mut newest = None;
    for own in migrator.iter() {
        if of_database.next() != Some((own.version, &own.checksum)) {
            return Tables::Other;
        }
        newest = Some(own.version);
    }
    match (of_database.next(), newest) {
        (Some(_), Some(newest)) => Tables::Later(newest),
        (Some(_), None) => Tables::Other,
        (None, _) => Tables::Current,
    }
}

/// The program goes on with what a newer one made of the tables.
pub(super) fn tell_of_later(store: &str) {
    tracing::warn!(
        store,
        "a newer version of pairdb has added to the tables; this one goes on with them"
    );
}

/// A migration's failure in words for people.
pub(super) fn describe(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => format!(
            "a newer version of pairdb has changed the tables (migration {version}): start that version, or a newer one"
        ),
        other => other.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

    #[test]
    fn later_tables_are_told_from_other_ones() {
        let own: Vec<AppliedMigration> = MIGRATIONS
            .iter()
            .map(|one| AppliedMigration {
                version: one.version,
                checksum: one.checksum.clone(),
            })
            .collect();
        let newest = own[own.len() - 1].version;
        let next = AppliedMigration {
            version: newest + 1,
            checksum: vec![1].into(),
        };
        assert_eq!(compare(&MIGRATIONS, &own), Tables::Current);
        let later = [&own[..], &[next]].concat();
        assert_eq!(compare(&MIGRATIONS, &later), Tables::Later(newest));
        let gap = [&own[..1], &later[2..]].concat();
        let mut changed = own.clone();
        changed[0].checksum = vec![1].into();
        for other in [&[][..], &own[..1], &gap, &changed] {
            assert_eq!(compare(&MIGRATIONS, other), Tables::Other);
        }
    }
}
