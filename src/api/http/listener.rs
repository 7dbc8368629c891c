//! The HTTP listener: its bounds and manners.

use axum::Router;

use super::{HttpSettings, failure};
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
    busy: failure::no_place,
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
