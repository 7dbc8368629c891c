//! How the client commands reach a server, and what its refusals mean.
//!
//! A connection that can't be made has written nothing; one that breaks or times out under a write leaves the write
//! indeterminate, and the command says so rather than guess.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::bounds::patience;
use super::exit::{Exit, Failure};
use super::output;
use super::peer::{self, Stranger};
use super::tls::{self, TlsArgs};
use crate::adapters::tls::trouble;
use crate::api::{INDETERMINATE_HINT, Secret, error_row, status_row};
use crate::proto::v1::ErrorCode;
use crate::proto::v1::coordinator_service_client::CoordinatorServiceClient;

/// Longest time to get a connection.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// The largest answer: all that owners may hold of one key, and the latest value once more.
const ANSWER_BYTES_MAX: usize = 384 * 1024 * 1024;

/// Where the server is and how to talk about it; the same for every client command.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// The coordinator's gRPC address
    #[arg(
        long,
        env = "PAIRDB_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub server: String,

    /// Who asks
    #[command(flatten)]
    pub token: TokenArgs,

    /// Over what
    #[command(flatten)]
    pub tls: TlsArgs,

    /// How long to wait for the answer, such as 500ms or 10s
    #[arg(long, default_value = "10s", value_parser = patience, value_name = "DURATION")]
    pub timeout: Duration,

    /// One JSON object on standard output instead of text; failures as one on standard error
    #[arg(long)]
    pub json: bool,
}

/// The token that servers with authentication ask for.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// An API key, the administrator's key or a JWT; better in the environment than in a list of processes
    #[arg(
        long,
        env = "PAIRDB_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<Secret>,
}

impl TokenArgs {
    /// A token that is known otherwise than by a flag.
    pub const fn of(token: Secret) -> Self {
        Self { token: Some(token) }
    }

    /// What is sent with each request.
    pub fn header(&self) -> Result<Option<Authorization>, Failure> {
        let header = |token: &Secret| {
            let header: Result<Authorization, _> = format!("Bearer {}", token.expose()).parse();
            let mut header = header.map_err(|_| {
                Failure::usage("--token: has characters that no token has")
                    .hint("give it as `pairdb tenant key create` printed it")
            })?;
            header.set_sensitive(true);
            Ok(header)
        };
        let token = self.token.as_ref().filter(|token| !token.is_empty());
        token.map(header).transpose()
    }
}

/// The header `authorization`.
pub type Authorization = MetadataValue<Ascii>;

/// A request that the server gives up when nobody waits for it any more.
pub fn request<T>(message: T, timeout: Duration, token: Option<&Authorization>) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
    }
    request
}

/// A connection to a coordinator.
pub type Client = CoordinatorServiceClient<Channel>;

/// Whether a request changes something, which decides what a lost answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It only looks.
    Reads,
    /// It changes something.
    Writes,
}

impl ClientArgs {
    /// Connects.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok(client(self.channel().await?))
    }

    /// A connection for any service of the server.
    pub async fn channel(&self) -> Result<Channel, Failure> {
        self.token.header()?;
        connect(&self.server, &self.tls, self.timeout).await
    }

    /// A request that the server gives up when nobody waits for it any more.
    pub fn request<T>(&self, message: T) -> Request<T> {
        // What is no header was refused when connecting.
        let token = self.token.header().ok().flatten();
        request(message, self.timeout, token.as_ref())
    }

    /// Prints the result in the form that was asked for.
    pub fn print(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            output::json(&json())
        } else {
            output::line(&text())
        }
    }
}

