//! Headers, each of which means one thing.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::failure::{Failure, wrong};

/// The value of a header that means something once only; proxies and libraries differ in which of several they take.
pub(super) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.all(|value| Some(value) == first) {
        true => Ok(first),
        false => Err(wrong(
            name.as_str(),
            "is given twice, and differently; leave one of them out",
        )),
    }
}
