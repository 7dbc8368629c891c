//! What deleted keys cost those that are there: `cargo bench --bench tombstones`, `-- --tombstones 1000000` for a
//! shorter run.
//!
//! One storage node on its engine in a temporary directory. A tenant has so many live keys, and is read and listed;
//! then it gets the tombstones of ten times as many, and is read and listed again; then all of them are purged as a
//! round of comparing does it, and it is read and listed for the last time. Listing is what comparing and `pairdb
//! verify` do: all digests, all keys with their hashes, all tombstones that may go.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark prints, and measures the process itself"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use hdrhistogram::Histogram;
use pairdb::adapters::fjall::{FjallDurability, FjallSettings, FjallStorage};
use pairdb::adapters::tokio::NodeWorld;
use pairdb::placement::{DEFAULT_PARTITIONS, Epoch, NodeId, Token};
use pairdb::ports::{
    JoinSource, Maintained, Maintenance, Operation, RecordKey, Reply, Request, TenantId, TreeName,
};
use pairdb::replica::{Replica, ReplicaSettings};
use pairdb::version::{Actor, Content, Dot, Record, Stamp, Version, VersionVector, WriteId};

const TENANT: &str = "bench";
const LIVE: u64 = 1_000_000;
const VALUE_LEN: usize = 100;
const CALLERS: usize = 64;
const READS: u64 = 400_000;
/// Each of them is a write.
const JOINS_AT_ONCE: usize = 1024;

type Node = Replica<NodeWorld<FjallStorage>>;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let tombstones = args
        .windows(2)
        .find(|pair| pair[0] == "--tombstones")
        .and_then(|pair| pair[1].parse().ok())
        .unwrap_or(10 * LIVE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(run(directory.path(), tombstones));
}

async fn run(directory: &Path, tombstones: u64) {
    println!(
        "one storage node, {LIVE} live keys with {VALUE_LEN}-byte values; latencies in ms, listings in s"
    );
    println!(
        "{:40} {:>9} {:>7} {:>7} {:>7} {:>9} {:>8} {:>8}",
        "", "reads/s", "p50", "p99", "worst", "digests", "keys", "old"
    );
    let young = ReplicaSettings {
        upkeep_bytes_per_second: u64::MAX,
        ..ReplicaSettings::default()
    };
    let (storage, node) = open(directory, young).await;
    join(&node, 0..LIVE, false).await;
    show(&node, "live keys only").await;

    let began = Instant::now();
    join(&node, LIVE..LIVE + tombstones, true).await;
    let took = began.elapsed().as_secs_f64();
    show(&node, &format!("beside {tombstones} tombstones, all young")).await;
    close(storage, node).await;

    let old = ReplicaSettings {
        tombstone_grace: Duration::ZERO,
        ..young
    };
    let (storage, node) = open(directory, old).await;
    let began = Instant::now();
    let purged = purge(&node).await;
    let purging = began.elapsed().as_secs_f64();
    show(&node, "after they were purged").await;
    println!(
        "{tombstones} tombstones came in {took:.0} s; {purged} were purged in {purging:.0} s, {:.0} in a second",
        purged as f64 / purging
    );
    close(storage, node).await;
}

async fn open(directory: &Path, settings: ReplicaSettings) -> (FjallStorage, Node) {
    let engine = FjallSettings {
        durability: FjallDurability::IntervalMs(100),
        ..FjallSettings::default()
    };
    let storage = FjallStorage::open(directory, &engine).unwrap();
    let id = NodeId::new("bench").unwrap();
    let node = Replica::open(NodeWorld::new(storage.clone()), id, settings)
        .await
        .unwrap();
    ask(
        &node,
        Operation::AdoptEpochIfEmpty {
            epoch: Epoch(1),
            is_new: true,
        },
    )
    .await;
    while node
        .handle(request(
            &node,
            Operation::Maintenance(Box::new(Maintenance::Roots { after: None })),
        ))
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(10)).await; // until it has its digests
    }
    (storage, node)
}

async fn close(storage: FjallStorage, node: Node) {
    assert_eq!(node.damaged_records(), 0);
    node.stop().await.unwrap();
    storage.close();
}

fn request(node: &Node, operation: Operation) -> Request {
    Request {
        node: node.node().clone(),
        epoch: Epoch(1),
        operation,
    }
}

async fn ask(node: &Node, operation: Operation) -> Reply {
    node.handle(request(node, operation)).await.unwrap()
}

async fn maintenance(node: &Node, maintenance: Maintenance) -> Maintained {
    match ask(node, Operation::Maintenance(Box::new(maintenance))).await {
        Reply::Maintained(maintained) => maintained,
        other => panic!("answered {other:?}"),
    }
}

