//! A cluster for the coordinator's tests: model nodes in memory, faults by hand, time by hand, no runtime.
//!
//! A node is the algebra and nothing else. What is under test is the coordinator; the real replica is tested on its
//! own, and both together by the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};

use super::{
    Coordinator, CoordinatorError, CoordinatorSettings, ReadOutcome, ReadRequest, WriteOutcome,
    WriteRequest,
};
use crate::adapters::memory::{ManualClock, MemoryIdempotency, MemoryMetadata};
use crate::placement::{DEFAULT_PARTITIONS, Epoch, Node, NodeId, NodeStatus, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, CallError, Change, Claim, ClaimOutcome, Clock, Completion, CoordinatorWorld,
    IdempotencyScope, IdempotencyStore, Instant, LeaseOutcome, MetadataEvent, MetadataStore,
    NodeReport, Operation, Overwrites, Random, RecordKey, Refusal, ReplicaTransport, Reply,
    Request, Spawn, Standing, StoreError, Tenant, TenantId,
};
use crate::quorum::{ConflictPolicy, Consistency};
use crate::version::{Actor, Content, Context, Dot, Record, Stamp, Version, VersionVector};

/// What a node does to requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mood {
    #[default]
    Fine,
    /// Calls fail at once; nothing happens.
    Down,
    /// Nothing happens and no answer ever comes.
    Silent,
    /// Everything happens, and no answer ever comes.
    LosesAnswers,
    /// Joins come to nothing and are never answered; all else is fine.
    SilentToJoins,
    /// All that is joined was purged here.
    Purged,
    /// Answers after this many milliseconds.
    Slow(u64),
}

#[derive(Default)]
struct ModelNode {
    mood: Mood,
    epoch: Epoch,
    counter: u64,
    records: BTreeMap<RecordKey, Record>,
}

/// The world of the coordinators under test.
#[derive(Clone)]
pub(super) struct TestWorld {
    clock: ManualClock,
    random: TestRandom,
    tasks: TestTasks,
    nodes: TestNodes,
    metadata: TestMetadata,
    idempotency: TestClaims,
}

/// What the idempotency store does to calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum StoreMood {
    #[default]
    Fine,
    /// Calls fail at once; nothing happens.
    Down,
    /// Claims are granted, and no other call is.
    OnlyClaims,
    /// Everything happens, and no answer comes before the deadline of a request.
    LosesAnswers,
}

/// The idempotency store, with faults by hand.
#[derive(Clone)]
pub(super) struct TestClaims {
    store: MemoryIdempotency<ManualClock>,
    clock: ManualClock,
    mood: Arc<Mutex<StoreMood>>,
}

#[derive(Clone, Default)]
pub(super) struct TestRandom(Arc<AtomicU64>);

#[derive(Clone, Default)]
pub(super) struct TestTasks(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

#[derive(Clone)]
pub(super) struct TestNodes {
    clock: ManualClock,
    nodes: Arc<Mutex<BTreeMap<NodeId, ModelNode>>>,
}

/// How the metadata store is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Away {
    #[default]
    Not,
    /// It fails at once.
    Fails,
    /// It never answers.
    Silent,
}

#[derive(Clone)]
pub(super) struct TestMetadata {
    store: MemoryMetadata<ManualClock>,
    away: Arc<Mutex<Away>>,
}

impl TestMetadata {
    async fn there(&self) -> Result<(), StoreError> {
        let away = *locked(&self.away);
        match away {
            Away::Not => Ok(()),
            Away::Fails => Err(StoreError::Unavailable {
                store: "metadata store",
                cause: "away".into(),
            }),
            Away::Silent => std::future::pending().await,
        }
    }
}

impl MetadataStore for TestMetadata {
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.there().await?;
        self.store.tenant(id).await
    }
    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.there().await?;
        self.store.tenants(after, limit).await
    }
    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.there().await?;
        self.store.create_tenant(tenant).await
    }
    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.there().await?;
        self.store.update_tenant(tenant).await
    }
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.there().await?;
        self.store.api_key(id).await
    }
    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        self.there().await?;
        self.store.api_keys(tenant, after, limit).await
    }
    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        self.there().await?;
        self.store.create_api_key(key).await
    }
    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.there().await?;
        self.store.revoke_api_key(tenant, id, unix_seconds).await
    }
    async fn topology(&self) -> Result<Topology, StoreError> {
        self.there().await?;
        self.store.topology().await
    }
    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        self.there().await?;
        self.store.replace_topology(expected, next).await
    }
    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        self.there().await?;
        self.store.acquire_lease(name, holder, ttl).await
    }
    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        self.there().await?;
        self.store.release_lease(name, holder).await
    }
    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.store.watch()
    }
}

/// Five nodes, two tenants (`lww`, `siblings`, replication factor 3), and as many coordinators as wanted.
pub(super) struct TestCluster {
    pub(super) world: TestWorld,
}

