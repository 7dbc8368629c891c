//! The coordinator itself: a handle on its parts, the requests that clients make, and the tasks that run beside them.
//!
//! Each part keeps its own state and is given the parts that it needs when it is made, below; none of them knows the
//! coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::admission::{Admission, Admitted};
use super::answer::Answering;
use super::anti_entropy::AntiEntropy;
use super::clock_watch::ClockWatch;
use super::cluster_clock::ClusterClock;
use super::crowded::Crowded;
use super::held_claim::ClaimEnds;
use super::hints::Hints;
use super::idempotency::Claims;
use super::metadata::Metadata;
use super::migration::Leader;
use super::probes::Probes;
use super::read::Read;
use super::repair::Repairs;
use super::replication::Replication;
use super::status::Status;
use super::store_health::StoreHealth;
use super::tenant_admin::Admin;
use super::tenants::{KnownTenant, TenantCache, Tenants};
use super::topologies::Topologies;
use super::verify::Verifier;
use super::write::{ProposedStamp, Write};
use super::{
    CoordinatorError, CoordinatorSettings, ReadOutcome, ReadRequest, Verified, WriteOutcome,
    WriteRequest, validate,
};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Token};
use crate::ports::{
    Clock, CoordinatorWorld, Instant, MetadataStore, Random, RecordKey, Release, Spawn, Stop,
    StoreError, Tenant,
};
use crate::quorum::Consistency;
use crate::version::{Content, WriteId};

/// A coordinator. Clones are handles to the same one.
pub struct Coordinator<W: CoordinatorWorld>(Arc<Parts<W>>);

struct Parts<W: CoordinatorWorld> {
    world: W,
    settings: Arc<CoordinatorSettings>,
    metadata: Arc<Metadata<W>>,
    topologies: Arc<Topologies<W>>,
    tenants: Arc<TenantCache<W>>,
    replication: Arc<Replication<W>>,
    claims: Claims<W>,
    probes: Arc<Probes<W>>,
    anti_entropy: Arc<AntiEntropy<W>>,
    migrations: Leader<W>,
    verifier: Verifier<W>,
    admin: Admin<W>,
    status: Status<W>,
    admission: Admission,
    stopping: AtomicBool,
    stop: Arc<Stop>,
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
struct Located {
    tenant: KnownTenant,
    token: Token,
    key: RecordKey,
}

impl<W: CoordinatorWorld> Clone for Coordinator<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The parts that most of the others need.
struct Basis<W: CoordinatorWorld> {
    world: W,
    name: String,
    settings: Arc<CoordinatorSettings>,
    metadata: Arc<Metadata<W>>,
    topologies: Arc<Topologies<W>>,
    tenants: Arc<TenantCache<W>>,
    stamps: Arc<ClusterClock>,
    clocks: Arc<ClockWatch>,
}

impl<W: CoordinatorWorld> Basis<W> {
    fn new(world: W, name: &str, settings: CoordinatorSettings) -> Self {
        let settings = Arc::new(settings);
        let stamps = Arc::new(ClusterClock::new(settings.clock_ahead_max));
        let clocks = Arc::<ClockWatch>::default();
        let metadata = Arc::new(Metadata::new(world.clone(), settings.write_timeout));
        let tenants = Tenants::new(
            world.clock().clone(),
            world.spawner().clone(),
            world.metadata().clone(),
            settings.tenant_ttl,
            settings.tenant_entries_max,
        );
        let tenants = Arc::new(tenants);
        let topologies = Topologies::new(
            world.clone(),
            name,
            Arc::clone(&settings),
            (Arc::clone(&metadata), Arc::clone(&tenants)),
            (Arc::clone(&stamps), Arc::clone(&clocks)),
        );
        Self {
            name: name.to_owned(),
            topologies: Arc::new(topologies),
            tenants,
            world,
            settings,
            metadata,
            stamps,
            clocks,
        }
    }

    fn hints(&self) -> Hints<W> {
        Hints {
            world: self.world.clone(),
            settings: Arc::clone(&self.settings),
            topologies: Arc::clone(&self.topologies),
        }
    }

    fn probes(&self) -> Probes<W> {
        Probes {
            world: self.world.clone(),
            name: self.name.clone(),
            settings: Arc::clone(&self.settings),
            topologies: Arc::clone(&self.topologies),
            hints: self.hints(),
            stamps: Arc::clone(&self.stamps),
            clocks: Arc::clone(&self.clocks),
        }
    }

    fn replication(&self) -> Replication<W> {
        Replication {
            world: self.world.clone(),
            settings: Arc::clone(&self.settings),
            topologies: Arc::clone(&self.topologies),
            repairs: Arc::new(Repairs::new(
                self.world.clone(),
                Arc::clone(&self.settings),
                Arc::clone(&self.topologies),
                self.hints(),
            )),
            stamps: Arc::clone(&self.stamps),
            crowded: Crowded::default(),
            blocking_repairs: AtomicU64::new(0),
        }
    }

    fn anti_entropy(&self) -> AntiEntropy<W> {
        AntiEntropy::new(
            self.world.clone(),
            Arc::clone(&self.settings),
            Arc::clone(&self.metadata),
            Arc::clone(&self.topologies),
            Arc::clone(&self.tenants),
        )
    }

