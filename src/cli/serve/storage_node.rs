//! One storage node: its engine, the replica on it, and the gRPC front before it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::exit::{Exit, Failure};
use super::listen::address;
use crate::adapters::fjall::{FjallDurability, FjallSettings, FjallStorage};
use crate::adapters::grpc::{StorageFrontSettings, serve_storage};
use crate::adapters::tokio::NodeWorld;
use crate::config::SyncMode;
use crate::placement::{Epoch, NodeId};
use crate::replica::{Replica, ReplicaSettings};

/// A storage node that serves.
pub struct StorageNode {
    replica: Replica<NodeWorld<FjallStorage>>,
    storage: FjallStorage,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl StorageNode {
    /// Opens the node's data and serves on `listener`. Epochs below `epoch` are refused from the start.
    pub async fn start(
        node: NodeId,
        data: &Path,
        sync: SyncMode,
        settings: ReplicaSettings,
        epoch: Epoch,
        listener: TcpListener,
    ) -> Result<Self, Failure> {
        let address = address(&listener)?;
        let storage = open(data, sync).await?;
        let replica = Replica::open(NodeWorld::new(storage.clone()), node, settings)
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
            serving,
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

    /// Refuses epochs below `epoch` from now on.
    pub async fn learn_epoch(&self, epoch: Epoch) {
        self.replica.learn_epoch(epoch).await;
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
        let served = serving.await;
        let stopped = replica.stop().await;
        drop(replica);
        let closed = tokio::task::spawn_blocking(move || storage.close()).await;
        let failed =
            |cause: String| Failure::local(format!("{node} did not stop cleanly: {cause}"));
        stopped.map_err(|error| failed(error.to_string()))?;
        closed.map_err(|error| failed(error.to_string()))?;
        match served {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
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
