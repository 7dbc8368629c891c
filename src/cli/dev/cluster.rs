//! The cluster of `pairdb dev`: its directory, its topology, its nodes and its coordinator. How many nodes it has can
//! change while it runs ([`resize`](super::resize)).
//!
//! ```text
//! DATA/metadata.sqlite   tenants, topology, idempotency
//! DATA/node-1 ...        one engine a storage node
//! DATA/dev.sock          while it runs: where another `pairdb dev` asks for another number of nodes
//! ```
//!
//! The nodes' ports are taken again at a restart if they are free, else others; either way the topology says where the
//! nodes are before anything is served. Its epoch grows with each change, so nobody is asked at an old address. A new
//! cluster's nodes are told that they are its first before the topology names them: a node that finds its disk empty
//! and is not told so takes it for lost. A node that is to join by a migration is started where the migration expects
//! it, and one that has left is stopped.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::super::exit::{Exit, Failure};
use super::super::serve::{
    Addresses, CoordinatorListeners, CoordinatorProcess, Door, Known, ListenFlags, StorageNode,
    Stores,
};
use super::resize::{Progress, Resized, Steps, numbered};
use super::wishes::{Wish, Wishes};
use crate::adapters::directories;
use crate::adapters::tls::ClusterTls;
use crate::adapters::vitals::{Vitals, keep};
use crate::api::to_status;
use crate::cli::client::{Effect, failure};
use crate::config::{Config, ServerSettings, SyncMode};
use crate::coordinator::NodesChanged;
use crate::placement::{
    ChangeId, DEFAULT_VIRTUAL_NODES, Epoch, Node, NodeChange, NodeId, NodeStatus, RefusedChange,
    Topology,
};
use crate::ports::{Change, MetadataStore, Migration, Operation, Reply, Request};
use crate::replica::ReplicaSettings;

