//! Prometheus metrics over HTTP: what was counted where it happened, and the coordinator's state at the time of asking.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::super::exit::Failure;
use super::metric_table;
use crate::adapters::front::Budget;
use crate::adapters::tls::Listener;
use crate::adapters::vitals::{Vitals, keep};
use crate::api::{HttpSettings, only_own_names, serve_routes};
use crate::coordinator::{ConvergenceReport, Coordinator, MigrationGauges};
use crate::ports::CoordinatorWorld;

/// From what is fast for a read in one machine to the longest that a write may take.
const DURATION_BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// How often histograms are folded, whether or not anybody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Whoever scrapes has one connection.
const CONNECTIONS_MAX: usize = 64;

/// A gauge that was not set for so long is of something that is no more, such as a node that was removed.
const GAUGE_FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// Starts collecting metrics for the whole process.
pub fn collect_metrics() -> Result<PrometheusHandle, Failure> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".into()),
            &DURATION_BUCKETS,
        )
        .map(|builder| builder.idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_FORGOTTEN_AFTER)))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::local(format!("can't collect metrics: {error}")))?;
    metric_table::describe();
    let maintenance = handle.clone();
    let folding = async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            maintenance.run_upkeep();
        }
    };
    tokio::spawn(keep(Vitals::process(), "maintenance of metrics", folding));
    Ok(handle)
}

/// Serves `/metrics` in Prometheus' text format until `shutdown`.
///
/// What the process has in messages is told of `budget`. `sample` is called before each answer, to put into the
/// registry what is not counted where it happens.
pub async fn serve_metrics(
    listener: Listener,
    metrics: PrometheusHandle,
    budget: Budget,
    sample: impl Fn() + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let sampled = budget.clone();
    let render = move || {
        sample();
        sampled.sample();
        let metrics = metrics.clone();
        async move {
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4")],
                metrics.render(),
            )
        }
    };
    let routes = Router::new().route("/metrics", get(render));
    let bounds = HttpSettings {
        connections_max: CONNECTIONS_MAX,
        connections_per_peer_max: CONNECTIONS_MAX,
        ..HttpSettings::default()
    };
    let routes = match only_own_names(routes, &listener, &bounds) {
        Ok(routes) => routes,
        Err(error) => return tracing::error!(%error, "metrics can't be served"),
    };
    serve_routes("metrics", listener, routes, &bounds, budget, shutdown).await;
}

/// Puts a coordinator's state into the registry.
pub fn sample_coordinator<W: CoordinatorWorld>(coordinator: &Coordinator<W>) {
    let readiness = coordinator.readiness();
    let (hits, misses) = coordinator.status().tenant_cache();
    counter!("coordinator_cache_hits_total").absolute(hits);
    counter!("coordinator_cache_misses_total").absolute(misses);
    counter!("coordinator_repairs_before_answer_total")
        .absolute(coordinator.status().blocking_repairs());
    counter!("coordinator_crowded_keys_total").absolute(coordinator.status().crowded_keys());
    gauge!("coordinator_ready").set(if readiness.ready { 1.0 } else { 0.0 });
    let metadata = readiness.metadata && readiness.metadata_writable;
    gauge!("coordinator_metadata_store_up").set(if metadata { 1.0 } else { 0.0 });
    gauge!("coordinator_epoch").set(readiness.epoch.0 as f64);
    gauge!("coordinator_storage_nodes_active").set(readiness.nodes_healthy as f64);
    gauge!("coordinator_storage_nodes").set(readiness.nodes as f64);
    gauge!("coordinator_tenants_short_of_nodes")
        .set(coordinator.status().tenants_short_of_nodes() as f64);
    gauge!("coordinator_requests_in_flight").set(readiness.in_flight as f64);
    gauge!("coordinator_repair_queue_size").set(readiness.repairs_queued as f64);
    counter!("coordinator_repairs_total").absolute(coordinator.status().repairs_done());
    sample_clocks(coordinator);
    sample_maintenance(&coordinator.status().convergence_report());
    sample_migrations(&coordinator.status().migration());
}

