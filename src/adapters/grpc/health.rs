//! grpc.health.v1, as gRPC specifies it: a service that there is not is NOT_FOUND to who asks once, and
//! SERVICE_UNKNOWN, with the call kept open, to who watches. All names of a server serve together or not at all.
//!
//! What it is not: what serving means. Storage nodes say so themselves ([`Told`]); a coordinator is asked whether it is
//! ready.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::proto::health::v1::health_check_response::ServingStatus;
use crate::proto::health::v1::health_server::{Health, HealthServer};
use crate::proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// Whether a server serves. Copies say the same.
pub trait Serving: Clone + Send + Sync + 'static {
    /// At this moment.
    fn now(&self) -> bool;

    /// Completes once it may be otherwise.
    ///
    /// # Errors
    /// When the server stops.
    fn changed(&mut self) -> impl Future<Output = Result<(), Stopping>> + Send;
}

/// The server stops.
#[derive(Clone, Copy, Debug)]
pub struct Stopping;

/// The health of a server with these names. The empty name is the whole server.
#[must_use]
pub fn health<S: Serving>(
    names: &'static [&'static str],
    serving: S,
) -> HealthServer<HealthService<S>> {
    HealthServer::new(HealthService { names, serving })
}

/// What a server was told to say. When the sender is dropped, the server stops.
#[derive(Clone, Debug)]
pub struct Told(pub watch::Receiver<bool>);

impl Serving for Told {
    fn now(&self) -> bool {
        *self.0.borrow()
    }

    async fn changed(&mut self) -> Result<(), Stopping> {
        self.0.changed().await.map_err(|_| Stopping)
    }
}

/// See [`health`].
#[derive(Clone, Debug)]
pub struct HealthService<S> {
    names: &'static [&'static str],
    serving: S,
}

impl<S: Serving> HealthService<S> {
    fn knows(&self, request: &Request<HealthCheckRequest>) -> bool {
        self.names.contains(&&*request.get_ref().service)
    }
}

fn status(serving: &impl Serving) -> ServingStatus {
    match serving.now() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl<S: Serving> Health for HealthService<S> {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.knows(&request) {
            true => Ok(Response::new(response(status(&self.serving)))),
            false => Err(Status::not_found("there is no service of this name")),
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let now = response(status(&self.serving));
        let names = self.names.iter();
        let statuses = names.map(|name| ((*name).to_owned(), now)).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = self.knows(&request);
        let mut serving = self.serving.clone();
        let statuses = async_stream::stream! {
            let mut told = None;
            loop {
                let now = match is_known {
                    true => status(&serving),
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
        Ok(Response::new(statuses.boxed()))
    }
}
