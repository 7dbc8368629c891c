//! The metadata store at the other end of a network that fails, and failing itself when the world says so.

use std::fmt::Debug;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use madsim::time::TimeHandle;
use pairdb::adapters::memory::MemoryMetadata;
use pairdb::placement::{ChangeId, Epoch, Topology};
use pairdb::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, LeaseOutcome, MetadataEvent, MetadataStore, Migration,
    Release, StoreError, Tenant, TenantId,
};

use super::clock::SimClock;
use super::link::StoreLink;
use super::older;
use crate::describe::Said;
use crate::endpoint::Endpoint;

type Store = MemoryMetadata<SimClock>;

/// The metadata store itself: what all coordinators reach, and what it held before. Copies share it.
#[derive(Clone)]
pub struct MetadataHome(Arc<Mutex<Home>>);

struct Home {
    store: Store,
    clock: SimClock,
    /// Every topology with the time it was stored at, the oldest first.
    past: Vec<(Duration, Topology)>,
    newest: Epoch,
    looked_up: Vec<TenantLookup>,
    /// Who last got the lease of changes of owners.
    leader: Option<Endpoint>,
    watch: Option<TopologyWatch>,
    /// Whether no failover loses a topology.
    loses_none: bool,
}

/// Who looks on when a topology is stored.
pub type TopologyWatch = Arc<dyn Fn(&Topology) + Send + Sync>;

/// The lease that whoever leads changes of owners has.
const LEADERS_LEASE: &str = "migrations";

/// More tenants, and more migrations, than any world has.
const ALL: usize = 10_000;

/// A coordinator asks for a tenant, whether or not it is answered.
#[derive(Clone, Debug)]
pub struct TenantLookup {
    /// Who asks.
    pub from: Endpoint,
    /// The tenant's name.
    pub tenant: String,
    /// When.
    pub at: Duration,
}

impl MetadataHome {
    /// A store with these tenants and this topology, that lives by `clock`.
    pub async fn new(tenants: Vec<Tenant>, topology: Topology, clock: SimClock) -> Self {
        let store = MemoryMetadata::new(clock.clone());
        for tenant in tenants {
            let created = store.create_tenant(tenant).await;
            created.expect("the store in memory takes a tenant");
        }
        keep_topology(&store, &topology).await;
        let newest = topology.epoch;
        let past = vec![(Duration::ZERO, topology)];
        Self(Arc::new(Mutex::new(Home {
            store,
            clock,
            past,
            newest,
            looked_up: Vec::new(),
            leader: None,
            watch: None,
            loses_none: false,
        })))
    }

    /// From now on no failover loses a topology: the number of one that was lost could be given to one in which owners
    /// change, and who knows the other one would not be refused.
    pub fn lose_no_topology(&self) {
        self.home().loses_none = true;
    }

    /// The store that answers now.
    #[must_use]
    pub fn store(&self) -> Store {
        self.home().store.clone()
    }

    /// From now on `watch` is told of every topology that is stored.
    pub fn watch(&self, watch: TopologyWatch) {
        self.home().watch = Some(watch);
    }

    /// The store's topology was replaced, now.
    pub fn keep(&self, topology: Topology) {
        let now = TimeHandle::current().elapsed();
        let watch = {
            let mut home = self.home();
            home.newest = home.newest.max(topology.epoch);
            home.past.push((now, topology.clone()));
            home.watch.clone()
        };
        if let Some(watch) = watch {
            watch(&topology);
        }
    }

    /// The coordinator that last got the lease of changes of owners.
    #[must_use]
    pub fn leader(&self) -> Option<Endpoint> {
        self.home().leader
    }

    /// Which tenants were asked for.
    #[must_use]
    pub fn looked_up(&self) -> Vec<TenantLookup> {
        self.home().looked_up.clone()
    }

    fn look_up(&self, from: Endpoint, tenant: &TenantId) {
        let lookup = TenantLookup {
            from,
            tenant: tenant.to_string(),
            at: TimeHandle::current().elapsed(),
        };
        self.home().looked_up.push(lookup);
    }

    /// The newest epoch that was ever published, also where a failover lost it.
    #[must_use]
    pub fn newest_epoch(&self) -> Epoch {
        self.home().newest
    }

