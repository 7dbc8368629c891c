//! Reading what a client sent: a JSON object of known form; a name in the path. The query is read in `query`.
//!
//! JSON has to say that it is JSON: what a form of any web page can send (`text/plain`, form encodings, nothing at all)
//! is not read, so no page can write unasked. What is said twice has to be said alike: nothing is guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use mime::Mime;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Number;
use serde_json::value::RawValue;

use super::failure::{Failure, refused, unsupported, wrong};
use super::gateway::Gateway;
use super::header::single;
use super::members::{members, twice};
use super::query::{self, Asked};

/// A JSON object; none at all is an empty one. Unknown members are ignored. Its members may not be in the query.
pub(super) struct Body<T>(pub(super) T);

/// What may be in the query and in a JSON object.
pub(super) struct Either<T>(pub(super) T);

/// Two parts of one request, in the query and in the body.
pub(super) trait Merge: Sized {
    /// Both together.
    ///
    /// # Errors
    /// When they say different things.
    fn merge(self, other: Self) -> Result<Self, Failure>;
}

/// What both say, or the one of them that says it.
pub(super) fn agreed<V: PartialEq>(
    field: &str,
    one: Option<V>,
    other: Option<V>,
) -> Result<Option<V>, Failure> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(disagree(field)),
        (one, other) => Ok(one.or(other)),
    }
}

fn disagree(field: &str) -> Failure {
    wrong(
        field,
        "is given twice, and differently; leave one of them out",
    )
}

impl<T: DeserializeOwned> FromRequest<Arc<Gateway>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let members = members::<T>();
        for (name, _) in query::pairs(request.uri())? {
            if members.contains(&&*name) {
                return Err(wrong(&name, "is in the query; it belongs into the body"));
            }
        }
        read(request).await.map(Self)
    }
}

impl<T: DeserializeOwned + Merge + Send> FromRequest<Arc<Gateway>> for Either<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let Asked(query) = Asked::<T>::read(request.uri())?;
        let body: T = read(request).await?;
        body.merge(query).map(Self)
    }
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    if !request.body().is_end_stream() {
        check_kind(request.headers())?;
    }
    let (mut parts, body) = request.into_parts();
    let named = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .ok();
    // It is whole, and no longer than it may be, before any handler sees it.
    let bytes = to_bytes(body, usize::MAX).await;
    let bytes = bytes.map_err(|_| refused("the body could not be read"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("the body is not UTF-8"))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let text = if text.is_empty() { "{}" } else { text };
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refused("the body is not the JSON object it should be"));
    }
    let body = parse(text)?;
    for (name, value) in named.iter().flatten() {
        agrees_with_path(name, value, text)?;
    }
    Ok(body)
}

/// Some clients begin UTF-8 with it; it says nothing that is not known.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether the body is JSON as it is.
fn check_kind(headers: &HeaderMap) -> Result<(), Failure> {
    let encodings = headers.get_all(CONTENT_ENCODING);
    if encodings.iter().any(|encoding| encoding != "identity") {
        return Err(unsupported(
            "Content-Encoding: bodies are read as they are, without compression",
        ));
    }
    let kind = single(headers, &CONTENT_TYPE)?;
    let kind: Option<Mime> = kind
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.parse().ok());
    let is_json = |kind: &Mime| {
        kind.essence_str() == mime::APPLICATION_JSON
            && kind
                .get_param(mime::CHARSET)
                .is_none_or(|charset| charset == mime::UTF_8)
    };
    match kind.as_ref().is_some_and(is_json) {
        true => Ok(()),
        false => Err(unsupported(
            "Content-Type: must be application/json, in UTF-8",
        )),
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let problem = error.inner().to_string();
        match (twice(&problem), error.path().to_string().as_str()) {
            (Some(member), _) => wrong(member, "is given twice in the body"),
            (None, "." | "?") => refused(format!(
                "the body is not the JSON object it should be: {problem}"
            )),
            (None, member) => wrong(member, &problem),
        }
    })?;
    json.end()
        .map_err(|error| refused(format!("the body is not one JSON object: {error}")))?;
    Ok(body)
}

/// What the path names the body may name as well, but not otherwise.
fn agrees_with_path(name: &str, value: &str, text: &str) -> Result<(), Failure> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let Some(member) = members.get(name) else {
        return Ok(());
    };
    match serde_json::from_str::<String>(member.get()) {
        Ok(member) if member == value => Ok(()),
        _ => Err(disagree(name)),
    }
}

/// The name in the path. The query may not give it another one.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        query::check_escapes(parts.uri.path())?;
        let named = RawPathParams::from_request_parts(parts, state).await;
        let named = named.map_err(|rejection| refused(rejection.body_text()))?;
        let mut named = named.iter();
        let (Some((name, value)), None) = (named.next(), named.next()) else {
            return Err(refused("the path does not have one name"));
        };
        let asked = query::pairs(&parts.uri)?;
        if asked
            .iter()
            .any(|(asked, other)| asked == name && other != value)
        {
            return Err(disagree(name));
        }
        Ok(Self(value.to_owned()))
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

/// Reads a whole number, however it is spelled: to JSON `3` and `3.0` are one. `null` is the default.
pub(super) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + TryFrom<i64>,
{
    Ok(whole_or_none(deserializer)?.unwrap_or_default())
}

/// The same where `null` is no number.
pub(super) fn whole_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: TryFrom<i64>,
{
    let Some(number) = Option::<Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let exact = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        let is_whole = float.fract() == 0.0 && float.abs() <= EXACT_MAX;
        is_whole.then_some(float as i64)
    });
    exact
        .and_then(|number| T::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("is {number}, no whole number of its range")))
}

/// Up to here every whole number is a float, exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_spelled() {
        let read = |text: &str| whole::<_, i32>(&mut serde_json::Deserializer::from_str(text));
        for (text, number) in [("3", 3), ("3.0", 3), ("30e-1", 3), ("-0.0", 0), ("null", 0)] {
            assert_eq!(read(text).ok(), Some(number), "{text}");
        }
        for text in ["3.5", "2147483648", "1e300", "\"3\"", "true", "[3]"] {
            assert!(read(text).is_err(), "{text}");
        }
        let read = |text: &str| whole::<_, u32>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!((read("7").ok(), read("-1").ok()), (Some(7), None));
    }
}
