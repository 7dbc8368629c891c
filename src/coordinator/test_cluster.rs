//! A cluster for the coordinator's tests: real storage nodes in memory, faults by hand, time by hand, no runtime.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::{
    Coordinator, CoordinatorError, CoordinatorSettings, ReadOutcome, ReadRequest, WriteOutcome,
    WriteRequest,
};
use crate::adapters::memory::{ManualClock, MemoryIdempotency, MemoryMetadata};
use crate::placement::{
    ChangeId, DEFAULT_PARTITIONS, Epoch, Node, NodeId, NodeStatus, Token, Topology,
};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, Claim, ClaimOutcome, Clock, Completion, CoordinatorWorld,
    IdempotencyScope, IdempotencyStore, JoinSource, LeaseOutcome, Maintained, Maintenance,
    MetadataEvent, MetadataStore, Migration, Operation, Purged, RecordKey, Refusal, Reply,
    StoreError, Tenant, TenantId,
};
use crate::quorum::{ConflictPolicy, Consistency};
use crate::replica::ReplicaSettings;
use crate::test_cluster::{ManualTasks, TestNodes, TestRandom, TestTransport};
use crate::version::{Actor, Content, Context, Dot, Record, Stamp, Version, WriteId};

pub(super) use crate::test_cluster::Mood;

/// The world of the coordinators under test.
#[derive(Clone)]
pub(super) struct TestWorld {
    clock: ManualClock,
    random: TestRandom,
    /// Of coordinators; nodes' are apart.
    tasks: ManualTasks,
    nodes: TestNodes<ManualClock, ManualTasks>,
    transport: TestTransport<ManualClock, ManualTasks>,
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
    /// Everything happens, after so long.
    Slow(Duration),
}

/// The idempotency store, with faults by hand.
#[derive(Clone)]
pub(super) struct TestClaims {
    store: MemoryIdempotency<ManualClock>,
    clock: ManualClock,
    mood: Arc<Mutex<StoreMood>>,
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
    /// Whoever watches it from now on hears of nothing.
    silent: Arc<AtomicBool>,
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
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        self.there().await?;
        self.store.tenant_and_epoch(id).await
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
    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.there().await?;
        self.store.create_migration(migration).await
    }
    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        self.there().await?;
        self.store.migration(id).await
    }
    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        self.there().await?;
        self.store.migrations(limit).await
    }
    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        self.there().await?;
        self.store.open_migrations(limit).await
    }
    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.there().await?;
        self.store.update_migration(migration).await
    }
    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        self.there().await?;
        self.store.checkpoint_migration(id, checkpoints).await
    }
    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        self.there().await?;
        self.store.migration_checkpoints(id).await
    }
    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        self.there().await?;
        self.store.forget_migrations(keep).await
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
        let silent = self.silent.load(Ordering::Relaxed);
        let events = self.store.watch();
        events.filter(move |_| std::future::ready(!silent))
    }
}

/// Five nodes, two tenants (`lww`, `siblings`, replication factor 3), and as many coordinators as wanted.
pub(super) struct TestCluster {
    pub(super) world: TestWorld,
}

impl CoordinatorWorld for TestWorld {
    type Clock = ManualClock;
    type Random = TestRandom;
    type Spawn = ManualTasks;
    type Transport = TestTransport<ManualClock, ManualTasks>;
    type Metadata = TestMetadata;
    type Idempotency = TestClaims;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn random(&self) -> &TestRandom {
        &self.random
    }
    fn spawner(&self) -> &ManualTasks {
        &self.tasks
    }
    fn transport(&self) -> &Self::Transport {
        &self.transport
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
            StoreMood::Slow(time) => {
                self.clock.sleep(time).await;
                call.await
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

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.world.tasks.lose_all();
        self.nodes().end();
    }
}

impl TestCluster {
    pub(super) fn new() -> Self {
        Self::with(ReplicaSettings::default())
    }

    /// With nodes that have these settings.
    pub(super) fn with(settings: ReplicaSettings) -> Self {
        Self::founded(settings, DEFAULT_PARTITIONS)
    }

