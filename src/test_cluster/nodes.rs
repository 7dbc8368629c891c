//! The storage nodes themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;

use super::door::{Door, Mood, TestTransport, locked};
use crate::adapters::memory::{MemoryStorage, MemoryTransport};
use crate::placement::{Epoch, Node, NodeId};
use crate::ports::{
    Clock, Durability, Operation, Random, RecordKey, Refusal, ReplicaWorld, Reply, Request, Space,
    Spawn, StorageEngine,
};
use crate::replica::{Replica, ReplicaSettings};
use crate::version::Record;

/// Numbers that are never the same. Copies share them.
#[derive(Clone, Default)]
pub(crate) struct TestRandom(Arc<AtomicU64>);

impl Random for TestRandom {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The world of one node.
#[derive(Clone)]
pub(crate) struct TestNodeWorld<C, S> {
    clock: C,
    random: TestRandom,
    spawner: S,
    storage: MemoryStorage,
    transport: TestTransport<C, S>,
}

impl<C: Clock, S: Spawn> ReplicaWorld for TestNodeWorld<C, S> {
    type Clock = C;
    type Random = TestRandom;
    type Spawn = S;
    type Storage = MemoryStorage;
    type Transport = TestTransport<C, S>;

    fn clock(&self) -> &C {
        &self.clock
    }
    fn random(&self) -> &TestRandom {
        &self.random
    }
    fn spawner(&self) -> &S {
        &self.spawner
    }
    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }
    fn transport(&self) -> &TestTransport<C, S> {
        &self.transport
    }
}

struct TestNode<C: Clock, S: Spawn> {
    door: Door<C>,
    storage: MemoryStorage,
    replica: Replica<TestNodeWorld<C, S>>,
}

/// All nodes there are. Copies share them.
pub(crate) struct TestNodes<C: Clock, S: Spawn> {
    clock: C,
    random: TestRandom,
    spawner: S,
    settings: ReplicaSettings,
    memory: MemoryTransport<C, S, Door<C>>,
    nodes: Arc<Mutex<BTreeMap<NodeId, TestNode<C, S>>>>,
}

impl<C: Clock, S: Spawn> Clone for TestNodes<C, S> {
    fn clone(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            random: self.random.clone(),
            spawner: self.spawner.clone(),
            settings: self.settings,
            memory: self.memory.clone(),
            nodes: Arc::clone(&self.nodes),
        }
    }
}

impl<C: Clock, S: Spawn> TestNodes<C, S> {
    /// None yet. Their tasks are `spawner`'s.
    pub(crate) fn new(clock: C, spawner: S, settings: ReplicaSettings) -> Self {
        Self {
            memory: MemoryTransport::new(clock.clone(), spawner.clone()),
            clock,
            random: TestRandom::default(),
            spawner,
            settings,
            nodes: Arc::default(),
        }
    }

    /// The way to them, for a coordinator.
    pub(crate) fn transport(&self) -> TestTransport<C, S> {
        TestTransport {
            memory: self.memory.clone(),
            own_mood: None,
        }
    }

    /// Starts a node on an empty disk.
    pub(crate) async fn start(&self, node: Node) {
        let door = Door::new(node.clone(), self.clock.clone());
        self.memory.add(node, door.clone());
        self.open(door, MemoryStorage::new(Durability::Always))
            .await;
    }

    /// Tells all nodes that there never was anything, so that they count.
    pub(crate) async fn found(&self, epoch: Epoch) {
        for node in self.ids() {
            let adopt = Operation::AdoptEpochIfEmpty {
                epoch,
                is_new: true,
            };
            let adopted = self.ask(&node, epoch, adopt).await;
            assert_eq!(adopted, Ok(Reply::Adopted { adopted: true }), "{node}");
        }
    }

    /// A node loses power, and starts again on what its engine had made durable.
    pub(crate) async fn lose_power(&self, node: &NodeId) {
        let left = self.storage(node).after_crash();
        self.restart_on(node, left).await;
    }

