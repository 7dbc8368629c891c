//! API keys: one row for each, that stays when the key is revoked.

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{PgConnection, Row};

use super::watch::Notice;
use crate::adapters::sql_rows as rows;
use crate::ports::{ApiKey, ApiKeyId, Change, TenantId};

/// Whoever counts a change keeps others from doing so until it is committed.
const COUNT: &str = "UPDATE tenant_changes SET newest = newest + 1 RETURNING newest";

const CREATE: &str = "
    INSERT INTO api_keys (id, tenant_id, role, secret_hash, created_at, revoked_at, changed)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const REVOKE: &str = "
    UPDATE api_keys SET revoked_at = $3, changed = $4
    WHERE id = $1 AND tenant_id = $2 AND revoked_at IS NULL
    RETURNING *";

pub(super) async fn find(pool: &PgPool, id: &ApiKeyId) -> sqlx::Result<Option<ApiKey>> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(id.as_str());
    key(query.fetch_optional(pool).await?)
}

pub(super) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    after: Option<&ApiKeyId>,
    limit: usize,
) -> sqlx::Result<Vec<ApiKey>> {
    let sql = "SELECT * FROM api_keys WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    let query = sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(after.map_or("", ApiKeyId::as_str)) // no id is empty
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query
        .fetch_all(pool)
        .await?
        .iter()
        .map(rows::api_key)
        .collect()
}

/// In a transaction of its own; watchers are told if `tells`.
pub(super) async fn create(
    connection: &mut PgConnection,
    new: &ApiKey,
    tells: bool,
) -> sqlx::Result<Change<ApiKey>> {
    let number = count(connection).await?;
    let written = sqlx::query(CREATE)
        .bind(new.id.as_str())
        .bind(new.tenant.as_str())
        .bind(new.role.as_str())
        .bind(&new.secret_hash[..])
        .bind(new.created_at)
        .bind(new.revoked_at)
        .bind(number)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(made) = key(written)? {
        tell(connection, number, &made, tells).await?;
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(new.id.as_str());
    Ok(Change::Conflict(key(stored
        .fetch_optional(connection)
        .await?)?))
}

/// The key as it is stored now, and whether this revoked it. In a transaction of its own; watchers are told if `tells`.
pub(super) async fn revoke(
    connection: &mut PgConnection,
    tenant: &TenantId,
    id: &ApiKeyId,
    unix_seconds: i64,
    tells: bool,
) -> sqlx::Result<(Option<ApiKey>, bool)> {
    let number = count(connection).await?;
    let revoked = sqlx::query(REVOKE)
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(unix_seconds)
        .bind(number)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(revoked) = key(revoked)? {
        tell(connection, number, &revoked, tells).await?;
        return Ok((Some(revoked), true));
    }
    let stored = sqlx::query("SELECT * FROM api_keys WHERE id = $1 AND tenant_id = $2")
        .bind(id.as_str())
        .bind(tenant.as_str());
    Ok((key(stored.fetch_optional(connection).await?)?, false))
}

async fn count(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query(COUNT).fetch_one(connection).await?.try_get(0)
}

async fn tell(
    connection: &mut PgConnection,
    number: i64,
    key: &ApiKey,
    tells: bool,
) -> sqlx::Result<()> {
    match tells {
        true => {
            Notice::ApiKey(number, key.id.clone())
                .post(connection)
                .await
        }
        false => Ok(()),
    }
}

fn key(row: Option<PgRow>) -> sqlx::Result<Option<ApiKey>> {
    row.as_ref().map(rows::api_key).transpose()
}
