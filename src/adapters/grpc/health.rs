//! grpc.health.v1, as gRPC specifies it: a service that there is not is NOT_FOUND to who asks once, and SERVICE_UNKNOWN,
//! with the call kept open, to who watches. All names here are of one server and serve together or not at all.

use std::pin::Pin;

use futures::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::proto::health::v1::health_check_response::ServingStatus;
use crate::proto::health::v1::health_server::{Health, HealthServer};
use crate::proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// Says whether the server serves. When it is dropped, whoever watches is told that the server stops.
#[derive(Debug)]
pub struct HealthReporter(watch::Sender<bool>);

impl HealthReporter {
    /// Tells everybody who asks or watches.
    pub fn set(&self, serving: bool) {
        self.0.send_if_modified(|told| {
            let is_new = *told != serving;
            *told = serving;
            is_new
        });
    }
}

/// The health of a server with these names, and who reports it; it does not serve yet. The empty name is the whole server.
#[must_use]
pub fn health(names: &'static [&'static str]) -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, serving) = watch::channel(false);
    let service = HealthService { names, serving };
    (HealthReporter(reporter), HealthServer::new(service))
}

struct HealthService {
    names: &'static [&'static str],
    serving: watch::Receiver<bool>,
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

const fn status(serving: bool) -> ServingStatus {
    match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.names.contains(&&*request.get_ref().service) {
            true => Ok(Response::new(response(status(*self.serving.borrow())))),
            false => Err(Status::not_found("there is no service of this name")),
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let now = response(status(*self.serving.borrow()));
        let names = self.names.iter();
        let statuses = names.map(|name| ((*name).to_owned(), now)).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Statuses;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let is_known = self.names.contains(&&*request.get_ref().service);
        let mut serving = self.serving.clone();
        let statuses = async_stream::stream! {
            let mut told = None;
            loop {
                let now = match is_known {
                    true => status(*serving.borrow_and_update()),
                    false => ServingStatus::ServiceUnknown,
                };
                if told != Some(now) {
                    told = Some(now);
                    yield Ok(response(now));
                }
                if serving.changed().await.is_err() {
                    yield Err(Status::unavailable("the server is stopping"));
                    return;
                }
            }
        };
        Ok(Response::new(Box::pin(statuses)))
    }
}
