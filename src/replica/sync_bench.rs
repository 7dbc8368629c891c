//! What it costs two owners to become equal, by how much differs: `cargo bench --bench sync`, `-- --keys 100000` for a
//! shorter run.
//!
//! Two storage nodes in one process, over the memory transport and the memory engine: what is measured is the work of
//! comparing, reading and joining, without a network's or a disk's. Each line makes some of the keys differ, half of
//! them newer at one node and half at the other, and then does what a round of comparing does: all roots of both, page
//! by page, and an exchange of each tree that differs, four at a time, at no set pace. What goes over the network is
//! counted as the nodes count it: names and digests, hashes, records.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark prints, and measures the process itself"
)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use pairdb::adapters::memory::{MemoryStorage, MemoryTransport};
use pairdb::adapters::tokio::{NodeWorld, TokioClock, TokioSpawn};
use pairdb::placement::{DEFAULT_PARTITIONS, Epoch, Node, NodeId, NodeStatus, Token};
use pairdb::ports::{
    Digest, Durability, JoinSource, Maintained, Maintenance, Operation, Put, RecordKey, Refusal,
    Reply, Request, RequestHandler, Space, StorageEngine, Synced, TenantId, TreeName,
};
use pairdb::replica::{Replica, ReplicaSettings};
use pairdb::version::{Actor, Content, Dot, Record, Stamp, Version, VersionVector, WriteId};

const TENANT: &str = "bench";
const VALUE_LEN: usize = 100;
const TREES_AT_ONCE: usize = 4;
/// Each of them is a write: what differs is made so by so many at once.
const JOINS_AT_ONCE: usize = 256;
const FILL_BATCH: u64 = 10_000;

type World = NodeWorld<MemoryStorage, MemoryTransport<TokioClock, TokioSpawn, Door>>;

/// The way into a node that is opened after it.
#[derive(Clone)]
struct Door {
    id: NodeId,
    node: Arc<OnceLock<Replica<World>>>,
}

impl RequestHandler for Door {
    fn node(&self) -> &NodeId {
        &self.id
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let node = self.node.get().cloned();
        let handled: Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>> =
            Box::pin(async move {
                match node {
                    Some(node) => node.handle(request).await,
                    None => Err(Refusal::Unavailable("not open yet".into())),
                }
            });
        handled
    }
}

struct Owner {
    at: Node,
    door: Door,
}

impl Owner {
    async fn ask(&self, operation: Operation) -> Reply {
        let request = Request {
            node: self.at.id.clone(),
            epoch: Epoch(1),
            operation,
        };
        self.door.handle(request).await.unwrap()
    }

    async fn maintenance(&self, maintenance: Maintenance) -> Maintained {
        match self
            .ask(Operation::Maintenance(Box::new(maintenance)))
            .await
        {
            Reply::Maintained(maintained) => maintained,
            other => panic!("answered {other:?}"),
        }
    }