    /// Starts a node again with another disk.
    pub(crate) async fn restart_on(&self, node: &NodeId, storage: MemoryStorage) {
        let old = locked(&self.nodes).remove(node).expect("a node");
        let door = old.door.clone();
        door.leads_nowhere();
        drop(old);
        self.open(door, storage).await;
    }

    async fn open(&self, door: Door<C>, storage: MemoryStorage) {
        let world = TestNodeWorld {
            clock: self.clock.clone(),
            random: self.random.clone(),
            spawner: self.spawner.clone(),
            storage: storage.clone(),
            transport: TestTransport {
                memory: self.memory.clone(),
                own_mood: Some(door.mood()),
            },
        };
        let id = door.node.id.clone();
        let replica = Replica::open(world, id.clone(), self.settings)
            .await
            .expect("a node on an engine in memory opens");
        door.leads_to(replica.clone());
        let node = TestNode {
            door,
            storage,
            replica,
        };
        locked(&self.nodes).insert(id, node);
    }

    /// All nodes go away, with what they hold of each other.
    pub(crate) fn end(&self) {
        let nodes = std::mem::take(&mut *locked(&self.nodes));
        for (id, node) in nodes {
            self.memory.remove(&id);
            node.door.leads_nowhere();
        }
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        locked(&self.nodes).keys().cloned().collect()
    }

    pub(crate) fn set_mood(&self, node: &NodeId, mood: Mood) {
        let door = self.with(node, |node| node.door.clone());
        let before = door.set_mood(mood);
        match (before, mood) {
            (Mood::Down, Mood::Down) => {}
            (_, Mood::Down) => self.memory.remove(node),
            (Mood::Down, _) => self.memory.add(door.node.clone(), door),
            _ => {}
        }
    }

    /// From now on all nodes list no more trees or keys at once.
    pub(crate) fn shorten_pages(&self, page_max: usize) {
        for node in locked(&self.nodes).values() {
            node.door.shorten_pages(page_max);
        }
    }

    /// How often requests of clients came to nodes.
    pub(crate) fn asked(&self) -> u64 {
        let nodes = locked(&self.nodes);
        nodes.values().map(|node| node.door.asked()).sum()
    }

    pub(crate) fn replica(&self, node: &NodeId) -> Replica<TestNodeWorld<C, S>> {
        self.with(node, |node| node.replica.clone())
    }

    pub(crate) fn storage(&self, node: &NodeId) -> MemoryStorage {
        self.with(node, |node| node.storage.clone())
    }

    /// Asks a node, whatever its mood.
    pub(crate) fn ask(
        &self,
        node: &NodeId,
        epoch: Epoch,
        operation: Operation,
    ) -> impl Future<Output = Result<Reply, Refusal>> + use<C, S> {
        self.replica(node).handle(Request {
            node: node.clone(),
            epoch,
            operation,
        })
    }

    /// All records that a node holds.
    pub(crate) fn records(&self, node: &NodeId) -> BTreeMap<RecordKey, Record> {
        let all = self.all(node, Space::Records).into_iter();
        let record = |(key, record)| {
            let key = RecordKey::from_bytes(key).expect("the key of a record");
            (key, Record::decode(record).expect("a sound record"))
        };
        all.map(record).collect()
    }

    /// All that a node's engine holds in one of its spaces.
    pub(crate) fn all(&self, node: &NodeId, space: Space) -> Vec<(Bytes, Bytes)> {
        let scan = self
            .storage(node)
            .scan(space, Bytes::new(), None, usize::MAX)
            .now_or_never();
        scan.expect("an engine in memory waits for nobody")
            .expect("an engine in memory can be read")
    }

    fn with<T>(&self, node: &NodeId, act: impl FnOnce(&TestNode<C, S>) -> T) -> T {
        let nodes = locked(&self.nodes);
        act(nodes.get(node).expect("a node of the cluster"))
    }
}
