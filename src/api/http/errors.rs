//! The failures of the OpenAPI document: one list, the same for every route.

use std::collections::BTreeMap;

use utoipa::openapi::schema::Ref;
use utoipa::openapi::{ContentBuilder, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::failure::Error;

/// Every failure there is.
pub(super) struct Errors;

const FAILURES: [(&str, &str); 14] = [
    (
        "400",
        "INVALID_REQUEST or INVALID_REPLICATION_FACTOR: the message names the field",
    ),
    ("401", "UNAUTHORIZED: no valid token"),
    (
        "403",
        "FORBIDDEN: the token does not permit it, or a page of another site wanted to write",
    ),
    (
        "404",
        "TENANT_NOT_FOUND, KEY_NOT_FOUND or MIGRATION_NOT_FOUND",
    ),
    ("408", "INVALID_REQUEST: the body did not arrive in time"),
    (
        "409",
        "TENANT_EXISTS or IDEMPOTENCY_KEY_CONFLICT; IDEMPOTENCY_KEY_IN_USE while a request with the key is running: \
         Retry-After says when to try again, with the same key",
    ),
    (
        "412",
        "NODE_IN_USE: the cluster's state forbids it. KEY_CROWDED: too many unresolved siblings; read the key and write with \
         its context",
    ),
    ("413", "INVALID_REQUEST: the body is too long"),
    ("415", "INVALID_REQUEST: the body is not application/json"),
    (
        "421",
        "INVALID_REQUEST: this server does not answer to the name in Host",
    ),
    (
        "429",
        "RATE_LIMIT_EXCEEDED, for a tenant's limits and for overload: Retry-After says when to try again",
    ),
    ("500", "INTERNAL_ERROR"),
    (
        "503",
        "QUORUM_NOT_REACHED, STORE_UNAVAILABLE or STOPPING; details.indeterminate says whether a write may have taken effect",
    ),
    (
        "504",
        "QUORUM_NOT_REACHED or STORE_UNAVAILABLE after the deadline; details.indeterminate as above",
    ),
];

impl IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let error = Ref::from_schema_name(Error::name());
        let content = ContentBuilder::new().schema(Some(error)).build();
        let failure = |(status, description): (&str, &str)| {
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", content.clone());
            (status.to_owned(), RefOr::T(response.build()))
        };
        FAILURES.into_iter().map(failure).collect()
    }
}
