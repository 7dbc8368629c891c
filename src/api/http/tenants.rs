//! `/v1/tenants`: create, look at, change the replication factor.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::{Body, Named, or_default, whole};
use super::call::Call;
use super::errors::Errors;
use super::failure::Failure;
use super::schema;
use crate::proto::v1;

/// A tenant to be.
#[derive(Deserialize, ToSchema)]
pub(super) struct Create {
    /// 1 to 255 bytes of printable text without ':'.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(
        required,
        examples("carts"),
        min_length = 1,
        max_length = 255,
        pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$"
    )]
    tenant_id: String,
    /// How many replicas its keys have, 1 to 10; absent or 0: 3.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 10)]
    replication_factor: i32,
    /// "last_write_wins" (also when absent) or "siblings".
    #[serde(default, deserialize_with = "or_default")]
    #[schema(schema_with = schema::conflict_policy, required = false)]
    conflict_policy: String,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct Tenant {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// Its name.
    tenant_id: String,
    /// How many replicas its keys have.
    replication_factor: i32,
    /// How many replicas its keys have as long as there are no more storage nodes.
    replicas_now: i32,
    /// Unix seconds.
    created_at: i64,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    /// "last_write_wins" or "siblings".
    conflict_policy: String,
    /// How many unresolved siblings its keys may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    sibling_limits: Option<SiblingLimits>,
}

/// How many unresolved siblings a tenant's keys may have.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SiblingLimits {
    /// A key with as many is told of in the log and in a metric; 1 to `max`.
    #[serde(default, deserialize_with = "whole")]
    #[schema(required, examples(16), minimum = 1, maximum = 256)]
    warn: u32,
    /// A write that would leave more is refused; up to 256.
    #[serde(default, deserialize_with = "whole")]
    #[schema(required, examples(256), minimum = 1, maximum = 256)]
    max: u32,
}

/// Another replication factor.
#[derive(Deserialize, ToSchema)]
pub(super) struct Factor {
    /// 1 to 10.
    #[serde(default, deserialize_with = "whole")]
    #[schema(required, minimum = 1, maximum = 10)]
    replication_factor: i32,
}

/// A replication factor that was asked for.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// The tenant.
    tenant_id: String,
    /// Before.
    old_replication_factor: i32,
    /// After.
    new_replication_factor: i32,
    /// The migration that moves the data; empty when none is needed.
    migration_id: String,
    /// Unix seconds.
    updated_at: i64,
}

/// Create a tenant.
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", request_body = Create,
    responses((status = 201, description = "Created", body = Tenant), Errors),
)]
pub(super) async fn create(
    State(gateway): State<Shared>,
    call: Call,
    Body(create): Body<Create>,
) -> Result<Response, Failure> {
    let message = v1::CreateTenantRequest {
        tenant_id: create.tenant_id,
        replication_factor: create.replication_factor,
        conflict_policy: create.conflict_policy,
    };
    let answer = gateway.service.create_tenant(call.with(message)?).await?;
    Ok(answer::json(StatusCode::CREATED, answer, |created| {
        Tenant {
            status: SUCCESS,
            tenant_id: created.tenant_id,
            replication_factor: created.replication_factor,
            replicas_now: created.replicas_now,
            created_at: created.created_at,
            updated_at: None,
            conflict_policy: created.conflict_policy,
            sibling_limits: None,
        }
    }))
}

/// Look at a tenant.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant_id}", tag = "tenants",
    params(("tenant_id" = String, Path, description = "The tenant", min_length = 1, max_length = 255, pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$")),
    responses((status = 200, description = "The tenant", body = Tenant), Errors),
)]
pub(super) async fn get(
    State(gateway): State<Shared>,
    Named(tenant_id): Named,
    call: Call,
) -> Result<Response, Failure> {
    let message = v1::GetTenantRequest { tenant_id };
    let answer = gateway.service.get_tenant(call.with(message)?).await?;
    Ok(answer::json(StatusCode::OK, answer, shown))
}

/// Change how many unresolved siblings a tenant's keys may have.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant_id}/sibling-limits", tag = "tenants", request_body = SiblingLimits,
    params(("tenant_id" = String, Path, description = "The tenant", min_length = 1, max_length = 255, pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$")),
    responses((status = 200, description = "Changed", body = Tenant), Errors),
)]
pub(super) async fn set_sibling_limits(
    State(gateway): State<Shared>,
    Named(tenant_id): Named,
    call: Call,
    Body(limits): Body<SiblingLimits>,
) -> Result<Response, Failure> {
    let message = v1::SetSiblingLimitsRequest {
        tenant_id,
        siblings_warn: limits.warn,
        siblings_max: limits.max,
    };
    let answer = gateway
        .service
        .set_sibling_limits(call.with(message)?)
        .await?;
    Ok(answer::json(StatusCode::OK, answer, shown))
}

fn shown(tenant: v1::GetTenantResponse) -> Tenant {
    Tenant {
        status: SUCCESS,
        tenant_id: tenant.tenant_id,
        replication_factor: tenant.replication_factor,
        replicas_now: tenant.replicas_now,
        created_at: tenant.created_at,
        updated_at: Some(tenant.updated_at),
        conflict_policy: tenant.conflict_policy,
        sibling_limits: Some(SiblingLimits {
            warn: tenant.siblings_warn,
            max: tenant.siblings_max,
        }),
    }
}

/// Change a tenant's replication factor.
///
/// A migration makes or drops the copies, in the background; the factor that the tenant has is nothing to do.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant_id}/replication-factor", tag = "tenants", request_body = Factor,
    params(("tenant_id" = String, Path, description = "The tenant", min_length = 1, max_length = 255, pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$")),
    responses((status = 200, description = "Asked for, or so already", body = Changed), Errors),
)]
pub(super) async fn update_replication_factor(
    State(gateway): State<Shared>,
    Named(tenant_id): Named,
    call: Call,
    Body(factor): Body<Factor>,
) -> Result<Response, Failure> {
    let message = v1::UpdateReplicationFactorRequest {
        tenant_id,
        new_replication_factor: factor.replication_factor,
    };
    let answer = gateway
        .service
        .update_replication_factor(call.with(message)?)
        .await?;
    Ok(answer::json(StatusCode::OK, answer, |changed| Changed {
        status: SUCCESS,
        tenant_id: changed.tenant_id,
        old_replication_factor: changed.old_replication_factor,
        new_replication_factor: changed.new_replication_factor,
        migration_id: changed.migration_id,
        updated_at: changed.updated_at,
    }))
}
