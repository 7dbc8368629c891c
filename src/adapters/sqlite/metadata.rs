//! Tenants, API keys, topology, migrations and leases.
//!
//! Invariant: the row of `topology` and the rows of `storage_nodes` change together, by one transaction.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::api_keys;
use super::database::Database;
use super::leases;
use super::owner_changes;
use super::watch::Watch;
use crate::adapters::sql_rows as rows;
use crate::placement::{ChangeId, Epoch, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, LeaseOutcome, MetadataEvent, MetadataStore, Migration,
    StoreError, Tenant, TenantId,
};

const STORE: &str = "metadata store";

/// Both take a tenant's fields in their order and return the row, if they wrote one.
const CREATE: &str = "
    INSERT INTO tenants (id, replication_factor, conflict_policy, default_consistency, created_at, updated_at, version,
                         changed, siblings_warn, siblings_max)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT coalesce(max(changed), 0) + 1 FROM tenants), ?8, ?9)
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const UPDATE: &str = "
    UPDATE tenants
    SET replication_factor = ?2, conflict_policy = ?3, default_consistency = ?4, created_at = ?5, updated_at = ?6,
        version = version + 1, changed = (SELECT max(changed) + 1 FROM tenants), siblings_warn = ?8, siblings_max = ?9
    WHERE id = ?1 AND version = ?7
    RETURNING *";

/// What a newer version knows of nodes in columns of its own is kept.
const DROP_OTHERS: &str =
    "DELETE FROM storage_nodes WHERE id NOT IN (SELECT value FROM json_each(?))";
const REPLACE_NODE: &str = "
    INSERT INTO storage_nodes (id, host, port, virtual_nodes, status, zone, seat)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE
    SET host = excluded.host, port = excluded.port, virtual_nodes = excluded.virtual_nodes, status = excluded.status,
        zone = excluded.zone, seat = excluded.seat";

const REPLACE_EPOCH: &str = "
    UPDATE topology SET epoch = ?1, partitions = ?2, factors_since = ?4, change = ?5
    WHERE epoch = ?3 AND epoch < ?1";

/// The metadata store in a SQLite file. Copies share its connections.
#[derive(Clone, Debug)]
pub struct SqliteMetadata {
    database: Arc<Database>,
    watch: Arc<Watch>,
}

impl SqliteMetadata {
    pub(super) async fn new(database: Arc<Database>) -> Result<Self, StoreError> {
        let watch = Arc::new(Watch::start(&database).await?);
        Ok(Self { database, watch })
    }

    async fn change_tenant(
        &self,
        statement: &'static str,
        tenant: Tenant,
    ) -> Result<Change<Tenant>, StoreError> {
        let change = self
            .database
            .write(STORE, move |connection| {
                Box::pin(change_tenant(connection, statement, tenant))
            })
            .await?;
        if let Change::Made(made) = &change {
            self.watch.tell(MetadataEvent::Tenant(made.id.clone()));
        }
        Ok(change)
    }

    async fn change_migration(
        &self,
        statement: &'static str,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.database
            .write(STORE, move |connection| {
                Box::pin(owner_changes::change(connection, statement, migration))
            })
            .await
    }
}

impl MetadataStore for SqliteMetadata {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        let query = sqlx::query(rows::TENANT_AND_EPOCH).bind(id.as_str());
        let work = async {
            let row = query.fetch_optional(self.database.readers()).await?;
            row.as_ref().map(rows::tenant_and_epoch).transpose()
        };
        self.database.read(STORE, work).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let query = sqlx::query("SELECT * FROM tenants WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.map_or("", TenantId::as_str)) // no name is empty
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let work = async {
            let rows = query.fetch_all(self.database.readers()).await?;
            rows.iter().map(rows::tenant).collect()
        };
        self.database.read(STORE, work).await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.change_tenant(
            CREATE,
            Tenant {
                version: 1,
                ..tenant
            },
        )
        .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.change_tenant(UPDATE, tenant).await
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let found = api_keys::find(self.database.readers(), id);
        self.database.read(STORE, found).await
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let listed = api_keys::list(self.database.readers(), tenant, after, limit);
        self.database.read(STORE, listed).await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        let change = self
            .database
            .write(STORE, move |connection| {
                Box::pin(api_keys::create(connection, key))
            })
            .await?;
        if let Change::Made(made) = &change {
            self.watch.tell(MetadataEvent::ApiKey(made.id.clone()));
        }
        Ok(change)
    }