    /// All roots, and the bytes that they take.
    async fn roots(&self) -> (BTreeMap<TreeName, Digest>, u64) {
        let (mut all, mut after, mut bytes) = (BTreeMap::new(), None, 0);
        loop {
            let Maintained::Roots { roots, more } =
                self.maintenance(Maintenance::Roots { after }).await
            else {
                panic!("answered something else");
            };
            after = roots.last().map(|(tree, _)| tree.clone());
            for (tree, digest) in roots {
                bytes += tree.as_bytes().len() as u64 + 24;
                all.insert(tree, digest);
            }
            if !more {
                return (all, bytes);
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let keys = args
        .windows(2)
        .find(|pair| pair[0] == "--keys")
        .and_then(|pair| pair[1].parse().ok())
        .unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(keys));
}

async fn run(keys: u64) {
    let clock = TokioClock::new();
    let transport = MemoryTransport::new(clock, TokioSpawn::new());
    let storages = [(); 2].map(|()| MemoryStorage::new(Durability::Always));
    fill(&storages, keys).await;
    let filled = (Instant::now(), cpu());
    let mut owners = Vec::new();
    for (number, storage) in (1..).zip(storages) {
        let id = NodeId::new(format!("node-{number}")).unwrap();
        let door = Door {
            id: id.clone(),
            node: Arc::default(),
        };
        let at = Node {
            id: id.clone(),
            host: "127.0.0.1".into(),
            port: number,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        transport.add(at.clone(), door.clone());
        let world = NodeWorld::with_peers(storage, clock, transport.clone());
        let settings = ReplicaSettings {
            upkeep_bytes_per_second: u64::MAX,
            ..ReplicaSettings::default()
        };
        let node = Replica::open(world, id, settings).await.unwrap();
        let adopt = Request {
            node: node.node().clone(),
            epoch: Epoch(1),
            operation: Operation::AdoptEpochIfEmpty {
                epoch: Epoch(1),
                is_new: true,
            },
        };
        node.handle(adopt).await.unwrap();
        assert!(door.node.set(node).is_ok());
        owners.push(Owner { at, door });
    }
    for owner in &owners {
        while !is_digested(owner).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    println!(
        "{keys} keys with {VALUE_LEN}-byte values over {DEFAULT_PARTITIONS} partitions of one tenant, two owners in memory"
    );
    println!(
        "making the digests of both from nothing: {:.1} s, {:.1} s of CPU",
        filled.0.elapsed().as_secs_f64(),
        (cpu() - filled.1).as_secs_f64()
    );
    println!(
        "{:>12} {:>12} {:>12} {:>14} {:>14} {:>10} {:>10}",
        "differ", "trees", "exchanged", "bytes, roots", "bytes, rest", "seconds", "CPU s"
    );
    for (generation, differing) in (2..).zip([0, 10, 10_000.min(keys), keys]) {
        differ(&owners, keys, differing, generation).await;
        let (begun, before) = (Instant::now(), cpu());
        let (trees, roots, synced) = round(&owners).await;
        let (took, used) = (begun.elapsed(), cpu() - before);
        println!(
            "{differing:>12} {trees:>12} {:>12} {roots:>14} {:>14} {:>10.2} {:>10.2}",
            synced.sent + synced.received,
            synced.bytes,
            took.as_secs_f64(),
            used.as_secs_f64()
        );
        assert_eq!(owners[0].roots().await.0, owners[1].roots().await.0);
    }
    for owner in &owners {
        let node = owner.door.node.get().unwrap();
        assert_eq!(node.damaged_records(), 0);
        node.stop().await.unwrap();
    }
}

fn key(number: u64) -> RecordKey {
    let name = format!("key-{number:010}");
    let partition = Token::of_key(TENANT, &name).partition(DEFAULT_PARTITIONS);
    RecordKey::new(partition, &TenantId::new(TENANT).unwrap(), &name)
}

/// What `writer` wrote over everything that came before `generation`.
fn record(writer: u64, generation: u64) -> Bytes {
    let seen: VersionVector = [1, 2]
        .map(|actor| (Actor(actor), generation))
        .into_iter()
        .collect();
    let version = Version {
        dot: Dot {
            actor: Actor(writer),
            counter: generation,
        },
        write_id: WriteId(generation.into()),
        stamp: Stamp(generation),
        content: Content::Value(Bytes::from(vec![b'x'; VALUE_LEN])),
    };
    Record::new(seen, vec![version]).unwrap().encode()
}

/// The same at both, as nodes of before there were digests would have left it.
async fn fill(storages: &[MemoryStorage; 2], keys: u64) {
    for first in (0..keys).step_by(FILL_BATCH as usize) {
        let numbers = first..keys.min(first + FILL_BATCH);
        let puts = numbers.map(|number| Put {
            space: Space::Records,
            key: key(number).as_bytes().clone(),
            value: Some(record(1, 1)),
        });
        let batch: Vec<Put> = puts.collect();
        for storage in storages {
            storage.commit(batch.clone()).await.unwrap();
        }
    }
}

async fn is_digested(owner: &Owner) -> bool {
    let request = Request {
        node: owner.at.id.clone(),
        epoch: Epoch(1),
        operation: Operation::Maintenance(Box::new(Maintenance::Roots { after: None })),
    };
    owner.door.handle(request).await.is_ok()
}

/// Writes so many keys, spread evenly, half of them at each owner alone.
async fn differ(owners: &[Owner], keys: u64, differing: u64, generation: u64) {
    let writes = (0..differing).map(|number| async move {
        let owner = &owners[number as usize % 2];
        let join = Operation::Join {
            key: key(number * (keys / differing)),
            record: record(1 + number % 2, generation),
            judged: None,
            source: JoinSource::Client,
        };
        let joined = owner.ask(join).await;
        assert!(matches!(joined, Reply::Joined { .. }));
    });
    let mut writes = futures::stream::iter(writes).buffer_unordered(JOINS_AT_ONCE);
    while writes.next().await.is_some() {}
}

/// Compares all, exchanges what differs. Returns how many trees differed, the bytes of all roots, and what was
/// exchanged.
async fn round(owners: &[Owner]) -> (usize, u64, Synced) {
    let ((ours, our_bytes), (theirs, their_bytes)) =
        (owners[0].roots().await, owners[1].roots().await);
    let all: std::collections::BTreeSet<&TreeName> = ours.keys().chain(theirs.keys()).collect();
    let differing: Vec<&TreeName> = all
        .into_iter()
        .filter(|tree| ours.get(tree) != theirs.get(tree))
        .collect();
    let trees = differing.len();
    let exchanges = differing
        .into_iter()
        .enumerate()
        .map(|(number, tree)| async move {
            let (here, there) = (&owners[number % 2], &owners[1 - number % 2]);
            let mut all = Synced::default();
            while !all.complete {
                let sync = Maintenance::Sync {
                    tree: tree.clone(),
                    peer: there.at.clone(),
                };
                let Maintained::Synced(synced) = here.maintenance(sync).await else {
                    panic!("answered something else");
                };
                add(&mut all, synced);
            }
            all
        });
    let mut sum = Synced::default();
    let mut exchanges = futures::stream::iter(exchanges).buffer_unordered(TREES_AT_ONCE);
    while let Some(synced) = exchanges.next().await {
        add(&mut sum, synced);
    }
    (trees, our_bytes + their_bytes, sum)
}

fn add(all: &mut Synced, one: Synced) {
    all.sent += one.sent;
    all.received += one.received;
    all.bytes += one.bytes;
    all.complete = one.complete;
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}
