//! What the answers have in common.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

use crate::proto::v1;

/// The `status` of an answer that is no failure.
pub(super) const SUCCESS: &str = "success";

/// An answer of the service, as JSON.
pub(super) fn json<T, B: Serialize>(
    status: StatusCode,
    answer: tonic::Response<T>,
    body: impl FnOnce(T) -> B,
) -> Response {
    let (metadata, message, _) = answer.into_parts();
    let mut response = (status, Json(body(message))).into_response();
    copy_limits(&metadata, response.headers_mut());
    response
}

/// Hands on what a client should know of its limits.
pub(super) fn copy_limits(metadata: &MetadataMap, headers: &mut HeaderMap) {
    for pair in metadata.iter() {
        let KeyAndValueRef::Ascii(name, value) = pair else {
            continue;
        };
        if name.as_str().starts_with("x-ratelimit-")
            && let (Ok(name), Ok(value)) = (
                name.as_str().parse::<axum::http::HeaderName>(),
                value.as_bytes().try_into(),
            )
        {
            headers.insert(name, value);
        }
    }
}

/// A clock as an object: counters by replica.
pub(super) fn clock(clock: Option<v1::VectorClock>) -> BTreeMap<String, i64> {
    let entries = clock.unwrap_or_default().entries;
    entries
        .into_iter()
        .map(|entry| (entry.coordinator_node_id, entry.logical_timestamp))
        .collect()
}
