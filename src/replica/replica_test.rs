//! The storage node on an engine in memory: what its tests, by topic in the folder beside, are made of.

#[path = "replica_test/epochs_test.rs"]
mod epochs;
#[path = "replica_test/fences_test.rs"]
mod fences;
#[path = "replica_test/lives_test.rs"]
mod lives;
#[path = "replica_test/older_test.rs"]
mod older;
#[path = "replica_test/trouble_test.rs"]
mod trouble;
#[path = "replica_test/writes_test.rs"]
mod writes;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;

use super::*;
use crate::adapters::memory::MemoryStorage;
use crate::adapters::tokio::NodeWorld;
use crate::placement::PartitionId;
use crate::ports::{
    AcceptRequest, Caller, Durability, JoinSource, Maintained, Maintenance, Overwrites, Put,
    RecordKey, Release, Standing, TenantId,
};
use crate::version::{Content, Context, Dot, Record, Stamp, Version, VersionVector, WriteId};

type World = NodeWorld<MemoryStorage>;

fn world(storage: &MemoryStorage) -> World {
    NodeWorld::new(storage.clone())
}

/// One node, its engine, and the sentences that tests are made of.
struct Node {
    replica: Replica<World>,
    storage: MemoryStorage,
    world: World,
}

fn node_id() -> NodeId {
    NodeId::new("node-1").unwrap()
}

fn settings() -> ReplicaSettings {
    ReplicaSettings {
        counter_reservation: 10,
        ..ReplicaSettings::default()
    }
}

impl Node {
    async fn new() -> Self {
        Self::on(MemoryStorage::new(Durability::Always)).await
    }

    async fn on(storage: MemoryStorage) -> Self {
        Self::with(storage, settings()).await
    }

    async fn with(storage: MemoryStorage, settings: ReplicaSettings) -> Self {
        let world = world(&storage);
        let replica = Replica::open(world.clone(), node_id(), settings)
            .await
            .unwrap();
        let node = Self {
            replica,
            storage,
            world,
        };
        // With data of its own it is what it was.
        let _ = node.adopt_if_empty(0).await;
        node
    }

    async fn adopt_if_empty(&self, epoch: u64) -> Result<Reply, Refusal> {
        let epoch = Epoch(epoch);
        let adopt = Operation::AdoptEpochIfEmpty {
            epoch,
            is_new: true,
        };
        self.call(epoch.0, adopt).await
    }

    /// Somebody has seen it get back what it lost.
    async fn refill(&self) {
        assert!(self.replica.is_refilling());
        let incarnation = self.replica.incarnation();
        let refilled = Operation::Maintenance(Box::new(Maintenance::Refilled { incarnation }));
        self.call(0, refilled).await.unwrap();
    }

    /// Waits until it takes writes again, by itself.
    async fn is_back(&self) {
        while self.replica.refuses_writes().is_some() {
            self.world.clock().sleep(Duration::from_millis(10)).await;
        }
    }

    /// Loses power and starts again.
    async fn crash(self) -> Self {
        Self::on(self.storage.after_crash()).await
    }

    async fn restart(self) -> Self {
        self.replica.stop().await.unwrap();
        Self::on(self.storage.after_crash()).await
    }

    fn call(
        &self,
        epoch: u64,
        operation: Operation,
    ) -> impl Future<Output = Result<Reply, Refusal>> + use<> {
        self.replica.handle(Request {
            node: node_id(),
            epoch: Epoch(epoch),
            operation,
        })
    }

    async fn accept(&self, request: AcceptRequest) -> Result<Reply, Refusal> {
        self.call(0, Operation::Accept(Box::new(request))).await
    }

    async fn accepted(&self, request: AcceptRequest) -> (Dot, Record) {
        self.accepted_under(0, request).await
    }

    async fn accepted_under(&self, epoch: u64, request: AcceptRequest) -> (Dot, Record) {
        match self.call(epoch, Operation::Accept(Box::new(request))).await {
            Ok(Reply::Accepted { dot, record }) => (dot, Record::decode(record).unwrap()),
            other => panic!("not accepted: {other:?}"),
        }
    }

    async fn join(&self, name: &str, record: &Record) -> Result<Reply, Refusal> {
        self.call(
            0,
            Operation::Join {
                key: key(name),
                record: record.encode(),
                judged: None,
                source: JoinSource::Client,
            },
        )
        .await
    }

    async fn maintenance(
        &self,
        epoch: u64,
        maintenance: Maintenance,
    ) -> Result<Maintained, Refusal> {
        let operation = Operation::Maintenance(Box::new(maintenance));
        match self.call(epoch, operation).await {
            Ok(Reply::Maintained(maintained)) => Ok(maintained),
            Ok(other) => panic!("not an answer to maintenance: {other:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    /// Refuses older epochs from now on, for these partitions or for all.
    async fn fence(
        &self,
        epoch: u64,
        partitions: Option<&[u16]>,
        leaving: bool,
    ) -> Result<Maintained, Refusal> {
        let named = |all: &[u16]| all.iter().copied().map(PartitionId).collect();
        let fence = Maintenance::Fence {
            partitions: partitions.map(named),
            leaving,
            horizon: Stamp::ZERO,
        };
        self.maintenance(epoch, fence).await
    }

    async fn report(&self) -> NodeReport {
        match self.call(0, Operation::Probe).await {
            Ok(Reply::Report(report)) => report,
            other => panic!("no report: {other:?}"),
        }
    }

    async fn read(&self, name: &str) -> Option<Record> {
        match self.call(0, Operation::Read { key: key(name) }).await {
            Ok(Reply::Found { record }) => record.map(|record| Record::decode(record).unwrap()),
            other => panic!("not read: {other:?}"),
        }
    }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(PartitionId(7), &TenantId::new("tenant").unwrap(), name)
}

fn seen<const N: usize>(entries: [(Actor, u64); N]) -> VersionVector {
    entries.into_iter().collect()
}

/// A last-write-wins write. Its stamp is its write id.
fn write(name: &str, id: u64) -> AcceptRequest {
    AcceptRequest {
        key: key(name),
        write_id: WriteId(id.into()),
        stamp: Stamp(id),
        overwrites: Overwrites::All(Context::default()),
        content: Content::Value(Bytes::from(format!("value {id}"))),
        siblings_max: 256,
    }
}

fn sibling(name: &str, id: u64, shown: VersionVector) -> AcceptRequest {
    let context = Context {
        shown,
        written: None,
    };
    AcceptRequest {
        overwrites: Overwrites::Covered(context),
        ..write(name, id)
    }
}

/// Another node's record with one write.
fn others(actor: u64, counter: u64, stamp: u64) -> Record {
    let dot = Dot {
        actor: Actor(actor),
        counter,
    };
    let version = Version {
        dot,
        write_id: WriteId(stamp.into()),
        stamp: Stamp(stamp),
        content: Content::Tombstone,
    };
    Record::new(seen([(dot.actor, counter)]), vec![version]).unwrap()
}

fn ids(record: &Record) -> Vec<u128> {
    let mut ids: Vec<_> = record
        .siblings()
        .iter()
        .map(|sibling| sibling.write_id.0)
        .collect();
    ids.sort_unstable();
    ids
}
