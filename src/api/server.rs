//! The gRPC listener of a coordinator: the service, health, reflection, and the bounds around them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::transport::Server;

use super::bad_message::BadMessage;
use super::coordinator_service::CoordinatorFront;
use super::gate::Gate;
use super::guard::PanicGuard;
use super::health::CoordinatorHealth;
use super::legacy_path::LegacyPath;
use super::observe::Observe;
use super::reflection;
use crate::adapters::grpc::OnlyGrpc;
use crate::adapters::tls::{Listener, Protocol};
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;
use crate::proto::health::v1::health_server::HealthServer;
use crate::proto::v1::coordinator_service_server::CoordinatorServiceServer;

/// Beside the value a message has a key, a context and little else; and a value that is somewhat too long should be
/// told so by name.
const MESSAGE_SLACK_BYTES: usize = 64 * 1024;

/// Settings of the gRPC listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontSettings {
    /// How many connections there may be; further ones wait.
    pub connections_max: usize,
    /// How many requests one connection may have at work; further ones wait at the client.
    pub requests_per_connection_max: u32,
    /// The longest request, headers not counted.
    pub message_bytes_max: usize,
    /// How long a client may be silent before it is pinged, and then before it is given up.
    pub keepalive: Duration,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            requests_per_connection_max: 256,
            message_bytes_max: 4 * 1024 * 1024 + MESSAGE_SLACK_BYTES,
            keepalive: Duration::from_secs(20),
        }
    }
}

/// Serves `coordinator` on `listener`, for whom `gate` lets in, until `shutdown`; then health says NOT_SERVING, no more requests are taken, and
/// those at work are finished. Bound the wait for that outside.
///
/// # Errors
/// When the listener fails.
pub async fn serve_grpc<W: CoordinatorWorld>(
    coordinator: Coordinator<W>,
    gate: Gate,
    listener: impl Into<Listener>,
    settings: FrontSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let health = CoordinatorHealth::new(coordinator.clone());
    let health_service = HealthServer::new(health.clone());
    let service = CoordinatorServiceServer::new(CoordinatorFront::new(coordinator, gate))
        .max_decoding_message_size(settings.message_bytes_max);

    let stopping = async move {
        shutdown.await;
        health.shut_down();
    };
    let connections = listener
        .into()
        .connections(settings.connections_max, Protocol::Http2);
    Server::builder()
        .max_concurrent_streams(settings.requests_per_connection_max)
        .http2_keepalive_interval(Some(settings.keepalive))
        .http2_keepalive_timeout(Some(settings.keepalive))
        .layer(OnlyGrpc)
        .layer(LegacyPath)
        .layer(Observe)
        .layer(PanicGuard)
        .layer(BadMessage)
        .add_service(service)
        .add_service(health_service)
        .add_service(reflection::service())
        .serve_with_incoming_shutdown(connections, stopping)
        .await
}
