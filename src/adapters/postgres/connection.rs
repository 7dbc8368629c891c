//! How the database is connected to: by a URL, within a time, and with bounds on what a statement may take.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::error::{failed, late};
use crate::ports::StoreError;

/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a URL makes sense. Doesn't connect.
///
/// # Errors
/// Says what is wrong, without showing the URL.
pub fn check_url(url: &str) -> Result<(), String> {
    options(url).map(drop).map_err(|error| error.to_string())
}

pub(super) fn options(url: &str) -> sqlx::Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse()?;
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("pairdb"),
    })
}

/// A connection of this process that is not the pool's, whose statements may take so long.
pub(super) async fn connect(
    options: &PgConnectOptions,
    statement_limit: Duration,
) -> Result<PgConnection, StoreError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        begin_session(&mut connection, &statement_limit.as_millis().to_string()).await?;
        Ok(connection)
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(result) => result.map_err(|error| failed(&error)),
        Err(_) => Err(late(&format!("{CONNECT_TIMEOUT:?}"))),
    }
}

/// Bounds what a statement and an idle transaction may take, and sees to it that a commit is durable when it is
/// answered. A server that waits for more than that goes on doing so.
pub(super) async fn begin_session(
    connection: &mut PgConnection,
    limit_ms: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false),
                set_config('idle_in_transaction_session_timeout', $1, false)",
    )
    .bind(limit_ms)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')",
    )
    .execute(connection)
    .await?;
    Ok(())
}
