//! One storage node: its engine, the replica on it, and the gRPC front before it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use super::super::exit::{Exit, Failure};
use super::listen::address;
use super::stores::ChosenMetadata;
use crate::adapters::fjall::{FjallDurability, FjallSettings, FjallStorage};
use crate::adapters::front::Budget;
use crate::adapters::grpc::{
    GrpcTransport, StorageFrontSettings, TransportSettings, serve_storage,
};
use crate::adapters::tls::{ClusterTls, Listener};
use crate::adapters::tokio::{NodeWorld, TokioClock};
use crate::config::SyncMode;
use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{Clock, MetadataStore, Operation, ReplicaTransport, Reply, Request};
use crate::replica::{Replica, ReplicaSettings};
use crate::version::Actor;

/// How long coordinators may take to close their connections.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often the topology is looked at, notified or not.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// The world of a node of production.
pub type World = NodeWorld<FjallStorage, GrpcTransport<TokioClock>>;

type Serving = JoinHandle<()>;

/// How long somebody who may have the node's name may take to say so.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What is known of the topology when a node starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// The metadata store could not be asked: what the node remembers has to do.
    Nothing,
    /// This is the newest epoch.
    Epoch(Epoch),
    /// The same, even if the node refuses all before a later one, which can't be.
    EpochAgain(Epoch),
}

/// What others reach a storage node through.
pub struct Door {
    /// Where it listens.
    pub listener: TcpListener,
    /// With it, only processes of the cluster are served.
    pub tls: Option<ClusterTls>,
    /// What messages are paid for from.
    pub budget: Budget,
}

/// A storage node that serves.
pub struct StorageNode {
    replica: Replica<World>,
    /// The way to other nodes.
    peers: GrpcTransport<TokioClock>,
    storage: FjallStorage,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    /// The front; `None` once it has failed.
    serving: Option<Serving>,
}

impl StorageNode {
    /// Opens the node's data and serves on the door.
    pub async fn start(
        node: NodeId,
        data: &Path,
        sync: SyncMode,
        settings: ReplicaSettings,
        known: Known,
        door: Door,
    ) -> Result<Self, Failure> {
        let Door {
            listener,
            tls,
            budget,
        } = door;
        let address = address(&listener)?;
        if tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "whoever reaches the storage node may read, change and delete everything: set cluster_tls (cert_file, key_file, ca_file)"
            );
        }
        let storage = open(data, sync).await?.paid_for_by(budget.clone());
        let clock = TokioClock::new();
        let (server, client) = tls.map(|tls| (tls.server, tls.client)).unzip();
        let listener = Listener::new(listener, server);
        let settings_of_peers = TransportSettings::default();
        let peers = GrpcTransport::with(clock, settings_of_peers, client, budget.clone());
        let world = NodeWorld::with_peers(storage.clone(), clock, peers.clone());
        let replica = Replica::open(world, node, settings)
            .await
            .map_err(|error| {
                let failure = Failure::local(format!("{}: {error}", data.display()));
                failure.with_hint(error.way_out())
            })?;
        match known {
            Known::Nothing => {}
            Known::Epoch(epoch) => replica.learn_epoch(epoch),
            Known::EpochAgain(epoch) => replica
                .reset_epoch(epoch)
                .await
                .map_err(|error| Failure::local(format!("the epoch can't be set back: {error}")))?,
        }
        let (shutdown, stopped) = oneshot::channel();
        let handler = replica.clone();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let settings = StorageFrontSettings::default();
            serve_storage(handler, listener, settings, budget, stopped).await;
        });
        Ok(Self {
            replica,
            peers,
            storage,
            address,
            shutdown,
            serving: Some(serving),
        })
    }

    /// Its name.
    pub fn node(&self) -> &NodeId {
        self.replica.node()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node behind the front.
    pub const fn replica(&self) -> &Replica<World> {
        &self.replica
    }

    /// Whether its data was never part of a cluster, nor made ready for it.
    pub async fn is_new(&self) -> bool {
        is_new(&self.replica).await
    }

    /// To find out who else has its name.
    pub fn namesakes(&self) -> Namesakes {
        Namesakes {
            replica: self.replica.clone(),
            peers: self.peers.clone(),
        }
    }

    /// Tells the node of every new epoch, and `seen` of every topology. Never ends.
    pub async fn follow_epochs(
        replica: &Replica<World>,
        metadata: &ChosenMetadata,
        mut seen: impl FnMut(&Topology),
    ) -> ! {
        let mut events = metadata.watch();
        loop {
            match metadata.topology().await {
                Ok(topology) => {
                    seen(&topology);
                    replica.learn_epoch(topology.epoch);
                }
                Err(error) => tracing::warn!(%error, "the topology can't be read"),
            }
            // An event or the interval, whichever comes first: both lead to a look. So does the end of the events,
            // after a while.
            if let Ok(None) = timeout(REFRESH_INTERVAL, events.next()).await {
                sleep(REFRESH_INTERVAL).await;
                events = metadata.watch();
            }
        }
    }

    /// Completes when the front fails, which it should not.
    pub async fn failed(&mut self) -> Failure {
        let Some(serving) = &mut self.serving else {
            return std::future::pending().await;
        };
        let ended = serving.await;
        self.serving = None;
        let cause = cause(ended).unwrap_or_else(|| "it ended unasked".into());
        Failure::local(format!("{}: the gRPC server failed: {cause}", self.node()))
    }

    /// Stops cleanly: finishes what is at work, makes it durable, and gives the directory back.
    pub async fn stop(self) -> Result<(), Failure> {
        let Self {
            replica,
            storage,
            shutdown,
            serving,
            ..
        } = self;
        let node = replica.node().clone();
        let _ = shutdown.send(()); // gone when the front has failed already
        let served = match serving {
            Some(serving) => front_ended(serving).await,
            None => None, // told before
        };
        let stopped = replica.stop().await;
        drop(replica);
        let closed = tokio::task::spawn_blocking(move || storage.close()).await;
        let cause = served
            .or(stopped.err().map(|error| error.to_string()))
            .or(closed.err().map(|error| error.to_string()));
        match cause {
            None => Ok(()),
            Some(cause) => Err(Failure::local(format!(
                "{node} did not stop cleanly: {cause}"
            ))),
        }
    }
}