impl Random for TestRandom {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Spawn for TestTasks {
    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        locked(&self.0).push(task.boxed());
    }

    // A panic ends the test, whatever it was in.
    fn keep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, task);
    }
}

impl CoordinatorWorld for TestWorld {
    type Clock = ManualClock;
    type Random = TestRandom;
    type Spawn = TestTasks;
    type Transport = TestNodes;
    type Metadata = TestMetadata;
    type Idempotency = TestClaims;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn random(&self) -> &TestRandom {
        &self.random
    }
    fn spawner(&self) -> &TestTasks {
        &self.tasks
    }
    fn transport(&self) -> &TestNodes {
        &self.nodes
    }
    fn metadata(&self) -> &TestMetadata {
        &self.metadata
    }
    fn idempotency(&self) -> &TestClaims {
        &self.idempotency
    }
}

impl TestClaims {
    async fn after<T>(
        &self,
        is_claim: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mood = *locked(&self.mood);
        match mood {
            StoreMood::Fine => call.await,
            StoreMood::OnlyClaims if is_claim => call.await,
            StoreMood::Down | StoreMood::OnlyClaims => Err(StoreError::Unavailable {
                store: "idempotency store",
                cause: "connection refused".into(),
            }),
            StoreMood::LosesAnswers => {
                let answer = call.await;
                self.clock.sleep(Duration::from_secs(60)).await;
                answer
            }
        }
    }
}

impl IdempotencyStore for TestClaims {
    async fn claim(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        lease: Duration,
        retention: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let call = self.store.claim(scope, claim, lease, retention);
        self.after(true, call).await
    }

    async fn complete(
        &self,
        scope: &IdempotencyScope,
        claim: Claim,
        answer: Bytes,
        retention: Duration,
    ) -> Result<Completion, StoreError> {
        let call = self.store.complete(scope, claim, answer, retention);
        self.after(false, call).await
    }

    async fn release(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        self.after(false, self.store.release(scope, claim)).await
    }

    async fn abandon(&self, scope: &IdempotencyScope, claim: Claim) -> Result<(), StoreError> {
        self.after(false, self.store.abandon(scope, claim)).await
    }
}

impl ReplicaTransport for TestNodes {
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let (this, id) = (self.clone(), node.id.clone());
        async move {
            let mood = this.node(&id, |node| node.mood);
            let lost = || CallError::NoAnswer("deadline".into());
            match mood {
                Mood::Fine => {}
                Mood::Down => return Err(CallError::NotSent("connection refused".into())),
                Mood::Slow(ms) => this.clock.sleep(Duration::from_millis(ms)).await,
                Mood::SilentToJoins | Mood::Purged
                    if !matches!(request.operation, Operation::Join { .. }) => {}
                Mood::Purged => return Err(Refusal::Purged.into()),
                Mood::Silent | Mood::SilentToJoins => {
                    this.clock.sleep_until(deadline).await;
                    return Err(lost());
                }
                Mood::LosesAnswers => {
                    this.node(&id, |node| node.handle(&id, request)).ok();
                    this.clock.sleep_until(deadline).await;
                    return Err(lost());
                }
            }
            Ok(this.node(&id, |node| node.handle(&id, request))?)
        }
    }
}

impl TestNodes {
    fn node<T>(&self, id: &NodeId, act: impl FnOnce(&mut ModelNode) -> T) -> T {
        act(locked(&self.nodes).entry(id.clone()).or_default())
    }
}

impl ModelNode {
    fn actor(id: &NodeId) -> Actor {
        Actor(
            id.as_str()
                .bytes()
                .fold(0, |hash, byte| hash * 31 + u64::from(byte)),
        )
    }

