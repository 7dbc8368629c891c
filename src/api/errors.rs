//! What clients are told when something fails: one code, one status, one line, and what was needed.
//!
//! | error | code | status |
//! |---|---|---|
//! | a field is wrong | INVALID_REQUEST | INVALID_ARGUMENT |
//! | the replication factor is | INVALID_REPLICATION_FACTOR | INVALID_ARGUMENT |
//! | no such tenant, key, migration | …_NOT_FOUND | NOT_FOUND |
//! | such a tenant already | TENANT_EXISTS | ALREADY_EXISTS |
//! | an idempotency key used otherwise | IDEMPOTENCY_KEY_CONFLICT | ALREADY_EXISTS |
//! | a request with the idempotency key is still running | IDEMPOTENCY_KEY_IN_USE | ABORTED, with RetryInfo |
//! | the cluster's state forbids it | NODE_IN_USE | FAILED_PRECONDITION |
//! | the key has too many unresolved siblings | KEY_CROWDED | FAILED_PRECONDITION |
//! | overload | RATE_LIMIT_EXCEEDED | RESOURCE_EXHAUSTED, with RetryInfo |
//! | too few replicas | QUORUM_NOT_REACHED | UNAVAILABLE, or DEADLINE_EXCEEDED |
//! | a store is down, or did not answer in time | STORE_UNAVAILABLE | UNAVAILABLE, or DEADLINE_EXCEEDED, with RetryInfo |
//! | the coordinator stops | STOPPING | UNAVAILABLE, with RetryInfo |
//! | our fault | INTERNAL_ERROR | INTERNAL |
//!
//! A status travels in trailers, which many clients bound at 8 KiB. So texts that clients or adapters chose are cut,
//! and a context too long to fit is left out.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::log_pace;
use crate::coordinator::{CoordinatorError, QuorumNotReached};
use crate::ports::StoreError;
use crate::proto::v1::ErrorCode;

/// The `domain` of every ErrorInfo.
pub(super) const DOMAIN: &str = "pairdb";

/// When to try again after overload, or after a store was down.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The longest message.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;
/// A key in a message is cut to this.
const KEY_BYTES_SHOWN: usize = 128;
/// The longest context that goes into the details.
const CONTEXT_BYTES_MAX: usize = 2048;

/// The stable code of an error.
#[must_use]
pub const fn error_code(error: &CoordinatorError) -> ErrorCode {
    match error {
        CoordinatorError::InvalidRequest { .. } => ErrorCode::InvalidRequest,
        CoordinatorError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CoordinatorError::TenantNotFound(_) => ErrorCode::TenantNotFound,
        CoordinatorError::TenantExists(_) => ErrorCode::TenantExists,
        CoordinatorError::KeyNotFound { .. } => ErrorCode::KeyNotFound,
        CoordinatorError::MigrationNotFound(_) => ErrorCode::MigrationNotFound,
        CoordinatorError::QuorumNotReached(_) => ErrorCode::QuorumNotReached,
        CoordinatorError::IdempotencyKeyConflict { .. } => ErrorCode::IdempotencyKeyConflict,
        CoordinatorError::NodeInUse(_) => ErrorCode::NodeInUse,
        CoordinatorError::Crowded(_) => ErrorCode::KeyCrowded,
        CoordinatorError::Overloaded(_) => ErrorCode::RateLimitExceeded,
        CoordinatorError::Stopping => ErrorCode::Stopping,
        CoordinatorError::IdempotencyKeyInUse { .. } => ErrorCode::IdempotencyKeyInUse,
        CoordinatorError::AnswerNotKept(_)
        | CoordinatorError::Store(StoreError::Unavailable { .. } | StoreError::Late { .. }) => {
            ErrorCode::StoreUnavailable
        }
        CoordinatorError::Store(StoreError::Unreadable { .. }) | CoordinatorError::Internal(_) => {
            ErrorCode::InternalError
        }
    }
}

