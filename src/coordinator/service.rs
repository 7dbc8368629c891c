//! The coordinator itself: what requests share, and the tasks that run beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::lock::Mutex as AsyncMutex;
use futures::stream::BoxStream;

use super::admission::{Admission, Admitted};
use super::ahead::Ahead;
use super::anti_entropy::AntiEntropy;
use super::clock_watch::{ClockWatch, Tell};
use super::cluster_clock::ClusterClock;
use super::crowded::Crowded;
use super::health::NodeHealth;
use super::owners::Owners;
use super::repair::RepairQueue;
use super::routing::{CurrentRouting, Routing};
use super::tenants::Tenants;
use super::wait::before;
use super::write::{ProposedStamp, Write, Written};
use super::{
    ClockEntry, CoordinatorError, CoordinatorSettings, WriteOutcome, WriteRequest, validate,
};
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::{DEFAULT_PARTITIONS, Epoch, NodeId, Token, Topology};
use crate::ports::{
    Change, Clock, CoordinatorWorld, Instant, MetadataEvent, MetadataStore, NodeReport, Operation,
    Random, RecordKey, Reply, SiblingLimits, Spawn, Stop, StoreError, Tenant, TenantId,
};
use crate::quorum::Consistency;
use crate::sabotage::{self, Sabotage};
use crate::version::{Content, Context, Record, Stamp, VersionVector, WriteId};

/// How soon a watch of the metadata that has ended is begun anew.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A coordinator. Clones are handles to the same one.
pub struct Coordinator<W: CoordinatorWorld>(Arc<Shared<W>>);

struct Shared<W: CoordinatorWorld> {
    world: W,
    name: String,
    settings: CoordinatorSettings,
    routing: CurrentRouting,
    /// One refresh at a time; those who wait find it done.
    refreshing: AsyncMutex<()>,
    tenants: Tenants<W::Clock, W::Spawn, W::Metadata>,
    stamps: ClusterClock,
    clocks: ClockWatch,
    admission: Admission,
    /// How many ends of claims may be on their way to the idempotency store.
    claim_ends: Admission,
    repairs: RepairQueue,
    anti_entropy: AntiEntropy,
    blocking_repairs: AtomicU64,
    crowded: Crowded,
    /// Epochs that storage nodes know and the metadata store does not.
    ahead: Ahead,
    metadata_answers: AtomicBool,
    /// Unless one of them refused, both stores take changes.
    metadata_refuses: AtomicBool,
    idempotency_refuses: AtomicBool,
    stopping: AtomicBool,
    stop: Stop,
}

/// How a coordinator is, for readiness probes and people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// Whether it takes requests: it knows the topology, and if there are storage nodes, one at least does what it is
    /// asked for.
    pub ready: bool,
    /// Whether it has been told to stop.
    pub stopping: bool,
    /// Whether the metadata store answered when last asked.
    pub metadata: bool,
    /// Whether it took the last change that was asked of it; leases are renewed all the time.
    pub metadata_writable: bool,
    /// Whether the idempotency store answered when last asked; it is asked by requests only.
    pub idempotency: bool,
    /// The epoch in use.
    pub epoch: Epoch,
    /// How many storage nodes answer, of how many.
    pub nodes_healthy: usize,
    /// How many storage nodes there are.
    pub nodes: usize,
    /// Requests at work.
    pub in_flight: usize,
    /// Repairs waiting.
    pub repairs_queued: usize,
}

/// A tenant's key, found on the ring.
pub(super) struct Located {
    pub(super) tenant: Arc<Tenant>,
    pub(super) token: Token,
    pub(super) key: RecordKey,
}

