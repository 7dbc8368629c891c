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
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;

use super::answer;
use crate::api::errors::{status, to_status};
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
    status(Code::InvalidArgument, ErrorCode::InvalidRequest, message).into()
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
    status(Code::PermissionDenied, ErrorCode::Forbidden, message).into()
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
        Failure::from(status(
            Code::Internal,
            ErrorCode::InternalError,
            "internal error",
        ))
        .into_response()
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
        self.http.unwrap_or_else(|| http_status(self.status.code()))
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
    let status = &failure.status;
    let details = status.get_error_details();
    let (error_code, details_shown) = match details.error_info() {
        Some(info) => (
            Cow::Owned(info.reason.clone()),
            info.metadata.clone().into_iter().collect(),
        ),
        None => (
            Cow::Borrowed(fallback_code(status.code()).as_str_name()),
            BTreeMap::new(),
        ),
    };
    let error = Error {
        status: "error",
        error_code,
        message: status.message().to_owned(),
        request_id: request_id.to_str().unwrap_or_default().to_owned(),
        details: details_shown,
    };
    let headers = answer.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer::copy_limits(status.metadata(), headers);
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
        );
    }
    *answer.body_mut() = Body::from(serde_json::to_vec(&error).unwrap_or_default());
    Some(error.error_code.into_owned())
}

/// The contract's HTTP status of a gRPC one.
const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Cancelled | Code::Unknown | Code::DataLoss | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The code of a status that brings none.
const fn fallback_code(code: Code) -> ErrorCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidRequest,
        Code::Unauthenticated => ErrorCode::Unauthorized,
        Code::PermissionDenied => ErrorCode::Forbidden,
        Code::ResourceExhausted => ErrorCode::RateLimitExceeded,
        _ => ErrorCode::InternalError,
    }
}