/// The status of an error, for a request of `tenant` (empty when it has none).
#[must_use]
pub fn to_status(error: &CoordinatorError, tenant: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        error_code(error).as_str_name(),
        DOMAIN,
        metadata(error, tenant),
    );
    match error {
        CoordinatorError::InvalidRequest { field, problem } => {
            details.add_bad_request_violation(*field, cut(problem, MESSAGE_BYTES_MAX));
        }
        CoordinatorError::InvalidReplicationFactor(problem) => {
            details
                .add_bad_request_violation("replication_factor", cut(problem, MESSAGE_BYTES_MAX));
        }
        CoordinatorError::Overloaded(_)
        | CoordinatorError::Stopping
        | CoordinatorError::IdempotencyKeyInUse { .. }
        | CoordinatorError::AnswerNotKept(_)
        | CoordinatorError::Store(StoreError::Unavailable { .. } | StoreError::Late { .. }) => {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        _ => {}
    }
    Status::with_error_details(status_code(error), message(error), details)
}

/// For what is no [`CoordinatorError`].
pub(super) fn status(code: Code, error_code: ErrorCode, message: impl Into<String>) -> Status {
    let info = ErrorDetails::with_error_info(error_code.as_str_name(), DOMAIN, HashMap::new());
    Status::with_error_details(code, message, info)
}

