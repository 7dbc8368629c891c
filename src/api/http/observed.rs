//! Names and observes every HTTP request, and puts failures into the form that all of them have.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::failure;
use crate::api::observe::Observation;
use crate::api::request_name;

/// The route of a request that there is none of.
const NO_ROUTE: &str = "unknown";

/// Does it.
pub(super) async fn observed(mut request: Request, next: Next) -> Response {
    let name = request_name::name(request.headers_mut());
    // Probes come every few seconds and say nothing of how clients fare.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str);
    let observation = (route.starts_with("/v1/") || route == NO_ROUTE).then(|| {
        Observation::begin(
            "http",
            label(request.method(), route),
            &name,
            request.headers(),
        )
    });
    let answer = next.run(request);
    let mut answer = match &observation {
        Some(observation) => answer.instrument(observation.span()).await,
        None => answer.await,
    };
    let code = failure::write_out(&mut answer, &name);
    if let Some(observation) = observation {
        observation.end(code.as_deref());
    }
    answer.headers_mut().insert(request_name::HEADER, name);
    answer
}

/// What a request is called in metrics. Anybody can make up methods: those that no route has are one.
fn label(method: &Method, route: &str) -> String {
    let is_known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method);
    match is_known && route != NO_ROUTE {
        true => format!("{method} {route}"),
        false => NO_ROUTE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_make_up_is_one_label() {
        assert_eq!(label(&Method::PUT, "/v1/x"), "PUT /v1/x");
        let made_up = Method::from_bytes(b"XYZ123").unwrap();
        assert_eq!(label(&made_up, "/v1/x"), NO_ROUTE);
        assert_eq!(label(&Method::GET, NO_ROUTE), NO_ROUTE);
    }
}
