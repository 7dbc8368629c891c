//! What every error means: the one table that statuses, exit codes, hints, alerts and documents derive from.
//!
//! [`ERRORS`] has a row for each code of the contract: its gRPC status, whether it can be tried again, whether anything
//! may have been done all the same, whose fault it is, and what the person at the command line should do. [`STATUSES`]
//! has a row for each gRPC status: its HTTP status, the exit code of `pairdb`, and what a status means that came
//! without a code, from a library or from something between client and server.
//!
//! What it is not: which error a request met, which the coordinator says, and the words about the one that it met
//! (`errors.rs`).
//!
//! Invariants, held by the tests below:
//! - every code of `proto/` and every gRPC status has exactly one row;
//! - `proto/`, the exit codes in docs/errors.md and the alert on errors say the same as these rows. The OpenAPI
//!   document and `pairdb --help` are made from them.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::proto::v1::ErrorCode;

/// What a code of the contract means.
#[derive(Clone, Copy, Debug)]
pub struct ErrorRow {
    /// The code.
    pub code: ErrorCode,
    /// The gRPC status that it travels in.
    pub status: Code,
    /// Whether it travels in `DEADLINE_EXCEEDED` instead, when time ran out.
    pub can_be_late: bool,
    /// Whether the same request may succeed after a while: it comes with `RetryInfo`.
    pub can_retry: bool,
    /// Whether something was done.
    pub outcome: Outcome,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether HTTP has a route that can fail so.
    pub is_in_http: bool,
    /// What it says, for documents.
    pub says: &'static str,
    /// The way out, for whoever ran a command.
    pub hint: Option<&'static str>,
}

/// Whether a failed request did something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It did nothing.
    Nothing,
    /// `indeterminate` in its metadata is "true" if it may have.
    Told,
    /// Nobody knows.
    Unknown,
}

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The request's: it has to be another one, or somebody else's.
    Client,
    /// The cluster's: it owes an answer and has none.
    Server,
    /// Nobody's: it asks for more than there is room for, or for something that is going on elsewhere.
    Load,
}

/// What the process exits with. The numbers are a promise to scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failure = 1,
    /// The command line, the configuration or a value in it is wrong, or too large; nothing was done.
    Usage = 2,
    /// No such key, tenant, node or migration.
    NotFound = 3,
    /// It exists already, or the idempotency key belongs to another request, or to one that is still running.
    Conflict = 4,
    /// Too few replicas answered, or the server can't be reached; nothing was written.
    Unavailable = 5,
    /// The write may or may not take effect; reading the key tells.
    Indeterminate = 6,
    /// Refused: by the cluster's state, for lack of a permission, or because a limit is reached.
    Refused = 7,
}

/// All exit codes, and what they say.
pub const EXITS: [(u8, &str); 8] = [
    (0, "done"),
    (Exit::Failure as u8, "any other failure"),
    (
        Exit::Usage as u8,
        "usage: the command line, the configuration or a value is wrong, or too large",
    ),
    (
        Exit::NotFound as u8,
        "not found: no such key, tenant, node or migration",
    ),
    (
        Exit::Conflict as u8,
        "conflict: it exists already, or the idempotency key is another request's, or of one still running",
    ),
    (
        Exit::Unavailable as u8,
        "unavailable: too few replicas answered, or no server there; nothing was written",
    ),
    (
        Exit::Indeterminate as u8,
        "indeterminate: the write may or may not take effect",
    ),
    (
        Exit::Refused as u8,
        "refused: by the cluster's state, for lack of a permission, or because a limit is reached",
    ),
];

/// What to do about a write that may take effect.
pub const INDETERMINATE_HINT: &str = "read the key to see; to repeat the write safely, give every attempt the same \
                                      --idempotency-key";

/// The label in metrics of a request that had no answer in its client's time, whatever kept it.
pub const LATE: &str = "DEADLINE_EXCEEDED";

/// What is not classified, as a newer server's codes are to an older client.
const UNKNOWN: ErrorRow = row(
    (ErrorCode::Unknown, Code::Unknown),
    Fault::Server,
    "not classified",
)
.outcome(Outcome::Unknown)
.not_in_http();

