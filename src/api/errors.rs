//! What clients are told when something fails: one code, one status, one line, and what was needed.
//!
//! Which code an error has is said here; what the code means, its status above all, is in `error_table.rs`.
//!
//! A status travels in trailers, which many clients bound at 8 KiB. So texts that clients or adapters chose are cut,
//! and a context too long to fit is left out.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::error_table::{ErrorRow, error_row};
use super::{log_pace, methods};
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
        CoordinatorError::NodeInUse(_) | CoordinatorError::OlderVersion(_) => ErrorCode::NodeInUse,
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
    let row = error_row(error_code(error));
    let mut details = details(row, metadata(error, tenant));
    match error {
        CoordinatorError::InvalidRequest { field, problem } => {
            details.add_bad_request_violation(*field, cut(problem, MESSAGE_BYTES_MAX));
        }
        CoordinatorError::InvalidReplicationFactor(problem) => {
            details
                .add_bad_request_violation("replication_factor", cut(problem, MESSAGE_BYTES_MAX));
        }
        _ => {}
    }
    Status::with_error_details(row.status_when(error.timed_out()), message(error), details)
}

/// What travels with every status: the code, what it is about, and when to try again.
fn details(row: &ErrorRow, metadata: HashMap<String, String>) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(row.code.as_str_name(), DOMAIN, metadata);
    if row.can_retry {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    details
}

/// For what is no [`CoordinatorError`].
pub(super) fn status(code: ErrorCode, message: impl Into<String>) -> Status {
    status_in(error_row(code).status, code, message)
}

/// The same in another status than the code's own.
pub(super) fn status_in(status: Code, code: ErrorCode, message: impl Into<String>) -> Status {
    let info = ErrorDetails::with_error_info(code.as_str_name(), DOMAIN, HashMap::new());
    Status::with_error_details(status, message, info)
}