fn key(number: u64) -> RecordKey {
    let name = format!("key-{number:010}");
    let partition = Token::of_key(TENANT, &name).partition(DEFAULT_PARTITIONS);
    RecordKey::new(partition, &TenantId::new(TENANT).unwrap(), &name)
}

fn record(number: u64, is_deleted: bool) -> Bytes {
    let counter = number + 1;
    let version = Version {
        dot: Dot {
            actor: Actor(1),
            counter,
        },
        write_id: WriteId(counter.into()),
        stamp: Stamp(counter),
        content: match is_deleted {
            true => Content::Tombstone,
            false => Content::Value(Bytes::from(vec![b'x'; VALUE_LEN])),
        },
    };
    let seen: VersionVector = [(Actor(1), counter)].into_iter().collect();
    Record::new(seen, vec![version]).unwrap().encode()
}

async fn join(node: &Node, numbers: std::ops::Range<u64>, is_deleted: bool) {
    let joins = numbers.map(|number| async move {
        let join = Operation::Join {
            key: key(number),
            record: record(number, is_deleted),
            judged: None,
            source: JoinSource::Client,
        };
        assert!(matches!(ask(node, join).await, Reply::Joined { .. }));
    });
    let mut joins = futures::stream::iter(joins).buffer_unordered(JOINS_AT_ONCE);
    while joins.next().await.is_some() {}
}

async fn show(node: &Node, what: &str) {
    let (per_second, latencies) = read(node).await;
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let began = Instant::now();
    let trees = trees(node).await;
    let digests = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut live_keys = 0;
    for tree in &trees {
        let mut after = None;
        loop {
            let page = Maintenance::Keys {
                tree: tree.clone(),
                leaves: u64::MAX,
                after,
            };
            let Maintained::Keys { keys, more } = maintenance(node, page).await else {
                panic!("answered something else");
            };
            live_keys += keys.len() as u64;
            after = more;
            if after.is_none() {
                break;
            }
        }
    }
    assert!(live_keys >= LIVE);
    let keys = began.elapsed().as_secs_f64();
    let began = Instant::now();
    for tree in &trees {
        let mut after = None;
        loop {
            let page = Maintenance::Tombstones {
                last_write_wins: true,
                tree: tree.clone(),
                after,
            };
            let Maintained::Keys { keys, more } = maintenance(node, page).await else {
                panic!("answered something else");
            };
            assert!(keys.is_empty(), "none is old");
            after = more;
            if after.is_none() {
                break;
            }
        }
    }
    let old = began.elapsed().as_secs_f64();
    println!(
        "{what:40} {per_second:>9.0} {:>7.2} {:>7.2} {:>7.1} {digests:>9.2} {keys:>8.2} {old:>8.2}",
        ms(latencies.value_at_quantile(0.5)),
        ms(latencies.value_at_quantile(0.99)),
        ms(latencies.max()),
    );
}

/// Reads live keys all over the place.
async fn read(node: &Node) -> (f64, Histogram<u64>) {
    let began = Instant::now();
    let reads = (0..READS).map(|number| async move {
        let began = Instant::now();
        let operation = Operation::Read {
            key: key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LIVE),
        };
        let Reply::Found { record } = ask(node, operation).await else {
            panic!("answered something else");
        };
        assert!(record.is_some());
        u64::try_from(began.elapsed().as_nanos()).unwrap()
    });
    let mut latencies = Histogram::new(3).unwrap();
    let mut reads = futures::stream::iter(reads).buffer_unordered(CALLERS);
    while let Some(nanos) = reads.next().await {
        latencies.record(nanos).unwrap();
    }
    (READS as f64 / began.elapsed().as_secs_f64(), latencies)
}

async fn trees(node: &Node) -> Vec<TreeName> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Maintained::Roots { roots, more } =
            maintenance(node, Maintenance::Roots { after }).await
        else {
            panic!("answered something else");
        };
        after = roots.last().map(|(tree, _)| tree.clone());
        all.extend(roots.into_iter().map(|(tree, _)| tree));
        if !more {
            return all;
        }
    }
}

/// Purges all tombstones, tree by tree and page by page. Returns how many.
async fn purge(node: &Node) -> u64 {
    let mut purged = 0;
    for tree in trees(node).await {
        let mut after = None;
        loop {
            let page = Maintenance::Tombstones {
                last_write_wins: true,
                tree: tree.clone(),
                after,
            };
            let Maintained::Keys { keys, more } = maintenance(node, page).await else {
                panic!("answered something else");
            };
            if !keys.is_empty() {
                purged += keys.len() as u64;
                maintenance(node, Maintenance::Purge { keys }).await;
            }
            after = more;
            if after.is_none() {
                break;
            }
        }
    }
    purged
}
