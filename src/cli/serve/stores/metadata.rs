//! One metadata store or another, behind one type, so that the coordinator is compiled once.

use std::time::Duration;

use futures::{Stream, StreamExt};

use crate::adapters::postgres::PostgresMetadata;
use crate::adapters::sqlite::SqliteStores;
use crate::placement::{ChangeId, Epoch, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, LeaseOutcome, MetadataEvent, MetadataStore, Migration,
    StoreError, Tenant, TenantId,
};

/// The metadata store that the configuration chose. Copies share it.
#[derive(Clone, Debug)]
pub enum ChosenMetadata {
    /// For one machine.
    Sqlite(SqliteStores),
    /// For any number of machines.
    Postgres(PostgresMetadata),
}

/// The same call of whichever it is. Boxed: a store's calls are seldom and their futures are kilobytes, which every
/// request would carry along that might have to make one.
macro_rules! call {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            ChosenMetadata::Sqlite(stores) => Box::pin(stores.metadata.$method($($argument),*)).await,
            ChosenMetadata::Postgres(store) => Box::pin(store.$method($($argument),*)).await,
        }
    };
}

impl ChosenMetadata {
    /// Ends all work on it; every later call fails.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(stores) => stores.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

impl MetadataStore for ChosenMetadata {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        call!(self, tenant_and_epoch(id))
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        call!(self, tenants(after, limit))
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        call!(self, create_tenant(tenant))
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        call!(self, update_tenant(tenant))
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        call!(self, api_key(id))
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        call!(self, api_keys(tenant, after, limit))
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        call!(self, create_api_key(key))
    }

    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        call!(self, revoke_api_key(tenant, id, unix_seconds))
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        call!(self, topology())
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        call!(self, replace_topology(expected, next))
    }

    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        call!(self, create_migration(migration))
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        call!(self, migration(id))
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        call!(self, migrations(limit))
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        call!(self, open_migrations(limit))
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        call!(self, update_migration(migration))
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        call!(self, checkpoint_migration(id, checkpoints))
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        call!(self, migration_checkpoints(id))
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        call!(self, forget_migrations(keep))
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        call!(self, acquire_lease(name, holder, ttl))
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        call!(self, release_lease(name, holder))
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        match self {
            Self::Sqlite(stores) => stores.metadata.watch().boxed(),
            Self::Postgres(store) => store.watch().boxed(),
        }
    }
}
