//! `pairdb storage`: one storage node as a process of its own.

use std::future::pending;
use std::path::Path;

use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use super::exit::Failure;
use super::join::Join;
use super::membership::Membership;
use super::output;
use super::serve::{self, Door, Known, StopSignal, StorageNode, Wish};
use crate::adapters::front::Budget;
use crate::adapters::tls::{ClusterTls, Listener, ServerTls};
use crate::adapters::vitals::{Vitals, keep};
use crate::config::{Config, Layers, SyncMode};
use crate::placement::Topology;

/// What `storage --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb storage --node-id node-1 --data /var/lib/pairdb/node-1 --listen 127.0.0.1:50052 \\
      --metadata sqlite:/var/lib/pairdb/metadata.sqlite
  pairdb node add node-1 127.0.0.1 50052     # makes it part of the cluster
  pairdb storage --node-id node-4 --data /var/lib/pairdb/node-4 --advertise 10.0.0.4:50052 \\
      --metadata postgres://pairdb@db/pairdb --join http://10.0.0.1:50051   # becomes part by itself

With --join a node whose data was never part of a cluster asks to be added; one that left does not come back by itself.
A node that is part of the cluster and starts with another --advertise changes its address there, unless another process
answers under its name. One that was part of it starts while the metadata store is away, and serves what it has.";

const GRPC: Wish = Wish {
    what: "gRPC",
    flag: "--listen",
};
const METRICS: Wish = Wish {
    what: "metrics",
    flag: "--metrics",
};

/// The arguments of `storage`.
#[derive(Args, Debug)]
pub struct Storage {
    /// The node's name, unique in its cluster
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,

    /// The directory of its data
    #[arg(long, value_name = "DIR")]
    data: Option<String>,

    /// The gRPC address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,

    /// Where coordinators reach it; without it, an address in the topology stays as it is
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// The metadata store: postgres://USER:PASSWORD@HOST/NAME or sqlite:PATH
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,

    /// When the node is new: ask the coordinator there to make it part of the cluster
    #[arg(long, value_name = "URL")]
    join: Option<String>,

    /// The zone that it then joins, such as a rack
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,

    /// When a write counts as durable: 'always' or 'interval:DURATION'. After a loss of power with 'interval' a node is
    /// refilled before it counts
    #[arg(long, value_name = "MODE")]
    sync: Option<SyncMode>,

    /// Take the metadata store's epoch for the node's own: for a node that knows one that can't be
    #[arg(long)]
    reset_epoch: bool,

    /// Where Prometheus finds the node's metrics; without it, nowhere
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<std::net::SocketAddr>,

    /// Stop when standard input ends, as it does when the process that started this one and holds it ends
    #[arg(long)]
    end_with_input: bool,

    /// Say where it listens as one JSON object, once it is ready
    #[arg(long)]
    pub json: bool,
}

impl Storage {
    /// Runs it until it is told to stop.
    pub fn run(self, layers: Layers) -> Result<(), Failure> {
        let config = self.configure(layers)?;
        let name = config.storage.node_id.clone();
        serve::run("pairdb-storage", &name, &config.clone(), self.serve(config))
    }

    fn configure(&self, layers: Layers) -> Result<Config, Failure> {
        let config = layers
            .flag("--node-id", "storage.node_id", self.node_id.as_ref())?
            .flag("--data", "storage.data_dir", self.data.as_ref())?
            .flag(
                "--listen",
                "storage.host",
                self.listen.map(|address| address.ip()),
            )?
            .flag(
                "--listen",
                "storage.port",
                self.listen.map(|address| address.port()),
            )?
            .flag("--advertise", "storage.advertise", self.advertise.as_ref())?
            .flag("--metadata", "database.url", self.metadata.as_ref())?
            .flag("--join", "join.coordinator", self.join.as_ref())?
            .flag("--zone", "join.zone", self.zone.as_ref())?
            .flag("--sync", "storage.sync", self.sync)?
            .flag("--metrics", "storage.metrics", self.metrics)?
            .build()?;
        Ok(config)
    }

