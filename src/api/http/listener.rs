//! The HTTP listener: its bounds, and what is said where there is no place.

use axum::Router;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;

use super::HttpSettings;
use crate::adapters::front::{self, Bounds, Budget, Manners, Patience, PlaceBounds, SPARE_PLACES};
use crate::adapters::tls::Listener;

const MANNERS: Manners = Manners {
    is_probe: |path| {
        matches!(
            path,
            "/health" | "/health/live" | "/ready" | "/health/ready" | "/metrics"
        )
    },
    streams: |_| false,
    busy,
};

/// Serves `routes` on the listener that metrics call `name`, until `shutdown`, then finishes what is at work.
pub async fn serve(
    name: &'static str,
    listener: Listener,
    routes: Router,
    settings: &HttpSettings,
    budget: Budget,
    shutdown: impl Future<Output = ()>,
) {
    let bounds = Bounds {
        name,
        places: PlaceBounds {
            max: settings.connections_max,
            of_peer_max: settings.connections_per_peer_max,
            spare_max: SPARE_PLACES,
        },
        patience: Patience {
            first_request: settings.header_timeout,
            idle: settings.header_timeout,
            reply: settings.reply_timeout,
        },
        http2: None,
    };
    front::serve(listener, bounds, MANNERS, budget, routes, shutdown).await;
}

fn busy() -> Response<Bytes> {
    const BODY: &[u8] = br#"{"status":"error","error_code":"RATE_LIMIT_EXCEEDED","message":"overloaded: all connections that there may be are at work; retry after a moment","request_id":""}"#;
    let mut answer = Response::new(Bytes::from_static(BODY));
    *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
