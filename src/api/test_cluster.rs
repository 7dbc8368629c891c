//! A coordinator behind its real front, over model nodes in memory.
//!
//! A node is the algebra and nothing else; the real one is tested elsewhere. Here the wire is under test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::{
    AuthSettings, FrontSettings, Gate, HttpSettings, LimitSettings, serve_grpc, serve_http,
};
use crate::adapters::front::Budget;
use crate::adapters::memory::{MemoryIdempotency, MemoryMetadata, MemoryTransport};
use crate::adapters::tls::{Listener, ServerTls, TlsSettings};
use crate::adapters::tokio::{ThreadRandom, TokioClock, TokioSpawn};
use crate::coordinator::{Coordinator, CoordinatorSettings};
use crate::placement::{Epoch, Node, NodeId, NodeStatus, PartitionId, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, CoordinatorWorld, Digest, KeyHash, LeaseOutcome, MetadataEvent,
    MetadataStore, NodeReport, Operation, Overwrites, RecordKey, Refusal, Reply, Request,
    RequestHandler, Standing, StoreError, Tenant, TenantId, Upkeep, Upkept,
};
use crate::version::{Actor, Dot, Record, Version, VersionVector};

/// A storage node in a few lines.
#[derive(Clone)]
pub(super) struct ModelNode {
    id: NodeId,
    delay_ms: Arc<AtomicU64>,
    /// By clients' requests.
    asked: Arc<AtomicU64>,
    state: Arc<Mutex<ModelState>>,
}

#[derive(Default)]
struct ModelState {
    epoch: Epoch,
    counter: u64,
    records: BTreeMap<RecordKey, Record>,
}

impl RequestHandler for ModelNode {
    fn node(&self) -> &NodeId {
        &self.id
    }

    fn handle(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let this = self.clone();
        async move {
            if matches!(
                request.operation,
                Operation::Stamp(_) | Operation::Read { .. }
            ) {
                this.asked.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(this.delay_ms.load(Ordering::SeqCst))).await;
            this.answer(request)
        }
    }
}

impl ModelNode {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            delay_ms: Arc::default(),
            asked: Arc::default(),
            state: Arc::default(),
        }
    }

    fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        let actor = Actor(self.id.as_str().bytes().fold(7, |hash: u64, byte| {
            hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
        }));
        let mut state = self.state.lock().unwrap();
        match request.operation {
            Operation::Stamp(write) => {
                let held = state.records.get(&write.key).cloned().unwrap_or_default();
                if let Some(known) = held.find(write.write_id) {
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
                state.counter += 1;
                let dot = Dot {
                    actor,
                    counter: state.counter,
                };
                let version = Version {
                    dot,
                    write_id: write.write_id,
                    stamp: write.stamp,
                    content: write.content,
                };
                let seen = if all {
                    VersionVector::default()
                } else {
                    context.shown.clone()
                };
                let record = held.overwrite(version, &seen, |old| all || context.covers(old.dot));
                state.records.insert(write.key, record.clone());
                Ok(Reply::Stamped {
                    dot,
                    record: record.encode(),
                })
            }
            Operation::Join { key, record, .. } => {
                let record = Record::decode(record)
                    .map_err(|error| Refusal::Malformed(error.to_string()))?;
                let joined = state
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
                state.records.insert(key, joined);
                Ok(Reply::Joined { greatest, standing })
            }
            Operation::Read { key } => Ok(Reply::Found {
                record: state.records.get(&key).map(Record::encode),
            }),
            Operation::Upkeep(upkeep) => state.list(*upkeep).map(Reply::Upkept),
            Operation::Probe => Ok(Reply::Report(NodeReport {
                node: self.id.clone(),
                incarnations: vec![actor],
                epoch: state.epoch,
                wall_ms: crate::ports::Clock::wall_ms(&TokioClock::new()),
                keys: state.records.len() as u64,
                disk_used_percent: None,
                tombstones: 0,
                hints: Vec::new(),
                refilling: None,
                refuses_writes: None,
            })),
            Operation::AdoptEpochIfEmpty { epoch, .. } => {
                let adopted = state.records.is_empty();
                if adopted {
                    state.epoch = epoch;
                }
                Ok(Reply::Adopted { adopted })
            }
        }
    }
}