    /// With so few partitions that all of them can be looked at.
    pub(super) fn of_partitions(partitions: u32) -> Self {
        Self::founded(ReplicaSettings::default(), partitions)
    }

    fn founded(settings: ReplicaSettings, partitions: u32) -> Self {
        let clock = ManualClock::at_wall_ms(1_000_000);
        let tasks = ManualTasks::default();
        let nodes = TestNodes::new(clock.clone(), tasks.clone(), settings);
        let world = TestWorld {
            random: TestRandom::default(),
            tasks: tasks.group(),
            transport: nodes.transport(),
            nodes,
            metadata: TestMetadata {
                store: MemoryMetadata::new(clock.clone()),
                away: Arc::default(),
                silent: Arc::default(),
            },
            idempotency: TestClaims {
                store: MemoryIdempotency::new(clock.clone()),
                clock: clock.clone(),
                mood: Arc::default(),
            },
            clock,
        };
        let cluster = Self { world };
        for n in 1..=5 {
            cluster.run(cluster.nodes().start(node(n)));
        }
        cluster.run(cluster.nodes().found(Epoch(1)));
        let nodes = (1..=5).map(node).collect();
        let topology = Topology::new(Epoch(1), partitions, nodes).unwrap();
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

    /// A started coordinator whose tasks are lost on their own.
    pub(super) fn coordinator_apart(
        &self,
        settings: CoordinatorSettings,
    ) -> (Coordinator<TestWorld>, ManualTasks) {
        let tasks = self.world.tasks.group();
        let world = TestWorld {
            tasks: tasks.clone(),
            ..self.world.clone()
        };
        let coordinator = Coordinator::new(world, "test", settings);
        self.run(coordinator.start()).unwrap();
        (coordinator, tasks)
    }

    /// What coordinators see.
    pub(super) fn world(&self) -> &TestWorld {
        &self.world
    }

    pub(super) fn metadata(&self) -> &TestMetadata {
        &self.world.metadata
    }

    /// Who watches the metadata store from now on hears of nothing.
    pub(super) fn silence_watches(&self) {
        self.world.metadata.silent.store(true, Ordering::Relaxed);
    }

    /// The topology as it is stored.
    pub(super) fn stored_topology(&self) -> Topology {
        self.run(self.world.metadata.topology()).unwrap()
    }

    pub(super) fn nodes(&self) -> &TestNodes<ManualClock, ManualTasks> {
        &self.world.nodes
    }

    /// Runs `future` to its end, time going on whenever nothing else can.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.world.tasks.run(&self.world.clock, future)
    }

    /// Lets time and background tasks go on.
    pub(super) fn pass(&self, duration: Duration) {
        let sleep = self.world.clock.sleep(duration);
        self.run(sleep);
    }

    /// All background tasks of coordinators end here and now, as when their process dies. What nodes were asked, they
    /// do.
    pub(super) fn lose_tasks(&self) {
        self.world.tasks.lose();
    }

    pub(super) fn set_store_mood(&self, mood: StoreMood) {
        *locked(&self.world.idempotency.mood) = mood;
    }

    /// The owners of a tenant's key, in preference order.
    pub(super) fn owners(
        &self,
        coordinator: &Coordinator<TestWorld>,
        tenant: &str,
        key: &str,
    ) -> Vec<NodeId> {
        let key = self.record_key(coordinator, tenant, key);
        let topologies = &coordinator.status().topologies;
        let owners = topologies.owners_by(topologies.routing(), &key, 3);
        (0..owners.len())
            .map(|position| NodeId::new(owners.name(position)).unwrap())
            .collect()
    }

    pub(super) fn set_mood(&self, node: &NodeId, mood: Mood) {
        self.nodes().set_mood(node, mood);
    }

    /// What a node holds for the only key there is.
    pub(super) fn record(&self, node: &NodeId) -> Record {
        let mut records = self.nodes().records(node).into_values();
        records.next().unwrap_or_default()
    }

    /// Asks a node by the epoch that it knows, whatever its mood.
    pub(super) fn ask(&self, node: &NodeId, operation: Operation) -> Result<Reply, Refusal> {
        let epoch = self.nodes().replica(node).epoch();
        self.run(self.nodes().ask(node, epoch, operation))
    }

