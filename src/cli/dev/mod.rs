//! `pairdb dev`: a whole cluster in one process, on real loopback ports and real disks.
//!
//! What it is for: trying PairDB, and developing against it. It is the production code throughout; only the machines
//! are missing.
//!
//! `--nodes` says how many storage nodes there are to be: of a new cluster, of one that is started again, and of one
//! that runs on the same data, which a second `pairdb dev` asks for it.

mod cluster;
mod demo;
mod resize;
mod wishes;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{self, FAINT, GOOD, STRONG, styled};
use super::serve::{self, ListenFlags, StopSignal};
use crate::config::{Config, Layers, SyncMode};

use cluster::{Cluster, Directory};
use resize::{NODES_MAX, Resized};
use wishes::Wishes;

/// What `dev --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb dev                               # 3 storage nodes, data in ./pairdb-data
  pairdb dev --demo --ephemeral            # start, put, get, lose a node, get again, stop
  pairdb dev --nodes 5 --data /tmp/five    # another cluster
  pairdb dev --nodes 5                     # grows to 5; from another terminal the one that runs
  pairdb dev --nodes 3                     # and shrinks to 3 again
  pairdb dev --grpc-port 0 --http-port 0 --metrics-port 0 --json   # free ports, told as JSON

It listens on 127.0.0.1 only. Stop it with ctrl-c; the data stays, unless it is --ephemeral.";

/// How long a start may take before it says what is missing.
const SETTLING_MAX: Duration = Duration::from_secs(10);

/// Warnings, but not that a new node has no data, or that nodes go away when the cluster stops.
const LOG_LEVEL: &str = "warn,pairdb::replica::identity=error,pairdb::adapters::grpc::peer=error";

const FLAGS: ListenFlags = ListenFlags {
    grpc: "--grpc-port",
    http: "--http-port",
    metrics: "--metrics-port",
};

/// The arguments of `dev`.
#[derive(Args, Debug)]
pub struct Dev {
    /// How many storage nodes [default: 3, or as many as the data has]. Those that are too few join, those that are too
    /// many leave, while it serves; a cluster that runs on the same data is asked for it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,

    /// Where the data is kept
    #[arg(long, value_name = "DIR", default_value = "./pairdb-data")]
    data: PathBuf,

    /// Keep the data in a temporary directory that is removed at the end
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,

    /// The gRPC port of the coordinator; 0 takes a free one [default: 50051]
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,

    /// The HTTP port; 0 takes a free one [default: 8080]
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,

    /// The port of the Prometheus metrics; 0 takes a free one [default: 9090]
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,

    /// When a write counts as durable: 'always' or 'interval:DURATION'. After a loss of power with 'interval' a node is
    /// refilled before it counts [default: always]
    #[arg(long, value_name = "MODE")]
    sync: Option<SyncMode>,

    /// Do a first put and get, also with a storage node stopped, then stop
    #[arg(long)]
    demo: bool,

    /// Stop when standard input ends, as it does when the process that started this one and holds it ends
    #[arg(long)]
    end_with_input: bool,

    /// Say where everything listens as one JSON object, once it is ready
    #[arg(long)]
    pub json: bool,
}

impl Dev {
    /// Runs the cluster until it is told to stop.
    pub fn run(self, layers: Layers) -> Result<(), Failure> {
        let config = self.configure(layers)?;
        let name = config.server.node_id.clone();
        serve::run("pairdb-dev", &name, &config.clone(), self.serve(config))
    }

    fn configure(&self, mut layers: Layers) -> Result<Config, Failure> {
        if self.demo {
            // Nobody needs to find it, so it should not fail because something else has the usual ports.
            for port in ["server.port", "server.http_port", "metrics.port"] {
                layers = layers.default_of_command(port, 0);
            }
        }
        let config = layers
            .default_of_command("logging.level", LOG_LEVEL)
            .default_of_command("logging.format", "pretty")
            .default_of_command("server.host", "127.0.0.1")
            .default_of_command("metrics.host", "127.0.0.1")
            .flag(FLAGS.grpc, "server.port", self.grpc_port)?
            .flag(FLAGS.http, "server.http_port", self.http_port)?
            .flag(FLAGS.metrics, "metrics.port", self.metrics_port)?
            .flag("--sync", "storage.sync", self.sync)?
            .build()?;
        if self.demo {
            // It talks to itself only, and has no certificate to show.
            return Ok(Config {
                tls: Default::default(),
                cluster_tls: Default::default(),
                ..config
            });
        }
        Ok(config)
    }

