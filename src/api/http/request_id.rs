//! Every request has a name: the client's `X-Request-ID`, or a new one. It is in the answer, in errors and in the log.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::failure;

/// The header.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A longer name is not taken: it would be in every log line.
const BYTES_MAX: usize = 128;

/// Names the request, and puts failures into the form that all of them have.
pub(super) async fn named(mut request: Request, next: Next) -> Response {
    let name = name(request.headers());
    request.headers_mut().insert(HEADER, name.clone());
    let mut answer = next.run(request).await;
    failure::write_out(&mut answer, &name);
    answer.headers_mut().insert(HEADER, name);
    answer
}

/// The client's name for its request, if it is one that can be shown anywhere.
fn name(headers: &HeaderMap) -> HeaderValue {
    let fit = |name: &&HeaderValue| {
        (1..=BYTES_MAX).contains(&name.len()) && name.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    match headers.get(&HEADER).filter(fit) {
        Some(given) => given.clone(),
        None => new(),
    }
}

fn new() -> HeaderValue {
    let name = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(name).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}
