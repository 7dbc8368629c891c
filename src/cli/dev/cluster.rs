//! The cluster of `pairdb dev`: its directory, its topology, its nodes and its coordinator.
//!
//! ```text
//! DATA/metadata.sqlite   tenants, topology, idempotency
//! DATA/node-1 ...        one engine a storage node
//! ```
//!
//! The nodes' ports are taken again at a restart if they are free, else others; either way the topology says where the
//! nodes are before anything is served. Its epoch grows with each change, so nobody is asked at an old address. A new
//! cluster's nodes are told that they are its first before the topology names them: a node that finds its disk empty
//! and is not told so takes it for lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::super::exit::{Exit, Failure};
use super::super::serve::{
    Addresses, CoordinatorListeners, CoordinatorProcess, Door, Known, ListenFlags, StorageNode,
    Stores,
};
use crate::adapters::tls::ClusterTls;
use crate::config::Config;
use crate::placement::{
    DEFAULT_VIRTUAL_NODES, Epoch, Node, NodeId, NodeStatus, RefusedChange, Topology,
};
use crate::ports::{Change, MetadataStore, Operation, Reply, Request};

/// How many storage nodes a new cluster has unless told otherwise.
const NODES: u16 = 3;

/// Where a cluster keeps its data.
pub struct Directory {
    path: PathBuf,
    /// Removes it at the end.
    _temporary: Option<TempDir>,
}

impl Directory {
    /// A directory that stays; it is made if need be.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path).map_err(|error| {
            Failure::usage(format!("--data {}: {error}", path.display()))
                .hint("choose another with --data")
        })?;
        Ok(Self {
            path: path.to_owned(),
            _temporary: None,
        })
    }

    /// A directory that goes with the value.
    pub fn temporary() -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix("pairdb-")
            .tempdir()
            .map_err(|error| Failure::local(format!("no temporary directory: {error}")))?;
        Ok(Self {
            path: temporary.path().to_owned(),
            _temporary: Some(temporary),
        })
    }
}

/// A whole cluster.
pub struct Cluster {
    coordinator: CoordinatorProcess,
    nodes: Vec<StorageNode>,
    stores: Stores,
    directory: Directory,
}

impl Cluster {
    /// Starts it on what the directory holds, or a new one with `wanted` nodes.
    pub async fn start(
        config: &Config,
        flags: &ListenFlags,
        directory: Directory,
        wanted: Option<u16>,
    ) -> Result<Self, Failure> {
        let listeners = CoordinatorListeners::bind(config, flags).await?;
        let file = directory.path.join("metadata.sqlite");
        let stores = Stores::in_file(&file).await?;
        let Placed {
            stored,
            next,
            sockets,
        } = place(&stores, &directory.path, wanted).await?;
        let tls = ClusterTls::open(&config.cluster_tls, &config.tls)?;
        let nodes = try_join_all(next.nodes.iter().zip(sockets).map(|(node, socket)| {
            let data = directory.path.join(node.id.as_str());
            let (sync, settings) = (config.storage.sync, config.replica);
            let known = Known::Epoch(stored.epoch);
            let (id, tls) = (node.id.clone(), tls.clone());
            let budget = config.server.budget();
            async move {
                let door = Door {
                    listener: socket,
                    tls,
                    budget,
                };
                StorageNode::start(id, &data, sync, settings, known, door).await
            }
        }))
        .await?;
        if stored.nodes.is_empty() {
            try_join_all(nodes.iter().map(|node| found(node, next.epoch))).await?;
        }
        if next != stored {
            publish(&stores, &directory.path, stored.epoch, next).await?;
        }
        let coordinator = CoordinatorProcess::start(&stores, config, listeners).await?;
        Ok(Self {
            coordinator,
            nodes,
            stores,
            directory,
        })
    }

    /// Waits until everything answers; see [`CoordinatorProcess::settled`].
    pub async fn settled(&self, patience: Duration) -> bool {
        self.coordinator.settled(patience).await
    }

    /// Completes when a front fails. Meanwhile the nodes are told of new epochs.
    pub async fn failed(&mut self) -> Failure {
        let metadata = &self.stores.metadata;
        let replicas: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.replica().clone())
            .collect();
        let told = replicas
            .iter()
            .map(|replica| StorageNode::follow_epochs(replica, metadata, |_| ()));
        let told = futures::future::join_all(told);
        let nodes = self.nodes.iter_mut().map(StorageNode::failed);
        let mut nodes = nodes.collect::<FuturesUnordered<_>>();
        tokio::select! {
            failure = self.coordinator.failed() => failure,
            Some(failure) = nodes.next() => failure,
            _ = told => std::future::pending().await, // never
        }
    }

    /// Where the coordinator can be reached.
    pub const fn addresses(&self) -> Addresses {
        self.coordinator.addresses()
    }

    /// The storage nodes and where they are.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, SocketAddr)> {
        self.nodes.iter().map(|node| (node.node(), node.address()))
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.directory.path
    }

    /// Stops one storage node, for a demonstration.
    pub async fn stop_last_node(&mut self) -> Result<Option<NodeId>, Failure> {
        let Some(node) = self.nodes.pop() else {
            return Ok(None);
        };
        let name = node.node().clone();
        node.stop().await?;
        Ok(Some(name))
    }

    /// Stops everything in order: no more requests, then the nodes, then the stores.
    pub async fn stop(self) -> Result<(), Failure> {
        let mut result = self.coordinator.stop().await;
        for node in self.nodes {
            result = result.and(node.stop().await);
        }
        self.stores.close().await;
        drop(self.directory);
        result
    }
}

