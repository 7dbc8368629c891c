//! Every request has a name: the client's `X-Request-ID`, or a new one. It is in the answer, in errors and in the log.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A longer name is not taken: it would be in every log line.
const BYTES_MAX: usize = 128;

/// The client's name for its request, if it is one that can be shown anywhere, else a new one; then that is in the
/// headers.
pub(super) fn name(headers: &mut HeaderMap) -> HeaderValue {
    let fit = |name: &&HeaderValue| {
        (1..=BYTES_MAX).contains(&name.len()) && name.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(given) = headers.get(&HEADER).filter(fit) {
        return given.clone();
    }
    let name = new();
    headers.insert(HEADER, name.clone());
    name
}

fn new() -> HeaderValue {
    let name = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(name).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}
