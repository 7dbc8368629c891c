//! What comes before a request's handler: who asks, by the headers alone, and its body.
//!
//! Nothing is read of a body that its headers say is too long, or that somebody sends who may not. What is read has a
//! time, a length, and its part of the process's budget.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::Shared;
use super::failure::{Failure, refused};
use crate::adapters::front::{BodyBounds, Charge, Framing, RequestConduct, Share, Unread, collect};
use crate::api::auth::Right;
use crate::api::errors::overloaded;

/// How long what there is no room for may take to come to its end, before its sender is told.
const DRAIN: Duration = Duration::from_secs(5);

/// Does it, for the routes that are the coordinator's.
pub(super) async fn taken_in(
    State(gateway): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    let Some(right) = right(&request) else {
        return next.run(request).await;
    };
    match read(&gateway, right, request).await {
        Ok((request, charge)) => {
            let answer = next.run(request).await;
            drop(charge);
            answer
        }
        Err(failure) => failure.into_response(),
    }
}

/// What a route needs; `None`: it is no route of the coordinator's, and its body is not read.
fn right(request: &Request) -> Option<Right> {
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match route {
        "/v1/key-value" if reads => Some(Right::Read),
        "/v1/key-value" => Some(Right::Write),
        "/v1/tenants/{tenant_id}" if reads => Some(Right::Read),
        route if route.starts_with("/v1/") => Some(Right::Admin),
        _ => None,
    }
}

async fn read(
    gateway: &Shared,
    right: Right,
    request: Request,
) -> Result<(Request, Charge), Failure> {
    let (mut parts, mut body) = request.into_parts();
    let known = gateway.gate.recognise(&parts.headers, right).await;
    parts
        .extensions
        .insert(known.map_err(|refused| Failure::from(refused.to_status()))?);
    let bounds = BodyBounds {
        bytes_max: gateway.settings.body_bytes_max,
        timeout: gateway.settings.body_timeout,
        framing: Framing::None,
        share: Share::Short,
    };
    if length(&parts.headers).is_some_and(|length| length > bounds.bytes_max as u64) {
        return Err(unread(Unread::TooLong(bounds.bytes_max)));
    }
    let conduct = parts.extensions.get::<RequestConduct>().cloned();
    let budget = gateway.gate.budget();
    let read = collect(&mut body, bounds, budget, conduct.as_ref()).await;
    if read.as_ref().err() == Some(&Unread::NoRoom) {
        // Who is told while it still sends finds the connection broken instead of the answer.
        let _hung_up = tokio::time::timeout(DRAIN, drain(body)).await;
    }
    let (body, held) = read.map_err(unread)?;
    let charge = Charge::from(held);
    parts.extensions.insert(charge.clone());
    let request = Request::from_parts(parts, Body::from(body.into_bytes()));
    Ok((request, charge))
}

/// Reads to no end.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// How long the client says its body is.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unread(unread: Unread) -> Failure {
    match unread {
        Unread::NoRoom => overloaded().into(),
        Unread::TooLong(max) => refused(format!("the body is longer than {max} bytes"))
            .with(StatusCode::PAYLOAD_TOO_LARGE),
        Unread::Late => {
            refused("the body did not arrive in time").with(StatusCode::REQUEST_TIMEOUT)
        }
        Unread::Broken => refused("the body could not be read"),
    }
}
