//! A storage node on a real disk, killed again and again: `cargo test --test kill`.
//!
//! The parent starts this very program as a child that writes as fast as it can and says of each write that it was
//! acknowledged. It kills the child at a random moment, opens what is left, and checks that
//! - every acknowledged write of every round is there,
//! - no dot was given out twice, to acknowledged writes or to others,
//! - the incarnation is still the first one.
//!
//! The operating system lives on and keeps what it was given. So there is also a child whose every system call about
//! files is recorded: at moments when it has just acknowledged a write, what had been synced by then is written to
//! another directory, and all of the above has to hold of that.
//!
//! `PAIRDB_KILL_ROUNDS` makes both go on for longer.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that starts processes and kills them"
)]

mod kit;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit::{Disk, Event, Names, Recording};
use pairdb::adapters::fjall::{FjallSettings, FjallStorage};
use pairdb::adapters::tokio::{NodeWorld, ThreadRandom};
use pairdb::placement::{Epoch, NodeId, PartitionId};
use pairdb::ports::{
    AcceptRequest, JoinSource, Operation, Overwrites, Random, RecordKey, Reply, Request, Space,
    StorageEngine, TenantId,
};
use pairdb::replica::{Replica, ReplicaSettings};
use pairdb::version::{Actor, Content, Context, Dot, Record, Stamp, Version, WriteId};

const DIRECTORY: &str = "PAIRDB_KILL_DIRECTORY";
const ROUNDS: &str = "PAIRDB_KILL_ROUNDS";
const WRITERS: u64 = 48;
const HOT_KEYS: u64 = 50;

type Node = Replica<NodeWorld<FjallStorage>>;

fn node_id() -> NodeId {
    NodeId::new("killed").unwrap()
}

/// Small, so that reservations, memtables and journals turn over within one round.
async fn open(directory: &Path) -> (Node, FjallStorage) {
    let engine = FjallSettings {
        memtable_bytes: 512 * 1024,
        disk_reserve_bytes: 0,
        ..FjallSettings::default()
    };
    let storage = FjallStorage::open(directory, &engine).expect("the engine opens after a crash");
    let settings = ReplicaSettings {
        counter_reservation: 100,
        ..ReplicaSettings::default()
    };
    let node = Replica::open(NodeWorld::new(storage.clone()), node_id(), settings).await;
    let node = node.expect("the node opens after a crash");
    // New in the cluster the first time, and a member ever after.
    let adopt = Operation::AdoptEpochIfEmpty {
        epoch: Epoch(1),
        is_new: true,
    };
    call(&node, adopt).await;
    (node, storage)
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), name)
}

async fn call(node: &Node, operation: Operation) -> Reply {
    let request = Request {
        node: node_id(),
        epoch: Epoch(1),
        operation,
    };
    node.handle(request).await.expect("not refused")
}

/// An acknowledged write, as the child says it and the parent keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Acknowledged {
    name: String,
    dot: Dot,
    /// Nobody else writes this key: the very value must be there.
    alone: bool,
    /// The node under test stamped it.
    stamped: bool,
}

impl Acknowledged {
    fn line(&self) -> String {
        let Self {
            name,
            dot,
            alone,
            stamped,
        } = self;
        format!(
            "ack {name} {} {} {alone} {stamped}\n",
            dot.actor.0, dot.counter
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        Some(Self {
            name: words.next()?.into(),
            dot: Dot {
                actor: Actor(words.next()?.parse().ok()?),
                counter: words.next()?.parse().ok()?,
            },
            alone: words.next()?.parse().ok()?,
            stamped: words.next()?.parse().ok()?,
        })
    }

    fn value(name: &str) -> Content {
        Content::Value(Bytes::from(format!("value of {name} {}", "x".repeat(100))))
    }
}

/// Not a test of its own: what the parent starts.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    runtime().block_on(async {
        let (node, _storage) = open(Path::new(&directory)).await;
        let number = std::sync::Arc::new(AtomicU64::new(ThreadRandom.next_u64() >> 16));
        let writers = (0..WRITERS).map(|writer| {
            let (node, number) = (node.clone(), number.clone());
            tokio::spawn(async move {
                // An actor of its own for what it pretends that other nodes stamped.
                let actor = Actor(ThreadRandom.next_u64());
                for counter in 1.. {
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    let done = match (writer + counter) % 4 {
                        0 => {
                            stamp(
                                &node,
                                &format!("hot-{}", ThreadRandom.below(HOT_KEYS)),
                                number,
                                false,
                            )
                            .await
                        }
                        1 => join(&node, Dot { actor, counter }, number).await,
                        _ => stamp(&node, &format!("alone-{number}"), number, true).await,
                    };
                    if let Some(acknowledged) = done {
                        let mut out = std::io::stdout().lock();
                        out.write_all(acknowledged.line().as_bytes())
                            .and_then(|()| out.flush())
                            .unwrap();
                    }
                }
            })
        });
        futures::future::join_all(writers).await;
    });
}

