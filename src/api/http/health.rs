//! Liveness and readiness, for whatever can't speak grpc.health.v1.
//!
//! Live: the process answers. Ready: it takes requests; the body tells each dependency's state, and 503 is the answer
//! while it does not.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;

/// The process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Live {
    /// Always "alive".
    status: &'static str,
}

/// Whether requests are taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    /// "ready", "not ready" or "stopping".
    status: &'static str,
    dependencies: Dependencies,
    /// The topology in use.
    epoch: u64,
    /// Requests at work.
    in_flight: usize,
    /// Repairs waiting.
    repairs_queued: usize,
}

/// How each dependency is.
#[derive(Serialize, ToSchema)]
pub(super) struct Dependencies {
    /// "up", "read only" or "down".
    metadata_store: &'static str,
    /// "up" or "down", as the last request that needed it found it.
    idempotency_store: &'static str,
    /// So many of so many are up.
    storage_nodes: String,
}

/// Is the process alive?
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, description = "It is", body = Live)))]
pub(super) async fn health() -> Json<Live> {
    Json(Live { status: "alive" })
}

/// Is the process alive?
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, description = "It is", body = Live)))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "alive" })
}

/// Are requests taken?
#[utoipa::path(
    get, path = "/ready", tag = "health",
    responses((status = 200, description = "Yes", body = Ready), (status = 503, description = "No", body = Ready)),
)]
pub(super) async fn ready(State(gateway): State<Shared>) -> (StatusCode, Json<Ready>) {
    readiness(&gateway)
}

/// Are requests taken?
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, description = "Yes", body = Ready), (status = 503, description = "No", body = Ready)),
)]
pub(super) async fn health_ready(State(gateway): State<Shared>) -> (StatusCode, Json<Ready>) {
    readiness(&gateway)
}

fn readiness(gateway: &Shared) -> (StatusCode, Json<Ready>) {
    let readiness = (gateway.readiness)();
    let (code, status) = match (readiness.ready, readiness.stopping) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let dependencies = Dependencies {
        metadata_store: match (readiness.metadata, readiness.metadata_writable) {
            (true, true) => "up",
            (true, false) => "read only",
            (false, _) => "down",
        },
        idempotency_store: match readiness.idempotency {
            true => "up",
            false => "down",
        },
        storage_nodes: format!("{} of {} up", readiness.nodes_healthy, readiness.nodes),
    };
    let body = Ready {
        status,
        dependencies,
        epoch: readiness.epoch.0,
        in_flight: readiness.in_flight,
        repairs_queued: readiness.repairs_queued,
    };
    (code, Json(body))
}