    fn handle(&mut self, id: &NodeId, request: Request) -> Result<Reply, Refusal> {
        if request.epoch < self.epoch && request.operation != Operation::Probe {
            return Err(Refusal::StaleEpoch {
                current: self.epoch,
            });
        }
        match request.operation {
            Operation::Stamp(write) => {
                let held = self.records.get(&write.key).cloned().unwrap_or_default();
                if let Some(known) = held
                    .find(write.write_id)
                    .filter(|known| known.stamp >= write.stamp)
                {
                    return Ok(Reply::Stamped {
                        dot: known.dot,
                        record: held.encode(),
                    });
                }
                let (context, all) = match &write.overwrites {
                    Overwrites::All(context) => (context, true),
                    Overwrites::Covered(context) => (context, false),
                };
                if all && held.greatest_rank() > write.rank() {
                    return Ok(Reply::Superseded {
                        greatest: held.greatest_rank(),
                        may_be_over: false,
                        record: held.encode(),
                    });
                }
                if !all && context.written.is_some_and(|dot| !held.seen().covers(dot)) {
                    return Ok(Reply::Behind);
                }
                self.counter += 1;
                let dot = Dot {
                    actor: Self::actor(id),
                    counter: self.counter,
                };
                let version = Version {
                    dot,
                    write_id: write.write_id,
                    stamp: write.stamp,
                    content: write.content.clone(),
                };
                let seen = if all {
                    VersionVector::default()
                } else {
                    context.shown.clone()
                };
                let record = held.overwrite(version, &seen, |old| all || context.covers(old.dot));
                self.records.insert(write.key.clone(), record.clone());
                Ok(Reply::Stamped {
                    dot,
                    record: record.encode(),
                })
            }
            Operation::Join { key, record, .. } => {
                let record = Record::decode(record)
                    .map_err(|error| Refusal::Malformed(error.to_string()))?;
                let joined = self
                    .records
                    .get(&key)
                    .cloned()
                    .unwrap_or_default()
                    .join(&record);
                let greatest = joined.greatest_rank();
                let standing = match greatest == record.greatest_rank() {
                    true => Standing::Leading,
                    false => Standing::Outstripped,
                };
                self.records.insert(key, joined);
                Ok(Reply::Joined { greatest, standing })
            }
            Operation::Read { key } => Ok(Reply::Found {
                record: self.records.get(&key).map(Record::encode),
            }),
            Operation::Upkeep(_) => Err(Refusal::Unavailable("no upkeep here".into())),
            Operation::Probe => Ok(Reply::Report(NodeReport {
                node: id.clone(),
                incarnations: vec![Self::actor(id)],
                epoch: self.epoch,
                wall_ms: 1_000_000,
                keys: self.records.len() as u64,
                disk_used_percent: None,
                tombstones: 0,
                hints: Vec::new(),
                refilling: None,
                refuses_writes: None,
            })),
            Operation::AdoptEpochIfEmpty { epoch, .. } => {
                let adopted = self.records.is_empty();
                if adopted {
                    self.epoch = epoch;
                }
                Ok(Reply::Adopted { adopted })
            }
        }
    }
}

impl TestCluster {
    pub(super) fn new() -> Self {
        let clock = ManualClock::at_wall_ms(1_000_000);
        let nodes = TestNodes {
            clock: clock.clone(),
            nodes: Arc::default(),
        };
        for n in 1..=5 {
            nodes.node(&node(n).id, |_| ());
        }
        let world = TestWorld {
            random: TestRandom::default(),
            tasks: TestTasks::default(),
            nodes,
            metadata: TestMetadata {
                store: MemoryMetadata::new(clock.clone()),
                away: Arc::default(),
            },
            idempotency: TestClaims {
                store: MemoryIdempotency::new(clock.clone()),
                clock: clock.clone(),
                mood: Arc::default(),
            },
            clock,
        };
        let cluster = Self { world };
        let nodes = (1..=5).map(node).collect();
        let topology = Topology::new(Epoch(1), DEFAULT_PARTITIONS, nodes).unwrap();
        cluster
            .run(cluster.world.metadata.replace_topology(Epoch(0), topology))
            .unwrap();
        let coordinator = cluster.coordinator();
        for (name, policy) in [
            ("lww", ConflictPolicy::LastWriteWins),
            ("siblings", ConflictPolicy::Siblings),
        ] {
            cluster
                .run(coordinator.admin().create_tenant(name, 3, Some(policy)))
                .unwrap();
        }
        coordinator.stop();
        cluster
    }

    /// A started coordinator with default settings.
    pub(super) fn coordinator(&self) -> Coordinator<TestWorld> {
        self.coordinator_with(CoordinatorSettings::default())
    }

    /// A started coordinator.
    pub(super) fn coordinator_with(&self, settings: CoordinatorSettings) -> Coordinator<TestWorld> {
        let coordinator = Coordinator::new(self.world.clone(), "test", settings);
        self.run(coordinator.start()).unwrap();
        coordinator
    }