    async fn serve(self, config: Config) -> Result<(), Failure> {
        let mut signal = StopSignal::new(self.end_with_input)?;
        let listener = serve::bind(GRPC, &config.storage.host, config.storage.port).await?;
        let metrics = match config.storage.metrics_address() {
            Ok(Some(address)) => {
                Some(serve::bind(METRICS, &address.ip().to_string(), address.port()).await?)
            }
            _ => None,
        };
        let metrics_address = metrics.as_ref().map(serve::address).transpose()?;
        let budget = config.server.budget();
        if let Some(listener) = metrics {
            // They are served to the very end: how it stops is worth knowing too.
            let collected = serve::collect_metrics()?;
            let listener = Listener::new(listener, metrics_tls(&config)?);
            let paid = budget.clone();
            let serving = async move {
                serve::serve_metrics(listener, collected, paid, || (), pending()).await;
                Vitals::process().fail("metrics", "ended");
            };
            tokio::spawn(keep(Vitals::process(), "metrics", serving));
        }
        let membership = Membership::new(&config)?;
        let found = membership.topology().await;
        let reset = self.reset_epoch;
        let mut node = start(&config, &membership, &found, reset, listener, budget).await?;
        let (taken, join) = match take_place(&config, &membership, &node, found).await {
            Ok(taken) => taken,
            Err(failure) => {
                let _ = node.stop().await; // what it failed at first is told
                return Err(failure);
            }
        };
        let is_new = node.is_new().await;
        tracing::info!(node = %node.node(), address = %node.address(), "the storage node serves");
        if self.json {
            output::json(&json!({
                "ready": true,
                "node": node.node().as_str(),
                "grpc": node.address().to_string(),
                "metrics": metrics_address.map(|address| address.to_string()),
                "pid": std::process::id(),
            }))?;
        }
        let replica = node.replica().clone();
        let outcome = {
            let namesakes = node.namesakes();
            let joining = async {
                if let Some(join) = &join {
                    join.run(&membership, is_new).await;
                }
                pending::<()>().await;
            };
            tokio::select! {
                () = joining => Ok(()), // never
                () = signal.next() => Ok(()),
                failure = node.failed() => Err(failure),
                failure = membership.keep(&replica, &namesakes, taken) => Err(failure),
            }
        };
        drop(replica);
        tracing::info!("stopping");
        let stop = async {
            let stopped = node.stop().await;
            membership.close().await;
            stopped
        };
        outcome.and(serve::stop_in_time(signal, config.server.shutdown_timeout, stop).await)
    }
}

/// How metrics are served.
fn metrics_tls(config: &Config) -> Result<Option<ServerTls>, Failure> {
    Ok(match config.tls.metrics {
        true => ServerTls::open(&config.tls)?,
        false => None,
    })
}

/// Takes the node's place in the cluster, if it has one. Returns whether it did, and how it asks for one if need be.
async fn take_place(
    config: &Config,
    membership: &Membership,
    node: &StorageNode,
    found: Result<Topology, Failure>,
) -> Result<(bool, Option<Join>), Failure> {
    let storage = &config.storage;
    let join = Join::of(
        &config.join,
        membership.id(),
        &storage.advertise,
        node.address(),
        Path::new(&storage.data_dir),
    )?;
    Ok((membership.take(node, found).await?, join))
}

/// Brings the node up, at the topology's epoch if that is known.
async fn start(
    config: &Config,
    membership: &Membership,
    topology: &Result<Topology, Failure>,
    reset_epoch: bool,
    listener: TcpListener,
    budget: Budget,
) -> Result<StorageNode, Failure> {
    let settings = &config.storage;
    let known = match topology {
        Ok(topology) if reset_epoch => Known::EpochAgain(topology.epoch),
        Ok(topology) => Known::Epoch(topology.epoch),
        Err(failure) if reset_epoch => return Err(failure.clone()),
        Err(_) => Known::Nothing,
    };
    let tls = ClusterTls::open(&config.cluster_tls, &config.tls)?;
    let data = Path::new(&settings.data_dir);
    let (sync, replica) = (settings.sync, config.replica);
    let id = membership.id().clone();
    let door = Door {
        listener,
        tls,
        budget,
    };
    StorageNode::start(id, data, sync, replica, known, door).await
}
