//! `pairdb storage`: one storage node as a process of its own.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use serde_json::json;
use tokio::net::TcpListener;

use super::exit::Failure;
use super::output;
use super::serve::{self, ChosenMetadata, StopSignal, StorageNode, Wish};
use crate::adapters::tls::{ClusterTls, Listener, ServerTls};
use crate::config::{Config, Layers, SyncMode, host_and_port};
use crate::placement::{Node, NodeId, Topology};
use crate::ports::{Change, MetadataStore, ReplicaWorld};
use crate::replica::Replica;

/// What `storage --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb storage --node-id node-1 --data /var/lib/pairdb/node-1 --listen 127.0.0.1:50052 \\
      --metadata sqlite:/var/lib/pairdb/metadata.sqlite
  pairdb node add node-1 127.0.0.1 50052     # makes it part of the cluster

A node that is part of the cluster and starts with another --advertise changes its address there.";

/// How often the topology is looked at, notified or not.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

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
    /// The node's name, unique for ever in its cluster
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

    /// When a write counts as durable: 'always' or 'interval:DURATION'
    #[arg(long, value_name = "MODE")]
    sync: Option<SyncMode>,

    /// Where Prometheus finds the node's metrics; without it, nowhere
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<std::net::SocketAddr>,

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
            .flag("--sync", "storage.sync", self.sync)?
            .flag("--metrics", "storage.metrics", self.metrics)?
            .build()?;
        Ok(config)
    }

    async fn serve(self, config: Config) -> Result<(), Failure> {
        let mut signal = StopSignal::new()?;
        let listener = serve::bind(GRPC, &config.storage.host, config.storage.port).await?;
        let metrics = match config.storage.metrics_address() {
            Ok(Some(address)) => {
                Some(serve::bind(METRICS, &address.ip().to_string(), address.port()).await?)
            }
            _ => None,
        };
        let metrics_address = metrics.as_ref().map(serve::address).transpose()?;
        let metadata = serve::open_metadata(&config).await?;
        if let Some(listener) = metrics {
            // They are served to the very end: how it stops is worth knowing too.
            let collected = serve::collect_metrics()?;
            let listener = Listener::new(listener, metrics_tls(&config)?);
            tokio::spawn(serve::serve_metrics(listener, collected, || (), pending()));
        }
        let mut node = start(&config, &metadata, listener).await?;
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
        let outcome = tokio::select! {
            () = signal.next() => Ok(()),
            failure = node.failed() => Err(failure),
            () = follow_epochs(&metadata, &replica) => Ok(()),
        };
        drop(replica);
        tracing::info!("stopping");
        let stop = async {
            let stopped = node.stop().await;
            metadata.close().await;
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

/// Brings the node up at the topology's epoch, and the topology to the node's address.
async fn start(
    config: &Config,
    metadata: &ChosenMetadata,
    listener: TcpListener,
) -> Result<StorageNode, Failure> {
    let settings = &config.storage;
    let id = NodeId::new(settings.node_id.as_str())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let topology = advertise(metadata, &id, &settings.advertise).await?;
    if topology.node(&id).is_none() {
        tracing::warn!(node = %id, "not part of the cluster yet; add it with `pairdb node add`");
    }
    let data = Path::new(&settings.data_dir);
    let tls = ClusterTls::open(&config.cluster_tls, &config.tls)?;
    StorageNode::start(
        id,
        data,
        settings.sync,
        config.replica,
        topology.epoch,
        listener,
        tls,
    )
    .await
}

/// The topology, with the node's address in it changed to `address` if it is part of it and that says something else.
async fn advertise(
    metadata: &ChosenMetadata,
    id: &NodeId,
    address: &str,
) -> Result<Topology, Failure> {
    let store = |error: crate::ports::StoreError| {
        Failure::new(
            super::exit::Exit::Unavailable,
            "METADATA_STORE",
            error.to_string(),
        )
    };
    loop {
        let topology = metadata.topology().await.map_err(store)?;
        let Some(listed) = topology.node(id).filter(|_| !address.is_empty()) else {
            return Ok(topology);
        };
        let (host, port) = host_and_port(address).map_err(Failure::usage)?;
        if (&listed.host, listed.port) == (&host, port) {
            return Ok(topology);
        }
        let moved = Node {
            host,
            port,
            ..listed.clone()
        };
        let next = topology
            .with_node(moved)
            .map_err(|error| Failure::usage(format!("--advertise: {error}")))?;
        if let Change::Made(made) = metadata
            .replace_topology(topology.epoch, next)
            .await
            .map_err(store)?
        {
            tracing::info!(node = %id, address, epoch = made.epoch.0, "the node's address was changed");
            return Ok(made);
        }
    }
}

/// Tells the node of every new epoch. Never ends.
async fn follow_epochs<W: ReplicaWorld>(metadata: &ChosenMetadata, node: &Replica<W>) {
    let mut events = metadata.watch();
    loop {
        match metadata.topology().await {
            Ok(topology) => node.learn_epoch(topology.epoch).await,
            Err(error) => tracing::warn!(%error, "the topology can't be read"),
        }
        // An event or the interval, whichever comes first: both lead to a look.
        let _ = tokio::time::timeout(REFRESH_INTERVAL, events.next()).await;
    }
}