/// The same for what can be tried again after a while.
pub(super) fn status_to_retry(
    code: ErrorCode,
    message: impl Into<String>,
    after: Duration,
) -> Status {
    let row = error_row(code);
    let mut details = ErrorDetails::with_error_info(code.as_str_name(), DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(row.status, message, details)
}

/// A request met a bug of ours.
pub(super) fn internal() -> Status {
    status(ErrorCode::InternalError, "internal error")
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
    let method = methods::method(method);
    let code = method.map_or(ErrorCode::StoreUnavailable, |method| method.waits_for);
    let what = match code {
        ErrorCode::QuorumNotReached => "too few replicas answered",
        _ => "no store answered",
    };
    let indeterminate = begun && method.is_none_or(|method| method.changes);
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
    let row = error_row(code);
    Status::with_error_details(row.status_when(true), message, details(row, metadata))
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

    use super::super::error_table::Outcome;
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

    /// One of every kind.
    fn every_error() -> Vec<CoordinatorError> {
        use CoordinatorError::*;
        let key = || "i1".into();
        let down = |store| StoreError::Unavailable {
            store,
            cause: "connect to 10.0.0.7".into(),
        };
        let late = || StoreError::Late {
            store: "idempotency store",
        };
        let unreadable = StoreError::Unreadable {
            store: "metadata store",
            cause: "row 7".into(),
        };
        vec![
            InvalidRequest {
                field: "key",
                problem: "is empty".into(),
            },
            InvalidReplicationFactor("11 is not possible".into()),
            TenantNotFound("acme".into()),
            key_not_found("k1", vec![]),
            MigrationNotFound("m1".into()),
            TenantExists("acme".into()),
            IdempotencyKeyConflict {
                key: key(),
                cause: "used otherwise".into(),
            },
            IdempotencyKeyInUse { key: key() },
            AnswerNotKept(down("idempotency store")),
            AnswerNotKept(late()),
            NodeInUse("node 'n1' holds data".into()),
            OlderVersion("storage node n1".into()),
            Crowded("read it and write with its context".into()),
            Overloaded("10000 requests are at work".into()),
            Stopping,
            shortfall(false, false),
            shortfall(true, true),
            Store(down("metadata store")),
            Store(late()),
            Store(unreadable),
            Internal("a secret"),
        ]
    }

    #[test]
    fn every_error_has_its_code_and_status() {
        let lines = every_error().into_iter().map(|error| {
            let status = to_status(&error, "acme");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(info.domain, "pairdb");
            let retry = details.retry_info().map_or("", |_| ", RetryInfo");
            let field = details.bad_request().map_or("", |_| ", BadRequest");
            let code = status.code();
            let message = status.message().replace("; ", ";\n    ");
            format!("{} {code:?}{retry}{field}\n    {message}\n", info.reason)
        });
        insta::assert_snapshot!(lines.collect::<String>(), @r"
        INVALID_REQUEST InvalidArgument, BadRequest
            key: is empty
        INVALID_REPLICATION_FACTOR InvalidArgument, BadRequest
            replication_factor: 11 is not possible
        TENANT_NOT_FOUND NotFound
            tenant 'acme' not found;
            create it first
        KEY_NOT_FOUND NotFound
            key 'k1' not found
        MIGRATION_NOT_FOUND NotFound
            migration 'm1' not found
        TENANT_EXISTS AlreadyExists
            tenant 'acme' already exists
        IDEMPOTENCY_KEY_CONFLICT AlreadyExists
            idempotency key 'i1' conflict: used otherwise
        IDEMPOTENCY_KEY_IN_USE Aborted, RetryInfo
            a request with the idempotency key 'i1' is still running;
            repeat it after a moment, with the same key
        STORE_UNAVAILABLE Unavailable, RetryInfo
            the write was made, but the idempotency store has not confirmed that it keeps the answer;
            repeat it with the same idempotency key
        STORE_UNAVAILABLE DeadlineExceeded, RetryInfo
            the write was made, but the idempotency store has not confirmed that it keeps the answer;
            repeat it with the same idempotency key
        NODE_IN_USE FailedPrecondition
            node 'n1' holds data
        NODE_IN_USE FailedPrecondition
            storage node n1
        KEY_CROWDED FailedPrecondition
            read it and write with its context
        RATE_LIMIT_EXCEEDED ResourceExhausted, RetryInfo
            overloaded: 10000 requests are at work;
            retry after a moment
        STOPPING Unavailable, RetryInfo
            the coordinator is stopping;
            ask another one
        QUORUM_NOT_REACHED Unavailable
            1 of 2 replicas needed for quorum answered and no more can;
            missing: n2 (no answer), n3 (refused)
        QUORUM_NOT_REACHED DeadlineExceeded
            1 of 2 replicas needed for quorum answered before the deadline;
            missing: n2 (no answer), n3 (refused);
            the topology keeps changing;
            the write is indeterminate: it may take effect later
        STORE_UNAVAILABLE Unavailable, RetryInfo
            the metadata store is unavailable;
            retry after a moment
        STORE_UNAVAILABLE DeadlineExceeded, RetryInfo
            the idempotency store did not answer before the deadline;
            retry with a later one
        INTERNAL_ERROR Internal
            internal error
        INTERNAL_ERROR Internal
            internal error
        ");
    }

    #[test]
    fn what_may_have_been_done_is_told_as_the_table_says() {
        for error in every_error() {
            let row = error_row(error_code(&error));
            let status = to_status(&error, "acme");
            let info = status.get_details_error_info().unwrap();
            let told = info.metadata.get("indeterminate");
            if let Some(told) = told {
                assert_eq!(*told, error.is_indeterminate().to_string(), "{error:?}");
                assert_eq!(row.outcome, Outcome::Told, "{error:?}");
            }
            if error.is_indeterminate() {
                let is_open = row.outcome == Outcome::Unknown;
                assert!(told.is_some() || is_open, "{error:?}");
            }
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
