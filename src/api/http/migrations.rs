//! `/v1/admin/migrations`: how far one has come.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::Named;
use super::call::Call;
use super::errors::Errors;
use super::failure::Failure;
use crate::proto::v1;

/// How far a migration has come.
#[derive(Serialize, ToSchema)]
pub(super) struct Migration {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// The migration.
    migration_id: String,
    /// "node_addition", "node_deletion" or "replication_factor".
    r#type: String,
    /// The node that is added or removed; empty for a replication factor.
    node_id: String,
    /// "pending", "in_progress", "completed", "failed" or "cancelled".
    migration_status: String,
    /// How much of it is done.
    progress: Progress,
    /// Unix seconds.
    started_at: i64,
    /// Unix seconds; 0 when unknown.
    estimated_completion: i64,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    error_message: String,
}

/// How much of a migration is done.
#[derive(Serialize, ToSchema)]
pub(super) struct Progress {
    /// So many keys have moved.
    keys_migrated: i64,
    /// About so many have to.
    total_keys: i64,
    /// 0 to 100.
    percentage: f32,
}

/// Look at a migration.
///
/// No change moves data yet, so there is none: 404 MIGRATION_NOT_FOUND.
#[utoipa::path(
    get, path = "/v1/admin/migrations/{migration_id}", tag = "admin",
    params(("migration_id" = String, Path, description = "As given out when it was started")),
    responses((status = 200, description = "How far it has come", body = Migration), Errors),
)]
pub(super) async fn status(
    State(gateway): State<Shared>,
    Named(migration_id): Named,
    call: Call,
) -> Result<Response, Failure> {
    let request = call.with(v1::GetMigrationStatusRequest { migration_id })?;
    let answer = gateway.service.get_migration_status(request).await?;
    Ok(answer::json(StatusCode::OK, answer, |migration| {
        let progress = migration.progress.unwrap_or_default();
        Migration {
            status: SUCCESS,
            migration_id: migration.migration_id,
            r#type: migration.r#type,
            node_id: migration.node_id,
            migration_status: migration.status,
            progress: Progress {
                keys_migrated: progress.keys_migrated,
                total_keys: progress.total_keys,
                percentage: progress.percentage,
            },
            started_at: migration.started_at,
            estimated_completion: migration.estimated_completion,
            error_message: migration.error_message,
        }
    }))
}
