//! The failures of the OpenAPI document: the same for every route, made from the table of errors.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::schema::Ref;
use utoipa::openapi::{ContentBuilder, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::failure::Error;
use crate::api::error_table::{ERRORS, Outcome};

/// Every failure there is.
pub(super) struct Errors;

/// Where HTTP has more to say than the code's own status.
const OF_HTTP: [(StatusCode, &str); 4] = [
    (
        StatusCode::REQUEST_TIMEOUT,
        "INVALID_REQUEST: the body did not arrive in time",
    ),
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "INVALID_REQUEST: the body is too long",
    ),
    (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "INVALID_REQUEST: the body is not application/json",
    ),
    (
        StatusCode::MISDIRECTED_REQUEST,
        "INVALID_REQUEST: this server does not answer to the name in Host",
    ),
];

/// What a client may be told with each status.
fn failures() -> BTreeMap<StatusCode, String> {
    let mut failures = BTreeMap::from(OF_HTTP.map(|(status, says)| (status, says.to_owned())));
    for row in ERRORS.iter().filter(|row| row.is_in_http) {
        let mut says = format!("{}: {}", row.code.as_str_name(), row.says);
        if row.can_retry {
            says += "; Retry-After says when to try again";
        }
        if row.outcome == Outcome::Told {
            says += "; details.indeterminate says whether something may have been done";
        }
        for status in row.http() {
            let all = failures.entry(status).or_default();
            if !all.is_empty() {
                *all += ". ";
            }
            *all += &says;
        }
    }
    failures
}

impl IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let error = Ref::from_schema_name(Error::name());
        let content = ContentBuilder::new().schema(Some(error)).build();
        let failure = |(status, description): (StatusCode, String)| {
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", content.clone());
            (status.as_str().to_owned(), RefOr::T(response.build()))
        };
        failures().into_iter().map(failure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_says_which_codes_it_has() {
        let failures = failures();
        let numbers: Vec<_> = failures.keys().map(StatusCode::as_u16).collect();
        let expected = [
            400, 401, 403, 404, 408, 409, 412, 413, 415, 421, 429, 500, 503, 504,
        ];
        assert_eq!(numbers, expected);
        assert_eq!(
            failures[&StatusCode::GATEWAY_TIMEOUT],
            "QUORUM_NOT_REACHED: too few replicas answered; details.indeterminate says whether something may have been \
             done. STORE_UNAVAILABLE: a store that the request needs is down, or did not answer in time; Retry-After says \
             when to try again; details.indeterminate says whether something may have been done"
        );
    }
}
