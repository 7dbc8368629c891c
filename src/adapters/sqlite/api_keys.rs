//! API keys: one row for each, that stays when the key is revoked.

use sqlx::SqliteConnection;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::adapters::sql_rows as rows;
use crate::ports::{ApiKey, ApiKeyId, Change, TenantId};

const CREATE: &str = "
    INSERT INTO api_keys (id, tenant_id, role, secret_hash, created_at, revoked_at, changed)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT coalesce(max(changed), 0) + 1 FROM api_keys))
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const REVOKE: &str = "
    UPDATE api_keys SET revoked_at = ?3, changed = (SELECT max(changed) + 1 FROM api_keys)
    WHERE id = ?1 AND tenant_id = ?2 AND revoked_at IS NULL
    RETURNING *";

pub(super) async fn find(pool: &SqlitePool, id: &ApiKeyId) -> sqlx::Result<Option<ApiKey>> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE id = ?").bind(id.as_str());
    key(query.fetch_optional(pool).await?)
}

pub(super) async fn list(
    pool: &SqlitePool,
    tenant: &TenantId,
    after: Option<&ApiKeyId>,
    limit: usize,
) -> sqlx::Result<Vec<ApiKey>> {
    let sql = "SELECT * FROM api_keys WHERE tenant_id = ? AND id > ? ORDER BY id LIMIT ?";
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

pub(super) async fn create(
    connection: &mut SqliteConnection,
    new: ApiKey,
) -> sqlx::Result<Change<ApiKey>> {
    let written = sqlx::query(CREATE)
        .bind(new.id.as_str())
        .bind(new.tenant.as_str())
        .bind(new.role.as_str())
        .bind(&new.secret_hash[..])
        .bind(new.created_at)
        .bind(new.revoked_at)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(made) = key(written)? {
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query("SELECT * FROM api_keys WHERE id = ?").bind(new.id.as_str());
    Ok(Change::Conflict(key(stored
        .fetch_optional(connection)
        .await?)?))
}

/// The key as it is stored now, and whether this revoked it.
pub(super) async fn revoke(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: ApiKeyId,
    unix_seconds: i64,
) -> sqlx::Result<(Option<ApiKey>, bool)> {
    let revoked = sqlx::query(REVOKE)
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(unix_seconds)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(revoked) = key(revoked)? {
        return Ok((Some(revoked), true));
    }
    let stored = sqlx::query("SELECT * FROM api_keys WHERE id = ? AND tenant_id = ?")
        .bind(id.as_str())
        .bind(tenant.as_str());
    Ok((key(stored.fetch_optional(connection).await?)?, false))
}

fn key(row: Option<SqliteRow>) -> sqlx::Result<Option<ApiKey>> {
    row.as_ref().map(rows::api_key).transpose()
}
