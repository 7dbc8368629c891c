//! The sections and their defaults.

use std::net::{AddrParseError, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::join::JoinSettings;
use super::placeholders;
use super::stores::{self, DatabaseSettings, RedisSection, mask_password};
use crate::adapters::front::Budget;
use crate::adapters::grpc::TransportSettings;
use crate::adapters::tls::{ClusterTlsSettings, TlsSettings};
use crate::adapters::trace::TracingSettings;
use crate::api::{AuthSettings, FrontSettings, HttpSettings, LimitSettings};
use crate::coordinator::CoordinatorSettings;
use crate::placement::NodeId;
use crate::replica::ReplicaSettings;

/// Everything that can be configured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The coordinator's process.
    pub server: ServerSettings,
    /// The gRPC listener of a coordinator.
    pub grpc: FrontSettings,
    /// The HTTP listener of a coordinator.
    pub http: HttpSettings,
    /// The coordinator's connections to storage nodes.
    pub transport: TransportSettings,
    /// The storage node's process.
    pub storage: StorageSettings,
    /// How a storage node becomes part of the cluster by itself.
    pub join: JoinSettings,
    /// Where tenants and topology are.
    pub database: DatabaseSettings,
    /// Where claims and answers of idempotent requests are.
    pub redis: RedisSection,
    /// How the coordinator works.
    pub coordinator: CoordinatorSettings,
    /// How the storage node works.
    pub replica: ReplicaSettings,
    /// Who may do what.
    pub auth: AuthSettings,
    /// How much each tenant may ask for.
    pub limits: LimitSettings,
    /// TLS of the listeners that clients reach.
    pub tls: TlsSettings,
    /// TLS between coordinators and storage nodes and among storage nodes.
    pub cluster_tls: ClusterTlsSettings,
    /// What is logged, and how.
    pub logging: LoggingSettings,
    /// Prometheus.
    pub metrics: MetricsSettings,
    /// Traces by OpenTelemetry.
    pub tracing: TracingSettings,
}

/// The process of a coordinator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The coordinator's own name.
    pub node_id: String,
    /// The address to listen on.
    pub host: String,
    /// The gRPC port; 0 takes a free one.
    pub port: u16,
    /// The HTTP port; 0 takes a free one.
    pub http_port: u16,
    /// The longest time to drain and stop, for coordinators and storage nodes.
    pub shutdown_timeout: Duration,
    /// Which tokio runtime runs the process, for coordinators and storage nodes.
    pub runtime: RuntimeKind,
    /// How much memory the process is to stay below, whatever comes to it, for coordinators and storage nodes. Messages
    /// may have a third of it, and what clients bring five sixteenths of that; more is refused.
    pub memory_bytes_max: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            node_id: "coordinator-1".into(),
            host: "0.0.0.0".into(),
            port: 50051,
            http_port: 8080,
            shutdown_timeout: Duration::from_secs(30),
            runtime: RuntimeKind::MultiThread,
            memory_bytes_max: 512 * 1024 * 1024,
        }
    }
}

/// So many of the longest requests a process must have memory for: long requests of clients may take a sixteenth.
const MEMORY_OF_MESSAGE_MIN: usize = 20;

/// What part of a process's memory its messages may have.
const MESSAGES_SHARE: usize = 3;

impl ServerSettings {
    /// The bytes of messages that the process may have.
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget::new(self.memory_bytes_max / MESSAGES_SHARE)
    }
}

/// A kind of tokio runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// A worker for each core.
    MultiThread,
    /// Everything on one thread: less work for each request, one core at most.
    CurrentThread,
}

/// The process of a storage node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// The node's name, unique in its cluster.
    pub node_id: String,
    /// The directory of its engine.
    pub data_dir: String,
    /// The address to listen on.
    pub host: String,
    /// The gRPC port; 0 takes a free one.
    pub port: u16,
    /// Where coordinators reach it, HOST:PORT; empty: the address it listens on.
    pub advertise: String,
    /// When a write counts as durable.
    pub sync: SyncMode,
    /// Where Prometheus finds the node's own metrics, ADDRESS:PORT; empty: nowhere.
    pub metrics: String,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            node_id: "node-1".into(),
            data_dir: "pairdb-data/node-1".into(),
            host: "0.0.0.0".into(),
            port: 50052,
            advertise: String::new(),
            sync: SyncMode::Always,
            metrics: String::new(),
        }
    }
}

/// When a write counts as durable: `always` or `interval:100ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SyncMode {
    /// After the disk has confirmed it.
    Always,
    /// At once; the disk is told every so often, and a loss of power can lose what was acknowledged since.
    Interval(Duration),
}

/// How often the disk may be told at most, and has to be at least.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

impl std::str::FromStr for SyncMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "always" => Ok(Self::Always),
            Some(("interval", period)) => match humantime::parse_duration(period) {
                Ok(period) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&period) => {
                    Ok(Self::Interval(period))
                }
                Ok(period) => Err(format!(
                    "the interval, {}, is not between {} and {}",
                    humantime::format_duration(period),
                    humantime::format_duration(INTERVAL_MIN),
                    humantime::format_duration(INTERVAL_MAX)
                )),
                Err(error) => Err(format!("'{period}' is not a duration: {error}")),
            },
            _ => Err(format!(
                "'{text}' is neither 'always' nor 'interval:DURATION'"
            )),
        }
    }
}

