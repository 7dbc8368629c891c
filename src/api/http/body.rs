//! Reading what a client sent: a JSON object of known form, whatever it says its type is; a query; a name.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Gateway;
use super::failure::{Failure, refused, wrong};

/// A JSON object; none at all is an empty one. Unknown members are ignored.
pub(super) struct Body<T>(pub(super) T);

/// The query as `T`. Unknown names are ignored.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Gateway>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let settings = &gateway.settings;
        let read =
            tokio::time::timeout(settings.body_timeout, Bytes::from_request(request, gateway));
        let Ok(read) = read.await else {
            return Err(refused("the body did not arrive in time"));
        };
        let bytes = read.map_err(|rejection| unread(&rejection, settings.body_bytes_max))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(refused("the body is not the JSON object it should be"));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            match error.path().to_string().as_str() {
                "." | "?" => refused(format!(
                    "the body is not the JSON object it should be: {}",
                    error.inner()
                )),
                member => wrong(member, &error.inner().to_string()),
            }
        })?;
        json.end()
            .map_err(|error| refused(format!("the body is not one JSON object: {error}")))?;
        Ok(Self(body))
    }
}

fn unread(rejection: &BytesRejection, max: usize) -> Failure {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => refused(format!("the body is longer than {max} bytes")),
        _ => refused("the body could not be read"),
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(refused(rejection.body_text())),
        }
    }
}

/// The name in the path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(refused(rejection.body_text())),
        }
    }
}

/// Makes a member that is `null` one that has its default.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
