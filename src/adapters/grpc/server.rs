//! The `StorageService` in front of whatever answers requests.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::{Response, Status, Streaming};

use super::convert::{reply_to_proto, request_from_proto};
use super::exchange;
use super::health::health;
use super::only_grpc::OnlyGrpc;
use super::outbox::CloseOnDrop;
use super::settings::{StorageFrontSettings, UNARY_MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::adapters::tls::{Listener, Protocol};
use crate::ports::RequestHandler;
use crate::proto::v1::replica_request::Operation;
use crate::proto::v1::storage_service_server::{StorageService, StorageServiceServer};
use crate::proto::v1::{Probe, ReplicaReply, ReplicaRequest, ReplyBatch, RequestBatch};

/// Serves `handler` on `listener` until `shutdown`, then finishes what is at work: streams end, requests that were not
/// read yet get no answer, connections close.
///
/// grpc.health.v1 is served beside it, for probes.
///
/// # Errors
/// When the listener fails.
pub async fn serve_storage<H: RequestHandler>(
    handler: H,
    listener: impl Into<Listener>,
    settings: StorageFrontSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let (stop, stopping) = watch::channel(false);
    let (reporter, health_service) = health(&["", SERVICE_NAME]);
    reporter.set(true);
    let front = StorageServiceServer::new(StorageFront {
        handler,
        settings,
        stopping,
    })
    .max_decoding_message_size(UNARY_MESSAGE_BYTES_MAX);
    let shutdown = shutdown.then(|()| async move {
        reporter.set(false);
        stop.send_replace(true);
    });
    let connections = listener
        .into()
        .connections(CONNECTIONS_MAX, Protocol::Http2);
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(OnlyGrpc)
        .add_service(health_service)
        .add_service(front)
        .serve_with_incoming_shutdown(connections, shutdown)
        .await
}

const SERVICE_NAME: &str = "pairdb.v1.StorageService";

/// Coordinators and other storage nodes have one connection each, tools a few.
const CONNECTIONS_MAX: usize = 4096;

/// Streams of one connection: a coordinator needs one, tools a few.
const STREAMS_MAX: u32 = 64;

/// A coordinator that is silent so long is pinged, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The storage node's gRPC front.
struct StorageFront<H> {
    handler: H,
    settings: StorageFrontSettings,
    stopping: watch::Receiver<bool>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<ReplyBatch, Status>> + Send>>;

#[tonic::async_trait]
impl<H: RequestHandler> StorageService for StorageFront<H> {
    type ExchangeStream = Replies;

    async fn exchange(
        &self,
        request: tonic::Request<Streaming<RequestBatch>>,
    ) -> Result<Response<Replies>, Status> {
        let outbox = Arc::new(exchange::outbox(&self.settings));
        // When the connection is over its replies are dropped: then nothing of it may go on waiting for room.
        let over = CloseOnDrop(Arc::clone(&outbox));
        let replies = outbox.departures().map(move |departure| {
            let _over = &over;
            Ok(ReplyBatch {
                replies: departure.whole,
                fragment: departure.fragment,
            })
        });
        let serving = exchange::serve(
            self.handler.clone(),
            self.settings.clone(),
            request.into_inner(),
            Arc::clone(&outbox),
            self.stopping.clone(),
        );
        tokio::spawn(async move {
            // What comes may be anything; should it make us panic, this stream is over, so that nobody waits on it.
            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                tracing::error!("a coordinator's stream panicked");
                outbox.close();
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn write(
        &self,
        request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        let is_write =
            |operation: &_| matches!(operation, Operation::Stamp(stamp) if stamp.value.is_some());
        self.one(request, is_write, "a stamp with a value").await
    }

    async fn read(
        &self,
        request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        self.one(
            request,
            |operation| matches!(operation, Operation::Read(_)),
            "a read",
        )
        .await
    }

    async fn delete(
        &self,
        request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        let is_delete =
            |operation: &_| matches!(operation, Operation::Stamp(stamp) if stamp.value.is_none());
        self.one(request, is_delete, "a stamp without a value")
            .await
    }

    async fn repair(
        &self,
        request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        self.one(
            request,
            |operation| matches!(operation, Operation::Join(_)),
            "a join",
        )
        .await
    }

    async fn health_check(
        &self,
        mut request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        request
            .get_mut()
            .operation
            .get_or_insert(Operation::Probe(Probe {}));
        self.one(
            request,
            |operation| matches!(operation, Operation::Probe(_)),
            "a probe",
        )
        .await
    }
}

impl<H: RequestHandler> StorageFront<H> {
    /// One request outside a stream. Without a node's name it is meant for whoever is here.
    async fn one(
        &self,
        request: tonic::Request<ReplicaRequest>,
        fits: impl FnOnce(&Operation) -> bool,
        wanted: &str,
    ) -> Result<Response<ReplicaReply>, Status> {
        let request = request.into_inner();
        let id = request.id;
        if !request.operation.as_ref().is_some_and(fits) {
            return Err(Status::invalid_argument(format!(
                "operation: this method takes {wanted}"
            )));
        }
        let outcome = match request_from_proto(Some(self.handler.node()), request) {
            Ok(request) => exchange::guarded(self.handler.clone(), request).await,
            Err(refusal) => Err(refusal),
        };
        Ok(Response::new(reply_to_proto(id, outcome)))
    }
}