impl<W: CoordinatorWorld> Clone for Coordinator<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// A coordinator that knows no topology yet; see [`Coordinator::start`]. `name` is its own, for diagnostics.
    #[must_use]
    pub fn new(world: W, name: &str, settings: CoordinatorSettings) -> Self {
        let tenants = Tenants::new(
            world.clock().clone(),
            world.spawner().clone(),
            world.metadata().clone(),
            settings.tenant_ttl,
            settings.tenant_entries_max,
        );
        Self(Arc::new(Shared {
            name: name.to_owned(),
            routing: CurrentRouting::new(Topology {
                epoch: Epoch(0),
                partitions: DEFAULT_PARTITIONS,
                nodes: Vec::new(),
            }),
            refreshing: AsyncMutex::new(()),
            tenants,
            stamps: ClusterClock::new(settings.clock_ahead_max),
            clocks: ClockWatch::default(),
            admission: Admission::new(settings.in_flight_max),
            claim_ends: Admission::new(settings.in_flight_max),
            repairs: RepairQueue::new(settings.repair_queue_max),
            anti_entropy: AntiEntropy::default(),
            blocking_repairs: AtomicU64::new(0),
            crowded: Crowded::default(),
            ahead: Ahead::default(),
            metadata_answers: AtomicBool::new(false),
            metadata_refuses: AtomicBool::new(false),
            idempotency_refuses: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: Stop::new(),
            settings,
            world,
        }))
    }

    /// Loads the topology and starts the background tasks: watching the metadata store, probing the storage nodes,
    /// repairing.
    ///
    /// # Errors
    /// When the metadata store can't be read; nothing has been started then.
    pub async fn start(&self) -> Result<(), StoreError> {
        // Watched from before anything is read, so no change is missed.
        let events = self.world().metadata().watch().boxed();
        let deadline = self.clock().now() + self.settings().write_timeout;
        let topology = self.fetch_topology(deadline).await?;
        self.0.routing.advance(topology);
        // Before the first write: how fast the nodes are, and how far off our wall clock is.
        let first_probe = self.settings().probe_interval / 2;
        self.probe_nodes(self.clock().now() + first_probe).await;
        let spawner = self.0.world.spawner();
        spawner.keep("metadata watch", self.clone().watch_metadata(events));
        spawner.keep("topology refresh", self.clone().refresh_now_and_then());
        spawner.keep("probes", self.clone().probe_now_and_then());
        spawner.keep("repairs", self.clone().repair_until_stopped());
        spawner.keep("anti-entropy", self.clone().keep_equal());
        Ok(())
    }

    /// Takes no more requests and lets the background tasks end. Requests at work go on; see
    /// [`Readiness::in_flight`].
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.stop.now();
        self.0.repairs.close();
    }

    /// How it is.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let routing = self.0.routing.get();
        let stopping = self.is_stopping();
        let nodes = routing.topology().nodes.len();
        let healthy = routing.nodes().filter(|(_, health)| health.is_healthy());
        let nodes_healthy = healthy.count();
        Readiness {
            ready: !stopping && routing.epoch() > Epoch(0) && (nodes_healthy > 0 || nodes == 0),
            stopping,
            metadata: self.0.metadata_answers.load(Ordering::Relaxed),
            metadata_writable: !self.0.metadata_refuses.load(Ordering::Relaxed),
            idempotency: !self.0.idempotency_refuses.load(Ordering::Relaxed),
            epoch: routing.epoch(),
            nodes_healthy,
            nodes,
            in_flight: self.0.admission.in_flight(),
            repairs_queued: self.0.repairs.len(),
        }
    }

    /// Hits and misses of the tenant cache since the start.
    #[must_use]
    pub fn tenant_cache(&self) -> (u64, u64) {
        self.0.tenants.hits_and_misses()
    }

    /// How many of the cached tenants have fewer replicas than their replication factor says, because there are fewer
    /// storage nodes.
    #[must_use]
    pub fn tenants_short_of_nodes(&self) -> usize {
        match self.routing().topology().nodes.len() {
            0 => 0, // nobody has any
            nodes => self.0.tenants.wanting(nodes),
        }
    }

    /// How many reads had to repair before they answered, since the start.
    #[must_use]
    pub fn blocking_repairs(&self) -> u64 {
        self.0.blocking_repairs.load(Ordering::Relaxed)
    }

    /// How often a key with as many unresolved siblings as its tenant wants to be told of was read or written, since
    /// the start.
    #[must_use]
    pub fn crowded_keys(&self) -> u64 {
        self.0.crowded.met()
    }

    /// How far each storage node's wall clock is ahead of the coordinator's, in milliseconds (negative: behind), and
    /// the median of that, as last probed.
    #[must_use]
    pub fn clock_offsets_ms(&self) -> (Vec<(NodeId, i64)>, Option<i64>) {
        self.0.stamps.offsets_ms()
    }

    /// Writes a key, or deletes it when the content is a tombstone.
    ///
    /// # Errors
    /// What kept it from being acknowledged; [`CoordinatorError::QuorumNotReached`] says whether it may have taken
    /// effect.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, CoordinatorError> {
        let _place = self.admit()?;
        let deadline = self.deadline(request.timeout, self.settings().write_timeout);
        let located = self.locate(&request.tenant, &request.key, deadline).await?;
        if let Content::Value(value) = &request.content {
            validate::value(value.len(), self.settings().value_bytes_max)?;
        }
        let context = validate::context(&request.context, located.token.0)?;
        let write = Write {
            key: located.key,
            write_id: WriteId(self.random().next_u128()),
            stamp: ProposedStamp::Free(self.0.stamps.tick(self.clock().wall_ms())),
            content: request.content,
            context,
            policy: located.tenant.conflict_policy,
            siblings: located.tenant.siblings,
            replication_factor: located.tenant.replication_factor,
            consistency: self.consistency(request.consistency, &located.tenant),
            deadline,
        };
        match request.idempotency_key {
            Some(key) => self.write_once(write, located.token, key).await,
            None => {
                let key = format!("{:032x}", write.write_id.0);
                let (consistency, context) = (write.consistency, write.context.clone());
                let written = self.replicate(write).await?;
                Ok(self.answer_write(&written, consistency, context, located.token, key))
            }
        }
    }

    /// What the client is told of an acknowledged write.
    pub(super) fn answer_write(
        &self,
        written: &Written,
        consistency: Consistency,
        context: Context,
        token: Token,
        idempotency_key: String,
    ) -> WriteOutcome {
        let seen = written.record.seen();
        // Alone in its record, the write has overwritten all that was seen there. Beside siblings, or overwritten
        // itself by the time of a repeated answer, the client knows what it brought along and its own write, and a
        // later write of it must not overwrite the others.
        let context = match written.record.siblings() {
            _ if sabotage::on(Sabotage::WriteContextTooWide) => Context {
                shown: seen.clone(),
                written: None,
            },
            [only] if written.dot == Some(only.dot) => {
                let mut shown = context.shown;
                shown.merge(seen);
                Context {
                    shown,
                    written: None,
                }
            }
            _ => Context {
                shown: context.shown,
                written: written
                    .dot
                    .filter(|_| !sabotage::on(Sabotage::OwnWriteNotInContext)),
            },
        };
        WriteOutcome {
            replicas: written.replicas,
            consistency,
            clock: self.readable_clock(seen),
            context: context.encode(token.0),
            idempotency_key,
            is_duplicate: false,
            without_idempotency: false,
            rewritten_bytes: written.rewritten_bytes(),
        }
    }

    // What requests share.

    pub(super) fn clock(&self) -> &W::Clock {
        self.0.world.clock()
    }

    pub(super) fn random(&self) -> &W::Random {
        self.0.world.random()
    }

    pub(super) fn world(&self) -> &W {
        &self.0.world
    }

    pub(super) fn settings(&self) -> &CoordinatorSettings {
        &self.0.settings
    }

    pub(super) fn routing(&self) -> Arc<Routing> {
        self.0.routing.get()
    }

    pub(super) fn repairs(&self) -> &RepairQueue {
        &self.0.repairs
    }

    pub(super) fn anti_entropy(&self) -> &AntiEntropy {
        &self.0.anti_entropy
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// What `future` gives, or `None` as soon as the coordinator is told to stop.
    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0.stop.or(future).await
    }

    pub(super) fn admit(&self) -> Result<Admitted, CoordinatorError> {
        if self.is_stopping() {
            marks::reached(Mark::StoppingRefused);
            return Err(CoordinatorError::Stopping);
        }
        self.0.admission.enter()
    }

    /// A place for one more end of a claim on its way to the idempotency store.
    pub(super) fn end_of_claim(&self) -> Result<Admitted, CoordinatorError> {
        self.0.claim_ends.enter()
    }

    pub(super) fn deadline(&self, asked: Option<Duration>, max: Duration) -> Instant {
        let late = if sabotage::on(Sabotage::DeadlineIgnored) {
            5
        } else {
            1
        };
        self.clock().now() + asked.map_or(max, |asked| asked.min(max)) * late
    }

    pub(super) async fn locate(
        &self,
        tenant: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<Located, CoordinatorError> {
        let id = validate::tenant_id(tenant)?;
        validate::key(key)?;
        let tenant = self.0.tenants.get(&id, deadline).await?;
        let token = Token::of_key(id.as_str(), key);
        let partition = token.partition(self.routing().topology().partitions);
        Ok(Located {
            key: RecordKey::new(partition, &id, key),
            tenant,
            token,
        })
    }

    pub(super) async fn cached_tenant(
        &self,
        id: &TenantId,
        deadline: Instant,
    ) -> Result<Arc<Tenant>, CoordinatorError> {
        self.0.tenants.get(id, deadline).await
    }

    /// Asks the metadata store the next time it is needed.
    pub(super) fn forget_tenant(&self, id: &TenantId) {
        self.0.tenants.invalidate(id);
    }

    pub(super) fn consistency(&self, asked: Option<Consistency>, tenant: &Tenant) -> Consistency {
        asked
            .or(tenant.default_consistency)
            .unwrap_or(self.settings().default_consistency)
    }

    pub(super) fn owners(&self, key: &RecordKey, replication_factor: u8) -> Owners<W> {
        Owners::new(
            self.0.world.clone(),
            self.routing(),
            key,
            replication_factor,
        )
    }

    /// A stamp above `greatest`; `None` at the end of time.
    pub(super) fn stamp_above(&self, greatest: Stamp) -> Option<Stamp> {
        self.0.stamps.tick_above(greatest, self.clock().wall_ms())
    }

    pub(super) fn observe_stamp(&self, seen: Stamp) {
        self.0.stamps.observe(seen, self.clock().wall_ms());
    }

    /// Looks at a record that was read or written.
    pub(super) fn look_at_siblings(&self, key: &RecordKey, record: &Record, limits: SiblingLimits) {
        self.0
            .crowded
            .look_at(key, record, limits, self.clock().now());
    }

    pub(super) fn repaired_before_answer(&self) {
        self.0.blocking_repairs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn readable_clock(&self, seen: &VersionVector) -> Vec<ClockEntry> {
        let routing = self.routing();
        seen.iter()
            .map(|(actor, counter)| ClockEntry {
                node: routing.actor_name(actor),
                counter,
            })
            .collect()
    }

    // Topology.

    /// Takes a topology into use that is at least as new as `newer`, which a replica told of; or doubts that there is
    /// one, so that its owners go without that replica. Takes half of the time until `deadline` at most.
    pub(super) async fn refresh_topology(&self, newer: Epoch, deadline: Instant) {
        let now = self.clock().now();
        let deadline = now + deadline.since(now) / 2;
        let refreshed = before(self.clock(), deadline, async {
            let _one_at_a_time = self.0.refreshing.lock().await;
            self.catch_up(newer, deadline).await
        });
        let cause = match refreshed.await {
            Some(Ok(())) => "the metadata store does not know it".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "the metadata store did not answer in time".to_owned(),
        };
        let routing = self.routing();
        if routing.epoch() < newer && routing.doubt(newer) {
            tracing::warn!(
                coordinator = self.0.name,
                epoch = newer.0,
                in_use = routing.epoch().0,
                cause,
                "a storage node refuses for an epoch that can't be had; it counts as missing"
            );
        }
    }

    /// Too few of the owners by `routing` could be had. Whether there is a newer topology now, where some of them may
    /// have been missing only because they were doubted.
    pub(super) async fn is_over_doubt(&self, routing: &Routing, deadline: Instant) -> bool {
        if let Some(epoch) = routing.doubted_from() {
            routing.doubt_only(None);
            self.refresh_topology(epoch, deadline).await;
        }
        self.routing().epoch() > routing.epoch()
    }

    async fn catch_up(&self, newer: Epoch, deadline: Instant) -> Result<(), StoreError> {
        let routing = self.routing();
        if routing.epoch() >= newer || routing.doubts(newer) {
            marks::reached(Mark::TopologyAlreadyFresh);
            return Ok(());
        }
        let stored = self.fetch_topology(deadline).await?;
        if stored.epoch < newer && newer.is_plausible(stored.epoch) {
            return self.publish_adopted(stored, newer).await;
        }
        marks::reached(Mark::TopologyRefreshed);
        self.advance_topology(stored);
        Ok(())
    }

    /// A change of topology was begun, some replica adopted its epoch, and whoever began it never published it; or the
    /// metadata store has lost the epoch. Publishes what is stored under that epoch, so that the replica serves again.
    async fn publish_adopted(&self, stored: Topology, adopted: Epoch) -> Result<(), StoreError> {
        let expected = stored.epoch;
        let next = Topology {
            epoch: adopted,
            ..stored
        };
        match self
            .world()
            .metadata()
            .replace_topology(expected, next)
            .await?
        {
            Change::Made(topology) | Change::Conflict(Some(topology)) => {
                marks::reached(Mark::AdoptedPublished);
                self.advance_topology(topology);
            }
            Change::Conflict(None) => {}
        }
        Ok(())
    }

    pub(super) fn advance_topology(&self, topology: Topology) {
        if self.0.routing.advance(topology) {
            let routing = self.routing();
            let stays = |id: &NodeId| routing.topology().node(id).is_some();
            self.0.stamps.keep(stays);
            self.0.clocks.keep(stays);
            tracing::info!(
                coordinator = self.0.name,
                epoch = routing.epoch().0,
                "new topology"
            );
        }
    }

    /// A change was asked of the metadata store.
    pub(super) fn note_metadata_change<T>(&self, outcome: &Result<T, StoreError>) {
        note(&self.0.metadata_refuses, outcome);
    }

    /// The idempotency store was asked something.
    pub(super) fn note_idempotency<T>(&self, outcome: &Result<T, StoreError>) {
        note(&self.0.idempotency_refuses, outcome);
    }

    pub(super) async fn fetch_topology(&self, deadline: Instant) -> Result<Topology, StoreError> {
        let fetched = self
            .in_time(deadline, self.world().metadata().topology())
            .await;
        self.0
            .metadata_answers
            .store(fetched.is_ok(), Ordering::Relaxed);
        fetched
    }

    /// What the metadata store answers, or that it did not before the deadline; then a change may have been made.
    pub(super) async fn in_time<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = before(self.clock(), deadline, answer).await;
        answer.unwrap_or_else(|| {
            Err(StoreError::Late {
                store: "metadata store",
            })
        })
    }

    async fn watch_metadata(self, mut events: BoxStream<'static, MetadataEvent>) {
        while let Some(event) = self.unless_stopped(events.next()).await {
            match event {
                Some(MetadataEvent::Tenant(id)) => self.0.tenants.invalidate(&id),
                Some(MetadataEvent::Topology(epoch)) if epoch > self.routing().epoch() => {
                    marks::reached(Mark::MetadataWatched);
                    self.refresh_once().await
                }
                // Keys are the front's business.
                Some(MetadataEvent::Topology(_) | MetadataEvent::ApiKey(_)) => {}
                Some(MetadataEvent::Missed) => self.missed_changes().await,
                // It ends with the store only, and then what is left is the backstop; but better once too often.
                None => {
                    let pause = self.clock().sleep(WATCH_PAUSE);
                    if self.unless_stopped(pause).await.is_none() {
                        return;
                    }
                    events = self.world().metadata().watch().boxed();
                    self.missed_changes().await;
                }
            }
        }
    }

    /// Whatever is kept of the metadata may be out of date: it is looked up anew before it is used again.
    async fn missed_changes(&self) {
        tracing::warn!(
            coordinator = self.0.name,
            "changes of the metadata were missed; everything kept of it is looked up anew"
        );
        self.0.tenants.invalidate_all();
        self.refresh_once().await;
    }

    /// The backstop behind the watch.
    async fn refresh_now_and_then(self) {
        let pause = || {
            let pause = self.settings().topology_refresh;
            let early = buggify::on(Site::TopologyRefreshed);
            self.clock().sleep(if early { pause / 16 } else { pause })
        };
        while self.unless_stopped(pause()).await.is_some() {
            self.refresh_once().await;
        }
    }

    async fn refresh_once(&self) {
        let deadline = self.clock().now() + self.settings().write_timeout;
        match self.fetch_topology(deadline).await {
            Ok(topology) => self.advance_topology(topology),
            Err(error) => {
                tracing::warn!(coordinator = self.0.name, %error, "can't refresh the topology")
            }
        }
    }

    // Probes.

    async fn probe_now_and_then(self) {
        let interval = self.settings().probe_interval;
        loop {
            let next = self.clock().now() + interval;
            let probe = async {
                self.probe_nodes(next).await;
                futures::join!(self.mind_epochs(next), self.mind_hints(next));
                self.clock().sleep_until(next).await;
            };
            if self.unless_stopped(probe).await.is_none() {
                return;
            }
        }
    }

    /// Asks every node how it is, until `deadline`, and keeps what they say.
    pub(super) async fn probe_nodes(&self, deadline: Instant) {
        let routing = self.routing();
        let probes = (0..routing.topology().nodes.len() as u16).map(|index| {
            let owners = Owners::of_node(self.0.world.clone(), Arc::clone(&routing), index);
            async move {
                let (asked_at, sent_ms) = (self.clock().now(), self.clock().wall_ms());
                let answer = owners.call(0, Operation::Probe, deadline).await;
                let received_ms = self.clock().wall_ms();
                if let Ok(Reply::Report(report)) = answer.result {
                    self.learn(&owners, report, asked_at, sent_ms / 2 + received_ms / 2);
                }
            }
        });
        before(self.clock(), deadline, futures::future::join_all(probes)).await;
    }

    fn learn(&self, owners: &Owners<W>, report: NodeReport, asked_at: Instant, own_wall_ms: u64) {
        let offset_ms =
            i64::try_from(i128::from(report.wall_ms) - i128::from(own_wall_ms)).unwrap_or(i64::MAX);
        let ahead_ms = self.0.stamps.probed(&report.node, offset_ms);
        self.watch_clocks(&report.node, ahead_ms, offset_ms.saturating_add(ahead_ms));
        let out_of_step = self.routing().doubts(report.epoch);
        owners.health(0).set_out_of_step(out_of_step);
        owners.health(0).reported(report, asked_at);
    }

    /// Looks after nodes that know newer epochs than the one in use, whether or not anybody asks them for anything:
    /// brings them and the metadata store together where that can be, and finds out when what was doubted is no more.
    async fn mind_epochs(&self, deadline: Instant) {
        let routing = self.routing();
        let known = |(_, health): (_, &Arc<NodeHealth>)| {
            health.with_report(|report| report.map(|report| report.epoch))
        };
        let newer = routing.nodes().filter_map(known);
        let newer: Vec<Epoch> = newer.filter(|epoch| *epoch > routing.epoch()).collect();
        if newer.is_empty() && routing.doubted_from().is_none() {
            return self.0.ahead.forget();
        }
        let Ok(stored) = self.fetch_topology(deadline).await else {
            return;
        };
        let base = stored.epoch;
        self.advance_topology(stored);
        // Somebody may be about to publish it: left alone for as long as that may take.
        let believed = newer
            .iter()
            .copied()
            .filter(|epoch| *epoch > base && epoch.is_plausible(base));
        if let Some(epoch) = believed.max()
            && self
                .0
                .ahead
                .has_stood(epoch, self.clock().now(), self.settings().write_timeout)
        {
            self.refresh_topology(epoch, deadline).await;
        }
        // The rest can't be. It is doubted before anybody meets it.
        let routing = self.routing();
        let impossible = newer
            .into_iter()
            .filter(|epoch| !epoch.is_plausible(routing.epoch()));
        let impossible = impossible.min();
        if routing.doubt_only(impossible)
            && let Some(epoch) = impossible
        {
            tracing::error!(
                coordinator = self.0.name,
                epoch = epoch.0,
                in_use = routing.epoch().0,
                "a storage node knows an epoch that can't be; it counts as missing until its epoch is set back"
            );
        }
    }

    /// Tells the log of clocks that are ahead of the median: our own, and a node's.
    fn watch_clocks(&self, node: &NodeId, own_ahead_ms: i64, ahead_ms: i64) {
        let most = self.settings().clock_ahead_max.as_millis();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let now = self.clock().now();
        let (coordinator, clocks) = (&self.0.name, &self.0.clocks);
        match clocks.saw(None, own_ahead_ms > most, now) {
            Some(Tell::Ahead) => tracing::warn!(
                coordinator,
                ahead_ms = own_ahead_ms,
                "own wall clock is ahead of the storage nodes'"
            ),
            Some(Tell::RightAgain) => {
                tracing::info!(coordinator, "own wall clock is right again");
            }
            None => {}
        }
        // While our own is wrong, what theirs look like from here says nothing.
        if own_ahead_ms > most {
            return;
        }
        match clocks.saw(Some(node.clone()), ahead_ms > most, now) {
            Some(Tell::Ahead) => tracing::warn!(%node, ahead_ms, "wall clock ahead"),
            Some(Tell::RightAgain) => tracing::info!(%node, "wall clock right again"),
            None => {}
        }
    }
}

/// Keeps whether a store refuses, and says so when that changes. That a request's deadline passed says nothing of the
/// store.
fn note<T>(refuses: &AtomicBool, outcome: &Result<T, StoreError>) {
    if matches!(outcome, Err(StoreError::Late { .. })) {
        return;
    }
    let refused = refuses.swap(outcome.is_err(), Ordering::Relaxed);
    match outcome {
        Err(error) if !refused => tracing::warn!(%error, "a store takes no changes"),
        Ok(_) if refused => tracing::info!("a store takes changes again"),
        _ => {}
    }
}
