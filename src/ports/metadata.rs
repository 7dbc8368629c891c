//! The metadata store: tenants and their API keys, topology, migrations and leases, shared by all coordinators.

use std::future::Future;
use std::time::Duration;

use futures::Stream;

use super::{ApiKey, ApiKeyId, Checkpoint, Migration, StoreError, Tenant, TenantId};
use crate::placement::{ChangeId, Epoch, Topology};

/// The outcome of a conditional change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// Made; this is what is stored now.
    Made(T),
    /// Not made, because something else is stored: this (`None`: nothing).
    Conflict(Option<T>),
}

/// What became of asking for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseOutcome {
    /// The holder has it from now on, anew or still.
    Held,
    /// Another holder has it.
    HeldByOther {
        /// That one.
        holder: u64,
        /// How long it still has it, unless it renews or releases it.
        remaining: Duration,
    },
}

/// Something changed. A hint to refresh, never the truth itself: events may be lost, repeated or late, so whoever
/// watches also refreshes now and then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataEvent {
    /// The topology has at least this epoch.
    Topology(Epoch),
    /// This tenant was created or changed.
    Tenant(TenantId),
    /// This API key was created or revoked.
    ApiKey(ApiKeyId),
    /// The watcher lagged and was not told of some changes: whatever it keeps may be out of date.
    Missed,
}

/// Tenants with optimistic locking and their API keys, the topology by compare-and-set on its epoch, and leases.
///
/// A lease saves work that need not be done twice; it keeps nothing safe. A holder that stalls doesn't see its lease
/// end, and a store that fails over to an older copy may forget it. All its times run by the store's own clock.
pub trait MetadataStore: Clone + Send + Sync + 'static {
    /// The tenant, or `None` when there is none of this name; and the epoch of the topology that is stored when it is
    /// read: the tenant was created by then.
    fn tenant_and_epoch(
        &self,
        id: &TenantId,
    ) -> impl Future<Output = Result<Option<(Tenant, Epoch)>, StoreError>> + Send;

    /// The tenant alone.
    fn tenant(
        &self,
        id: &TenantId,
    ) -> impl Future<Output = Result<Option<Tenant>, StoreError>> + Send {
        async move { Ok(self.tenant_and_epoch(id).await?.map(|(tenant, _)| tenant)) }
    }

    /// Up to `limit` tenants in the order of their names, starting after `after`.
    fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Tenant>, StoreError>> + Send;

    /// Adds a tenant that must not exist yet. `tenant.version` is stored as 1.
    fn create_tenant(
        &self,
        tenant: Tenant,
    ) -> impl Future<Output = Result<Change<Tenant>, StoreError>> + Send;

    /// Replaces a tenant whose stored version is `tenant.version`; the stored version grows by one.
    fn update_tenant(
        &self,
        tenant: Tenant,
    ) -> impl Future<Output = Result<Change<Tenant>, StoreError>> + Send;

    /// The API key of this id, also when it was revoked; or `None`.
    fn api_key(
        &self,
        id: &ApiKeyId,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>> + Send;

    /// Up to `limit` API keys of a tenant, revoked ones included, in the order of their ids, starting after `after`.
    fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ApiKey>, StoreError>> + Send;

    /// Adds an API key whose id must not be in use yet. Whether there is such a tenant is not looked at.
    fn create_api_key(
        &self,
        key: ApiKey,
    ) -> impl Future<Output = Result<Change<ApiKey>, StoreError>> + Send;

    /// Revokes an API key of this tenant, at this time unless it was revoked before; `None` when the tenant has none of
    /// this id. A revoked key stays so.
    fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>> + Send;

    /// The current topology. A new store has epoch 0 and no nodes.
    fn topology(&self) -> impl Future<Output = Result<Topology, StoreError>> + Send;

    /// Stores `next` if the stored epoch is `expected`. `next.epoch` must be greater than `expected`.
    fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> impl Future<Output = Result<Change<Topology>, StoreError>> + Send;

    /// Adds a migration at the end of the queue; its id must not be in use yet. `migration.version` is stored as 1.
    fn create_migration(
        &self,
        migration: Migration,
    ) -> impl Future<Output = Result<Change<Migration>, StoreError>> + Send;

    /// The migration of this id, whatever became of it; or `None`.
    fn migration(
        &self,
        id: &ChangeId,
    ) -> impl Future<Output = Result<Option<Migration>, StoreError>> + Send;

    /// Up to `limit` migrations, whatever became of them, those asked for last first.
    fn migrations(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Migration>, StoreError>> + Send;

    /// Up to `limit` migrations that are pending or in progress, in the order in which they were asked for.
    fn open_migrations(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Migration>, StoreError>> + Send;

    /// Replaces a migration whose stored version is `migration.version`; the stored version grows by one. Its place in
    /// the queue stays.
    fn update_migration(
        &self,
        migration: Migration,
    ) -> impl Future<Output = Result<Change<Migration>, StoreError>> + Send;

    /// Notes partitions of a migration that have been moved. One that was noted before stays as it was.
    fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The partitions of a migration that were noted, in order.
    fn migration_checkpoints(
        &self,
        id: &ChangeId,
    ) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send;

    /// Removes the migrations that are over, but for the `keep` of them that were asked for last, and what was noted of
    /// partitions of all that are over.
    fn forget_migrations(&self, keep: usize)
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the lease `name` to `holder` for `ttl` from now, if nobody has it or `holder` has it already.
    fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> impl Future<Output = Result<LeaseOutcome, StoreError>> + Send;

    /// Ends the lease `name` if `holder` has it.
    fn release_lease(
        &self,
        name: &str,
        holder: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Events from now on. The stream ends only with the store. A watcher that takes them too slowly is told
    /// [`MetadataEvent::Missed`] in the place of those that found no room.
    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static;
}
