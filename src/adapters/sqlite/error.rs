//! What went wrong with an SQLite file: no room, somebody else at it, nothing that can be read, or no answer in time.

use sqlx::migrate::MigrateError;

use super::settings::SqliteSettings;
use crate::adapters::sql_migrations;
use crate::ports::StoreError;

/// The file, for people.
pub(super) const STORE: &str = "SQLite file";

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

pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    matches!(result_code(error), Some(BUSY | LOCKED))
}

/// Whether it may be that there is no room on the disk: SQLite says so, or that it could not write.
pub(super) fn is_short_of_room(error: &sqlx::Error) -> bool {
    const IO: i32 = 10;
    const FULL: i32 = 13;
    matches!(result_code(error), Some(IO | FULL))
}

/// Tells what can't be read from what can't be reached.
pub(super) fn failed(store: &'static str, error: &sqlx::Error) -> StoreError {
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    let cause = match error {
        sqlx::Error::Migrate(error) => sql_migrations::describe(error),
        other => other.to_string(),
    };
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
    if unreadable || matches!(result_code(error), Some(CORRUPT | NOT_A_DATABASE)) {
        StoreError::Unreadable { store, cause }
    } else {
        StoreError::Unavailable { store, cause }
    }
}

pub(super) fn timed_out(settings: &SqliteSettings) -> sqlx::Error {
    let cause = format!("no answer within {:?}", settings.call_timeout);
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, cause))
}
