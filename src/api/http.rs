//! Liveness and readiness over HTTP, for whatever can't speak grpc.health.v1.
//!
//! Live: the process answers. Ready: it takes requests; the body tells each dependency's state, and 503 is the answer
//! while it does not.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

/// Serves `/health`, `/health/live`, `/ready` and `/health/ready` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_http<W: CoordinatorWorld>(
    coordinator: Coordinator<W>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes(coordinator))
        .with_graceful_shutdown(shutdown)
        .await
}

fn routes<W: CoordinatorWorld>(coordinator: Coordinator<W>) -> Router {
    Router::new()
        .route("/health", get(live))
        .route("/health/live", get(live))
        .route("/ready", get(ready::<W>))
        .route("/health/ready", get(ready::<W>))
        .with_state(coordinator)
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    dependencies: Dependencies,
    epoch: u64,
    in_flight: usize,
    repairs_queued: usize,
}

#[derive(Serialize)]
struct Dependencies {
    metadata_store: &'static str,
    storage_nodes: String,
}

async fn live() -> Json<Live> {
    Json(Live { status: "alive" })
}

async fn ready<W: CoordinatorWorld>(
    State(coordinator): State<Coordinator<W>>,
) -> (StatusCode, Json<Ready>) {
    let readiness = coordinator.readiness();
    let (code, status) = match (readiness.ready, readiness.stopping) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let dependencies = Dependencies {
        metadata_store: if readiness.metadata { "up" } else { "down" },
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