impl ModelState {
    /// Lists trees and keys, two at a time; that is all the upkeep there is.
    fn list(&self, upkeep: Upkeep) -> Result<Upkept, Refusal> {
        const PAGE: usize = 2;
        match upkeep {
            Upkeep::Roots { after } => {
                let mut trees: Vec<_> = self.records.keys().map(RecordKey::tree).collect();
                trees.dedup();
                trees.retain(|tree| after.as_ref().is_none_or(|after| tree > after));
                let more = trees.len() > PAGE;
                trees.truncate(PAGE);
                let roots = trees.into_iter().map(|tree| (tree, Digest::default()));
                let roots = roots.collect();
                Ok(Upkept::Roots { roots, more })
            }
            Upkeep::Keys { tree, after, .. } => {
                let records = self.records.iter();
                let mut keys: Vec<_> = records
                    .filter(|(key, _)| key.tree() == tree && after.as_ref() < Some(key))
                    .map(|(key, record)| KeyHash {
                        hash: Digest::hash(key, &record.encode()),
                        key: key.clone(),
                    })
                    .collect();
                let more = keys.len() > PAGE;
                keys.truncate(PAGE);
                let more = keys.last().map(|last| last.key.clone()).filter(|_| more);
                Ok(Upkept::Keys { keys, more })
            }
            _ => Err(Refusal::Unavailable("no upkeep here".into())),
        }
    }
}

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
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.store.tenant(id).await
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
    transport: MemoryTransport<TokioClock, TokioSpawn, ModelNode>,
    metadata: HangingMetadata,
    idempotency: MemoryIdempotency<TokioClock>,
}

impl CoordinatorWorld for TestWorld {
    type Clock = TokioClock;
    type Random = ThreadRandom;
    type Spawn = TokioSpawn;
    type Transport = MemoryTransport<TokioClock, TokioSpawn, ModelNode>;
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

/// Three model nodes that no topology has yet, and one served coordinator.
pub(super) struct TestCluster {
    pub(super) coordinator: Coordinator<TestWorld>,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    world: TestWorld,
    nodes: Vec<ModelNode>,
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
        let transport = MemoryTransport::new(clock, spawner.clone());
        let nodes: Vec<_> = (1..=3)
            .map(|n| ModelNode::new(NodeId::new(format!("n{n}")).unwrap()))
            .collect();
        for (n, node) in nodes.iter().enumerate() {
            transport.add(Self::node(n), node.clone());
        }
        let metadata = HangingMetadata {
            store: MemoryMetadata::new(clock),
            hangs: Arc::default(),
        };
        let idempotency = MemoryIdempotency::new(clock);
        let world = TestWorld {
            clock,
            spawner,
            transport,
            metadata,
            idempotency,
        };
        let settings = CoordinatorSettings {
            write_timeout: Duration::from_secs(2),
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
        while self
            .nodes
            .iter()
            .all(|node| node.asked.load(Ordering::SeqCst) == 0)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every node takes so long for each answer.
    pub(super) fn slow_down(&self, delay: Duration) {
        for node in &self.nodes {
            node.delay_ms
                .store(delay.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// Cuts a node off.
    pub(super) fn cut_off(&self, n: usize) {
        self.world.transport.remove(&Self::node(n).id);
    }

    /// A node holds a record already.
    pub(super) fn fill(&self, n: usize) {
        let key = RecordKey::new(PartitionId(0), &TenantId::new("t").unwrap(), "k");
        let mut state = self.nodes[n].state.lock().unwrap();
        state.records.insert(key, Record::default());
    }

    /// A node forgets all records of keys named so.
    pub(super) fn forget(&self, n: usize, key: &str) {
        let mut state = self.nodes[n].state.lock().unwrap();
        state.records.retain(|held, _| held.key() != key);
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
