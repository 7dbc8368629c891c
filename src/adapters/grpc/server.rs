//! The `StorageService` in front of whatever answers requests.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Response, Status, Streaming};
use tower::Layer;

use super::convert::{reply_to_proto, request_from_proto};
use super::exchange::{self, Surroundings};
use super::health::{Told, health};
use super::intake::Intake;
use super::only_grpc::OnlyGrpc;
use super::outbox::CloseOnDrop;
use super::paths::{EXCHANGE, HEALTH};
use super::settings::{StorageFrontSettings, UNARY_MESSAGE_BYTES_MAX, WINDOW_BYTES};
use super::wire_version::Spoken;
use crate::adapters::front::{
    self, Bounds, Budget, Http2Bounds, Manners, Patience, PlaceBounds, RequestConduct, SPARE_PLACES,
};
use crate::adapters::log_pace;
use crate::adapters::tls::Listener;
use crate::placement::NodeId;
use crate::ports::{Caller, Refusal, Release, Reply, Request, RequestHandler};
use crate::proto::v1::replica_request::Operation;
use crate::proto::v1::storage_service_server::{StorageService, StorageServiceServer};
use crate::proto::v1::{Probe, ReplicaReply, ReplicaRequest, ReplyBatch, RequestBatch};

/// Serves `handler` on `listener` until `shutdown`, then finishes what is at work: streams end, requests that were not
/// read yet get no answer, connections close.
///
/// grpc.health.v1 is served beside it, for probes. What comes in and what waits to leave is paid for by `budget`.
pub async fn serve_storage<H: RequestHandler>(
    handler: H,
    listener: impl Into<Listener>,
    settings: StorageFrontSettings,
    budget: Budget,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopping) = watch::channel(false);
    let (serving, told) = watch::channel(true);
    let health_service = health(&["", SERVICE_NAME], Told(told));
    let around = Surroundings {
        settings,
        budget: budget.clone(),
        stopping,
    };
    let front = StorageServiceServer::new(StorageFront { handler, around })
        .max_decoding_message_size(UNARY_MESSAGE_BYTES_MAX);
    let shutdown = shutdown.then(|()| async move {
        serving.send_replace(false);
        stop.send_replace(true);
    });
    let routes = Routes::new(health_service).add_service(front).prepare();
    let service = OnlyGrpc.layer(Intake::new(budget.clone(), routes));
    front::serve(listener.into(), BOUNDS, MANNERS, budget, service, shutdown).await;
}

const SERVICE_NAME: &str = "pairdb.v1.StorageService";

/// Coordinators and other storage nodes have one connection each, tools a few.
const CONNECTIONS_MAX: usize = 1024;
/// Of one address: some of those may run beside each other on one machine.
const CONNECTIONS_OF_PEER_MAX: usize = 512;

/// Streams of one connection: a coordinator needs one, tools a few.
const STREAMS_MAX: u32 = 64;

/// A coordinator that is silent so long is pinged, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);

const BOUNDS: Bounds = Bounds {
    name: "storage",
    places: PlaceBounds {
        max: CONNECTIONS_MAX,
        of_peer_max: CONNECTIONS_OF_PEER_MAX,
        spare_max: SPARE_PLACES,
    },
    patience: Patience {
        first_request: Duration::from_secs(10),
        // Longer than coordinators keep a connection that they don't use; one in use is probed every second.
        idle: Duration::from_secs(300),
        reply: Duration::from_secs(30),
    },
    http2: Some(Http2Bounds {
        streams_max: STREAMS_MAX,
        keepalive: KEEPALIVE,
        stream_window_bytes: WINDOW_BYTES,
        connection_window_bytes: WINDOW_BYTES,
    }),
};

const MANNERS: Manners = Manners {
    is_probe: |path| path.starts_with(HEALTH),
    streams: |path| path == EXCHANGE || path.strip_prefix(HEALTH) == Some("Watch"),
    busy: || {
        let why = "all connections that there may be are at work";
        Status::resource_exhausted(why).into_http::<Bytes>()
    },
};

/// The storage node's gRPC front.
struct StorageFront<H> {
    handler: H,
    around: Surroundings,
}

/// The node, as one connection's caller is answered.
#[derive(Clone)]
struct ForCaller<H> {
    handler: H,
    caller: Caller,
}

impl<H: RequestHandler> RequestHandler for ForCaller<H> {
    fn node(&self) -> &NodeId {
        self.handler.node()
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        self.handler.handle_from(self.caller.clone(), request)
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<ReplyBatch, Status>> + Send>>;

#[tonic::async_trait]
impl<H: RequestHandler> StorageService for StorageFront<H> {
    type ExchangeStream = Replies;

    async fn exchange(
        &self,
        request: tonic::Request<Streaming<RequestBatch>>,
    ) -> Result<Response<Replies>, Status> {
        let handler = self.for_caller(&request)?;
        let outbox = Arc::new(exchange::outbox(&self.around));
        let conduct = request.extensions().get::<RequestConduct>();
        let conduct = conduct.map(|conduct| Arc::clone(conduct));
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
            handler,
            self.around.clone(),
            conduct,
            request.into_inner(),
            Arc::clone(&outbox),
        );
        tokio::spawn(async move {
            // What comes may be anything; should it make us panic, this stream is over, so that nobody waits on it.
            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                tracing::error!("a coordinator's stream panicked");
                outbox.close();
            }
        });
        let mut response: Response<Replies> = Response::new(Box::pin(replies));
        Spoken::here().tell(response.metadata_mut());
        Ok(response)
    }

    async fn write(
        &self,
        request: tonic::Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        let is_write =
            |operation: &_| matches!(operation, Operation::Accept(stamp) if stamp.value.is_some());
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
            |operation: &_| matches!(operation, Operation::Accept(stamp) if stamp.value.is_none());
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
    /// The node as it answers a caller that told this of itself, if they understand each other.
    fn for_caller(&self, request: &tonic::Request<impl Sized>) -> Result<ForCaller<H>, Status> {
        let (told, at) = (request.metadata(), request.remote_addr());
        let here = Spoken::here();
        match here.agree("this node", "the caller", told) {
            Ok(version) => Ok(ForCaller {
                handler: self.handler.clone(),
                caller: Caller {
                    release: Release::of_wire_version(version),
                    name: at.map_or_else(
                        || "an unknown address".into(),
                        |at| at.ip().to_string().into(),
                    ),
                },
            }),
            Err(unlike) => {
                if let Some(left_out) = log_pace::LINK.tell() {
                    tracing::warn!(why = %unlike, left_out, "a caller is refused");
                }
                let mut status = Status::failed_precondition(unlike.to_string());
                here.tell(status.metadata_mut());
                Err(status)
            }
        }
    }

    /// One request outside a stream. Without a node's name it is meant for whoever is here.
    async fn one(
        &self,
        request: tonic::Request<ReplicaRequest>,
        fits: impl FnOnce(&Operation) -> bool,
        wanted: &str,
    ) -> Result<Response<ReplicaReply>, Status> {
        let mut handler = self.for_caller(&request)?;
        handler.caller.name = Arc::default(); // a tool's: coordinators and nodes have a stream
        let request = request.into_inner();
        let id = request.id;
        if !request.operation.as_ref().is_some_and(fits) {
            return Err(Status::invalid_argument(format!(
                "operation: this method takes {wanted}"
            )));
        }
        let outcome = match request_from_proto(Some(self.handler.node()), request) {
            Ok(request) => exchange::guarded(handler, request).await,
            Err(refusal) => Err(refusal),
        };
        Ok(Response::new(reply_to_proto(id, outcome)))
    }
}
