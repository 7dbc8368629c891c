//! The database's errors: which mean "again", which "I can't do that", and which "I don't understand what I hold".

use sqlx::migrate::MigrateError;

use crate::adapters::sql_migrations;
use crate::ports::StoreError;

pub(super) const STORE: &str = "metadata store";

/// Tells what can't be read from what can't be reached.
pub(super) fn failed(error: &sqlx::Error) -> StoreError {
    let unreadable = match error {
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
    let store = STORE;
    let cause = match error {
        sqlx::Error::Migrate(error) => sql_migrations::describe(error),
        other => other.to_string(),
    };
    match unreadable {
        true => StoreError::Unreadable { store, cause },
        false => StoreError::Unavailable { store, cause },
    }
}

pub(super) fn late(what: &str) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        cause: format!("no answer within {what}"),
    }
}

/// Nothing was done, because others were at it; doing it again may succeed.
pub(super) fn asks_to_repeat(error: &sqlx::Error) -> bool {
    const SERIALIZATION_FAILURE: &str = "40001";
    const DEADLOCK: &str = "40P01";
    matches!(
        code(error).as_deref(),
        Some(SERIALIZATION_FAILURE | DEADLOCK)
    )
}

/// The database has no such thing and will not have it a moment later.
pub(super) fn is_unsupported(error: &sqlx::Error) -> bool {
    const FEATURE: &str = "0A000";
    const SYNTAX: &str = "42601";
    const FUNCTION: &str = "42883";
    matches!(code(error).as_deref(), Some(FEATURE | SYNTAX | FUNCTION))
}

/// A table that is asked for is not there.
pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("42P01")
}

fn code(error: &sqlx::Error) -> Option<String> {
    match error {
        sqlx::Error::Database(error) => Some(error.code()?.into_owned()),
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => code(error),
            _ => None,
        },
        _ => None,
    }
}