/// Every error that there is.
pub static ERRORS: [ErrorRow; 19] = [
    row(
        (ErrorCode::InvalidRequest, Code::InvalidArgument),
        Fault::Client,
        "a field is wrong; the message names it",
    ),
    row(
        (ErrorCode::InvalidReplicationFactor, Code::InvalidArgument),
        Fault::Client,
        "the cluster can't hold so many replicas",
    ),
    row(
        (ErrorCode::TenantNotFound, Code::NotFound),
        Fault::Client,
        "there is no such tenant",
    )
    .hint("create it with `pairdb tenant create TENANT`"),
    row(
        (ErrorCode::KeyNotFound, Code::NotFound),
        Fault::Client,
        "the key has no value, or was deleted",
    ),
    row(
        (ErrorCode::MigrationNotFound, Code::NotFound),
        Fault::Client,
        "there is no such migration",
    ),
    row(
        (ErrorCode::ApiKeyNotFound, Code::NotFound),
        Fault::Client,
        "the tenant has no API key of this id",
    )
    .hint("`pairdb tenant key list TENANT` shows the keys")
    .not_in_http(),
    row(
        (ErrorCode::TenantExists, Code::AlreadyExists),
        Fault::Client,
        "there is such a tenant already",
    )
    .hint("`pairdb tenant get TENANT` shows it"),
    row(
        (ErrorCode::IdempotencyKeyConflict, Code::AlreadyExists),
        Fault::Client,
        "the idempotency key is another request's",
    )
    .hint("use a new idempotency key for a new request"),
    row(
        (ErrorCode::IdempotencyKeyInUse, Code::Aborted),
        Fault::Load,
        "the request with the idempotency key is still running; repeat it after a moment, with the same key",
    )
    .retry()
    .hint("retry after a moment with the same idempotency key, to get that request's answer"),
    row(
        (ErrorCode::NodeInUse, Code::FailedPrecondition),
        Fault::Client,
        "the cluster's state forbids the change",
    ),
    row(
        (ErrorCode::KeyCrowded, Code::FailedPrecondition),
        Fault::Client,
        "the key has too many unresolved siblings; read it and write with its context",
    )
    .hint("`pairdb get` shows what is there; write with the context that it prints"),
    row(
        (ErrorCode::Unauthorized, Code::Unauthenticated),
        Fault::Client,
        "there is no token, or none that is valid",
    )
    .hint("give a token with --token or PAIRDB_TOKEN"),
    row(
        (ErrorCode::Forbidden, Code::PermissionDenied),
        Fault::Client,
        "the token does not permit it, or a page of another site wanted to write",
    )
    .hint("check the token's role and the tenant it belongs to"),
    row(
        (ErrorCode::RateLimitExceeded, Code::ResourceExhausted),
        Fault::Load,
        "more than the tenant's limits, or than the coordinator can take on",
    )
    .retry()
    .hint("retry after a moment"),
    row(
        (ErrorCode::QuorumNotReached, Code::Unavailable),
        Fault::Server,
        "too few replicas answered",
    )
    .late()
    .outcome(Outcome::Told)
    .hint("`pairdb status` shows the storage nodes; --consistency one needs only one of them"),
    row(
        (ErrorCode::StoreUnavailable, Code::Unavailable),
        Fault::Server,
        "a store that the request needs is down, or did not answer in time",
    )
    .late()
    .retry()
    .outcome(Outcome::Told)
    .hint("retry after a moment; the server's log has the cause"),
    row(
        (ErrorCode::Stopping, Code::Unavailable),
        Fault::Load,
        "this coordinator is stopping and did nothing; another one takes the request",
    )
    .retry()
    .hint("retry after a moment, or ask another coordinator"),
    row(
        (ErrorCode::InternalError, Code::Internal),
        Fault::Server,
        "a fault of the server",
    )
    .outcome(Outcome::Unknown),
    UNKNOWN,
];

/// What a gRPC status means.
#[derive(Clone, Copy, Debug)]
pub struct StatusRow {
    /// The status.
    pub status: Code,
    /// Its name.
    pub name: &'static str,
    /// The HTTP status that says the same.
    pub http: StatusCode,
    /// What a command exits with.
    pub exit: Exit,
    /// Whether it says that the answer was lost on the way. Without a code of ours nobody knows what the request did.
    pub is_lost_answer: bool,
    /// The code of one that brings none.
    pub code: ErrorCode,
}

