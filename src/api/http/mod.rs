//! HTTP/JSON: the routes of the API gateway, health for whatever can't speak grpc.health.v1, and their OpenAPI
//! document.
//!
//! A route turns JSON into the message that a gRPC client would have sent and calls the very service that answers gRPC,
//! so nothing is checked, converted, authorised or limited twice or differently. What is here is JSON, and errors as
//! JSON.
//!
//! Invariants:
//! - every answer names its request (`X-Request-ID`), and every failure is one JSON object of one form;
//! - nothing is guessed: what is said twice is said alike, or is refused, as is what is no text;
//! - pages of other sites write nothing, unless they are named;
//! - bodies, headers, connections and the time to send them are bounded.

mod answer;
mod body;
mod call;
mod changes;
mod cors;
mod errors;
mod failure;
mod gateway;
mod header;
mod health;
mod hosts;
mod intake;
mod key_value;
mod listener;
mod members;
mod migrations;
mod nodes;
mod observed;
mod openapi;
mod query;
mod schema;
mod settings;
mod tenants;
mod value;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::cors::Origins;
use self::failure::Failure;
use self::gateway::{Gateway, Shared};
use self::hosts::Hosts;
use super::coordinator_service::CoordinatorFront;
use super::gate::Gate;
use crate::adapters::tls::Listener;
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

pub use listener::serve as serve_routes;
pub use settings::HttpSettings;

/// Serves `coordinator` on `listener`, for whom `gate` lets in, until `shutdown`; then requests at work are finished.
/// Bound the wait for that outside.
///
/// # Errors
/// When the settings can't be used.
pub async fn serve_http<W: CoordinatorWorld>(
    coordinator: Coordinator<W>,
    gate: Gate,
    listener: impl Into<Listener>,
    settings: HttpSettings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let asked = coordinator.clone();
    let gateway = Gateway {
        service: Box::new(CoordinatorFront::new(coordinator, gate.clone())),
        readiness: Box::new(move || asked.readiness()),
        gate,
        settings: settings.clone(),
    };
    let budget = gateway.gate.budget().clone();
    let listener = listener.into();
    let hosts = Hosts::new(listener.local_addr()?.ip(), &settings.host_names);
    let routes = router(Arc::new(gateway), hosts.map_err(std::io::Error::other)?)?;
    listener::serve("http", listener, routes, &settings, budget, shutdown).await;
    Ok(())
}

/// Lets `routes` answer to the names only that a listener there should.
///
/// # Errors
/// When the settings can't be used.
pub fn only_own_names(
    routes: Router,
    listener: &Listener,
    settings: &HttpSettings,
) -> std::io::Result<Router> {
    let address = listener.local_addr()?.ip();
    let hosts = Hosts::new(address, &settings.host_names).map_err(std::io::Error::other)?;
    Ok(hosts.guard(routes))
}

/// All routes, each with its part of the OpenAPI document: what is served is what is described.
fn documented() -> OpenApiRouter<Shared> {
    let mut router = openapi::router()
        .routes(routes!(
            key_value::write,
            key_value::read,
            key_value::delete
        ))
        .routes(routes!(tenants::create))
        .routes(routes!(tenants::get))
        .routes(routes!(tenants::update_replication_factor))
        .routes(routes!(tenants::set_sibling_limits))
        .routes(routes!(nodes::add, nodes::list))
        .routes(routes!(nodes::remove))
        .routes(routes!(changes::ask))
        .routes(routes!(changes::plan))
        .routes(routes!(migrations::list))
        .routes(routes!(migrations::status))
        .routes(routes!(migrations::cancel))
        .routes(routes!(migrations::pace))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::health_ready));
    let either = [("value", "WriteValue"), ("value_base64", "WriteBytes")];
    schema::exactly_one_of(router.get_openapi_mut(), "Write", either);
    router
}

fn router(gateway: Shared, hosts: Hosts) -> std::io::Result<Router> {
    let settings = &gateway.settings;
    let origins = Origins::new(&settings.cors_origins).map_err(std::io::Error::other)?;
    let cors = origins.layer();
    let (routes, document) = documented().split_for_parts();
    let routes = routes
        .merge(openapi::pages(document))
        .fallback(failure::no_route)
        .method_not_allowed_fallback(failure::no_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&gateway),
            intake::taken_in,
        ))
        .with_state(gateway)
        .layer(failure::panics())
        .layer(middleware::from_fn(move |request, next| {
            only_own_pages(origins.clone(), request, next)
        }));
    let routes = hosts
        .guard(routes)
        .layer(middleware::from_fn(observed::observed));
    Ok(match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    })
}

/// Refuses writes from pages of other sites.
async fn only_own_pages(
    origins: Origins,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (request, body) = request.into_parts();
    origins.check(&request)?;
    Ok(next.run(Request::from_parts(request, body)).await)
}

#[cfg(test)]
mod access_test;
#[cfg(test)]
mod http_test;
#[cfg(test)]
mod strict_test;