async fn stamp(node: &Node, name: &str, number: u64, alone: bool) -> Option<Acknowledged> {
    let request = AcceptRequest {
        key: key(name),
        write_id: WriteId(number.into()),
        stamp: Stamp(number),
        overwrites: Overwrites::All(Context::default()),
        content: Acknowledged::value(name),
        siblings_max: 256,
    };
    match call(node, Operation::Accept(Box::new(request))).await {
        Reply::Accepted { dot, .. } => Some(Acknowledged {
            name: name.into(),
            dot,
            alone,
            stamped: true,
        }),
        Reply::Superseded { .. } => None,
        other => panic!("{other:?}"),
    }
}

async fn join(node: &Node, dot: Dot, number: u64) -> Option<Acknowledged> {
    let name = format!("hot-{}", ThreadRandom.below(HOT_KEYS));
    let content = Acknowledged::value(&name);
    let version = Version {
        dot,
        write_id: WriteId(number.into()),
        stamp: Stamp(number),
        content,
    };
    let record = Record::new(
        [(dot.actor, dot.counter)].into_iter().collect(),
        vec![version],
    )
    .unwrap();
    let reply = call(
        node,
        Operation::Join {
            key: key(&name),
            record: record.encode(),
            judged: None,
            source: JoinSource::Client,
        },
    )
    .await;
    assert!(matches!(reply, Reply::Joined { .. }), "{reply:?}");
    Some(Acknowledged {
        name,
        dot,
        alone: false,
        stamped: false,
    })
}

#[test]
fn acknowledged_writes_survive_being_killed() {
    let rounds = kit::number(ROUNDS, 15);
    kit::watch::may_take(Duration::from_secs(2) * rounds);
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut all: Vec<Acknowledged> = Vec::new();
    let mut incarnation = None;
    for round in 0..rounds {
        let patience = Duration::from_millis(ThreadRandom.below(400));
        let child = Command::new(std::env::current_exe().unwrap());
        all.extend(run_and_kill(child, directory.path(), patience));
        runtime.block_on(async {
            let (node, storage) = open(directory.path()).await;
            let first = *incarnation.get_or_insert(node.incarnation());
            assert_eq!(
                node.incarnation(),
                first,
                "round {round}: nothing can be lost, so the incarnation stays"
            );
            check_acknowledged(&node, &all).await;
            check_dots(&storage, first, &all).await;
            drop(node);
            storage.close();
        });
    }
    assert!(
        all.len() > 1000,
        "only {} writes were acknowledged",
        all.len()
    );
}