/// The same for what can be tried again after a while.
pub(super) fn status_to_retry(
    (code, error_code): (Code, ErrorCode),
    message: impl Into<String>,
    after: Duration,
) -> Status {
    let reason = error_code.as_str_name();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// The process has no room for a request.
pub(super) fn overloaded() -> Status {
    let why = "as many bytes of requests are at work as there is room for".into();
    to_status(&CoordinatorError::Overloaded(why), "")
}

/// There is no place for a connection's requests.
pub(super) fn crowded() -> Status {
    let why = "all connections that there may be are at work".into();
    to_status(&CoordinatorError::Overloaded(why), "")
}

/// The client's deadline passed. `begun`: the request was already at work, and whether it takes effect is not known;
/// otherwise it had not arrived.
pub(super) fn late(method: &str, begun: bool) -> Status {
    let changes = !matches!(method, "ReadKeyValue" | "GetTenant")
        && !method.starts_with("List")
        && !matches!(
            method,
            "GetConvergence" | "GetMigrationStatus" | "VerifyPage"
        );
    let (code, what) = match method {
        "ReadKeyValue" | "WriteKeyValue" | "DeleteKeyValue" => {
            (ErrorCode::QuorumNotReached, "too few replicas answered")
        }
        _ => (ErrorCode::StoreUnavailable, "no store answered"),
    };
    let indeterminate = changes && begun;
    let message = match (begun, indeterminate) {
        (false, _) => "the deadline passed before the request had arrived".to_owned(),
        (true, false) => format!("{what} before the deadline"),
        (true, true) => {
            format!(
                "{what} before the deadline; the request is indeterminate: it may take effect later"
            )
        }
    };
    let mut metadata = HashMap::from([("indeterminate".to_owned(), indeterminate.to_string())]);
    if code == ErrorCode::StoreUnavailable {
        metadata.insert("store".to_owned(), "metadata store".to_owned());
    }
    let mut details = ErrorDetails::with_error_info(code.as_str_name(), DOMAIN, metadata);
    if code == ErrorCode::StoreUnavailable {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

const fn status_code(error: &CoordinatorError) -> Code {
    match error {
        CoordinatorError::InvalidRequest { .. } | CoordinatorError::InvalidReplicationFactor(_) => {
            Code::InvalidArgument
        }
        CoordinatorError::TenantNotFound(_)
        | CoordinatorError::KeyNotFound { .. }
        | CoordinatorError::MigrationNotFound(_) => Code::NotFound,
        CoordinatorError::TenantExists(_) | CoordinatorError::IdempotencyKeyConflict { .. } => {
            Code::AlreadyExists
        }
        CoordinatorError::IdempotencyKeyInUse { .. } => Code::Aborted,
        CoordinatorError::NodeInUse(_) | CoordinatorError::Crowded(_) => Code::FailedPrecondition,
        CoordinatorError::Overloaded(_) => Code::ResourceExhausted,
        CoordinatorError::AnswerNotKept(StoreError::Late { .. })
        | CoordinatorError::Store(StoreError::Late { .. }) => Code::DeadlineExceeded,
        CoordinatorError::QuorumNotReached(shortfall) if shortfall.timed_out => {
            Code::DeadlineExceeded
        }
        CoordinatorError::QuorumNotReached(_)
        | CoordinatorError::Stopping
        | CoordinatorError::AnswerNotKept(_)
        | CoordinatorError::Store(StoreError::Unavailable { .. }) => Code::Unavailable,
        CoordinatorError::Store(StoreError::Unreadable { .. }) | CoordinatorError::Internal(_) => {
            Code::Internal
        }
    }
}

/// The line for people. What is ours goes to the log instead.
fn message(error: &CoordinatorError) -> String {
    let message = match error {
        CoordinatorError::KeyNotFound { key, .. } => {
            format!("key '{}' not found", cut(key, KEY_BYTES_SHOWN))
        }
        CoordinatorError::Store(StoreError::Unavailable { store, .. }) => {
            store_is_away(error);
            format!("the {store} is unavailable; retry after a moment")
        }
        CoordinatorError::Store(StoreError::Late { store }) => {
            format!("the {store} did not answer before the deadline; retry with a later one")
        }
        CoordinatorError::AnswerNotKept(_) => {
            store_is_away(error);
            "the write was made, but the idempotency store has not confirmed that it keeps the answer; repeat it with the \
             same idempotency key"
                .into()
        }
        CoordinatorError::Store(StoreError::Unreadable { .. }) | CoordinatorError::Internal(_) => {
            if let Some(left_out) = log_pace::FAULT.tell() {
                tracing::error!(%error, left_out, "a request failed by a fault of ours");
            }
            "internal error".into()
        }
        error => error.to_string(),
    };
    cut(&message, MESSAGE_BYTES_MAX)
}

fn store_is_away(error: &CoordinatorError) {
    if let Some(left_out) = log_pace::STORE.tell() {
        tracing::warn!(%error, left_out, "a request needed a store that is down");
    }
}

fn metadata(error: &CoordinatorError, tenant: &str) -> HashMap<String, String> {
    let pairs = match error {
        CoordinatorError::InvalidRequest { field, .. } => vec![("field", (*field).to_owned())],
        CoordinatorError::InvalidReplicationFactor(_) => {
            vec![("field", "replication_factor".to_owned())]
        }
        CoordinatorError::TenantNotFound(name) | CoordinatorError::TenantExists(name) => {
            vec![("tenant_id", name.clone())]
        }
        CoordinatorError::KeyNotFound { key, context, .. } => {
            let mut pairs = vec![("tenant_id", tenant.to_owned()), ("key", key.clone())];
            if context.len() <= CONTEXT_BYTES_MAX {
                pairs.push(("context", STANDARD.encode(context)));
            }
            pairs
        }
        CoordinatorError::MigrationNotFound(id) => vec![("migration_id", id.clone())],
        CoordinatorError::QuorumNotReached(shortfall) => shortfall_pairs(shortfall),
        CoordinatorError::IdempotencyKeyConflict { key, .. }
        | CoordinatorError::IdempotencyKeyInUse { key } => {
            vec![("idempotency_key", key.clone())]
        }
        CoordinatorError::Store(
            StoreError::Unavailable { store, .. } | StoreError::Late { store },
        ) => {
            vec![("store", (*store).to_owned())]
        }
        CoordinatorError::AnswerNotKept(_) => vec![
            ("store", "idempotency store".to_owned()),
            ("indeterminate", error.is_indeterminate().to_string()),
        ],
        _ => vec![],
    };
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), cut(&value, CONTEXT_BYTES_MAX * 3 / 2)))
        .collect()
}

fn shortfall_pairs(shortfall: &QuorumNotReached) -> Vec<(&'static str, String)> {
    let missing: Vec<_> = shortfall
        .missing
        .iter()
        .map(|(node, _)| node.as_str())
        .collect();
    vec![
        ("consistency", shortfall.consistency.as_str().to_owned()),
        ("required", shortfall.required.to_string()),
        ("answered", shortfall.answered.to_string()),
        ("missing", missing.join(",")),
        ("indeterminate", shortfall.indeterminate.to_string()),
    ]
}