/// Every gRPC status.
#[rustfmt::skip] // a row a line
pub static STATUSES: [StatusRow; 17] = [
    status((Code::Ok, "OK"), StatusCode::OK, Exit::Failure),
    status((Code::Cancelled, "CANCELLED"), StatusCode::INTERNAL_SERVER_ERROR, Exit::Unavailable).lost(),
    status((Code::Unknown, "UNKNOWN"), StatusCode::INTERNAL_SERVER_ERROR, Exit::Unavailable).lost(),
    status((Code::InvalidArgument, "INVALID_ARGUMENT"), StatusCode::BAD_REQUEST, Exit::Usage)
        .alone(ErrorCode::InvalidRequest),
    status((Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), StatusCode::GATEWAY_TIMEOUT, Exit::Unavailable).lost(),
    status((Code::NotFound, "NOT_FOUND"), StatusCode::NOT_FOUND, Exit::NotFound),
    status((Code::AlreadyExists, "ALREADY_EXISTS"), StatusCode::CONFLICT, Exit::Conflict),
    status((Code::PermissionDenied, "PERMISSION_DENIED"), StatusCode::FORBIDDEN, Exit::Refused)
        .alone(ErrorCode::Forbidden),
    status((Code::ResourceExhausted, "RESOURCE_EXHAUSTED"), StatusCode::TOO_MANY_REQUESTS, Exit::Refused)
        .alone(ErrorCode::RateLimitExceeded),
    status((Code::FailedPrecondition, "FAILED_PRECONDITION"), StatusCode::PRECONDITION_FAILED, Exit::Refused),
    status((Code::Aborted, "ABORTED"), StatusCode::CONFLICT, Exit::Conflict),
    status((Code::OutOfRange, "OUT_OF_RANGE"), StatusCode::BAD_REQUEST, Exit::Usage)
        .alone(ErrorCode::InvalidRequest),
    status((Code::Unimplemented, "UNIMPLEMENTED"), StatusCode::NOT_IMPLEMENTED, Exit::Failure),
    INTERNAL,
    status((Code::Unavailable, "UNAVAILABLE"), StatusCode::SERVICE_UNAVAILABLE, Exit::Unavailable).lost(),
    status((Code::DataLoss, "DATA_LOSS"), StatusCode::INTERNAL_SERVER_ERROR, Exit::Failure),
    status((Code::Unauthenticated, "UNAUTHENTICATED"), StatusCode::UNAUTHORIZED, Exit::Refused)
        .alone(ErrorCode::Unauthorized),
];

/// What stands for a status that there is none of.
const INTERNAL: StatusRow = status(
    (Code::Internal, "INTERNAL"),
    StatusCode::INTERNAL_SERVER_ERROR,
    Exit::Failure,
);

/// What a code means.
#[must_use]
pub fn error_row(code: ErrorCode) -> &'static ErrorRow {
    let found = ERRORS.iter().find(|row| row.code == code);
    found.unwrap_or(&UNKNOWN)
}

/// Whether what metrics call a failure so is the cluster's fault.
#[must_use]
pub fn is_own_fault(label: &str) -> bool {
    let code = ErrorCode::from_str_name(label);
    label == LATE || code.is_some_and(|code| error_row(code).fault == Fault::Server)
}

/// What a gRPC status means.
#[must_use]
pub fn status_row(status: Code) -> &'static StatusRow {
    let found = STATUSES.iter().find(|row| row.status == status);
    found.unwrap_or(&INTERNAL)
}

impl ErrorRow {
    /// The gRPC status, if time ran out or if it did not.
    #[must_use]
    pub const fn status_when(&self, is_late: bool) -> Code {
        match is_late && self.can_be_late {
            true => Code::DeadlineExceeded,
            false => self.status,
        }
    }

    /// The HTTP statuses that it is told with.
    pub fn http(&self) -> impl Iterator<Item = StatusCode> {
        let late = self.can_be_late.then_some(Code::DeadlineExceeded);
        let statuses = [self.status].into_iter().chain(late);
        statuses.map(|status| status_row(status).http)
    }

    /// What a command exits with that was told so, for certain without effect.
    #[must_use]
    pub fn exit(&self) -> Exit {
        status_row(self.status).exit
    }
}

