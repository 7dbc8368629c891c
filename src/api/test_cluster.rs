//! A coordinator behind its real front, over real storage nodes in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::{
    AuthSettings, FrontSettings, Gate, HttpSettings, LimitSettings, serve_grpc, serve_http,
};
use crate::adapters::front::Budget;
use crate::adapters::memory::{MemoryIdempotency, MemoryMetadata};
use crate::adapters::tls::{Listener, ServerTls, TlsSettings};
use crate::adapters::tokio::{ThreadRandom, TokioClock, TokioSpawn};
use crate::coordinator::{Coordinator, CoordinatorSettings};
use crate::placement::{ChangeId, Epoch, Node, NodeId, NodeStatus, PartitionId, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, CoordinatorWorld, Digest, JoinSource, KeyHash,
    LeaseOutcome, Maintained, Maintenance, MetadataEvent, MetadataStore, Migration, Operation,
    RecordKey, Reply, StoreError, Tenant, TenantId,
};
use crate::replica::ReplicaSettings;
use crate::test_cluster::{Mood, TestNodes, TestTransport};
use crate::version::{Actor, Content, Dot, Record, Stamp, Version, WriteId};

/// A metadata store in memory that can stop answering changes.
#[derive(Clone)]
pub(super) struct HangingMetadata {
    store: MemoryMetadata<TokioClock>,
    hangs: Arc<AtomicBool>,
}

impl HangingMetadata {
    async fn unless_hanging<T>(&self, change: impl Future<Output = T>) -> T {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        change.await
    }
}

impl MetadataStore for HangingMetadata {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        self.store.tenant_and_epoch(id).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.store.tenants(after, limit).await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.unless_hanging(self.store.create_tenant(tenant)).await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.unless_hanging(self.store.update_tenant(tenant)).await
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.unless_hanging(self.store.api_key(id)).await
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        self.store.api_keys(tenant, after, limit).await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        self.unless_hanging(self.store.create_api_key(key)).await
    }

    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        let revoked = self.store.revoke_api_key(tenant, id, unix_seconds);
        self.unless_hanging(revoked).await
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        self.store.topology().await
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        let replaced = self.store.replace_topology(expected, next);
        self.unless_hanging(replaced).await
    }

    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.unless_hanging(self.store.create_migration(migration))
            .await
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        self.unless_hanging(self.store.migration(id)).await
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        self.unless_hanging(self.store.migrations(limit)).await
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        self.unless_hanging(self.store.open_migrations(limit)).await
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.unless_hanging(self.store.update_migration(migration))
            .await
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        self.unless_hanging(self.store.checkpoint_migration(id, checkpoints))
            .await
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        self.unless_hanging(self.store.migration_checkpoints(id))
            .await
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        self.unless_hanging(self.store.forget_migrations(keep))
            .await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        self.unless_hanging(self.store.acquire_lease(name, holder, ttl))
            .await
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        self.unless_hanging(self.store.release_lease(name, holder))
            .await
    }

    fn watch(&self) -> impl futures::Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.store.watch()
    }
}

/// The world of the coordinator under test.
#[derive(Clone)]
pub(super) struct TestWorld {
    clock: TokioClock,
    spawner: TokioSpawn,
    transport: TestTransport<TokioClock, TokioSpawn>,
    metadata: HangingMetadata,
    idempotency: MemoryIdempotency<TokioClock>,
}

impl CoordinatorWorld for TestWorld {
    type Clock = TokioClock;
    type Random = ThreadRandom;
    type Spawn = TokioSpawn;
    type Transport = TestTransport<TokioClock, TokioSpawn>;
    type Metadata = HangingMetadata;
    type Idempotency = MemoryIdempotency<TokioClock>;

    fn clock(&self) -> &TokioClock {
        &self.clock
    }
    fn random(&self) -> &ThreadRandom {
        &ThreadRandom
    }
    fn spawner(&self) -> &TokioSpawn {
        &self.spawner
    }
    fn transport(&self) -> &Self::Transport {
        &self.transport
    }
    fn metadata(&self) -> &HangingMetadata {
        &self.metadata
    }
    fn idempotency(&self) -> &Self::Idempotency {
        &self.idempotency
    }
}

/// The bounds of a cluster's fronts.
pub(super) struct TestBounds {
    pub(super) grpc: FrontSettings,
    pub(super) http: HttpSettings,
    pub(super) budget: Budget,
}

impl Default for TestBounds {
    fn default() -> Self {
        Self {
            grpc: FrontSettings::default(),
            http: HttpSettings::default(),
            budget: Budget::unlimited(),
        }
    }
}

