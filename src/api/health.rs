//! grpc.health.v1 as readiness: SERVING while the coordinator takes requests.
//!
//! A question is answered as things are at that moment: whoever has just added the first storage node and asks is told that
//! the coordinator serves. Who watches is told of a change within a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;
use crate::proto::health::v1::health_check_response::ServingStatus;
use crate::proto::health::v1::health_server::Health;
use crate::proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// How often readiness is looked at for those who watch.
const INTERVAL: Duration = Duration::from_millis(250);

/// The names that are asked for: the server as a whole, and the service by its new and its old name.
const NAMES: [&str; 3] = [
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

    fn status(&self) -> ServingStatus {
        match !self.is_shutting_down() && self.coordinator.readiness().ready {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl<W: CoordinatorWorld> Health for CoordinatorHealth<W> {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match NAMES.contains(&request.get_ref().service.as_str()) {
            true => Ok(Response::new(answer(self.status()))),
            false => Err(Status::not_found("there is no service of this name")),
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let now = answer(self.status());
        let statuses = NAMES.map(|name| (name.to_owned(), now)).into();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = NAMES.contains(&request.get_ref().service.as_str());
        let health = self.clone();
        let changes = async_stream::stream! {
            let mut told = None;
            loop {
                let status = match is_known {
                    true => health.status(),
                    false => ServingStatus::ServiceUnknown,
                };
                if told != Some(status) {
                    told = Some(status);
                    yield Ok(answer(status));
                }
                if health.is_shutting_down() {
                    yield Err(Status::unavailable("the server is stopping"));
                    return;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        Ok(Response::new(changes.boxed()))
    }
}
