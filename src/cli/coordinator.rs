//! `pairdb coordinator`: one coordinator as a process of its own.

use clap::Args;
use serde_json::json;

use super::exit::Failure;
use super::output;
use super::serve::{self, CoordinatorListeners, CoordinatorProcess, ListenFlags, StopSignal};
use crate::config::{Config, Layers};

/// What `coordinator --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb coordinator --metadata sqlite:/var/lib/pairdb/metadata.sqlite
  pairdb coordinator --metadata postgres://pairdb@db/pairdb --redis redis://cache:6379
  pairdb coordinator --config /etc/pairdb.toml --listen 0.0.0.0:50051

A SQLite file is for coordinators and storage nodes of one machine; with PostgreSQL and Redis they run anywhere.
URLs with passwords are better given in the file or the environment: PAIRDB_DATABASE__URL, PAIRDB_REDIS__URL.";

const FLAGS: ListenFlags = ListenFlags {
    grpc: "--listen",
    http: "--http-port",
    metrics: "--metrics-port",
};

/// The arguments of `coordinator`.
#[derive(Args, Debug)]
pub struct Coordinator {
    /// The metadata store: postgres://USER:PASSWORD@HOST/NAME or sqlite:PATH
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,

    /// The idempotency store: redis://HOST:PORT; not needed beside a SQLite file, which then is both
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// The gRPC address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,

    /// The HTTP port; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,

    /// The port of the Prometheus metrics; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,

    /// The coordinator's name, for logs
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,

    /// Stop when standard input ends, as it does when the process that started this one and holds it ends
    #[arg(long)]
    end_with_input: bool,

    /// Say where it listens as one JSON object, once it is ready
    #[arg(long)]
    pub json: bool,
}

impl Coordinator {
    /// Runs it until it is told to stop.
    pub fn run(self, layers: Layers) -> Result<(), Failure> {
        let config = self.configure(layers)?;
        let name = config.server.node_id.clone();
        serve::run(
            "pairdb-coordinator",
            &name,
            &config.clone(),
            self.serve(config),
        )
    }

    fn configure(&self, layers: Layers) -> Result<Config, Failure> {
        let config = layers
            .flag("--metadata", "database.url", self.metadata.as_ref())?
            .flag(
                FLAGS.grpc,
                "server.host",
                self.listen.map(|address| address.ip()),
            )?
            .flag(
                FLAGS.grpc,
                "server.port",
                self.listen.map(|address| address.port()),
            )?
            .flag(FLAGS.http, "server.http_port", self.http_port)?
            .flag(FLAGS.metrics, "metrics.port", self.metrics_port)?
            .flag("--redis", "redis.url", self.redis.as_ref())?
            .flag("--node-id", "server.node_id", self.node_id.as_ref())?
            .build_for_coordinator()?;
        Ok(config)
    }

    async fn serve(self, config: Config) -> Result<(), Failure> {
        let mut signal = StopSignal::new(self.end_with_input)?;
        let listeners = CoordinatorListeners::bind(&config, &FLAGS).await?;
        let stores = serve::open_stores(&config).await?;
        let mut process = CoordinatorProcess::start(&stores, &config, listeners).await?;
        let addresses = process.addresses();
        tracing::info!(grpc = %addresses.grpc, http = %addresses.http, "the coordinator serves");
        if self.json {
            output::json(&json!({
                "ready": true,
                "grpc": addresses.grpc.to_string(),
                "http": addresses.http.to_string(),
                "metrics": addresses.metrics.map(|address| address.to_string()),
                "pid": std::process::id(),
            }))?;
        }
        let outcome = tokio::select! {
            () = signal.next() => Ok(()),
            failure = process.failed() => Err(failure),
        };
        tracing::info!("stopping");
        let stop = async {
            let stopped = process.stop().await;
            stores.close().await;
            stopped
        };
        outcome.and(serve::stop_in_time(signal, config.server.shutdown_timeout, stop).await)
    }
}