const fn row((code, status): (ErrorCode, Code), fault: Fault, says: &'static str) -> ErrorRow {
    ErrorRow {
        code,
        status,
        can_be_late: false,
        can_retry: false,
        outcome: Outcome::Nothing,
        fault,
        is_in_http: true,
        says,
        hint: None,
    }
}

impl ErrorRow {
    const fn late(mut self) -> Self {
        self.can_be_late = true;
        self
    }

    const fn retry(mut self) -> Self {
        self.can_retry = true;
        self
    }

    const fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    const fn not_in_http(mut self) -> Self {
        self.is_in_http = false;
        self
    }

    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

const fn status((status, name): (Code, &'static str), http: StatusCode, exit: Exit) -> StatusRow {
    StatusRow {
        status,
        name,
        http,
        exit,
        is_lost_answer: false,
        code: ErrorCode::InternalError,
    }
}

impl StatusRow {
    const fn lost(mut self) -> Self {
        self.is_lost_answer = true;
        self
    }

    const fn alone(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PROTO: &str = include_str!("../../proto/pairdb/v1/coordinator.proto");
    const PAGE: &str = include_str!("../../docs/errors.md");
    const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yaml");

    /// Codes and what `proto/` says of each.
    fn documented() -> Vec<(&'static str, String)> {
        let body = PROTO.split("enum ErrorCode {").nth(1).unwrap();
        let body = body.split("\n}").next().unwrap();
        let mut codes = Vec::new();
        let mut comment = String::new();
        for line in body.lines().map(str::trim) {
            match (line.strip_prefix("//"), line.split_once(" = ")) {
                (Some(text), _) => comment += text,
                (None, Some((name, _))) => codes.push((name, std::mem::take(&mut comment))),
                (None, None) => {}
            }
        }
        codes
    }

    #[test]
    fn every_code_has_one_row_and_is_documented_as_it_is() {
        let documented = documented();
        let names: BTreeSet<_> = documented.iter().map(|(name, _)| *name).collect();
        let rows = ERRORS.iter().map(|row| row.code.as_str_name());
        assert_eq!(names, rows.clone().collect());
        assert_eq!(rows.count(), names.len(), "each has one row");
        for (name, comment) in &documented {
            let row = error_row(ErrorCode::from_str_name(name).unwrap());
            let status = status_row(row.status).name;
            assert!(
                row.code == ErrorCode::Unknown || comment.contains(status),
                "{name}: {status}"
            );
            assert_eq!(
                comment.contains("DEADLINE_EXCEEDED"),
                row.can_be_late,
                "{name}"
            );
            assert_eq!(comment.contains("RetryInfo"), row.can_retry, "{name}");
            assert_eq!(
                comment.contains("indeterminate"),
                row.outcome == Outcome::Told,
                "{name}"
            );
        }
    }

    #[test]
    fn every_status_has_one_row() {
        for (number, row) in STATUSES.iter().enumerate() {
            let status = Code::from(i32::try_from(number).unwrap());
            assert_eq!(row.status, status);
            assert_eq!(status_row(status).name, row.name);
            let spelled = format!("{status:?}");
            assert_eq!(row.name.replace('_', ""), spelled.to_uppercase());
        }
    }

    #[test]
    fn the_page_on_errors_has_the_exit_codes() {
        let section = PAGE.split("## Exit codes").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| "));
        let rows: Vec<_> = rows.skip(1).map(str::to_owned).collect();
        let expected: Vec<_> = EXITS
            .iter()
            .map(|(code, says)| format!("| {code} | {says} |"))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_alert_on_errors_counts_what_is_our_fault() {
        let alert = ALERTS.split("alert: PairdbErrors\n").nth(1).unwrap();
        let codes = alert.split("code=~\"").nth(1).unwrap();
        let codes: BTreeSet<_> = codes.split('"').next().unwrap().split('|').collect();
        let known = ERRORS.iter().filter(|row| row.code != ErrorCode::Unknown);
        let labels = known.map(|row| row.code.as_str_name()).chain([LATE]);
        assert_eq!(codes, labels.filter(|label| is_own_fault(label)).collect());
        assert!(!is_own_fault("ABANDONED"));
    }
}