/// A client on a channel, ready for the largest answer.
pub fn client(channel: Channel) -> Client {
    CoordinatorServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Connects to `server`, given as a URL or as host and port.
pub async fn connect(server: &str, tls: &TlsArgs, timeout: Duration) -> Result<Channel, Failure> {
    let endpoint = endpoint(server, tls)?.connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX));
    let uri = endpoint.uri();
    let connected = match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("https"), Some(host), Some(port)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            tls.open()?.connect(&endpoint, host, port).await
        }
        _ => peer::connect(&endpoint).await,
    };
    connected.map_err(|error| {
        if let Some(stranger) = error.downcast_ref::<Stranger>() {
            return peer::failure(server, *stranger);
        }
        if let Some(trouble) = trouble(error.as_ref()) {
            return tls::failure(server, &trouble);
        }
        let cause = innermost(error.as_ref());
        Failure::new(
            Exit::Unavailable,
            "UNREACHABLE",
            format!("no server answers at {server}: {cause}"),
        )
        .hint("start one with `pairdb dev`, or name another with --server or PAIRDB_SERVER")
    })
}

/// Whatever is named for TLS is never silently left out: a token would travel in the clear.
fn endpoint(server: &str, tls: &TlsArgs) -> Result<Endpoint, Failure> {
    let url = match (server.split_once("://"), tls.given()) {
        (None, None) => format!("http://{server}"),
        (None, Some(_)) => format!("https://{server}"),
        (Some(("http", _)), None) | (Some(("https", _)), _) => server.to_owned(),
        (Some(("http", address)), Some(flag)) => {
            return Err(Failure::usage(format!(
                "--server {server}: {flag} is of no use without TLS"
            ))
            .hint(format!("write --server https://{address}")));
        }
        (Some((scheme, _)), _) => {
            return Err(
                Failure::usage(format!("--server {server}: {scheme} is not supported"))
                    .hint("write http://HOST:PORT or https://HOST:PORT"),
            );
        }
    };
    let wrong = |cause: String| {
        Failure::usage(format!("--server {server} is no address: {cause}"))
            .hint("write http://HOST:PORT, such as http://127.0.0.1:50051")
    };
    let endpoint = Endpoint::from_shared(url).map_err(|error| wrong(innermost(&error)))?;
    if endpoint.uri().port().is_none() {
        return Err(wrong("the port is missing".into()));
    }
    Ok(endpoint.tcp_nodelay(true))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a status means to whoever ran the command.
pub fn failure(status: &Status, effect: Effect) -> Failure {
    let Some(info) = status.get_error_details().error_info().cloned() else {
        return unexplained(status, effect);
    };
    let row = error_row(ErrorCode::from_str_name(&info.reason).unwrap_or(ErrorCode::Unknown));
    let indeterminate = info
        .metadata
        .get("indeterminate")
        .is_some_and(|value| value == "true");
    let (exit, hint) = match row.code {
        _ if indeterminate => (Exit::Indeterminate, Some(INDETERMINATE_HINT)),
        // A newer server's code. It says when a write is indeterminate; here it did not.
        ErrorCode::Unknown => (status_row(status.code()).exit, None),
        _ => (row.exit(), row.hint),
    };
    Failure {
        exit,
        code: info.reason,
        message: status.message().to_owned(),
        hint: hint.map(str::to_owned),
        details: info.metadata.into_iter().collect(),
    }
}

/// A status without details: it was made on the way, not by the coordinator.
fn unexplained(status: &Status, effect: Effect) -> Failure {
    // Whoever is not let in has written nothing.
    if let Some(trouble) = trouble(status) {
        return tls::failure("the server", &trouble);
    }
    let code = status.code();
    let row = status_row(code);
    if code == Code::Unimplemented {
        // Nothing was done.
        let message =
            "the server does not know this request: it is no coordinator, or an older one";
        return Failure::new(Exit::Unavailable, row.name, message).hint(
            "storage nodes answer `pairdb health` only; coordinators' gRPC port is 50051 unless configured otherwise",
        );
    }
    let exit = match effect {
        Effect::Writes if row.is_lost_answer => Exit::Indeterminate,
        _ => row.exit,
    };
    let message = match status.message() {
        "" => code.description().to_owned(),
        message => message.to_owned(),
    };
    Failure::new(exit, row.name, message).with_hint(match exit {
        Exit::Indeterminate => Some(INDETERMINATE_HINT),
        Exit::Unavailable => Some("retry, or give it longer with --timeout"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: &str, metadata: &[(&str, &str)]) -> Status {
        let metadata: HashMap<String, String> = metadata
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        Status::with_error_details(
            code,
            "why",
            ErrorDetails::with_error_info(reason, "pairdb", metadata),
        )
    }

    #[test]
    fn every_error_code_has_its_exit_code() {
        for (grpc, reason, exit) in [
            (Code::InvalidArgument, "INVALID_REQUEST", Exit::Usage),
            (Code::NotFound, "TENANT_NOT_FOUND", Exit::NotFound),
            (Code::AlreadyExists, "TENANT_EXISTS", Exit::Conflict),
            (Code::NotFound, "KEY_NOT_FOUND", Exit::NotFound),
            (Code::Unavailable, "QUORUM_NOT_REACHED", Exit::Unavailable),
            (
                Code::AlreadyExists,
                "IDEMPOTENCY_KEY_CONFLICT",
                Exit::Conflict,
            ),
            (
                Code::InvalidArgument,
                "INVALID_REPLICATION_FACTOR",
                Exit::Usage,
            ),
            (Code::FailedPrecondition, "NODE_IN_USE", Exit::Refused),
            (Code::FailedPrecondition, "KEY_CROWDED", Exit::Refused),
            (Code::NotFound, "MIGRATION_NOT_FOUND", Exit::NotFound),
            (Code::Unauthenticated, "UNAUTHORIZED", Exit::Refused),
            (Code::PermissionDenied, "FORBIDDEN", Exit::Refused),
            (
                Code::ResourceExhausted,
                "RATE_LIMIT_EXCEEDED",
                Exit::Refused,
            ),
            (Code::Internal, "INTERNAL_ERROR", Exit::Failure),
            (Code::Unavailable, "STORE_UNAVAILABLE", Exit::Unavailable),
            (Code::Unavailable, "STOPPING", Exit::Unavailable),
            (Code::Aborted, "IDEMPOTENCY_KEY_IN_USE", Exit::Conflict),
        ] {
            let failure = failure(&status(grpc, reason, &[]), Effect::Writes);
            assert_eq!((failure.exit, failure.code.as_str()), (exit, reason));
            assert_eq!(failure.message, "why");
        }
    }

    #[test]
    fn an_indeterminate_write_has_a_code_of_its_own() {
        let details = [("indeterminate", "true"), ("required", "2")];
        let failure = failure(
            &status(Code::DeadlineExceeded, "QUORUM_NOT_REACHED", &details),
            Effect::Writes,
        );
        assert_eq!(failure.exit, Exit::Indeterminate);
        assert_eq!(failure.details["required"], "2");
        assert!(
            failure
                .hint
                .is_some_and(|hint| hint.contains("--idempotency-key"))
        );
    }

    #[test]
    fn a_lost_answer_is_unavailable_for_a_read_and_indeterminate_for_a_write() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
        ] {
            let status = Status::new(code, "transport error");
            assert_eq!(failure(&status, Effect::Reads).exit, Exit::Unavailable);
            assert_eq!(failure(&status, Effect::Writes).exit, Exit::Indeterminate);
        }
    }

    #[test]
    fn addresses_are_urls_or_host_and_port() {
        let plain = TlsArgs::default();
        for (given, meant) in [
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("http://db:50051", "http://db:50051"),
            ("https://db:50051", "https://db:50051"),
        ] {
            assert_eq!(endpoint(given, &plain).unwrap().uri(), meant);
        }
        for wrong in ["ftp://db:1", "db", "http://", "https://db", "", "a b:1"] {
            let failure = endpoint(wrong, &plain).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(
                failure.message.starts_with(&format!("--server {wrong}")),
                "{failure}"
            );
            assert!(failure.hint.is_some());
        }
    }
}