/// Migrations that may wait at the same time.
const MIGRATIONS_MAX: usize = 64;
/// How often is looked who has left, and how far a migration has come.
const LOOK: Duration = Duration::from_millis(500);

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
        directories::make(path, 0o777).map_err(|error| {
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
    nodes: Vec<Member>,
    stores: Stores,
    starter: Starter,
    /// The migration that changes how many nodes there are.
    under_way: Option<ChangeId>,
    directory: Directory,
}

/// A storage node that runs here.
struct Member {
    node: StorageNode,
    /// Tells it of new epochs.
    told: JoinHandle<()>,
    /// Whether it was seen to be part of the cluster.
    was_listed: bool,
}

impl Member {
    fn new(node: StorageNode, stores: &Stores) -> Self {
        let (replica, metadata) = (node.replica().clone(), stores.metadata.clone());
        let following = async move {
            StorageNode::follow_epochs(&replica, &metadata, |_| ()).await;
        };
        let told = tokio::spawn(keep(Vitals::process(), "watch for epochs", following));
        Self {
            node,
            told,
            was_listed: false,
        }
    }

    async fn stop(self) -> Result<(), Failure> {
        self.told.abort();
        let _ = self.told.await; // its share of the node is gone
        self.node.stop().await
    }
}

/// How storage nodes are started.
struct Starter {
    data: PathBuf,
    sync: SyncMode,
    settings: ReplicaSettings,
    tls: Option<ClusterTls>,
    server: ServerSettings,
}

impl Starter {
    async fn start(
        &self,
        id: &NodeId,
        known: Epoch,
        listener: TcpListener,
    ) -> Result<StorageNode, Failure> {
        let door = Door {
            listener,
            tls: self.tls.clone(),
            budget: self.server.budget(),
        };
        let data = self.data.join(id.as_str());
        let known = Known::Epoch(known);
        StorageNode::start(id.clone(), &data, self.sync, self.settings, known, door).await
    }
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
        let starter = Starter {
            data: directory.path.clone(),
            sync: config.storage.sync,
            settings: config.replica,
            tls: ClusterTls::open(&config.cluster_tls, &config.tls)?,
            server: config.server.clone(),
        };
        let starting = sockets.into_iter();
        let starting = starting.map(|(id, socket)| {
            let (starter, epoch) = (&starter, stored.epoch);
            async move { starter.start(&id, epoch, socket).await }
        });
        let nodes = try_join_all(starting).await?;
        if stored.nodes.is_empty() {
            try_join_all(nodes.iter().map(|node| found(node, next.epoch))).await?;
        }
        if next != stored {
            publish(&stores, &directory.path, stored.epoch, next).await?;
        }
        let coordinator = CoordinatorProcess::start(&stores, config, listeners).await?;
        let (_, open) = known(&stores, &directory.path).await?;
        let nodes = nodes.into_iter().map(|node| Member::new(node, &stores));
        Ok(Self {
            coordinator,
            nodes: nodes.collect(),
            stores,
            starter,
            under_way: open.into_iter().map(|migration| migration.id).next(),
            directory,
        })
    }

    /// Has the cluster come to have so many storage nodes: starts those that are to join, and asks for the change.
    pub async fn resize(&mut self, wanted: u16) -> Result<Resized, Failure> {
        let (stored, open) = self.known().await?;
        let steps = Steps::to(wanted, &stored, &open);
        let Some(steps) = steps else {
            return Ok(Resized::already(wanted));
        };
        let mut joining = Vec::new();
        for id in steps.joining() {
            // One whose migration was cancelled before it was begun runs still.
            if self.nodes().any(|(node, _)| node == id) {
                continue;
            }
            let socket = listen_again(0).await?.0;
            let node = self.starter.start(id, stored.epoch, socket).await;
            match node {
                Ok(node) => joining.push(node),
                Err(failure) => {
                    stop_all(joining).await;
                    return Err(failure);
                }
            }
        }
        let started = joining.iter().map(|node| (node.node(), node.address()));
        let running = self.nodes().chain(started);
        let at = running
            .filter(|(id, _)| steps.joining().contains(id))
            .map(|(id, address)| new_node(id.clone(), address.port()));
        let request = steps.request(at.collect());
        let asked = self.coordinator.admin().change_nodes(request).await;
        let changed = match asked {
            Ok(changed) => changed,
            Err(error) => {
                stop_all(joining).await;
                return Err(failure(&to_status(&error, ""), Effect::Writes));
            }
        };
        let joining = joining.into_iter();
        self.nodes
            .extend(joining.map(|node| Member::new(node, &self.stores)));
        let migration = match changed {
            NodesChanged::Asked { migration, .. } => Some(migration.id),
            NodesChanged::AtOnce { .. } | NodesChanged::Already { .. } => None,
        };
        self.under_way.clone_from(&migration);
        Ok(Resized::new(steps.before(), wanted, migration))
    }

    /// The topology, and migrations that are not over.
    async fn known(&self) -> Result<(Topology, Vec<Migration>), Failure> {
        known(&self.stores, &self.directory.path).await
    }

    /// Stops nodes that have left.
    async fn let_go(&mut self) -> Result<Vec<NodeId>, Failure> {
        let listed = self.coordinator.admin().nodes();
        let listed: BTreeSet<&NodeId> = listed.iter().map(|node| &node.node.id).collect();
        let (mut left, mut result) = (Vec::new(), Ok(()));
        for member in std::mem::take(&mut self.nodes) {
            let is_listed = listed.contains(member.node.node());
            if member.was_listed && !is_listed {
                left.push(member.node.node().clone());
                result = result.and(member.stop().await);
            } else {
                let was_listed = member.was_listed || is_listed;
                self.nodes.push(Member {
                    was_listed,
                    ..member
                });
            }
        }
        result.map(|()| left)
    }

    /// How far the migration has come that changes how many nodes there are; `None`: there is nothing to be told.
    async fn progress(&mut self) -> Option<Progress> {
        let id = self.under_way.as_ref()?;
        let view = self.coordinator.admin().migration(id.as_str()).await;
        let progress = Progress::of(&view.ok()?);
        if progress.is_over() {
            self.under_way = None;
        }
        Some(progress)
    }

    /// Looks after the cluster until something fails: nodes that leave are stopped, and others may ask for another
    /// number of nodes. `tell` is told what people should know.
    pub async fn run(&mut self, wishes: &mut Wishes, tell: impl Fn(&str)) -> Failure {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            match self.next_event(wishes, &mut looks).await {
                Event::Failed(failure) => return failure,
                Event::Asked(wish) => {
                    let resized = self.resize(wish.nodes()).await;
                    if let Ok(resized) = &resized {
                        tell(&resized.to_string());
                    }
                    wish.answer(resized).await;
                }
                Event::Look => {
                    match self.let_go().await {
                        Ok(left) => left.iter().for_each(|node| {
                            tell(&format!("{node} has left, and is stopped"));
                        }),
                        Err(failure) => return failure,
                    }
                    if let Some(progress) = self.progress().await {
                        let progress = progress.to_string();
                        if progress != told {
                            tell(&progress);
                            told = progress;
                        }
                    }
                }
            }
        }
    }

    async fn next_event(
        &mut self,
        wishes: &mut Wishes,
        looks: &mut tokio::time::Interval,
    ) -> Event {
        let nodes = self.nodes.iter_mut().map(|member| member.node.failed());
        let mut nodes = nodes.collect::<FuturesUnordered<_>>();
        tokio::select! {
            failure = self.coordinator.failed() => Event::Failed(failure),
            Some(failure) = nodes.next() => Event::Failed(failure),
            wish = wishes.next() => Event::Asked(wish),
            _ = looks.tick() => Event::Look,
        }
    }

    /// Waits until everything answers; see [`CoordinatorProcess::settled`].
    pub async fn settled(&self, patience: Duration) -> bool {
        self.coordinator.settled(patience).await
    }

    /// Where the coordinator can be reached.
    pub const fn addresses(&self) -> Addresses {
        self.coordinator.addresses()
    }

    /// The storage nodes and where they are.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, SocketAddr)> {
        let nodes = self.nodes.iter().map(|member| &member.node);
        nodes.map(|node| (node.node(), node.address()))
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.directory.path
    }

    /// Stops one storage node, for a demonstration.
    pub async fn stop_last_node(&mut self) -> Result<Option<NodeId>, Failure> {
        let Some(member) = self.nodes.pop() else {
            return Ok(None);
        };
        let name = member.node.node().clone();
        member.stop().await?;
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

/// What happens to a cluster that runs.
enum Event {
    /// A front failed.
    Failed(Failure),
    /// Somebody asks for another number of nodes.
    Asked(Wish),
    /// It is time to look at it.
    Look,
}

async fn stop_all(nodes: Vec<StorageNode>) {
    for node in nodes {
        let _ = node.stop().await; // why they are stopped is told
    }
}

/// The topology, and migrations that are not over.
async fn known(stores: &Stores, directory: &Path) -> Result<(Topology, Vec<Migration>), Failure> {
    let unreadable = |error| invalid(directory, &error);
    let stored = stores.metadata.topology().await.map_err(unreadable)?;
    let open = stores.metadata.open_migrations(MIGRATIONS_MAX).await;
    let open = open.map_err(|error| invalid(directory, &error))?;
    Ok((stored, open))
}

/// Where the nodes are going to be.
struct Placed {
    /// The topology there is.
    stored: Topology,
    /// The one to publish; the same if nothing changes.
    next: Topology,
    /// The nodes that run, and what each listens on: those of `next`, and those that a migration is to add.
    sockets: Vec<(NodeId, TcpListener)>,
}

/// Listens for every node.
async fn place(stores: &Stores, directory: &Path, wanted: Option<u16>) -> Result<Placed, Failure> {
    let (stored, open) = known(stores, directory).await?;
    let mut nodes = if stored.nodes.is_empty() {
        new_nodes(wanted.unwrap_or(NODES))
    } else {
        stored.nodes.clone()
    };
    let mut sockets = Vec::with_capacity(nodes.len());
    for node in &mut nodes {
        let (socket, port) = listen_again(node.port).await?;
        node.host = Ipv4Addr::LOCALHOST.to_string();
        node.port = port;
        sockets.push((node.id.clone(), socket));
    }
    for node in expected(&stored, &open) {
        // The migration looks for it there and nowhere else. If the port is taken, that is what it waits for.
        if let Ok(socket) = TcpListener::bind((Ipv4Addr::LOCALHOST, node.port)).await {
            sockets.push((node.id.clone(), socket));
        }
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

/// Nodes that migrations are to add and have not begun to.
fn expected<'m>(stored: &'m Topology, open: &'m [Migration]) -> impl Iterator<Item = &'m Node> {
    let changes = open.iter().flat_map(|migration| &migration.request.nodes);
    let joining = changes.filter_map(|change| match change {
        NodeChange::Add(node) | NodeChange::Replace { by: node, .. } => Some(node),
        NodeChange::Remove { .. } | NodeChange::Set { .. } => None,
    });
    let here = |node: &&Node| node.host == Ipv4Addr::LOCALHOST.to_string();
    joining
        .filter(here)
        .filter(|node| stored.node(&node.id).is_none())
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
    let ids = (1..=count).filter_map(|number| numbered(number.into()));
    ids.map(|id| new_node(id, 0)).collect()
}

fn new_node(id: NodeId, port: u16) -> Node {
    Node {
        id,
        host: Ipv4Addr::LOCALHOST.to_string(),
        port,
        virtual_nodes: DEFAULT_VIRTUAL_NODES,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
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
