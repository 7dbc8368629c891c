//! What a client is told when something fails: `{"status":"error","error_code","message","request_id","details"}`.
//!
//! A failure is a gRPC status here too, with its code, its line and its details; it becomes JSON in one place, once it
//! is known which request it belongs to.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;

use super::answer;
use crate::api::error_table::status_row;
use crate::api::errors::{crowded, internal, status, to_status};
use crate::api::log_pace;
use crate::coordinator::CoordinatorError;
use crate::proto::v1::ErrorCode;

/// Why there is no other answer.
#[derive(Debug)]
pub(super) struct Failure {
    /// Boxed, because it is large and rare.
    status: Box<Status>,
    /// Where HTTP has more to say than the status.
    http: Option<StatusCode>,
}

/// A failure that has yet to be written out.
#[derive(Clone)]
struct Pending(std::sync::Arc<Failure>);

/// A failure.
#[derive(Serialize, ToSchema)]
pub(super) struct Error {
    /// Always "error".
    #[schema(examples("error"))]
    status: &'static str,
    /// A stable name: an ErrorCode of the protocol.
    #[schema(value_type = String, examples("QUORUM_NOT_REACHED"))]
    error_code: Cow<'static, str>,
    /// For people.
    message: String,
    /// The request that failed; also in the header X-Request-ID.
    request_id: String,
    /// What was needed and what answered; for QUORUM_NOT_REACHED whether the write is `indeterminate`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<String, String>,
}

/// A field that is wrong.
pub(super) fn wrong(field: &str, problem: &str) -> Failure {
    refused(format!("{field}: {problem}"))
}

/// A request that can't be understood.
pub(super) fn refused(message: impl Into<String>) -> Failure {
    let message = crate::api::errors::cut(&message.into(), crate::api::errors::MESSAGE_BYTES_MAX);
    status(ErrorCode::InvalidRequest, message).into()
}

/// A request whose body is of a kind that is not read here.
pub(super) fn unsupported(message: impl Into<String>) -> Failure {
    refused(message).with(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// A request for another server.
pub(super) fn misdirected(message: impl Into<String>) -> Failure {
    refused(message).with(StatusCode::MISDIRECTED_REQUEST)
}

/// A request that its sender may not make, whoever it is.
pub(super) fn forbidden(message: impl Into<String>) -> Failure {
    let message = crate::api::errors::cut(&message.into(), crate::api::errors::MESSAGE_BYTES_MAX);
    status(ErrorCode::Forbidden, message).into()
}

/// No such route.
pub(super) async fn no_route(request: Request) -> Failure {
    let path = crate::api::errors::cut(request.uri().path(), 128);
    let message = format!("there is no route {path}; /openapi.json has all of them");
    refused(message).with(StatusCode::NOT_FOUND)
}

/// No such method on a route.
pub(super) async fn no_method(method: Method) -> Failure {
    let message = format!("this route does not answer {method}; /openapi.json says which it does");
    refused(message).with(StatusCode::METHOD_NOT_ALLOWED)
}

/// A panic fails its own request.
pub(super) fn panics() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(|_| {
        if let Some(left_out) = log_pace::FAULT.tell() {
            tracing::error!(left_out, "a request panicked");
        }
        Failure::from(internal()).into_response()
    })
}

impl Failure {
    /// The same with another HTTP status than its code's.
    pub(super) fn with(mut self, http: StatusCode) -> Self {
        self.http = Some(http);
        self
    }

    /// The HTTP status it is told with.
    pub(super) fn http_status(&self) -> StatusCode {
        self.http
            .unwrap_or_else(|| status_row(self.status.code()).http)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            status: Box::new(status),
            http: None,
        }
    }
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Self {
        to_status(&error, "").into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The line alone, for listeners that don't write failures out.
        let mut answer = Response::new(Body::from(self.status.message().to_owned()));
        *answer.status_mut() = self.http_status();
        answer
            .extensions_mut()
            .insert(Pending(std::sync::Arc::new(self)));
        answer
    }
}

/// Gives a failure its body and returns its code. Other answers stay as they are.
pub(super) fn write_out(answer: &mut Response, request_id: &HeaderValue) -> Option<String> {
    let Pending(failure) = answer.extensions_mut().remove()?;
    let error = failure.error(request_id.to_str().unwrap_or_default());
    failure.head(answer.headers_mut());
    *answer.body_mut() = Body::from(error.json());
    Some(error.error_code.into_owned())
}

/// What is said where there is no place for a request, which has no name yet.
pub(super) fn no_place() -> Response<Bytes> {
    let failure = Failure::from(crowded());
    let mut answer = Response::new(failure.error("").json().into());
    *answer.status_mut() = failure.http_status();
    failure.head(answer.headers_mut());
    answer
}

impl Error {
    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Failure {
    fn error(&self, request_id: &str) -> Error {
        let (error_code, details) = match self.status.get_details_error_info() {
            Some(info) => (Cow::Owned(info.reason), info.metadata.into_iter().collect()),
            None => (
                Cow::Borrowed(status_row(self.status.code()).code.as_str_name()),
                BTreeMap::new(),
            ),
        };
        Error {
            status: "error",
            error_code,
            message: self.status.message().to_owned(),
            request_id: request_id.to_owned(),
            details,
        }
    }

    fn head(&self, headers: &mut HeaderMap) {
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status.code() == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer::copy_limits(self.status.metadata(), headers);
        let retry = self.status.get_details_retry_info();
        if let Some(after) = retry.and_then(|info| info.retry_delay) {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
    }
}