/// Finds processes that answer under a node's name and are not the node.
pub struct Namesakes {
    replica: Replica<World>,
    peers: GrpcTransport<TokioClock>,
}

/// Whether the data is nobody's: it is empty, and no coordinator has yet said that it may count.
async fn is_new(replica: &Replica<World>) -> bool {
    let probe = Request {
        node: replica.node().clone(),
        epoch: replica.epoch(),
        operation: Operation::Probe,
    };
    match replica.handle(probe).await {
        Ok(Reply::Report(report)) => report.refilling.is_some() && report.keys == 0,
        _ => false,
    }
}

impl Namesakes {
    /// Whether the node's own data was never part of a cluster, nor made ready for it.
    pub async fn are_of_new(&self) -> bool {
        is_new(&self.replica).await
    }

    /// The incarnation of the one at `listed`, if somebody with other data answers there under the node's name.
    pub async fn at(&self, listed: &Node) -> Option<Actor> {
        let request = Request {
            node: listed.id.clone(),
            epoch: Epoch::default(),
            operation: Operation::Probe,
        };
        let deadline = TokioClock::new().now() + ANSWER_MAX;
        match self.peers.call(listed, request, deadline).await {
            Ok(Reply::Report(report)) if report.node == listed.id => {
                let other = report.incarnations.last().copied()?;
                (other != self.replica.incarnation()).then_some(other)
            }
            _ => None, // nobody, or a stranger
        }
    }
}

/// Waits for a front, but not for ever for coordinators that don't answer. Returns why it ended, if not in order.
async fn front_ended(mut serving: Serving) -> Option<String> {
    match timeout(GOODBYE, &mut serving).await {
        Ok(ended) => cause(ended),
        Err(_) => {
            serving.abort();
            None
        }
    }
}

/// Why a front ended, if not in order.
fn cause(ended: Result<(), JoinError>) -> Option<String> {
    ended.err().map(|error| error.to_string())
}

async fn open(data: &Path, sync: SyncMode) -> Result<FjallStorage, Failure> {
    let durability = match sync {
        SyncMode::Always => FjallDurability::Always,
        SyncMode::Interval(period) => FjallDurability::IntervalMs(
            u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1),
        ),
    };
    let settings = FjallSettings {
        durability,
        ..FjallSettings::default()
    };
    let directory: Arc<Path> = data.into();
    let opened =
        tokio::task::spawn_blocking(move || FjallStorage::open(&directory, &settings)).await;
    let opened = opened
        .map_err(|error| Failure::local(format!("opening {} failed: {error}", data.display())))?;
    opened.map_err(|error| {
        Failure::new(Exit::Failure, "DATA_DIRECTORY", error.to_string()).hint(error.way_out())
    })
}
