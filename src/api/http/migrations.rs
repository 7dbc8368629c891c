//! `/v1/admin/migrations`: which there are, how far one has come, cancel one, set its pace.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::{Body, Named, whole_or_none};
use super::call::Call;
use super::errors::Errors;
use super::failure::Failure;
use super::query::Asked;
use crate::proto::v1;

/// How far a migration has come.
#[derive(Serialize, ToSchema)]
pub(super) struct Migration {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// The migration.
    migration_id: String,
    /// "node_addition", "node_deletion", "node_replacement", "node_change" or "replication_factor"; of several changes
    /// that are made as one, the first.
    r#type: String,
    /// The node that is added, removed or changed, of several the first; empty for a replication factor.
    node_id: String,
    /// "pending", "in_progress", "completed", "failed" or "cancelled".
    migration_status: String,
    /// How much of it is done.
    progress: Progress,
    /// Unix seconds; 0 before it has begun.
    started_at: i64,
    /// Unix seconds, at the rate so far; once it is over, when it ended; 0 when unknown.
    estimated_completion: i64,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    error_message: String,
    /// When it was asked for, Unix seconds.
    created_at: i64,
    /// When it was over, Unix seconds; 0 before that.
    ended_at: i64,
    /// Whether it was cancelled, and leads back to where it began until it is "cancelled".
    cancelling: bool,
    /// What it waits for, and what would help; empty when it goes on.
    waits_for: String,
    /// How many bytes it may move in a second; 0: it rests; absent: as many as storage nodes let pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second_max: Option<u64>,
    /// What was asked for, a line for each change.
    changes: Vec<String>,
}

/// How much of a migration is done.
#[derive(Serialize, ToSchema)]
pub(super) struct Progress {
    /// So many keys have moved.
    keys_migrated: i64,
    /// About so many have to.
    total_keys: i64,
    /// 0 to 100, by partitions.
    percentage: f32,
    /// So many partitions move.
    partitions: u64,
    /// So many have their new owners, and old copies are gone.
    partitions_done: u64,
    /// Partitions whose requests use the old owners alone.
    partitions_waiting: u64,
    /// Those whose data is copied to the new owners.
    partitions_copying: u64,
    /// Those whose requests use both.
    partitions_handing_over: u64,
    /// Those whose requests use the new owners alone, while old copies are given up.
    partitions_moved: u64,
    /// Bytes of keys, hashes and records that were moved.
    bytes: u64,
    /// Keys that were moved in a second, on the average so far.
    keys_per_second: u64,
}

/// Migrations.
#[derive(Serialize, ToSchema)]
pub(super) struct Migrations {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// Those asked for last first.
    migrations: Vec<Migration>,
}

/// Which migrations.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// How many at most; absent or 0: 20.
    #[serde(default)]
    #[param(minimum = 0, maximum = 1000)]
    limit: u32,
}

/// How fast a migration may go.
#[derive(Deserialize, ToSchema)]
pub(super) struct Pace {
    /// How many bytes it may move in a second; 0: it rests; absent or null: as many as storage nodes let pass.
    #[serde(default, deserialize_with = "whole_or_none")]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 9007199254740992_u64)]
    bytes_per_second_max: Option<u64>,
}

/// Look at a migration.
#[utoipa::path(
    get, path = "/v1/admin/migrations/{migration_id}", tag = "admin",
    params(("migration_id" = String, Path, description = "As given out when it was asked for")),
    responses((status = 200, description = "How far it has come", body = Migration), Errors),
)]
pub(super) async fn status(
    State(gateway): State<Shared>,
    Named(migration_id): Named,
    call: Call,
) -> Result<Response, Failure> {
    let request = call.with(v1::GetMigrationStatusRequest { migration_id })?;
    let answer = gateway.service.get_migration_status(request).await?;
    Ok(answer::json(StatusCode::OK, answer, shown))
}

/// List the migrations.
#[utoipa::path(
    get, path = "/v1/admin/migrations", tag = "admin", params(Listed),
    responses((status = 200, description = "Those asked for last first", body = Migrations), Errors),
)]
pub(super) async fn list(
    State(gateway): State<Shared>,
    Asked(listed): Asked<Listed>,
    call: Call,
) -> Result<Response, Failure> {
    let request = call.with(v1::ListMigrationsRequest {
        limit: listed.limit,
    })?;
    let answer = gateway.service.list_migrations(request).await?;
    Ok(answer::json(StatusCode::OK, answer, |list| Migrations {
        status: SUCCESS,
        migrations: list.migrations.into_iter().map(shown).collect(),
    }))
}

/// Cancel a migration.
///
/// One that waits for its turn is over then; one that is under way leads back to where it began. 412 NODE_IN_USE when
/// it is over, or gave up a node.
#[utoipa::path(
    post, path = "/v1/admin/migrations/{migration_id}/cancel", tag = "admin",
    params(("migration_id" = String, Path, description = "As given out when it was asked for")),
    responses((status = 202, description = "Cancelled, or leading back", body = Migration), Errors),
)]
pub(super) async fn cancel(
    State(gateway): State<Shared>,
    Named(migration_id): Named,
    call: Call,
) -> Result<Response, Failure> {
    let request = call.with(v1::CancelMigrationRequest { migration_id })?;
    let answer = gateway.service.cancel_migration(request).await?;
    Ok(answer::json(StatusCode::ACCEPTED, answer, shown))
}

/// Set how fast a migration may go.
#[utoipa::path(
    put, path = "/v1/admin/migrations/{migration_id}/pace", tag = "admin", request_body = Pace,
    params(("migration_id" = String, Path, description = "As given out when it was asked for")),
    responses((status = 200, description = "Set", body = Migration), Errors),
)]
pub(super) async fn pace(
    State(gateway): State<Shared>,
    Named(migration_id): Named,
    call: Call,
    Body(pace): Body<Pace>,
) -> Result<Response, Failure> {
    let request = call.with(v1::PaceMigrationRequest {
        migration_id,
        bytes_per_second_max: pace.bytes_per_second_max,
    })?;
    let answer = gateway.service.pace_migration(request).await?;
    Ok(answer::json(StatusCode::OK, answer, shown))
}

fn shown(migration: v1::GetMigrationStatusResponse) -> Migration {
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
            partitions: progress.partitions,
            partitions_done: progress.partitions_done,
            partitions_waiting: progress.partitions_waiting,
            partitions_copying: progress.partitions_copying,
            partitions_handing_over: progress.partitions_handing_over,
            partitions_moved: progress.partitions_moved,
            bytes: progress.bytes,
            keys_per_second: progress.keys_per_second,
        },
        started_at: migration.started_at,
        estimated_completion: migration.estimated_completion,
        error_message: migration.error_message,
        created_at: migration.created_at,
        ended_at: migration.ended_at,
        cancelling: migration.cancelling,
        waits_for: migration.waits_for,
        bytes_per_second_max: migration.bytes_per_second_max,
        changes: migration.changes,
    }
}
