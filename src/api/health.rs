//! grpc.health.v1 as readiness: SERVING while the coordinator takes requests.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

/// How often readiness is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// The names that are asked for: the server as a whole, and the service by its new and its old name.
const NAMES: [&str; 3] = [
    "",
    "pairdb.v1.CoordinatorService",
    "proto.CoordinatorService",
];

/// Reports until it is dropped.
pub(super) async fn report<W: CoordinatorWorld>(
    reporter: HealthReporter,
    coordinator: Coordinator<W>,
) {
    let mut reported = None;
    loop {
        let ready = coordinator.readiness().ready;
        if reported != Some(ready) {
            set(&reporter, ready).await;
            reported = Some(ready);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Tells everybody who asks or watches.
pub(super) async fn set(reporter: &HealthReporter, ready: bool) {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}
