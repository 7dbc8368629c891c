//! A node of the release before: what it stores, what it refuses, and that one of the current release takes over from
//! it, and back.

use super::*;
use crate::ports::{Release, Space, StorageEngine};

/// The same world for a process of the release before.
#[derive(Clone)]
struct Older(World);

impl ReplicaWorld for Older {
    type Clock = <World as ReplicaWorld>::Clock;
    type Random = <World as ReplicaWorld>::Random;
    type Spawn = <World as ReplicaWorld>::Spawn;
    type Storage = <World as ReplicaWorld>::Storage;
    type Transport = <World as ReplicaWorld>::Transport;

    fn clock(&self) -> &Self::Clock {
        self.0.clock()
    }
    fn random(&self) -> &Self::Random {
        self.0.random()
    }
    fn spawner(&self) -> &Self::Spawn {
        self.0.spawner()
    }
    fn storage(&self) -> &Self::Storage {
        self.0.storage()
    }
    fn transport(&self) -> &Self::Transport {
        self.0.transport()
    }
    fn speaks(&self) -> Release {
        Release::BeforeChangesOfOwners
    }
}

async fn older(storage: &MemoryStorage) -> Result<Replica<Older>, OpenError> {
    Replica::open(Older(world(storage)), node_id(), settings()).await
}

fn asked(epoch: u64, operation: Operation) -> Request {
    Request {
        node: node_id(),
        epoch: Epoch(epoch),
        operation,
    }
}

fn of(partition: u16, name: &str) -> RecordKey {
    let tenant = TenantId::new("t").unwrap();
    RecordKey::new(PartitionId(partition), &tenant, name)
}

fn read_of(partition: u16) -> Operation {
    let key = of(partition, "k");
    Operation::Read { key }
}

fn fence_of(partitions: Option<Vec<PartitionId>>) -> Operation {
    Operation::Maintenance(Box::new(Maintenance::Fence {
        partitions,
        leaving: false,
        horizon: Stamp::ZERO,
    }))
}

async fn meta(storage: &MemoryStorage) -> Vec<(Bytes, Bytes)> {
    let all = storage.scan(Space::Meta, Bytes::new(), None, 100);
    all.await.unwrap()
}

/// What the release before changes of owners stored as its identity, byte by byte, for a node that was just founded,
/// took on epoch 5 and stopped: format 2; it stopped cleanly; the epoch; no counters; no stamps; its name; its one
/// incarnation; and crc32c of all that.
fn identity_of_before(incarnation: u64) -> Vec<u8> {
    let mut bytes = b"\x02\x01\
        \x00\x00\x00\x00\x00\x00\x00\x05\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\
        \x06node-1\
        \x01"
        .to_vec();
    bytes.extend_from_slice(&incarnation.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

#[tokio::test]
async fn it_stores_what_the_release_before_stored() {
    let storage = MemoryStorage::new(Durability::Always);
    let node = older(&storage).await.unwrap();
    let founded = Operation::AdoptEpochIfEmpty {
        epoch: Epoch(0),
        is_new: true,
    };
    node.handle(asked(0, founded)).await.unwrap();
    // It took on whatever epoch a request named, and refused older ones for everything.
    node.handle(asked(5, read_of(1))).await.unwrap();
    let current = Epoch(5);
    let stale = node.handle(asked(4, read_of(2))).await;
    assert_eq!(stale, Err(Refusal::StaleEpoch { current }));
    let incarnation = node.incarnation();
    node.stop().await.unwrap();
    let stored = meta(&storage).await;
    let identity = stored.iter().find(|(key, _)| key == "identity").unwrap();
    assert_eq!(identity.1, identity_of_before(incarnation.0));
    let names: Vec<&Bytes> = stored.iter().map(|(key, _)| key).collect();
    assert!(
        names.iter().all(|key| !key.starts_with(b"fence ")),
        "{names:?}"
    );
}

#[tokio::test]
async fn it_refuses_what_it_does_not_know() {
    let storage = MemoryStorage::new(Durability::Always);
    let node = older(&storage).await.unwrap();
    for partitions in [None, Some(vec![PartitionId(1)])] {
        let refused = node.handle(asked(1, fence_of(partitions))).await;
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    }
    let Ok(Reply::Report(report)) = node.handle(asked(1, Operation::Probe)).await else {
        panic!("it does not say how it is");
    };
    assert_eq!(report.release, Release::BeforeChangesOfOwners);
}

#[tokio::test]
async fn the_way_back_is_open_until_a_partition_is_fenced() {
    let storage = MemoryStorage::new(Durability::Always);
    let node = older(&storage).await.unwrap();
    let incarnation = node.incarnation();
    node.stop().await.unwrap();
    for _ in 0..2 {
        let node = Replica::open(world(&storage), node_id(), settings());
        let node = node.await.unwrap();
        assert_eq!(node.incarnation(), incarnation);
        node.handle(asked(3, fence_of(None))).await.unwrap();
        node.stop().await.unwrap();
        let node = older(&storage).await.unwrap();
        assert_eq!(node.incarnation(), incarnation);
        node.stop().await.unwrap();
    }
    let node = Replica::open(world(&storage), node_id(), settings());
    let node = node.await.unwrap();
    let partitions = Some(vec![PartitionId(1)]);
    node.handle(asked(4, fence_of(partitions))).await.unwrap();
    node.stop().await.unwrap();
    let commits = storage.commits();
    let (found, understood) = (3, 2);
    let newer = OpenError::NewerData { found, understood };
    assert_eq!(older(&storage).await.err(), Some(newer));
    assert_eq!(storage.commits(), commits, "nothing was written");
}

#[tokio::test]
async fn older_callers_are_named_for_a_while() {
    let node = Node::new().await;
    let caller = |name: &str| Caller {
        release: Release::BeforeChangesOfOwners,
        name: name.into(),
    };
    assert!(node.report().await.older_callers.is_empty());
    for name in ["coordinator-2", "", "coordinator-1"] {
        let probe = asked(0, Operation::Probe);
        node.replica.handle_from(caller(name), probe).await.unwrap();
    }
    let report = node.report().await;
    let named: Vec<&str> = report.older_callers.iter().map(|name| &**name).collect();
    assert_eq!(named, ["coordinator-1", "coordinator-2"]);
    assert_eq!(report.release, Release::Current);
}