    async fn revoke_api_key(
        &self,
        tenant: &TenantId,
        id: &ApiKeyId,
        unix_seconds: i64,
    ) -> Result<Option<ApiKey>, StoreError> {
        let (tenant, key_id) = (tenant.clone(), id.clone());
        let (key, changed) = self
            .database
            .write(STORE, move |connection| {
                Box::pin(api_keys::revoke(connection, tenant, key_id, unix_seconds))
            })
            .await?;
        if changed {
            self.watch.tell(MetadataEvent::ApiKey(id.clone()));
        }
        Ok(key)
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        let query = sqlx::query(rows::TOPOLOGY);
        let work = async { rows::topology(&query.fetch_all(self.database.readers()).await?) };
        self.database.read(STORE, work).await
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        // What could not be read again is not written.
        if let Err(error) = next.validate() {
            let cause = format!("refused a topology: {error}");
            return Err(StoreError::Unreadable {
                store: STORE,
                cause,
            });
        }
        let change = self
            .database
            .write(STORE, move |connection| {
                Box::pin(replace_topology(connection, expected, next))
            })
            .await?;
        if let Change::Made(made) = &change {
            self.watch.tell(MetadataEvent::Topology(made.epoch));
        }
        Ok(change)
    }

    async fn create_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let version = 1;
        let new = Migration {
            version,
            ..migration
        };
        self.change_migration(owner_changes::CREATE, new).await
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        let found = owner_changes::find(self.database.readers(), id);
        self.database.read(STORE, found).await
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let listed = owner_changes::newest(self.database.readers(), limit);
        self.database.read(STORE, listed).await
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let listed = owner_changes::open(self.database.readers(), limit);
        self.database.read(STORE, listed).await
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        self.change_migration(owner_changes::UPDATE, migration)
            .await
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.database
            .write(STORE, move |connection| {
                Box::pin(owner_changes::note(connection, id, checkpoints))
            })
            .await
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        let noted = owner_changes::noted(self.database.readers(), id);
        self.database.read(STORE, noted).await
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        self.database
            .write(STORE, move |connection| {
                Box::pin(owner_changes::forget(connection, keep))
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
        self.database
            .write(STORE, move |connection| {
                Box::pin(leases::acquire(connection, name, holder, ttl))
            })
            .await
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.database
            .write(STORE, move |connection| {
                Box::pin(leases::release(connection, name, holder))
            })
            .await
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.watch.subscribe()
    }
}

async fn change_tenant(
    connection: &mut SqliteConnection,
    statement: &'static str,
    change: Tenant,
) -> sqlx::Result<Change<Tenant>> {
    let written = sqlx::query(statement)
        .bind(change.id.as_str())
        .bind(change.replication_factor)
        .bind(change.conflict_policy.as_str())
        .bind(change.default_consistency.map(|level| level.as_str()))
        .bind(change.created_at)
        .bind(change.updated_at)
        .bind(i64::try_from(change.version).unwrap_or(0)) // which no stored version is
        .bind(change.siblings.warn)
        .bind(change.siblings.max)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(made) = tenant(written)? {
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query("SELECT * FROM tenants WHERE id = ?").bind(change.id.as_str());
    Ok(Change::Conflict(tenant(
        stored.fetch_optional(connection).await?,
    )?))
}

fn tenant(row: Option<SqliteRow>) -> sqlx::Result<Option<Tenant>> {
    row.as_ref().map(rows::tenant).transpose()
}

async fn replace_topology(
    connection: &mut SqliteConnection,
    expected: Epoch,
    next: Topology,
) -> sqlx::Result<Change<Topology>> {
    if !replace_epoch(connection, expected, &next).await? {
        let stored = sqlx::query(rows::TOPOLOGY).fetch_all(connection).await?;
        return Ok(Change::Conflict(Some(rows::topology(&stored)?)));
    }
    replace_nodes(connection, &next).await?;
    Ok(Change::Made(next))
}

/// Whether `expected` was stored and `next` is greater.
async fn replace_epoch(
    connection: &mut SqliteConnection,
    expected: Epoch,
    next: &Topology,
) -> sqlx::Result<bool> {
    let [Ok(expected), Ok(epoch), Ok(factors_since)] =
        [expected, next.epoch, next.factors_since].map(|epoch| i64::try_from(epoch.0))
    else {
        return Ok(false); // nothing of the kind is stored, or can be
    };
    let update = sqlx::query(REPLACE_EPOCH)
        .bind(epoch)
        .bind(next.partitions)
        .bind(expected)
        .bind(factors_since)
        .bind(next.change.as_deref().map(rows::json).transpose()?);
    Ok(update.execute(connection).await?.rows_affected() == 1)
}

async fn replace_nodes(connection: &mut SqliteConnection, next: &Topology) -> sqlx::Result<()> {
    let ids: Vec<&str> = next.nodes.iter().map(|node| node.id.as_str()).collect();
    sqlx::query(DROP_OTHERS)
        .bind(rows::json(&ids)?)
        .execute(&mut *connection)
        .await?;
    for node in &next.nodes {
        sqlx::query(REPLACE_NODE)
            .bind(node.id.as_str())
            .bind(&node.host)
            .bind(node.port)
            .bind(node.virtual_nodes)
            .bind(node.status.as_str())
            .bind(&node.zone)
            .bind(&node.seat)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