/// Three storage nodes that no topology has yet, and one served coordinator.
pub(super) struct TestCluster {
    pub(super) coordinator: Coordinator<TestWorld>,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    world: TestWorld,
    nodes: TestNodes<TokioClock, TokioSpawn>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl TestCluster {
    pub(super) async fn start() -> Self {
        Self::start_with(&AuthSettings::default(), &LimitSettings::default()).await
    }

    /// With TLS on both listeners.
    pub(super) async fn start_secure(tls: &TlsSettings) -> Self {
        let (auth, limits) = (AuthSettings::default(), LimitSettings::default());
        let tls = ServerTls::open(tls).unwrap();
        Self::start_all(&auth, &limits, tls, TestBounds::default()).await
    }

    /// With narrow bounds.
    pub(super) async fn start_bounded(auth: &AuthSettings, bounds: TestBounds) -> Self {
        Self::start_all(auth, &LimitSettings::default(), None, bounds).await
    }

    pub(super) async fn start_with(auth: &AuthSettings, limits: &LimitSettings) -> Self {
        Self::start_all(auth, limits, None, TestBounds::default()).await
    }

    async fn start_all(
        auth: &AuthSettings,
        limits: &LimitSettings,
        tls: Option<ServerTls>,
        bounds: TestBounds,
    ) -> Self {
        let (clock, spawner) = (TokioClock::new(), TokioSpawn::new());
        let nodes = TestNodes::new(clock, spawner.clone(), ReplicaSettings::default());
        for n in 0..3 {
            nodes.start(Self::node(n)).await;
        }
        nodes.shorten_pages(2);
        let metadata = HangingMetadata {
            store: MemoryMetadata::new(clock),
            hangs: Arc::default(),
        };
        let idempotency = MemoryIdempotency::new(clock);
        let world = TestWorld {
            clock,
            spawner,
            transport: nodes.transport(),
            metadata,
            idempotency,
        };
        let settings = CoordinatorSettings {
            write_timeout: Duration::from_secs(2),
            // What a test takes away stays away for as long as a test may take.
            anti_entropy_pause: Duration::from_secs(3600),
            ..CoordinatorSettings::default()
        };
        let coordinator = Coordinator::new(world.clone(), "test", settings);
        coordinator.start().await.unwrap();

        let (stop, stopped) = watch::channel(false);
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_listener, http_listener) = (listen().await, listen().await);
        let (grpc, http) = (
            grpc_listener.local_addr().unwrap(),
            http_listener.local_addr().unwrap(),
        );
        let until_stop = |mut stopped: watch::Receiver<bool>| async move {
            let _stopped = stopped.wait_for(|stopped| *stopped).await;
        };
        let gate = Gate::new(auth, limits, &coordinator, bounds.budget).unwrap();
        tokio::spawn(serve_http(
            coordinator.clone(),
            gate.clone(),
            Listener::new(http_listener, tls.clone()),
            bounds.http,
            until_stop(stopped.clone()),
        ));
        let serve = serve_grpc(
            coordinator.clone(),
            gate,
            Listener::new(grpc_listener, tls),
            bounds.grpc,
            until_stop(stopped),
        );
        let serving = tokio::spawn(serve);
        Self {
            coordinator,
            grpc,
            http,
            world,
            nodes,
            stop,
            serving,
        }
    }

    pub(super) fn node(n: usize) -> Node {
        Node {
            id: NodeId::new(format!("n{}", n + 1)).unwrap(),
            host: "localhost".into(),
            port: 7001 + n as u16,
            virtual_nodes: 150,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        }
    }

    pub(super) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// Waits until a request of a client has come to some node.
    pub(super) async fn until_asked(&self) {
        while self.nodes.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every node takes so long for each answer.
    pub(super) fn slow_down(&self, delay: Duration) {
        for node in self.nodes.ids() {
            self.nodes.set_mood(&node, Mood::Slow(delay));
        }
    }

    /// Starts one more node, which no topology has yet.
    pub(super) async fn start_node(&self, n: usize) {
        self.nodes.start(Self::node(n)).await;
    }

    /// The metadata store has a migration, as its leader would have written it down.
    pub(super) async fn seed(&self, migration: Migration) {
        let made = self.world.metadata.create_migration(migration).await;
        assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    }

    /// Cuts a node off.
    pub(super) fn cut_off(&self, n: usize) {
        self.nodes.set_mood(&Self::node(n).id, Mood::Down);
    }

    /// A node holds a record already.
    pub(super) async fn fill(&self, n: usize) {
        let version = Version {
            dot: Dot {
                actor: Actor(99),
                counter: 1,
            },
            write_id: WriteId(7),
            stamp: Stamp(1),
            content: Content::Value(Bytes::from_static(b"v")),
        };
        let seen = [(Actor(99), 1)].into_iter().collect();
        let join = Operation::Join {
            key: RecordKey::new(PartitionId(0), &TenantId::new("t").unwrap(), "k"),
            record: Record::new(seen, vec![version]).unwrap().encode(),
            judged: None,
            source: JoinSource::Client,
        };
        let joined = self.ask(n, join).await;
        assert!(
            matches!(joined, Reply::Joined { .. } | Reply::Refilling(_)),
            "{joined:?}"
        );
    }

    /// A node loses all records of keys named so.
    pub(super) async fn forget(&self, n: usize, key: &str) {
        let records = self.nodes.records(&Self::node(n).id).into_iter();
        let records = records.filter(|(held, _)| held.key() == key);
        let keys: Vec<KeyHash> = records
            .map(|(key, record)| KeyHash {
                hash: Digest::hash(&key, &record.encode()),
                key,
            })
            .collect();
        assert!(!keys.is_empty(), "there is none");
        let drop = Operation::Maintenance(Box::new(Maintenance::DropPurged { keys }));
        assert_eq!(self.ask(n, drop).await, Reply::Maintained(Maintained::Done));
    }

    async fn ask(&self, n: usize, operation: Operation) -> Reply {
        let node = Self::node(n).id;
        let epoch = self.nodes.replica(&node).epoch();
        self.nodes.ask(&node, epoch, operation).await.unwrap()
    }

    /// The metadata store answers no change any more.
    pub(super) fn hang_metadata(&self) {
        self.world.metadata.hangs.store(true, Ordering::SeqCst);
    }

    /// Stops serving; returns once every connection has ended.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
    }
}