    /// A copy takes over that has no leases, and of the topology what was stored this long ago. All else is copied
    /// before it is acknowledged, and so is the topology while owners change: losing the step of a change would give
    /// partitions back to owners that have dropped them. Returns the epochs it knows nothing of.
    pub async fn fail_over(&self, lost: Duration) -> Vec<Epoch> {
        let now = TimeHandle::current().elapsed();
        let (old, topology, clock, gone) = {
            let mut home = self.home();
            let old_enough = home.past.iter().take_while(|(at, _)| *at + lost <= now);
            let kept = match home.loses_none {
                true => home.past.len(),
                false => old_enough.count().max(safe(&home.past)).max(1),
            };
            let gone = home.past.split_off(kept);
            let gone: Vec<Epoch> = gone.iter().map(|(_, topology)| topology.epoch).collect();
            let newest = home.past[kept - 1].1.clone();
            (home.store.clone(), newest, home.clock.clone(), gone)
        };
        let store = copied(&old, clock).await;
        keep_topology(&store, &topology).await;
        let watch = {
            let mut home = self.home();
            home.store = store;
            home.watch.clone().filter(|_| !gone.is_empty())
        };
        if let Some(watch) = watch {
            watch(&topology);
        }
        gone
    }

    /// What the store that answers now tells of.
    fn events(&self) -> BoxStream<'static, MetadataEvent> {
        self.home().store.watch().boxed()
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the topologies no failover loses: the last one that begins, continues or ends a change of owners, and
/// those before it.
fn safe(past: &[(Duration, Topology)]) -> usize {
    let changes = |index: usize| past[index].1.change.is_some();
    let last = (0..past.len())
        .rev()
        .find(|index| changes(*index) || *index > 0 && changes(index - 1));
    last.map_or(0, |last| last + 1)
}

/// Puts a topology into a store that has none.
async fn keep_topology(store: &Store, topology: &Topology) {
    let stored = store.replace_topology(Epoch(0), topology.clone()).await;
    stored.expect("the store in memory takes a topology");
}

/// A store with the tenants, migrations and checkpoints of another one, and nothing else.
async fn copied(old: &Store, clock: SimClock) -> Store {
    const ANSWERS: &str = "the store in memory answers";
    let store = MemoryMetadata::new(clock);
    for tenant in old.tenants(None, ALL).await.expect(ANSWERS) {
        let (created, version) = (store.create_tenant(tenant.clone()).await, tenant.version);
        created.expect(ANSWERS);
        for version in 1..version {
            let tenant = Tenant {
                version,
                ..tenant.clone()
            };
            store.update_tenant(tenant).await.expect(ANSWERS);
        }
    }
    // Those asked for last come first.
    for migration in old.migrations(ALL).await.expect(ANSWERS).into_iter().rev() {
        let created = store.create_migration(migration.clone()).await;
        created.expect(ANSWERS);
        for version in 1..migration.version {
            let migration = Migration {
                version,
                ..migration.clone()
            };
            store.update_migration(migration).await.expect(ANSWERS);
        }
        let noted = old.migration_checkpoints(&migration.id).await;
        let noted = store.checkpoint_migration(&migration.id, noted.expect(ANSWERS));
        noted.await.expect(ANSWERS);
    }
    store
}

/// The metadata store as one coordinator reaches it.
#[derive(Clone)]
pub struct SimMetadata {
    home: MetadataHome,
    link: StoreLink,
    speaks: Release,
}

impl SimMetadata {
    /// `home` at the end of `link`.
    #[must_use]
    pub fn new(home: MetadataHome, link: StoreLink) -> Self {
        let speaks = Release::Current;
        Self { home, link, speaks }
    }

    /// The same for a coordinator of this release.
    #[must_use]
    pub fn speaking(self, speaks: Release) -> Self {
        Self { speaks, ..self }
    }

    /// A topology as a coordinator of this release reads it.
    fn as_read(&self, stored: Topology) -> Topology {
        match self.speaks {
            Release::BeforeChangesOfOwners => older::read(&stored),
            Release::Current => stored,
        }
    }

    async fn ask<A: Debug + Send + 'static>(
        &self,
        said: impl FnOnce() -> Said,
        mut question: impl FnMut(&Store) -> Option<Result<A, StoreError>> + Send + 'static,
    ) -> Result<A, StoreError> {
        let home = self.home.clone();
        // Whichever store is there when the question arrives.
        self.link.ask(said, move || question(&home.store())).await?
    }
}