    /// The same for maintenance.
    pub(super) fn ask_maintenance(
        &self,
        node: &NodeId,
        maintenance: Maintenance,
    ) -> Result<Maintained, Refusal> {
        match self.ask(node, Operation::Maintenance(Box::new(maintenance)))? {
            Reply::Maintained(maintained) => Ok(maintained),
            other => panic!("not an answer to maintenance: {other:?}"),
        }
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
        let key = self.record_key(coordinator, "lww", key);
        let content = Content::Value(Bytes::copy_from_slice(value.as_bytes()));
        let version = Version {
            dot: planted(stamp),
            write_id: WriteId(7),
            stamp,
            content,
        };
        let record = Record::default().overwrite(version, &Context::default().shown, |_| true);
        let join = Operation::Join {
            key,
            record: record.encode(),
            judged: None,
            source: JoinSource::Client,
        };
        let joined = self.ask(node, join);
        assert!(matches!(joined, Ok(Reply::Joined { .. })), "{joined:?}");
    }

    /// All owners held what [`plant`](Self::plant) puts into a node, and this one has purged what overwrote it.
    pub(super) fn purge_planted(
        &self,
        coordinator: &Coordinator<TestWorld>,
        node: &NodeId,
        key: &str,
        stamp: Stamp,
    ) {
        let Dot { actor, counter } = planted(stamp);
        let keep = Maintenance::KeepPurged {
            tree: self.record_key(coordinator, "lww", key).tree(),
            purged: Purged {
                seen: [(actor, counter)].into_iter().collect(),
                stamp,
            },
        };
        assert_eq!(self.ask_maintenance(node, keep), Ok(Maintained::Done));
    }

    /// What a tenant's key is called at nodes.
    pub(super) fn record_key(
        &self,
        coordinator: &Coordinator<TestWorld>,
        tenant: &str,
        key: &str,
    ) -> RecordKey {
        let routing = coordinator.status().topologies.routing();
        let partition = Token::of_key(tenant, key).partition(routing.topology().partitions);
        RecordKey::new(partition, &TenantId::new(tenant).unwrap(), key)
    }

    /// Makes every node know a newer epoch than anybody published.
    pub(super) fn nodes_adopt(&self, epoch: Epoch) {
        for node in self.nodes().ids() {
            self.node_adopts(&node, epoch);
        }
    }

    /// The metadata store has failed over to a copy that knows this topology, and nothing that came after it.
    pub(super) fn store_knows_only(&self, topology: Topology) {
        self.world.metadata.store.set_back(topology);
    }

    /// Takes the metadata store away, or gives it back.
    pub(super) fn metadata_is(&self, away: Away) {
        *locked(&self.world.metadata.away) = away;
    }

    /// Makes one node refuse older epochs than this one, as if the metadata store had told of it and somebody had asked
    /// for that.
    pub(super) fn node_adopts(&self, node: &NodeId, epoch: Epoch) {
        let replica = self.nodes().replica(node);
        replica.learn_epoch(epoch);
        let fence = Maintenance::Fence {
            partitions: None,
            leaving: false,
            horizon: Stamp::ZERO,
        };
        let fence = Operation::Maintenance(Box::new(fence));
        let fenced = self.run(self.nodes().ask(node, epoch, fence));
        assert!(fenced.is_ok(), "{fenced:?}");
        assert_eq!(replica.epoch(), epoch);
    }

    /// Sets a node's epoch back to the next one after that which is published.
    pub(super) fn set_epoch_back(&self, node: &NodeId, published: Epoch) {
        let node = self.nodes().replica(node);
        self.run(node.reset_epoch(published)).unwrap();
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

/// The dot of what is planted with this stamp.
const fn planted(stamp: Stamp) -> Dot {
    Dot {
        actor: Actor(99),
        counter: stamp.0,
    }
}

pub(super) fn node(n: u16) -> Node {
    Node {
        id: NodeId::new(format!("node-{n}")).unwrap(),
        host: "localhost".into(),
        port: n,
        virtual_nodes: 150,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
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
