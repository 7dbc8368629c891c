//! Tenants, API keys, topology, migrations and leases in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::broadcast;

use crate::adapters::watched::{EVENTS_MAX, watched};
use crate::placement::{ChangeId, DEFAULT_PARTITIONS, Epoch, PartitionId, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, Clock, Instant, LeaseOutcome, MetadataEvent,
    MetadataStore, Migration, StoreError, Tenant, TenantId,
};

/// A metadata store in memory. Copies share one store.
#[derive(Clone, Debug)]
pub struct MemoryMetadata<C> {
    state: Arc<Mutex<State>>,
    clock: C,
    events: broadcast::Sender<MetadataEvent>,
}

#[derive(Debug)]
struct State {
    tenants: BTreeMap<TenantId, Tenant>,
    api_keys: BTreeMap<ApiKeyId, ApiKey>,
    topology: Topology,
    leases: BTreeMap<String, Lease>,
    /// In the order in which they were asked for.
    migrations: Vec<Migration>,
    checkpoints: BTreeMap<ChangeId, BTreeMap<PartitionId, Checkpoint>>,
}

impl State {
    fn migration(&self, id: &ChangeId) -> Option<&Migration> {
        self.migrations.iter().find(|migration| migration.id == *id)
    }
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    holder: u64,
    ends: Instant,
}