/// The power fails at moments of one life of the child, each time right after a write was acknowledged.
#[test]
fn acknowledged_writes_survive_a_loss_of_power() {
    let Some(recording) = Recording::new() else {
        return;
    };
    let moments = kit::number(ROUNDS, 15);
    kit::watch::may_take(Duration::from_secs(4) * moments);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let child = recording.command(std::env::current_exe().unwrap());
    run_and_kill(child, &data, Duration::from_secs(3));
    let events = recording.ended();
    let all: Vec<(usize, Acknowledged)> = events
        .iter()
        .enumerate()
        .filter_map(|(n, event)| Some((n, said(event)?)))
        .collect();
    assert!(
        all.len() > 300,
        "only {} writes were acknowledged",
        all.len()
    );
    for moment in 1..=moments as usize {
        let acknowledged = &all[..all.len() * moment / moments as usize];
        let (last, _) = acknowledged.last().unwrap();
        let disk = Disk::after(directory.path(), &events[..=*last]);
        let acknowledged: Vec<_> = acknowledged.iter().map(|(_, one)| one.clone()).collect();
        for names in [Names::Synced, Names::All] {
            let left = tempfile::tempdir().unwrap();
            disk.write_what_is_left(names, left.path());
            runtime().block_on(async {
                let (node, storage) = open(&left.path().join("data")).await;
                check_acknowledged(&node, &acknowledged).await;
                check_dots(&storage, node.incarnation(), &acknowledged).await;
                drop(node);
                storage.close();
            });
        }
    }
}

/// What the child acknowledged with this.
fn said(event: &Event) -> Option<Acknowledged> {
    let call = &event.call;
    let is_said = call.name == "write" && call.argument(0) == "1" && event.returned.is_some();
    let said = is_said.then(|| call.bytes(1))?;
    Acknowledged::parse(str::from_utf8(&said).ok()?.strip_suffix('\n')?)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// What the child said before it was killed. Half-said does not count.
fn run_and_kill(mut child: Command, directory: &Path, patience: Duration) -> Vec<Acknowledged> {
    let child = child
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = KillOnDrop(child);
    let mut said = BufReader::new(child.0.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|len| len > 0) {
            acknowledged.extend(line.strip_suffix('\n').and_then(Acknowledged::parse));
            line.clear();
        }
        acknowledged
    });
    let started = Instant::now();
    while started.elapsed() < patience {
        assert!(
            child.0.try_wait().unwrap().is_none(),
            "the child ended by itself"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    reader.join().unwrap()
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may be dead already
        let _ = self.0.wait();
    }
}

async fn check_acknowledged(node: &Node, all: &[Acknowledged]) {
    for some in all.chunks(1000) {
        let reads = some.iter().map(|one| {
            call(
                node,
                Operation::Read {
                    key: key(&one.name),
                },
            )
        });
        for (one, reply) in some.iter().zip(futures::future::join_all(reads).await) {
            let Reply::Found {
                record: Some(record),
            } = reply
            else {
                panic!("lost: {one:?}")
            };
            let record = Record::decode(record).unwrap();
            assert!(record.seen().covers(one.dot), "lost: {one:?} in {record:?}");
            if one.alone {
                let held = record
                    .siblings()
                    .iter()
                    .find(|sibling| sibling.dot == one.dot);
                assert_eq!(
                    held.map(|held| &held.content),
                    Some(&Acknowledged::value(&one.name)),
                    "{one:?}"
                );
            }
        }
    }
}

/// No dot stands for two writes, neither among what was acknowledged nor among what is stored.
async fn check_dots(storage: &FjallStorage, incarnation: Actor, all: &[Acknowledged]) {
    let mut given: BTreeMap<u64, String> = BTreeMap::new();
    for one in all.iter().filter(|one| one.stamped) {
        assert_eq!(one.dot.actor, incarnation);
        let before = given.insert(one.dot.counter, one.name.clone());
        assert_eq!(before, None, "given out twice: {one:?}");
    }
    let mut from = Bytes::new();
    loop {
        let pairs = storage
            .scan(Space::Records, from, None, 1000)
            .await
            .unwrap();
        let Some((last, _)) = pairs.last() else { break };
        from = [last, &b"\0"[..]].concat().into();
        for (stored, record) in pairs {
            let name = RecordKey::from_bytes(stored).unwrap().key().to_owned();
            for sibling in Record::decode(record).unwrap().siblings() {
                if sibling.dot.actor == incarnation {
                    let before = given.insert(sibling.dot.counter, name.clone());
                    assert!(
                        before.is_none_or(|before| before == name),
                        "{} stands for two writes",
                        sibling.dot
                    );
                }
            }
        }
    }
}