    fn migrations(&self) -> Leader<W> {
        Leader::new(
            self.world.clone(),
            Arc::clone(&self.settings),
            Arc::clone(&self.metadata),
            Arc::clone(&self.topologies),
            Arc::clone(&self.tenants),
        )
    }

    fn claims(&self, replication: &Arc<Replication<W>>) -> Claims<W> {
        let ends = ClaimEnds::new(self.world.clone(), Arc::clone(&self.settings));
        Claims {
            world: self.world.clone(),
            settings: Arc::clone(&self.settings),
            replication: Arc::clone(replication),
            ends: Arc::new(ends),
            store: StoreHealth::default(),
        }
    }

    fn verifier(&self) -> Verifier<W> {
        Verifier {
            world: self.world.clone(),
            metadata: Arc::clone(&self.metadata),
            topologies: Arc::clone(&self.topologies),
            tenants: Arc::clone(&self.tenants),
        }
    }
}

impl<W: CoordinatorWorld> Parts<W> {
    fn new(world: W, name: &str, settings: CoordinatorSettings) -> Self {
        let basis = Basis::new(world, name, settings);
        let probes = Arc::new(basis.probes());
        let replication = Arc::new(basis.replication());
        let anti_entropy = Arc::new(basis.anti_entropy());
        let migrations = basis.migrations();
        Self {
            claims: basis.claims(&replication),
            verifier: basis.verifier(),
            admin: Admin {
                world: basis.world.clone(),
                settings: Arc::clone(&basis.settings),
                metadata: Arc::clone(&basis.metadata),
                topologies: Arc::clone(&basis.topologies),
                tenants: Arc::clone(&basis.tenants),
                probes: Arc::clone(&probes),
            },
            status: Status {
                world: basis.world.clone(),
                settings: Arc::clone(&basis.settings),
                topologies: Arc::clone(&basis.topologies),
                tenants: Arc::clone(&basis.tenants),
                probes: Arc::clone(&probes),
                replication: Arc::clone(&replication),
                anti_entropy: Arc::clone(&anti_entropy),
                migrations: Arc::clone(&migrations.board),
            },
            admission: Admission::new(basis.settings.in_flight_max),
            stopping: AtomicBool::new(false),
            stop: Arc::new(Stop::new()),
            world: basis.world,
            settings: basis.settings,
            metadata: basis.metadata,
            topologies: basis.topologies,
            tenants: basis.tenants,
            replication,
            probes,
            anti_entropy,
            migrations,
        }
    }
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// A coordinator that knows no topology yet; see [`Coordinator::start`]. `name` is its own, for diagnostics.
    #[must_use]
    pub fn new(world: W, name: &str, settings: CoordinatorSettings) -> Self {
        Self(Arc::new(Parts::new(world, name, settings)))
    }

    /// Loads the topology and starts the background tasks: watching the metadata store, probing the storage nodes,
    /// repairing.
    ///
    /// # Errors
    /// When the metadata store can't be read; nothing has been started then.
    pub async fn start(&self) -> Result<(), StoreError> {
        let parts = &self.0;
        // Watched from before anything is read, so no change is missed.
        let events = parts.metadata.store().watch().boxed();
        parts.topologies.fetch(parts.metadata.deadline()).await?;
        // Before the first write: how fast the nodes are, and how far off our wall clock is.
        let first_probe = parts.settings.probe_interval / 2;
        parts
            .probes
            .ask(parts.world.clock().now() + first_probe)
            .await;
        self.keep("metadata watch", |parts| async move {
            let forget = |tenant: Option<&_>| match tenant {
                Some(tenant) => parts.tenants.invalidate(tenant),
                None => parts.tenants.invalidate_all(),
            };
            parts.topologies.watch(events, &parts.stop, forget).await;
        });
        self.keep("topology refresh", |parts| async move {
            parts.topologies.refresh_now_and_then(&parts.stop).await;
        });
        self.keep("probes", |parts| async move {
            parts.probes.ask_now_and_then(&parts.stop).await;
        });
        self.keep("repairs", |parts| async move {
            parts.replication.repairs.work(&parts.stop).await;
        });
        self.keep("anti-entropy", |parts| async move {
            parts.anti_entropy.keep_equal(&parts.stop).await;
        });
        if parts.world.speaks() >= Release::Current {
            self.keep("migrations", |parts| async move {
                parts.migrations.lead(&parts.stop).await;
            });
        }
        Ok(())
    }

    fn keep<F>(&self, name: &'static str, task: impl FnOnce(Arc<Parts<W>>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = task(Arc::clone(&self.0));
        self.0.world.spawner().keep(name, task);
    }

    /// Takes no more requests and lets the background tasks end. Requests at work go on; see
    /// [`Readiness::in_flight`].
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.stop.now();
        self.0.replication.repairs.close();
    }

