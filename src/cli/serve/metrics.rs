//! Prometheus metrics over HTTP.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::super::exit::Failure;

/// How often histograms are folded, whether or not anybody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts collecting metrics for the whole process.
pub fn collect_metrics() -> Result<PrometheusHandle, Failure> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::local(format!("can't collect metrics: {error}")))?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Serves `/metrics` in Prometheus' text format until `shutdown`.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let render = move || {
        let metrics = metrics.clone();
        async move {
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4")],
                metrics.render(),
            )
        }
    };
    let routes = Router::new().route("/metrics", get(render));
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}