fn sample_migrations(gauges: &MigrationGauges) {
    gauge!("coordinator_migration_leads").set(if gauges.leads { 1.0 } else { 0.0 });
    counter!("coordinator_migration_keys_total").absolute(gauges.keys);
    counter!("coordinator_migration_bytes_total").absolute(gauges.bytes);
    gauge!("coordinator_migration_partitions_at_once").set(gauges.at_once as f64);
    gauge!("coordinator_migration_stalled_seconds").set(gauges.stalled_seconds as f64);
    for (status, count) in [
        ("pending", gauges.pending),
        ("in_progress", gauges.in_progress()),
    ] {
        gauge!("coordinator_migrations", "status" => status).set(count as f64);
    }
    for (state, count) in [
        ("waiting", gauges.waiting),
        ("copying", gauges.copying),
        ("handing_over", gauges.handing_over),
        ("moved", gauges.moved),
    ] {
        gauge!("coordinator_migration_partitions", "state" => state).set(count as f64);
    }
}

fn sample_clocks<W: CoordinatorWorld>(coordinator: &Coordinator<W>) {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (offsets, median) = coordinator.status().clock_offsets_ms();
    if let Some(median) = median {
        gauge!("coordinator_clock_skew_seconds").set(-seconds(median));
    }
    for (node, offset) in offsets {
        gauge!("coordinator_node_clock_offset_seconds", "node" => node.to_string())
            .set(seconds(offset));
    }
    for node in coordinator.admin().nodes() {
        let name = node.node.id.to_string();
        gauge!("coordinator_node_up", "node" => name.clone()).set(if node.answers {
            1.0
        } else {
            0.0
        });
        gauge!("coordinator_node_out_of_step", "node" => name.clone())
            .set(f64::from(u8::from(node.out_of_step)));
        let Some(report) = node.report else { continue };
        gauge!("coordinator_node_epoch", "node" => name.clone()).set(report.epoch.0 as f64);
        gauge!("coordinator_node_keys", "node" => name.clone()).set(report.keys as f64);
        gauge!("coordinator_node_refuses_writes", "node" => name.clone()).set(
            if report.refuses_writes.is_some() {
                1.0
            } else {
                0.0
            },
        );
        if let Some(used) = report.disk_used_percent {
            gauge!("coordinator_node_disk_used_percent", "node" => name).set(f64::from(used));
        }
    }
}

fn sample_maintenance(convergence: &ConvergenceReport) {
    let trees = &convergence.trees;
    counter!("coordinator_repairs_dropped_total").absolute(convergence.repairs_dropped);
    gauge!("coordinator_anti_entropy_leads").set(if trees.leads { 1.0 } else { 0.0 });
    counter!("coordinator_anti_entropy_rounds_total").absolute(trees.rounds);
    counter!("coordinator_anti_entropy_records_total").absolute(trees.exchanged);
    counter!("coordinator_anti_entropy_bytes_total").absolute(trees.bytes);
    counter!("coordinator_tombstones_purged_total").absolute(trees.purged);
    if let Some(age) = convergence.round_age {
        gauge!("coordinator_anti_entropy_round_age_seconds").set(age.as_secs_f64());
        gauge!("coordinator_trees", "state" => "equal").set(trees.equal as f64);
        gauge!("coordinator_trees", "state" => "divergent").set(trees.divergent as f64);
        gauge!("coordinator_trees", "state" => "unknown").set(trees.unknown as f64);
    }
    for node in &convergence.nodes {
        let name = node.node.to_string();
        gauge!("coordinator_storage_node_refilling", "node" => name.clone())
            .set(f64::from(u8::from(node.refilling.is_some())));
        gauge!("coordinator_tombstones_waiting", "node" => name).set(node.tombstones as f64);
    }
    let mut owed = convergence.owed();
    for node in &convergence.nodes {
        owed.entry(node.node.clone()).or_default(); // brought to zero when nothing is owed any more
    }
    for (target, (outstanding, oldest)) in owed {
        let target = target.to_string();
        gauge!("coordinator_hints_outstanding", "target" => target.clone()).set(outstanding as f64);
        gauge!("coordinator_hints_oldest_age_seconds", "target" => target)
            .set(oldest.as_secs_f64());
    }
}
