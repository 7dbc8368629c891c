//! The gRPC listener of a coordinator: the service, health, reflection, and the bounds around them.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;
use tower::ServiceBuilder;

use super::bad_message::BadMessage;
use super::coordinator_service::CoordinatorFront;
use super::errors::crowded;
use super::gate::Gate;
use super::guard::PanicGuard;
use super::health::{CoordinatorHealth, NAMES};
use super::intake::{HEALTH, Intake, REFLECTION};
use super::legacy_path::LegacyPath;
use super::observe::Observe;
use super::reflection;
use crate::adapters::front::{
    self, Bounds, Http2Bounds, Manners, Patience, PlaceBounds, SPARE_PLACES,
};
use crate::adapters::grpc::{self, OnlyGrpc};
use crate::adapters::tls::Listener;
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;
use crate::proto::v1::coordinator_service_server::CoordinatorServiceServer;

/// Beside the value a message has a key, a context and little else; and a value that is somewhat too long should be
/// told so by name.
const MESSAGE_SLACK_BYTES: usize = 64 * 1024;

/// How much of one stream, and of one connection, may be under way.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// Settings of the gRPC listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontSettings {
    /// How many connections there may be; beyond that, those that nothing is asked on give way.
    pub connections_max: usize,
    /// How many of one client's address.
    pub connections_per_peer_max: usize,
    /// How many requests one connection may have at work; further ones wait at the client.
    pub requests_per_connection_max: u32,
    /// The longest request, headers not counted.
    pub message_bytes_max: usize,
    /// How long a client may be silent before it is pinged, and then before it is given up.
    pub keepalive: Duration,
    /// How long a client that has connected may take to ask for something.
    pub first_request_timeout: Duration,
    /// How long a connection may be open with nothing to do.
    pub idle_timeout: Duration,
    /// How long a client may take to send a request's message.
    pub body_timeout: Duration,
    /// How long a client may take to read a reply.
    pub reply_timeout: Duration,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            connections_per_peer_max: 800,
            requests_per_connection_max: 256,
            message_bytes_max: 4 * 1024 * 1024 + MESSAGE_SLACK_BYTES,
            keepalive: Duration::from_secs(20),
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            body_timeout: Duration::from_secs(20),
            reply_timeout: Duration::from_secs(30),
        }
    }
}

impl FrontSettings {
    fn bounds(&self) -> Bounds {
        Bounds {
            name: "grpc",
            places: PlaceBounds {
                max: self.connections_max,
                of_peer_max: self.connections_per_peer_max,
                spare_max: SPARE_PLACES,
            },
            patience: Patience {
                first_request: self.first_request_timeout,
                idle: self.idle_timeout,
                reply: self.reply_timeout,
            },
            http2: Some(Http2Bounds {
                streams_max: self.requests_per_connection_max,
                keepalive: self.keepalive,
                stream_window_bytes: STREAM_WINDOW_BYTES,
                connection_window_bytes: CONNECTION_WINDOW_BYTES,
            }),
        }
    }
}

const MANNERS: Manners = Manners {
    is_probe: |path| path.starts_with(HEALTH),
    streams: |path| path.strip_prefix(HEALTH) == Some("Watch") || path.starts_with(REFLECTION),
    busy: || crowded().into_http::<Bytes>(),
};

/// Serves `coordinator` on `listener`, for whom `gate` lets in, until `shutdown`; then health says NOT_SERVING, no more
/// requests are taken, and those at work are finished. Bound the wait for that outside.
pub async fn serve_grpc<W: CoordinatorWorld>(
    coordinator: Coordinator<W>,
    gate: Gate,
    listener: impl Into<Listener>,
    settings: FrontSettings,
    shutdown: impl Future<Output = ()> + Send,
) {
    let health = CoordinatorHealth::new(coordinator.clone());
    let health_service = grpc::health(&NAMES, health.clone());
    let (budget, intake) = (
        gate.budget().clone(),
        Intake {
            gate: gate.clone(),
            message_bytes_max: settings.message_bytes_max,
            body_timeout: settings.body_timeout,
        },
    );
    let service = CoordinatorServiceServer::new(CoordinatorFront::new(coordinator, gate))
        .max_decoding_message_size(settings.message_bytes_max);
    let routes = Routes::new(service)
        .add_service(health_service)
        .add_service(reflection::service());
    let service = ServiceBuilder::new()
        .layer(OnlyGrpc)
        .layer(LegacyPath)
        .layer(Observe)
        .layer(PanicGuard)
        .layer(intake)
        .layer(BadMessage)
        .service(routes.prepare());

    let stopping = async move {
        shutdown.await;
        health.shut_down();
    };
    let bounds = settings.bounds();
    front::serve(listener.into(), bounds, MANNERS, budget, service, stopping).await;
}