impl TryFrom<String> for SyncMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SyncMode> for String {
    fn from(mode: SyncMode) -> Self {
        mode.to_string()
    }
}

impl std::fmt::Display for SyncMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(period) => write!(f, "interval:{}", humantime::format_duration(*period)),
        }
    }
}

/// The log, on standard error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingSettings {
    /// A level or a filter such as `info,pairdb=debug`; the variable RUST_LOG wins over it.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        Self {
            level: "info,fjall=warn,lsm_tree=warn".into(),
            format: LogFormat::Auto,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Prometheus metrics over HTTP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Whether they are served at all.
    pub enabled: bool,
    /// The address to listen on.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            host: "0.0.0.0".into(),
            port: 9090,
        }
    }
}

impl Config {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let address = |key: &'static str, host: &str| {
            host.parse::<std::net::IpAddr>().map(|_| ()).map_err(|_| {
                (
                    key,
                    format!("'{host}' is not an IP address, such as 0.0.0.0"),
                )
            })
        };
        address("server.host", &self.server.host)?;
        address("storage.host", &self.storage.host)?;
        address("metrics.host", &self.metrics.host)?;
        for (key, name) in [
            ("server.node_id", &self.server.node_id),
            ("storage.node_id", &self.storage.node_id),
        ] {
            NodeId::new(name.as_str()).map_err(|error| (key, error.to_string()))?;
        }
        if !self.storage.advertise.is_empty() {
            host_and_port(&self.storage.advertise)
                .map_err(|problem| ("storage.advertise", problem))?;
        }
        if self.storage.metrics_address().is_err() {
            let problem = format!("'{}' is not ADDRESS:PORT", self.storage.metrics);
            return Err(("storage.metrics", problem));
        }
        if self.coordinator.value_bytes_max > self.grpc.message_bytes_max {
            let messages = self.grpc.message_bytes_max;
            return Err((
                "coordinator.value_bytes_max",
                format!("is more than grpc.message_bytes_max, {messages}"),
            ));
        }
        self.replica.validate()?;
        self.join.validate()?;
        self.validate_secrets()?;
        self.http.validate()?;
        let longest = self.grpc.message_bytes_max.max(self.http.body_bytes_max);
        if self.server.memory_bytes_max / MEMORY_OF_MESSAGE_MIN < longest {
            let problem = format!(
                "is less than {MEMORY_OF_MESSAGE_MIN} times the longest request, {longest} bytes \
                 (grpc.message_bytes_max, http.body_bytes_max)"
            );
            return Err(("server.memory_bytes_max", problem));
        }
        self.auth.validate()?;
        self.limits.validate()?;
        self.tls.validate()?;
        self.cluster_tls.validate()?;
        self.tracing.validate()?;
        self.database.validate()?;
        self.redis.validate()
    }

    /// Refuses secrets that everybody knows.
    fn validate_secrets(&self) -> Result<(), (&'static str, String)> {
        let secrets = [
            ("auth.admin_key", &self.auth.admin_key),
            ("auth.jwt_secret", &self.auth.jwt_secret),
            ("auth.jwt_secret_previous", &self.auth.jwt_secret_previous),
            ("join.token", &self.join.token),
        ];
        let doubts = secrets
            .into_iter()
            .filter_map(|(key, secret)| Some((key, placeholders::doubt(secret.expose())?)));
        let urls = [
            ("database.url", &self.database.url),
            ("redis.url", &self.redis.url),
        ];
        // What servers of others let in is theirs to say; what stands in examples was never meant.
        let of_examples = urls.into_iter().filter_map(|(key, url)| {
            let password = placeholders::password(url)?;
            let is_known = placeholders::is_placeholder(password);
            is_known.then_some((
                key,
                "has the password of an example; put the real one there",
            ))
        });
        match doubts.chain(of_examples).next() {
            Some((key, problem)) => Err((key, problem.into())),
            None => Ok(()),
        }
    }

    /// Checks what only a coordinator needs.
    pub(super) fn validate_for_coordinator(&self) -> Result<(), (&'static str, String)> {
        stores::fit_for_coordinators(&self.database, &self.redis)
    }

    /// The same with secrets masked, fit to be shown.
    #[must_use]
    pub fn masked(mut self) -> Self {
        self.database.url = mask_password(&self.database.url);
        self.redis.url = mask_password(&self.redis.url);
        self.auth = self.auth.masked();
        self.join = self.join.masked();
        self
    }
}

impl StorageSettings {
    /// Where metrics are to be served, if at all.
    pub fn metrics_address(&self) -> Result<Option<SocketAddr>, AddrParseError> {
        match self.metrics.as_str() {
            "" => Ok(None),
            address => address.parse().map(Some),
        }
    }
}

/// Splits HOST:PORT; the host of an IPv6 address is in brackets.
pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("'{text}' is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(wrong)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(host) if !host.is_empty() => Ok((host.to_owned(), port)),
        None if !host.is_empty() && !host.contains(':') => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}
