//! What a storage node does in a second: `cargo bench --bench replica`, `-- --seconds 10` for longer runs.
//!
//! Each line is one kind of operation with so many callers at once, each waiting for its answer before it asks again.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark prints, and measures the process itself"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pairdb::adapters::fjall::{FjallDurability, FjallSettings, FjallStorage};
use pairdb::adapters::memory::MemoryStorage;
use pairdb::adapters::tokio::{NodeWorld, ThreadRandom};
use pairdb::placement::{Epoch, NodeId, PartitionId};
use pairdb::ports::{
    AcceptRequest, Durability, JoinSource, Operation, Overwrites, Random, RecordKey, Reply,
    Request, StorageEngine, TenantId,
};
use pairdb::replica::{Replica, ReplicaSettings};
use pairdb::version::{Content, Context, Stamp, WriteId};

const KEYS: u64 = 1_000_000;
const VALUE_LEN: usize = 100;

#[derive(Clone, Copy)]
enum Kind {
    Accept,
    Join,
    Read,
    /// Half accepts, half reads.
    Mixed,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seconds = args
        .windows(2)
        .find(|pair| pair[0] == "--seconds")
        .and_then(|pair| pair[1].parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    println!(
        "{VALUE_LEN}-byte values, {KEYS} keys, {} s a line; latencies in ms",
        time.as_secs()
    );
    println!(
        "{:36} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "", "per s", "p50", "p99", "p99.9", "worst"
    );
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let current = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (runtime_name, runtime) in [("multi-thread", &multi), ("current-thread", &current)] {
        for durability in [FjallDurability::Always, FjallDurability::IntervalMs(100)] {
            let directory = tempfile::tempdir().unwrap();
            let settings = FjallSettings {
                durability,
                ..FjallSettings::default()
            };
            let storage = FjallStorage::open(directory.path(), &settings).unwrap();
            let name = match durability {
                FjallDurability::Always => "fjall",
                FjallDurability::IntervalMs(_) => "fjall, interval",
            };
            println!("{name}, {runtime_name} runtime");
            runtime.block_on(run_all(storage.clone(), time));
            storage.close();
        }
        println!("memory, {runtime_name} runtime");
        runtime.block_on(run_all(MemoryStorage::new(Durability::Always), time));
    }
}

async fn run_all<S: StorageEngine>(storage: S, time: Duration) {
    let id = NodeId::new("bench").unwrap();
    let node = Replica::open(NodeWorld::new(storage), id, ReplicaSettings::default())
        .await
        .unwrap();
    let adopt = Operation::AdoptEpochIfEmpty {
        epoch: Epoch(1),
        is_new: true,
    };
    let request = Request {
        node: node.node().clone(),
        epoch: Epoch(1),
        operation: adopt,
    };
    node.handle(request).await.unwrap();
    for (name, kind, callers) in [
        ("accepts, 1 caller", Kind::Accept, 1),
        ("accepts, 64 callers", Kind::Accept, 64),
        ("accepts, 256 callers", Kind::Accept, 256),
        ("joins, 64 callers", Kind::Join, 64),
        ("reads, 64 callers", Kind::Read, 64),
        ("reads, 256 callers", Kind::Read, 256),
        ("half accepts, half reads, 64 callers", Kind::Mixed, 64),
    ] {
        let (per_second, latencies) = run(&node, kind, callers, time).await;
        let ms = |nanos: u64| nanos as f64 / 1e6;
        println!(
            "  {name:34} {per_second:>9.0} {:>8.2} {:>8.2} {:>8.2} {:>8.1}",
            ms(latencies.value_at_quantile(0.5)),
            ms(latencies.value_at_quantile(0.99)),
            ms(latencies.value_at_quantile(0.999)),
            ms(latencies.max()),
        );
    }
    node.stop().await.unwrap();
}

async fn run<S: StorageEngine>(
    node: &Replica<NodeWorld<S>>,
    kind: Kind,
    callers: u64,
    time: Duration,
) -> (f64, Histogram<u64>) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let started = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (node, done) = (node.clone(), done.clone());
            tokio::spawn(async move {
                let mut latencies = Histogram::<u64>::new(3).unwrap();
                let value = Bytes::from(vec![b'x'; VALUE_LEN]);
                let tenant = TenantId::new("bench").unwrap();
                let mut record = None;
                while started.elapsed() < time {
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let name = format!("key {}", ThreadRandom.below(KEYS));
                    let key = RecordKey::new(
                        PartitionId(ThreadRandom.below(4096) as u16 % 16),
                        &tenant,
                        &name,
                    );
                    let accept = |key| {
                        Operation::Accept(Box::new(AcceptRequest {
                            key,
                            write_id: WriteId(number.into()),
                            stamp: Stamp(number),
                            overwrites: Overwrites::All(Context::default()),
                            content: Content::Value(value.clone()),
                            siblings_max: 256,
                        }))
                    };
                    let operation = match kind {
                        Kind::Accept => accept(key),
                        Kind::Mixed if number.is_multiple_of(2) => accept(key),
                        Kind::Read | Kind::Mixed => Operation::Read { key },
                        Kind::Join => match &record {
                            None => accept(key),
                            Some(record) => Operation::Join {
                                key,
                                record: Bytes::clone(record),
                                judged: None,
                                source: JoinSource::Client,
                            },
                        },
                    };
                    let asked = Instant::now();
                    let request = Request {
                        node: node.node().clone(),
                        epoch: Epoch(1),
                        operation,
                    };
                    let reply = node.handle(request).await.unwrap();
                    latencies
                        .record(asked.elapsed().as_nanos() as u64)
                        .expect("the histogram grows");
                    done.fetch_add(1, Ordering::Relaxed);
                    if let Reply::Accepted {
                        record: accepted, ..
                    } = reply
                    {
                        record = Some(accepted);
                    }
                }
                latencies
            })
        })
        .collect();
    let mut all = Histogram::<u64>::new(3).unwrap();
    for task in tasks {
        all.add(task.await.unwrap()).unwrap();
    }
    (
        done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64(),
        all,
    )
}