    /// Runs `future` to its end, time going on whenever nothing else can.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = TaskContext::from_waker(Waker::noop());
        for _ in 0..100_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.run_tasks();
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.world.clock.advance(Duration::from_millis(1));
        }
        panic!("nothing came of it in a hundred seconds");
    }

    /// Lets time and background tasks go on.
    pub(super) fn pass(&self, duration: Duration) {
        let sleep = self.world.clock.sleep(duration);
        self.run(sleep);
    }

    /// All background tasks end here and now, as when a process dies.
    pub(super) fn lose_tasks(&self) {
        let tasks = std::mem::take(&mut *locked(&self.world.tasks.0));
        drop(tasks);
    }

    pub(super) fn set_store_mood(&self, mood: StoreMood) {
        *locked(&self.world.idempotency.mood) = mood;
    }

    fn run_tasks(&self) {
        let mut context = TaskContext::from_waker(Waker::noop());
        let mut tasks = std::mem::take(&mut *locked(&self.world.tasks.0));
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        locked(&self.world.tasks.0).append(&mut tasks);
    }

    /// The owners of a tenant's key, in preference order.
    pub(super) fn owners(
        &self,
        coordinator: &Coordinator<TestWorld>,
        tenant: &str,
        key: &str,
    ) -> Vec<NodeId> {
        let located = self
            .run(coordinator.locate(tenant, key, Instant::NEVER))
            .unwrap_or_else(|e| panic!("{e}"));
        let owners = coordinator.owners(&located.key, 3);
        (0..owners.len())
            .map(|position| NodeId::new(owners.name(position)).unwrap())
            .collect()
    }

    pub(super) fn set_mood(&self, node: &NodeId, mood: Mood) {
        self.world.nodes.node(node, |node| node.mood = mood);
    }

    /// What a node holds for the only key there is.
    pub(super) fn record(&self, node: &NodeId) -> Record {
        self.world.nodes.node(node, |node| {
            node.records.values().next().cloned().unwrap_or_default()
        })
    }

    /// Puts a version with the given stamp into a node, as if another coordinator had written it.
    pub(super) fn plant(
        &self,
        coordinator: &Coordinator<TestWorld>,
        node: &NodeId,
        key: &str,
        stamp: Stamp,
        value: &str,
    ) {
        let located = self
            .run(coordinator.locate("lww", key, Instant::NEVER))
            .unwrap_or_else(|e| panic!("{e}"));
        let actor = Actor(99);
        let dot = Dot {
            actor,
            counter: stamp.0,
        };
        let content = Content::Value(Bytes::copy_from_slice(value.as_bytes()));
        let version = Version {
            dot,
            write_id: crate::version::WriteId(7),
            stamp,
            content,
        };
        let record = Record::default().overwrite(version, &Context::default().shown, |_| true);
        self.world.nodes.node(node, |node| {
            node.records.insert(located.key, record);
        });
    }

    /// Makes every node know a newer epoch than anybody published.
    pub(super) fn nodes_adopt(&self, epoch: Epoch) {
        for node in locked(&self.world.nodes.nodes).values_mut() {
            node.epoch = epoch;
        }
    }

    /// Takes the metadata store away, or gives it back.
    pub(super) fn metadata_is(&self, away: Away) {
        *locked(&self.world.metadata.away) = away;
    }

    /// Makes one node know this epoch, whatever it knew before.
    pub(super) fn node_adopts(&self, node: &NodeId, epoch: Epoch) {
        self.world.nodes.node(node, |node| node.epoch = epoch);
    }

    /// Publishes the stored topology under a newer epoch.
    pub(super) fn bump_epoch(&self) {
        let stored = self.run(self.world.metadata.topology()).unwrap();
        let expected = stored.epoch;
        let next = Topology {
            epoch: Epoch(expected.0 + 1),
            ..stored
        };
        let changed = self
            .run(self.world.metadata.replace_topology(expected, next))
            .unwrap();
        assert!(matches!(changed, Change::Made(_)));
    }
}

fn node(n: u16) -> Node {
    Node {
        id: NodeId::new(format!("node-{n}")).unwrap(),
        host: "localhost".into(),
        port: n,
        virtual_nodes: 150,
        status: NodeStatus::Active,
    }
}

/// A write of `value`, to be refined.
pub(super) fn write(tenant: &str, key: &str, value: &str) -> WriteRequest {
    WriteRequest {
        tenant: tenant.into(),
        key: key.into(),
        content: Content::Value(Bytes::copy_from_slice(value.as_bytes())),
        consistency: Some(Consistency::Quorum),
        context: Bytes::new(),
        idempotency_key: None,
        timeout: None,
    }
}

/// A quorum read, to be refined.
pub(super) fn read(tenant: &str, key: &str) -> ReadRequest {
    ReadRequest {
        tenant: tenant.into(),
        key: key.into(),
        consistency: Some(Consistency::Quorum),
        context: Bytes::new(),
        timeout: None,
    }
}

/// The values of an answer, in no particular order.
pub(super) fn values(outcome: &ReadOutcome) -> BTreeSet<String> {
    outcome
        .values
        .iter()
        .map(|value| String::from_utf8_lossy(&value.value).into_owned())
        .collect()
}

impl TestCluster {
    pub(super) fn write(
        &self,
        coordinator: &Coordinator<TestWorld>,
        request: WriteRequest,
    ) -> Result<WriteOutcome, CoordinatorError> {
        self.run(coordinator.write(request))
    }

    pub(super) fn read(
        &self,
        coordinator: &Coordinator<TestWorld>,
        request: ReadRequest,
    ) -> Result<BTreeSet<String>, CoordinatorError> {
        self.run(coordinator.read(request))
            .map(|outcome| values(&outcome))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