    /// Whether it takes requests, and what it knows that says so.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let parts = &self.0;
        let routing = parts.topologies.routing();
        let stopping = parts.stopping.load(Ordering::Relaxed);
        let nodes = routing.topology().nodes.len();
        let healthy = routing.nodes().filter(|(_, health)| health.is_healthy());
        let nodes_healthy = healthy.count();
        Readiness {
            ready: !stopping && routing.epoch() > Epoch(0) && (nodes_healthy > 0 || nodes == 0),
            stopping,
            metadata: parts.metadata.answers(),
            metadata_writable: parts.metadata.changes().is_well(),
            idempotency: parts.claims.store.is_well(),
            epoch: routing.epoch(),
            nodes_healthy,
            nodes,
            in_flight: parts.admission.in_flight(),
            repairs_queued: parts.replication.repairs.waiting(),
        }
    }

    /// What it has counted.
    #[must_use]
    pub fn status(&self) -> &Status<W> {
        &self.0.status
    }

    /// What people do to tenants, storage nodes and API keys.
    #[must_use]
    pub fn admin(&self) -> &Admin<W> {
        &self.0.admin
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`CoordinatorError::KeyNotFound`] when it has no value; otherwise what kept it from being read.
    pub async fn read(&self, request: ReadRequest) -> Result<ReadOutcome, CoordinatorError> {
        let _place = self.admit()?;
        let deadline = self.deadline(request.timeout, self.0.settings.read_timeout);
        let located = self.locate(&request.tenant, &request.key, deadline).await?;
        let tenant = &located.tenant;
        let read = Read {
            key: &located.key,
            factor: tenant.factor(),
            policy: tenant.conflict_policy,
            consistency: self.consistency(request.consistency, tenant),
            floor: &validate::context(&request.context, located.token.0)?,
            deadline,
        };
        let replication = &self.0.replication;
        let record = replication.read(&read).await?;
        replication.look_at_siblings(&located.key, &record, tenant.siblings);
        replication.answer_read(request.key, &record, located.token, tenant.conflict_policy)
    }

    /// Writes a key, or deletes it when the content is a tombstone.
    ///
    /// # Errors
    /// What kept it from being acknowledged; [`CoordinatorError::QuorumNotReached`] says whether it may have taken
    /// effect.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, CoordinatorError> {
        let _place = self.admit()?;
        let (settings, replication) = (&self.0.settings, &self.0.replication);
        let deadline = self.deadline(request.timeout, settings.write_timeout);
        let located = self.locate(&request.tenant, &request.key, deadline).await?;
        if let Content::Value(value) = &request.content {
            validate::value(value.len(), settings.value_bytes_max)?;
        }
        let context = validate::context(&request.context, located.token.0)?;
        let write = Write {
            key: located.key,
            write_id: WriteId(self.0.world.random().next_u128()),
            stamp: ProposedStamp::Free(replication.next_stamp()),
            is_claimed: false,
            content: request.content,
            context,
            policy: located.tenant.conflict_policy,
            siblings: located.tenant.siblings,
            factor: located.tenant.factor(),
            consistency: self.consistency(request.consistency, &located.tenant),
            deadline,
        };
        if let Some(key) = request.idempotency_key {
            return self.0.claims.write_once(write, located.token, key).await;
        }
        let key = format!("{:032x}", write.write_id.0);
        let answering = Answering::to(&write, located.token, key);
        let written = replication.write(write).await?;
        Ok(answering.with(&written, replication))
    }

    /// Compares owners from `after` on, which is empty or what an earlier call returned; of one tenant, or of all when
    /// that is empty.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantNotFound`], a place that nobody gave out, or a topology that does not come to rest.
    pub async fn verify(&self, tenant: &str, after: Bytes) -> Result<Verified, CoordinatorError> {
        let _place = self.admit()?;
        let tenant = match tenant {
            "" => None,
            tenant => Some(self.0.admin.tenant(tenant).await?.id.clone()),
        };
        self.0.verifier.verify(tenant.as_ref(), &after).await
    }

    fn admit(&self) -> Result<Admitted, CoordinatorError> {
        if self.0.stopping.load(Ordering::Relaxed) {
            marks::reached(Mark::StoppingRefused);
            return Err(CoordinatorError::Stopping);
        }
        self.0.admission.enter()
    }

    fn deadline(&self, asked: Option<Duration>, max: Duration) -> Instant {
        let late = match mutant::on(Mutant::DeadlineIgnored) {
            true => 5,
            false => 1,
        };
        self.0.world.clock().now() + asked.map_or(max, |asked| asked.min(max)) * late
    }

    fn consistency(&self, asked: Option<Consistency>, tenant: &Tenant) -> Consistency {
        let asked = asked.or(tenant.default_consistency);
        asked.unwrap_or(self.0.settings.default_consistency)
    }

    async fn locate(
        &self,
        tenant: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<Located, CoordinatorError> {
        let id = validate::tenant_id(tenant)?;
        validate::key(key)?;
        let routing = self.0.topologies.routing();
        let tenant = self.0.tenants.get(&id, &routing, deadline).await?;
        let token = Token::of_key(id.as_str(), key);
        let partition = token.partition(routing.topology().partitions);
        Ok(Located {
            key: RecordKey::new(partition, &id, key),
            tenant,
            token,
        })
    }
}
