//! What grpc.health.v1 says of a coordinator: SERVING while it takes requests.
//!
//! A question is answered as things are at that moment: whoever has just added the first storage node and asks is told
//! that the coordinator serves. Who watches is told of a change within a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::adapters::grpc::{Serving, Stopping};
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

/// How often readiness is looked at for those who watch.
const INTERVAL: Duration = Duration::from_millis(250);

/// The names that are asked for: the server as a whole, and the service by its new and its old name.
pub(super) const NAMES: [&str; 3] = [
    "",
    "pairdb.v1.CoordinatorService",
    "proto.CoordinatorService",
];

/// How the coordinator is. Copies look at the same one.
pub(super) struct CoordinatorHealth<W: CoordinatorWorld> {
    coordinator: Coordinator<W>,
    is_shutting_down: Arc<AtomicBool>,
}

impl<W: CoordinatorWorld> Clone for CoordinatorHealth<W> {
    fn clone(&self) -> Self {
        Self {
            coordinator: self.coordinator.clone(),
            is_shutting_down: Arc::clone(&self.is_shutting_down),
        }
    }
}

impl<W: CoordinatorWorld> CoordinatorHealth<W> {
    /// Of a listener that serves.
    pub(super) fn new(coordinator: Coordinator<W>) -> Self {
        Self {
            coordinator,
            is_shutting_down: Arc::default(),
        }
    }

    /// From now on it says that nothing is served any more.
    pub(super) fn shut_down(&self) {
        self.is_shutting_down.store(true, Ordering::Release);
    }

    fn is_shutting_down(&self) -> bool {
        self.is_shutting_down.load(Ordering::Acquire)
    }
}

impl<W: CoordinatorWorld> Serving for CoordinatorHealth<W> {
    fn now(&self) -> bool {
        !self.is_shutting_down() && self.coordinator.readiness().ready
    }

    async fn changed(&mut self) -> Result<(), Stopping> {
        if self.is_shutting_down() {
            return Err(Stopping);
        }
        tokio::time::sleep(INTERVAL).await;
        Ok(())
    }
}
