//! API keys, as messages.

use tonic::Status;

use super::auth::NewKey;
use super::errors::{status, to_status};
use crate::coordinator::{Coordinator, CoordinatorError};
use crate::ports::{ApiKey, ApiKeyId, CoordinatorWorld, TenantRole};
use crate::proto::v1;
use crate::proto::v1::ErrorCode;

/// How many keys a page has.
const PAGE: usize = 100;

fn failed(error: CoordinatorError) -> Status {
    to_status(&error, "")
}

fn invalid(field: &'static str, problem: impl ToString) -> Status {
    let problem = problem.to_string();
    failed(CoordinatorError::InvalidRequest { field, problem })
}

/// Makes one.
pub(super) async fn create<W: CoordinatorWorld>(
    coordinator: &Coordinator<W>,
    request: v1::CreateApiKeyRequest,
) -> Result<v1::CreateApiKeyResponse, Status> {
    let role = match request.role.as_str() {
        "" => TenantRole::Write,
        name => name.parse().map_err(|error| invalid("role", error))?,
    };
    let new = NewKey::random().map_err(|error| {
        tracing::error!(%error, "the operating system has no randomness");
        failed(CoordinatorError::Internal("no randomness"))
    })?;
    let key = coordinator
        .admin()
        .create_api_key(&request.tenant_id, role, new.id, new.secret_hash);
    let key = key.await.map_err(failed)?;
    tracing::info!(key = %key.id, tenant = %key.tenant, role = role.as_str(), "an API key was made");
    Ok(v1::CreateApiKeyResponse {
        key: Some(info(key)),
        token: new.token,
    })
}

/// Lists a page of them.
pub(super) async fn list<W: CoordinatorWorld>(
    coordinator: &Coordinator<W>,
    request: v1::ListApiKeysRequest,
) -> Result<v1::ListApiKeysResponse, Status> {
    let after = match request.after.as_str() {
        "" => None,
        id => Some(key_id("after", id)?),
    };
    let keys = coordinator
        .admin()
        .api_keys(&request.tenant_id, after.as_ref(), PAGE);
    let keys = keys.await.map_err(failed)?;
    let last = keys.last().filter(|_| keys.len() == PAGE);
    Ok(v1::ListApiKeysResponse {
        next: last.map_or_else(String::new, |key| key.id.to_string()),
        keys: keys.into_iter().map(info).collect(),
    })
}

/// Revokes one.
pub(super) async fn revoke<W: CoordinatorWorld>(
    coordinator: &Coordinator<W>,
    request: v1::RevokeApiKeyRequest,
) -> Result<v1::RevokeApiKeyResponse, Status> {
    let id = key_id("key_id", &request.key_id)?;
    let revoked = coordinator.admin().revoke_api_key(&request.tenant_id, &id);
    let key = revoked.await.map_err(failed)?.ok_or_else(|| {
        let message = format!("API key '{id}' not found");
        status(ErrorCode::ApiKeyNotFound, message)
    })?;
    tracing::info!(key = %key.id, tenant = %key.tenant, "an API key was revoked");
    Ok(v1::RevokeApiKeyResponse {
        key: Some(info(key)),
    })
}

fn key_id(field: &'static str, text: &str) -> Result<ApiKeyId, Status> {
    text.parse().map_err(|error| invalid(field, error))
}

fn info(key: ApiKey) -> v1::ApiKeyInfo {
    v1::ApiKeyInfo {
        key_id: key.id.as_str().into(),
        tenant_id: key.tenant.as_str().into(),
        role: key.role.as_str().into(),
        created_at: key.created_at,
        revoked_at: key.revoked_at.unwrap_or(0),
    }
}
