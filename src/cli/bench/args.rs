//! What `pairdb bench` is told.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};

use super::super::bounds::patience;
use super::super::client::TokenArgs;
use super::super::tls::TlsArgs;
use super::mix::Mix;

/// The tenant it works on.
pub(super) const TENANT: &str = "bench";

/// The arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// The coordinator's gRPC address
    #[arg(
        long,
        env = "PAIRDB_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub(super) server: String,

    /// Who asks
    #[command(flatten)]
    pub(super) token: TokenArgs,

    /// Over what
    #[command(flatten)]
    pub(super) tls: TlsArgs,

    /// Start a cluster for the measurement instead (`pairdb dev --ephemeral`)
    #[arg(long)]
    pub(super) spawn_dev: bool,

    /// How many storage nodes the started cluster has
    #[arg(long, default_value_t = 3, value_name = "N", requires = "spawn_dev", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(super) nodes: u16,

    /// The server's process, to tell its CPU time per operation
    #[arg(long, value_name = "PID", conflicts_with = "spawn_dev")]
    pub(super) server_pid: Option<u32>,

    /// How many clients, each with one request at a time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) clients: u32,

    /// How many connections they share
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) connections: u32,

    /// How many requests a second, from all clients; 0: as many as are answered
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) rate: u32,

    /// How long a value is
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=32 * 1024 * 1024))]
    pub(super) value_bytes: usize,

    /// How many keys there are; all are written before the measurement
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) keys: u64,

    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=7 * 24 * 3600))]
    pub(super) seconds: u64,

    /// How long to warm up before; not measured
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(super) warm_up: u64,

    /// What to do, in which proportion
    #[arg(long, default_value = "write=1,read=1", value_name = "write=N,read=N")]
    pub(super) mix: Mix,

    /// How many replicas must answer
    #[arg(long, default_value = "quorum", value_name = "LEVEL",
          value_parser = PossibleValuesParser::new(["one", "quorum", "all"]))]
    pub(super) consistency: String,

    /// How long each request may take
    #[arg(long, default_value = "10s", value_parser = patience, value_name = "DURATION")]
    pub(super) timeout: Duration,

    /// The result as one JSON object
    #[arg(long)]
    pub json: bool,
}
