//! Reading queries: names and values in UTF-8, each once.
//!
//! Libraries put U+FFFD in the place of bytes that are no text, so that many spellings become one key. Here they are
//! refused.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;

use super::failure::{Failure, refused, wrong};
use super::members::twice;

/// The query as `T`. Unknown names are ignored.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> Asked<T> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is not text, or not a `T`.
    pub(super) fn read(uri: &Uri) -> Result<Self, Failure> {
        pairs(uri)?; // from here on nothing is replaced
        match Query::try_from_uri(uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let problem = rejection.body_text();
                Err(match twice(&problem) {
                    Some(name) => wrong(name, "is given twice in the query"),
                    None => refused(problem),
                })
            }
        }
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Self::read(&parts.uri)
    }
}

/// The names and values of a query.
///
/// # Errors
/// When one of them is not text. What is wrong with a value names its name.
pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Failure> {
    let query = uri.query().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).map_err(|problem| wrong("query", problem))?;
        let value = decoded(value).map_err(|problem| wrong(&name, problem))?;
        Ok((name, value))
    });
    pairs.collect()
}

fn decoded(text: &str) -> Result<String, &'static str> {
    if !is_escaped_well(text) {
        return Err("has a '%' that two hexadecimal digits don't follow");
    }
    let text = text.replace('+', " ");
    let text = percent_decode(text.as_bytes()).decode_utf8();
    text.map(String::from).map_err(|_| "is not UTF-8")
}

/// Refuses a path that could be read in two ways.
pub(super) fn check_escapes(path: &str) -> Result<(), Failure> {
    match is_escaped_well(path) {
        true => Ok(()),
        false => Err(refused(
            "the path has a '%' that two hexadecimal digits don't follow",
        )),
    }
}

fn is_escaped_well(text: &str) -> bool {
    let escapes = text.split('%').skip(1);
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    escapes.into_iter().all(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &'static str) -> Option<Vec<(String, String)>> {
        let uri = format!("/v1/key-value?{query}");
        pairs(&uri.parse().unwrap()).ok()
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("key=%D0%B6&a+b=c%2Bd+e&&none&="),
            Some(vec![
                pair("key", "ж"),
                pair("a b", "c+d e"),
                pair("none", ""),
                pair("", "")
            ])
        );
        assert_eq!(read("key=%EF%BF%BD"), Some(vec![pair("key", "\u{fffd}")]));
        for bad in [
            "key=%FF",
            "key=%FE",
            "key=%C0%80",
            "key=%ED%A0%80",
            "%FF=1",
            "key=%",
            "key=%4",
            "key=%zz",
            "key=%%41",
            "key=a%D0",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
