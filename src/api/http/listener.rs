//! The HTTP listener: so many connections, so long for a request's headers, and an end without cutting anybody off.

use std::pin::pin;

use axum::Router;
use axum::extract::Request;
use futures::StreamExt;
use futures::future::{Either, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tonic::transport::server::Connected;
use tower::ServiceExt;

use super::HttpSettings;
use crate::adapters::tls::{Listener, Protocol};

/// Serves `routes` until `shutdown`, then finishes what is at work.
pub async fn serve(
    listener: Listener,
    routes: Router,
    settings: &HttpSettings,
    shutdown: impl Future<Output = ()>,
) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .half_close(true);
    let graceful = GracefulShutdown::new();
    let mut connections = pin!(listener.connections(settings.connections_max, Protocol::Http1));
    let mut shutdown = pin!(shutdown);
    while let Either::Left((Some(accepted), _)) = select(connections.next(), &mut shutdown).await {
        let Ok(connection) = accepted.inspect_err(|error| {
            tracing::warn!(%error, "an HTTP connection could not be accepted");
        }) else {
            continue;
        };
        // The same that gRPC requests carry, so that who asks is found in one place.
        let peer = connection.connect_info();
        let routes = routes
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer.clone());
                request
            });
        let serving =
            server.serve_connection(TokioIo::new(connection), TowerToHyperService::new(routes));
        let serving = graceful.watch(serving);
        tokio::spawn(async move {
            // A client that hangs up or talks nonsense is no trouble of ours.
            let _ended: Result<(), hyper::Error> = serving.await;
        });
    }
    graceful.shutdown().await;
}