impl MetadataStore for SimMetadata {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        let id = id.clone();
        let name = id.to_string();
        self.home.look_up(self.link.from, &id);
        let said = || Said::new("tenant", name);
        self.ask(said, move |store| {
            store.tenant_and_epoch(&id).now_or_never()
        })
        .await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        let said = || Said::new("tenants", "");
        self.ask(said, move |store| {
            store.tenants(after.as_ref(), limit).now_or_never()
        })
        .await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let name = tenant.id.to_string();
        let said = || Said::new("create tenant", name);
        self.ask(said, move |store| {
            store.create_tenant(tenant.clone()).now_or_never()
        })
        .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let name = tenant.id.to_string();
        let said = || Said::new("update tenant", name);
        self.ask(said, move |store| {
            store.update_tenant(tenant.clone()).now_or_never()
        })
        .await
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let id = id.clone();
        let said = || Said::new("api key", id.to_string());
        let asked = id.clone();
        self.ask(said, move |store| store.api_key(&asked).now_or_never())
            .await
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let (tenant, after) = (tenant.clone(), after.cloned());
        let said = || Said::new("api keys", "");
        self.ask(said, move |store| {
            store
                .api_keys(&tenant, after.as_ref(), limit)
                .now_or_never()
        })
        .await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        let name = key.id.to_string();
        let said = || Said::new("create api key", name);
        self.ask(said, move |store| {
            store.create_api_key(key.clone()).now_or_never()
        })
        .await
    }

    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        let (tenant, id) = (tenant.clone(), id.clone());
        let name = id.to_string();
        let said = || Said::new("revoke api key", name);
        self.ask(said, move |store| {
            store
                .revoke_api_key(&tenant, &id, unix_seconds)
                .now_or_never()
        })
        .await
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        let said = || Said::new("topology", "");
        let stored = self.ask(said, |store| store.topology().now_or_never());
        let stored = stored.await?;
        Ok(self.as_read(stored))
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        let epoch = next.epoch;
        let said = || Said::new("replace topology", format!("{expected} by {epoch}"));
        let (home, speaks) = (self.home.clone(), self.speaks);
        let changed = self.ask(said, move |store| {
            let next = match (speaks, store.topology().now_or_never()?) {
                (Release::BeforeChangesOfOwners, Ok(stored)) => older::written(&stored, &next),
                _ => next.clone(),
            };
            let changed = store.replace_topology(expected, next).now_or_never();
            if let Some(Ok(Change::Made(topology))) = &changed {
                home.keep(topology.clone());
            }
            changed
        });
        Ok(match changed.await? {
            Change::Made(topology) => Change::Made(self.as_read(topology)),
            Change::Conflict(stored) => Change::Conflict(stored.map(|it| self.as_read(it))),
        })
    }

    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let id = migration.id.to_string();
        let said = || Said::new("create migration", id);
        self.ask(said, move |store| {
            store.create_migration(migration.clone()).now_or_never()
        })
        .await
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        let id = id.clone();
        let said = || Said::new("migration", "");
        self.ask(said, move |store| store.migration(&id).now_or_never())
            .await
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let said = || Said::new("migrations", "");
        self.ask(said, move |store| store.migrations(limit).now_or_never())
            .await
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let said = || Said::new("open migrations", "");
        self.ask(said, move |store| {
            store.open_migrations(limit).now_or_never()
        })
        .await
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let (id, status) = (migration.id.to_string(), migration.status);
        let said = || Said::new("update migration", format!("{id} {status}"));
        self.ask(said, move |store| {
            store.update_migration(migration.clone()).now_or_never()
        })
        .await
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        let said = || Said::new("checkpoint migration", "");
        self.ask(said, move |store| {
            let checkpoints = checkpoints.clone();
            store.checkpoint_migration(&id, checkpoints).now_or_never()
        })
        .await
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        let id = id.clone();
        let said = || Said::new("migration checkpoints", "");
        self.ask(said, move |store| {
            store.migration_checkpoints(&id).now_or_never()
        })
        .await
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        let said = || Said::new("forget migrations", "");
        self.ask(said, move |store| {
            store.forget_migrations(keep).now_or_never()
        })
        .await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let name = name.to_owned();
        let said = {
            let name = name.clone();
            || Said::new("acquire lease", name)
        };
        let (home, from) = (self.home.clone(), self.link.from);
        self.ask(said, move |store| {
            let outcome = store.acquire_lease(&name, holder, ttl).now_or_never();
            if name == LEADERS_LEASE && matches!(outcome, Some(Ok(LeaseOutcome::Held))) {
                home.home().leader = Some(from);
            }
            outcome
        })
        .await
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        let name = name.to_owned();
        let said = {
            let name = name.clone();
            || Said::new("release lease", name)
        };
        self.ask(said, move |store| {
            store.release_lease(&name, holder).now_or_never()
        })
        .await
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        let link = self.link.clone();
        let events = self.home.events();
        // It ends with the store, when another one takes its place.
        let events = stream::unfold(events, async move |mut events| {
            Some((events.next().await?, events))
        });
        // Events are hints: in bad times they are lost, and now and then in good ones. Some watchers are told of it.
        let told = move |event| {
            ready(match link.tells() {
                true => Some(event),
                false => link.lags().then_some(MetadataEvent::Missed),
            })
        };
        events.filter_map(told).boxed()
    }
}

#[cfg(test)]
#[path = "metadata_test.rs"]
mod tests;
