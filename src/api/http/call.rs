//! A request as the gRPC service takes it: a message, and the metadata that came with it.
//!
//! All that concerns who asks and how long they wait is in the metadata and extensions, and is looked at by the
//! service, for gRPC and HTTP alike.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;

use super::body::agreed;
use super::failure::{Failure, wrong};
use super::header::single;

/// How long the client waits, in its own words: `250ms`, `2s`.
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The same in gRPC's.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What came with a request beside its message.
pub(super) struct Call {
    headers: HeaderMap,
    extensions: Extensions,
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            // The body, which is read after it, is judged by them as well.
            headers: parts.headers.clone(),
            extensions: parts.extensions.clone(),
        })
    }
}

impl Call {
    /// The header `Idempotency-Key`, or what the message has in its place; a key that is no text is one that nobody
    /// has.
    pub(super) fn idempotency_key(
        &self,
        in_message: Option<String>,
    ) -> Result<Option<String>, Failure> {
        let header = single(&self.headers, &IDEMPOTENCY_KEY)?;
        let header = header.map(|key| std::str::from_utf8(key.as_bytes()).map(str::to_owned));
        let header = header.transpose();
        let header = header.map_err(|_| wrong("Idempotency-Key", "is not UTF-8"))?;
        agreed("idempotency_key", header, in_message)
    }

    /// The request with `message`.
    pub(super) fn with<T>(mut self, message: T) -> Result<tonic::Request<T>, Failure> {
        self.headers.remove(GRPC_TIMEOUT);
        if let Some(timeout) = single(&self.headers, &TIMEOUT)? {
            let timeout = grpc_timeout(timeout)?;
            self.headers.insert(GRPC_TIMEOUT, timeout);
        }
        let metadata = MetadataMap::from_headers(self.headers);
        Ok(tonic::Request::from_parts(
            metadata,
            self.extensions,
            message,
        ))
    }
}

fn grpc_timeout(text: &HeaderValue) -> Result<HeaderValue, Failure> {
    const MS_MAX: u128 = 99_999_999;
    let timeout: Option<Duration> = text
        .to_str()
        .ok()
        .and_then(|text| humantime::parse_duration(text.trim()).ok());
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) else {
        return Err(wrong(
            "X-Request-Timeout",
            "is not a duration, such as 250ms or 2s",
        ));
    };
    let ms = timeout.as_millis().clamp(1, MS_MAX);
    HeaderValue::try_from(format!("{ms}m"))
        .map_err(|_| wrong("X-Request-Timeout", "is not a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_becomes_grpcs() {
        for (text, grpc) in [
            ("250ms", "250m"),
            ("2s", "2000m"),
            ("1us", "1m"),
            ("10years", "99999999m"),
        ] {
            assert_eq!(
                grpc_timeout(&HeaderValue::from_static(text)).ok(),
                HeaderValue::from_str(grpc).ok()
            );
        }
        for text in ["0s", "soon", "2", ""] {
            assert!(
                grpc_timeout(&HeaderValue::from_static(text)).is_err(),
                "{text}"
            );
        }
    }
}