    async fn serve(self, config: Config) -> Result<(), Failure> {
        let started = Instant::now();
        let mut signal = StopSignal::new(self.end_with_input)?;
        if let Some(nodes) = self.nodes.filter(|_| !self.ephemeral)
            && let Some(resized) = wishes::ask(&self.data, nodes).await
        {
            return self.say_resized(&resized?);
        }
        let directory = if self.ephemeral {
            Directory::temporary()?
        } else {
            Directory::at(&self.data)?
        };
        let mut cluster = Cluster::start(&config, &FLAGS, directory, self.nodes).await?;
        let mut wishes = Wishes::at(cluster.data());
        let work = async {
            if !cluster.settled(SETTLING_MAX).await {
                let failure = "the storage nodes did not all answer in time";
                return Err(Failure::new(Exit::Unavailable, "NOT_READY", failure)
                    .hint("run it again with RUST_LOG=info to see why"));
            }
            if self.demo {
                return demo::run(&mut cluster).await;
            }
            let resized = match self.nodes {
                Some(nodes) => Some(cluster.resize(nodes).await?),
                None => None,
            };
            let resized = resized.filter(|resized| !resized.is_already());
            self.say_ready(&cluster, &config, started.elapsed(), resized.as_ref())?;
            let tell = |text: &str| {
                if !self.json {
                    output::note(text);
                }
            };
            Err(cluster.run(&mut wishes, tell).await)
        };
        let outcome = tokio::select! {
            () = signal.next() => Ok(()),
            outcome = work => outcome,
        };
        if !self.json && !self.demo {
            output::note("stopping ...");
        }
        outcome
            .and(serve::stop_in_time(signal, config.server.shutdown_timeout, cluster.stop()).await)
    }

    /// What came of asking the cluster that runs on the same data.
    fn say_resized(&self, resized: &Resized) -> Result<(), Failure> {
        let data = self.data.display();
        if self.json {
            return output::json(&json!({
                "asked": true,
                "data": data.to_string(),
                "message": resized.to_string(),
                "migration_id": resized.migration(),
            }));
        }
        output::line(&format!("the cluster that runs on {data}: {resized}"))?;
        if let Some(id) = resized.migration() {
            output::note(&format!(
                "`pairdb migration watch {id}` shows how far it has come"
            ));
        }
        Ok(())
    }

    fn say_ready(
        &self,
        cluster: &Cluster,
        config: &Config,
        took: Duration,
        resized: Option<&Resized>,
    ) -> Result<(), Failure> {
        let addresses = cluster.addresses();
        if self.json {
            let nodes: Vec<_> = cluster
                .nodes()
                .map(|(node, address)| json!({ "node": node.as_str(), "address": address.to_string() }))
                .collect();
            return output::json(&json!({
                "ready": true,
                "grpc": addresses.grpc.to_string(),
                "http": addresses.http.to_string(),
                "metrics": addresses.metrics.map(|address| address.to_string()),
                "data": cluster.data().display().to_string(),
                "ephemeral": self.ephemeral,
                "nodes": nodes,
                "migration_id": resized.and_then(Resized::migration),
                "pid": std::process::id(),
            }));
        }
        let count = cluster.nodes().count();
        output::line(&format!(
            "{} in {} ms: a coordinator and {count} storage node{}, data in {}{}",
            styled(GOOD, "ready"),
            took.as_millis(),
            if count == 1 { "" } else { "s" },
            cluster.data().display(),
            if self.ephemeral {
                " (removed at the end)"
            } else {
                ""
            },
        ))?;
        if let Some(resized) = resized {
            output::line(&format!("  {resized}"))?;
        }
        output::line(&format!("  gRPC     {}", addresses.grpc))?;
        let scheme = |tls| if tls { "https" } else { "http" };
        let tls = config.tls.is_on();
        let http = scheme(tls);
        output::line(&format!("  HTTP     {http}://{}/docs", addresses.http))?;
        if let Some(metrics) = addresses.metrics {
            let http = scheme(tls && config.tls.metrics);
            output::line(&format!("  metrics  {http}://{metrics}/metrics"))?;
        }
        let server = match addresses.grpc.port() {
            50051 if !tls => String::new(),
            port => format!(" --server {http}://127.0.0.1:{port}"),
        };
        output::line(&format!("\n{}", styled(STRONG, "try, in another terminal")))?;
        for example in ["put greeting hello", "get greeting", "status"] {
            output::line(&format!("  pairdb {example}{server}"))?;
        }
        output::line(&styled(FAINT, "\nctrl-c stops it"))
    }
}