/// Where the nodes are going to be.
struct Placed {
    /// The topology there is.
    stored: Topology,
    /// The one to publish; the same if nothing changes.
    next: Topology,
    /// What each node of `next` listens on.
    sockets: Vec<TcpListener>,
}

/// Listens for every node.
async fn place(stores: &Stores, directory: &Path, wanted: Option<u16>) -> Result<Placed, Failure> {
    let stored = stores
        .metadata
        .topology()
        .await
        .map_err(|error| invalid(directory, &error))?;
    let mut nodes = if stored.nodes.is_empty() {
        new_nodes(wanted.unwrap_or(NODES))
    } else {
        stored.nodes.clone()
    };
    if let Some(wanted) = wanted
        && usize::from(wanted) != nodes.len()
    {
        return Err(other_count(directory, nodes.len(), wanted));
    }
    let mut sockets = Vec::with_capacity(nodes.len());
    for node in &mut nodes {
        let (socket, port) = listen_again(node.port).await?;
        node.host = Ipv4Addr::LOCALHOST.to_string();
        node.port = port;
        sockets.push(socket);
    }
    let next = match stored.nodes.is_empty() {
        true => {
            let epochs = || invalid(directory, &"epochs are used up");
            let epoch = stored.epoch.next().ok_or_else(epochs)?;
            Topology::new(epoch, stored.partitions, nodes)
                .map_err(|error| invalid(directory, &error))?
        }
        false => moved(&stored, &nodes).map_err(|error| invalid(directory, &error))?,
    };
    Ok(Placed {
        stored,
        next,
        sockets,
    })
}

/// The topology where the nodes are at these addresses.
fn moved(stored: &Topology, nodes: &[Node]) -> Result<Topology, RefusedChange> {
    let is_elsewhere = |node: &&Node| {
        let before = stored.node(&node.id);
        before.is_none_or(|before| (&before.host, before.port) != (&node.host, node.port))
    };
    let elsewhere = nodes.iter().filter(is_elsewhere);
    elsewhere
        .into_iter()
        .try_fold(stored.clone(), |topology, node| {
            topology.relocated(&node.id, &node.host, node.port)
        })
}

/// Tells a node that it is one of a new cluster's first: its disk is empty because nothing was ever written, and it
/// counts.
async fn found(node: &StorageNode, epoch: Epoch) -> Result<(), Failure> {
    let request = Request {
        node: node.node().clone(),
        epoch,
        operation: Operation::AdoptEpochIfEmpty {
            epoch,
            is_new: true,
        },
    };
    match node.replica().handle(request).await {
        Ok(Reply::Adopted { adopted: true }) => Ok(()),
        Ok(_) => Err(Failure::new(
            Exit::Usage,
            "OTHER_CLUSTER",
            format!(
                "the metadata store knows of no nodes, but {} holds records",
                node.node()
            ),
        )
        .hint("put metadata.sqlite back, or start another cluster with --data or --ephemeral")),
        Err(refusal) => Err(Failure::local(format!("{}: {refusal}", node.node()))),
    }
}

async fn publish(
    stores: &Stores,
    directory: &Path,
    expected: Epoch,
    next: Topology,
) -> Result<(), Failure> {
    match stores.metadata.replace_topology(expected, next).await {
        Ok(Change::Made(_)) => Ok(()),
        Ok(Change::Conflict(_)) => Err(invalid(
            directory,
            &"the topology was changed at the same time",
        )
        .hint("is another pairdb running on it? --data names another directory")),
        Err(error) => Err(Failure::local(format!(
            "the topology can't be stored: {error}"
        ))),
    }
}

fn invalid(directory: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::local(format!("{}: {error}", directory.display()))
}

fn new_nodes(count: u16) -> Vec<Node> {
    (1..=count)
        .filter_map(|number| {
            Some(Node {
                id: NodeId::new(format!("node-{number}")).ok()?,
                host: Ipv4Addr::LOCALHOST.to_string(),
                port: 0,
                virtual_nodes: DEFAULT_VIRTUAL_NODES,
                status: NodeStatus::Active,
                zone: None,
                seat: None,
            })
        })
        .collect()
}

fn other_count(directory: &Path, found: usize, wanted: u16) -> Failure {
    let directory = directory.display();
    Failure::new(
        Exit::Usage,
        "OTHER_CLUSTER",
        format!("{directory} holds a cluster of {found} storage nodes, and --nodes says {wanted}"),
    )
    .hint("leave out --nodes to use it, or start another cluster with --data or --ephemeral")
}

/// Listens on the port a node had, or on a free one if that is taken by now.
async fn listen_again(port: u16) -> Result<(TcpListener, u16), Failure> {
    let failed =
        |error: std::io::Error| Failure::local(format!("no port for a storage node: {error}"));
    let again = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let socket = match again {
        Ok(socket) => socket,
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?,
    };
    let port = socket.local_addr().map_err(failed)?.port();
    Ok((socket, port))
}
