//! Leases: one row for each name, by the database's clock.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::adapters::sql_rows::number;
use crate::ports::LeaseOutcome;

const ACQUIRE: &str = "
    INSERT INTO leases (name, holder, until_ms)
    SELECT $1, $2, now_ms + $3
    FROM (SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT) AS now_ms) AS clock
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
    WHERE leases.holder = excluded.holder OR leases.until_ms <= excluded.until_ms - $3";

const HELD: &str = "
    SELECT holder, greatest(0,
        until_ms - CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)) AS remaining_ms
    FROM leases WHERE name = $1";

pub(super) async fn acquire(
    connection: &mut PgConnection,
    name: &str,
    holder: u64,
    ttl: Duration,
) -> sqlx::Result<LeaseOutcome> {
    // Half of what fits, so that it can be added to the time of day.
    let ttl_ms = i64::try_from(ttl.as_millis())
        .unwrap_or(i64::MAX)
        .min(i64::MAX / 2);
    loop {
        let acquire = sqlx::query(ACQUIRE)
            .bind(name)
            .bind(holder.cast_signed())
            .bind(ttl_ms);
        if acquire.execute(&mut *connection).await?.rows_affected() == 1 {
            return Ok(LeaseOutcome::Held);
        }
        let held = sqlx::query(HELD)
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(held) = held {
            return Ok(LeaseOutcome::HeldByOther {
                holder: held.try_get::<i64, _>("holder")?.cast_unsigned(),
                remaining: Duration::from_millis(number(&held, "remaining_ms")?),
            });
        }
        // Released in between.
    }
}

pub(super) async fn release(
    connection: &mut PgConnection,
    name: &str,
    holder: u64,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2")
        .bind(name)
        .bind(holder.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}