impl<C: Clock> MemoryMetadata<C> {
    /// An empty store: no tenants, epoch 0, no nodes. Its leases run by `clock`.
    #[must_use]
    pub fn new(clock: C) -> Self {
        let topology = Topology::empty(DEFAULT_PARTITIONS);
        let state = State {
            tenants: BTreeMap::new(),
            api_keys: BTreeMap::new(),
            topology,
            leases: BTreeMap::new(),
            migrations: Vec::new(),
            checkpoints: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            clock,
            events: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    /// A store with the tenant that every new installation has.
    #[must_use]
    pub fn with_default_tenant(clock: C) -> Self {
        let store = Self::new(clock);
        let tenant = Tenant::default_at(0);
        store.state().tenants.insert(tenant.id.clone(), tenant);
        store
    }

    fn put(&self, state: &mut State, tenant: Tenant) -> Change<Tenant> {
        state.tenants.insert(tenant.id.clone(), tenant.clone());
        self.tell(MetadataEvent::Tenant(tenant.id.clone()));
        Change::Made(tenant)
    }

    /// Has this topology again, and nothing that came after it.
    #[cfg(test)]
    pub(crate) fn set_back(&self, topology: Topology) {
        self.state().topology = topology;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: MetadataEvent) {
        let _ = self.events.send(event); // fails only when nobody watches
    }
}

impl<C: Clock> MetadataStore for MemoryMetadata<C> {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        let state = self.state();
        let tenant = state.tenants.get(id).cloned();
        Ok(tenant.map(|tenant| (tenant, state.topology.epoch)))
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        Ok(state
            .tenants
            .range::<TenantId, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, t)| t.clone())
            .collect())
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let mut state = self.state();
        if let Some(stored) = state.tenants.get(&tenant.id) {
            return Ok(Change::Conflict(Some(stored.clone())));
        }
        Ok(self.put(
            &mut state,
            Tenant {
                version: 1,
                ..tenant
            },
        ))
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let mut state = self.state();
        match state.tenants.get(&tenant.id) {
            Some(stored) if stored.version == tenant.version => {
                let version = tenant.version + 1;
                Ok(self.put(&mut state, Tenant { version, ..tenant }))
            }
            stored => Ok(Change::Conflict(stored.cloned())),
        }
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.state().api_keys.get(id).cloned())
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        Ok(state
            .api_keys
            .range::<ApiKeyId, _>((from, Bound::Unbounded))
            .map(|(_, key)| key)
            .filter(|key| key.tenant == *tenant)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        let mut state = self.state();
        if let Some(stored) = state.api_keys.get(&key.id) {
            return Ok(Change::Conflict(Some(stored.clone())));
        }
        state.api_keys.insert(key.id.clone(), key.clone());
        self.tell(MetadataEvent::ApiKey(key.id.clone()));
        Ok(Change::Made(key))
    }

    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        let mut state = self.state();
        let Some(key) = state
            .api_keys
            .get_mut(id)
            .filter(|key| key.tenant == *tenant)
        else {
            return Ok(None);
        };
        if key.revoked_at.is_none() {
            key.revoked_at = Some(unix_seconds);
            self.tell(MetadataEvent::ApiKey(id.clone()));
        }
        Ok(Some(key.clone()))
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        Ok(self.state().topology.clone())
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        let mut state = self.state();
        if state.topology.epoch != expected || next.epoch <= expected {
            return Ok(Change::Conflict(Some(state.topology.clone())));
        }
        state.topology = next.clone();
        self.tell(MetadataEvent::Topology(next.epoch));
        Ok(Change::Made(next))
    }

    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let mut state = self.state();
        if let Some(stored) = state.migration(&migration.id) {
            return Ok(Change::Conflict(Some(stored.clone())));
        }
        let made = Migration {
            version: 1,
            ..migration
        };
        state.migrations.push(made.clone());
        Ok(Change::Made(made))
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        Ok(self.state().migration(id).cloned())
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let state = self.state();
        let newest_first = state.migrations.iter().rev();
        Ok(newest_first.take(limit).cloned().collect())
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let state = self.state();
        let open = state.migrations.iter().filter(|m| m.status.is_open());
        Ok(open.take(limit).cloned().collect())
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let mut state = self.state();
        let stored = state.migrations.iter_mut().find(|m| m.id == migration.id);
        match stored {
            Some(stored) if stored.version == migration.version => {
                let version = migration.version + 1;
                *stored = Migration {
                    version,
                    ..migration
                };
                Ok(Change::Made(stored.clone()))
            }
            stored => Ok(Change::Conflict(stored.cloned())),
        }
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        let of_migration = state.checkpoints.entry(id.clone()).or_default();
        for checkpoint in checkpoints {
            of_migration
                .entry(checkpoint.partition)
                .or_insert(checkpoint);
        }
        Ok(())
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        let state = self.state();
        let of_migration = state.checkpoints.get(id);
        Ok(of_migration.map_or_else(Vec::new, |all| all.values().copied().collect()))
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        let mut state = self.state();
        let State {
            migrations,
            checkpoints,
            ..
        } = &mut *state;
        let over = migrations.iter().filter(|m| !m.status.is_open()).count();
        let mut surplus = over.saturating_sub(keep);
        migrations.retain(|migration| {
            let goes = !migration.status.is_open() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        let open = migrations.iter().filter(|m| m.status.is_open());
        let open: BTreeSet<&ChangeId> = open.map(|migration| &migration.id).collect();
        checkpoints.retain(|id, _| open.contains(id));
        Ok(())
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(lease) = state.leases.get(name)
            && lease.holder != holder
            && now < lease.ends
        {
            return Ok(LeaseOutcome::HeldByOther {
                holder: lease.holder,
                remaining: lease.ends.since(now),
            });
        }
        let ends = now + ttl;
        state.leases.insert(name.to_owned(), Lease { holder, ends });
        Ok(LeaseOutcome::Held)
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        if state
            .leases
            .get(name)
            .is_some_and(|lease| lease.holder == holder)
        {
            state.leases.remove(name);
        }
        Ok(())
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        watched(&self.events)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::adapters::tokio::TokioClock;
    use crate::ports::conformance;

    #[tokio::test]
    async fn conforms() {
        let clock = TokioClock::new();
        conformance::metadata_store(async || MemoryMetadata::new(clock), &clock).await;
    }

    #[tokio::test]
    async fn starts_with_the_default_tenant_when_asked_to() {
        conformance::default_tenant(&MemoryMetadata::with_default_tenant(TokioClock::new())).await;
    }

    #[tokio::test]
    async fn a_watch_ends_with_the_store() {
        let store = MemoryMetadata::new(TokioClock::new());
        let mut events = store.watch();
        drop(store);
        assert_eq!(events.next().await, None);
    }
}