/// The text, or as much of it as fits, with a sign that there was more.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::quorum::Consistency;

    fn shortfall(timed_out: bool, indeterminate: bool) -> CoordinatorError {
        CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
            consistency: Consistency::Quorum,
            required: 2,
            answered: 1,
            missing: vec![
                ("n2".into(), "no answer".into()),
                ("n3".into(), "refused".into()),
            ],
            cause: timed_out.then(|| "the topology keeps changing".into()),
            timed_out,
            indeterminate,
        }))
    }

    fn key_not_found(key: &str, context: Vec<u8>) -> CoordinatorError {
        CoordinatorError::KeyNotFound {
            key: key.into(),
            context: Bytes::from(context),
            clock: vec![],
        }
    }

    #[test]
    fn every_error_has_its_code_and_status() {
        let store = |error| CoordinatorError::Store(error);
        let cases = [
            (
                CoordinatorError::InvalidRequest {
                    field: "key",
                    problem: "is empty".into(),
                },
                "INVALID_REQUEST",
                Code::InvalidArgument,
                "key: is empty",
            ),
            (
                CoordinatorError::InvalidReplicationFactor("11 is not possible".into()),
                "INVALID_REPLICATION_FACTOR",
                Code::InvalidArgument,
                "replication_factor: 11 is not possible",
            ),
            (
                CoordinatorError::TenantNotFound("acme".into()),
                "TENANT_NOT_FOUND",
                Code::NotFound,
                "tenant 'acme' not found; create it first",
            ),
            (
                key_not_found("k1", vec![]),
                "KEY_NOT_FOUND",
                Code::NotFound,
                "key 'k1' not found",
            ),
            (
                CoordinatorError::MigrationNotFound("m1".into()),
                "MIGRATION_NOT_FOUND",
                Code::NotFound,
                "migration 'm1' not found",
            ),
            (
                CoordinatorError::TenantExists("acme".into()),
                "TENANT_EXISTS",
                Code::AlreadyExists,
                "tenant 'acme' already exists",
            ),
            (
                CoordinatorError::IdempotencyKeyConflict {
                    key: "i1".into(),
                    cause: "used otherwise".into(),
                },
                "IDEMPOTENCY_KEY_CONFLICT",
                Code::AlreadyExists,
                "idempotency key 'i1' conflict: used otherwise",
            ),
            (
                CoordinatorError::IdempotencyKeyInUse { key: "i1".into() },
                "IDEMPOTENCY_KEY_IN_USE",
                Code::Aborted,
                "a request with the idempotency key 'i1' is still running; repeat it after a moment, with the same key",
            ),
            (
                CoordinatorError::AnswerNotKept(StoreError::Unavailable {
                    store: "idempotency store",
                    cause: "connect to 10.0.0.7".into(),
                }),
                "STORE_UNAVAILABLE",
                Code::Unavailable,
                "the write was made, but the idempotency store has not confirmed that it keeps the answer; repeat it with \
                 the same idempotency key",
            ),
            (
                store(StoreError::Late {
                    store: "idempotency store",
                }),
                "STORE_UNAVAILABLE",
                Code::DeadlineExceeded,
                "the idempotency store did not answer before the deadline; retry with a later one",
            ),
            (
                CoordinatorError::NodeInUse("node 'n1' holds data".into()),
                "NODE_IN_USE",
                Code::FailedPrecondition,
                "node 'n1' holds data",
            ),
            (
                CoordinatorError::Crowded("read it and write with its context".into()),
                "KEY_CROWDED",
                Code::FailedPrecondition,
                "read it and write with its context",
            ),
            (
                CoordinatorError::Overloaded("10000 requests are at work".into()),
                "RATE_LIMIT_EXCEEDED",
                Code::ResourceExhausted,
                "overloaded: 10000 requests are at work; retry after a moment",
            ),
            (
                CoordinatorError::Stopping,
                "STOPPING",
                Code::Unavailable,
                "the coordinator is stopping; ask another one",
            ),
            (
                shortfall(false, false),
                "QUORUM_NOT_REACHED",
                Code::Unavailable,
                "1 of 2 replicas needed for quorum answered and no more can; missing: n2 (no answer), n3 (refused)",
            ),
            (
                shortfall(true, true),
                "QUORUM_NOT_REACHED",
                Code::DeadlineExceeded,
                "1 of 2 replicas needed for quorum answered before the deadline; missing: n2 (no answer), n3 (refused); \
                 the topology keeps changing; the write is indeterminate: it may take effect later",
            ),
            (
                store(StoreError::Unavailable {
                    store: "metadata store",
                    cause: "connect to 10.0.0.7".into(),
                }),
                "STORE_UNAVAILABLE",
                Code::Unavailable,
                "the metadata store is unavailable; retry after a moment",
            ),
            (
                store(StoreError::Unreadable {
                    store: "metadata store",
                    cause: "row 7".into(),
                }),
                "INTERNAL_ERROR",
                Code::Internal,
                "internal error",
            ),
            (
                CoordinatorError::Internal("a secret"),
                "INTERNAL_ERROR",
                Code::Internal,
                "internal error",
            ),
        ];
        for (error, reason, code, message) in cases {
            let status = to_status(&error, "acme");
            assert_eq!((status.code(), status.message()), (code, message));
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason, "pairdb")
            );
            let retryable = matches!(
                reason,
                "RATE_LIMIT_EXCEEDED" | "STORE_UNAVAILABLE" | "STOPPING" | "IDEMPOTENCY_KEY_IN_USE"
            );
            assert_eq!(details.retry_info().is_some(), retryable, "{reason}");
            assert_eq!(
                details.bad_request().is_some(),
                code == Code::InvalidArgument,
                "{reason}"
            );
        }
    }

    #[test]
    fn a_shortfall_says_what_was_needed_and_who_was_missing() {
        let status = to_status(&shortfall(true, true), "acme");
        let details = status.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        let expected = [
            ("consistency", "quorum"),
            ("required", "2"),
            ("answered", "1"),
            ("missing", "n2,n3"),
            ("indeterminate", "true"),
        ];
        assert_eq!(metadata.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(metadata[name], value);
        }
    }

    #[test]
    fn a_write_whose_answer_was_not_kept_is_said_to_be_indeterminate() {
        let error = CoordinatorError::AnswerNotKept(StoreError::Late {
            store: "idempotency store",
        });
        let details = to_status(&error, "acme").get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["indeterminate"], "true");
        assert_eq!(metadata["store"], "idempotency store");
    }

    #[test]
    fn a_missing_key_tells_what_the_answer_covers() {
        let status = to_status(&key_not_found("k1", b"context".to_vec()), "acme");
        let details = status.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["tenant_id"], "acme");
        assert_eq!(metadata["key"], "k1");
        assert_eq!(metadata["context"], STANDARD.encode("context"));
    }

    #[test]
    fn a_status_fits_the_trailers_that_clients_take() {
        let key = "ж".repeat(512);
        let missing = (0..10)
            .map(|n| (format!("{n}").repeat(255), "reason ".repeat(100)))
            .collect();
        let long_shortfall = CoordinatorError::QuorumNotReached(Box::new(QuorumNotReached {
            consistency: Consistency::All,
            required: 10,
            answered: 0,
            missing,
            cause: None,
            timed_out: false,
            indeterminate: false,
        }));
        for error in [
            key_not_found(&key, vec![0xff; 2048]),
            key_not_found(&key, vec![0xff; 4096]),
            long_shortfall,
        ] {
            let headers = to_status(&error, &"t".repeat(255))
                .into_http::<()>()
                .into_parts()
                .0
                .headers;
            let bytes: usize = headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum();
            assert!(bytes < 8192, "{bytes} bytes");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("жж", 4), "жж");
        assert_eq!(cut("жж", 3), "ж…");
    }
}
