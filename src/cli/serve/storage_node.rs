//! One storage node: its engine, the replica on it, and the gRPC front before it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::super::exit::{Exit, Failure};
use super::listen::address;
use crate::adapters::fjall::{FjallDurability, FjallSettings, FjallStorage};
use crate::adapters::grpc::{
    GrpcTransport, StorageFrontSettings, TransportSettings, serve_storage,
};
use crate::adapters::tls::{ClusterTls, Listener};
use crate::adapters::tokio::{NodeWorld, TokioClock};
use crate::config::SyncMode;
use crate::placement::{Epoch, NodeId};
use crate::replica::{Replica, ReplicaSettings};

/// How long coordinators may take to close their connections.
const GOODBYE: Duration = Duration::from_secs(2);

type World = NodeWorld<FjallStorage, GrpcTransport<TokioClock>>;

type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

/// A storage node that serves.
pub struct StorageNode {
    replica: Replica<World>,
    storage: FjallStorage,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    /// The front; `None` once it has failed.
    serving: Option<Serving>,
}

impl StorageNode {
    /// Opens the node's data and serves on `listener`. Epochs below `epoch` are refused from the start. With `tls`, only
    /// processes of the cluster are served.
    pub async fn start(
        node: NodeId,
        data: &Path,
        sync: SyncMode,
        settings: ReplicaSettings,
        epoch: Epoch,
        listener: TcpListener,
        tls: Option<ClusterTls>,
    ) -> Result<Self, Failure> {
        let address = address(&listener)?;
        let storage = open(data, sync).await?;
        let clock = TokioClock::new();
        let (server, client) = tls.map(|tls| (tls.server, tls.client)).unzip();
        let listener = Listener::new(listener, server);
        let peers = GrpcTransport::with_tls(clock, TransportSettings::default(), client);
        let world = NodeWorld::with_peers(storage.clone(), clock, peers);
        let replica = Replica::open(world, node, settings)
            .await
            .map_err(|error| Failure::local(format!("{}: {error}", data.display())))?;
        replica.learn_epoch(epoch).await;
        let (shutdown, stopped) = oneshot::channel();
        let handler = replica.clone();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve_storage(handler, listener, StorageFrontSettings::default(), stopped).await
        });
        Ok(Self {
            replica,
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
fn cause(ended: Result<Result<(), tonic::transport::Error>, JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
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
        Failure::new(Exit::Failure, "DATA_DIRECTORY", error.to_string())
            .hint("is another pairdb running on it? --data names another directory")
    })
}
