//! Tenants, API keys, topology, migrations and leases.
//!
//! Invariants: the row of `topology` and the rows of `storage_nodes` change together, by one transaction. A tenant
//! changes in the transaction that counted the change, so changes have one order and are told in it.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::PostgresSettings;
use super::api_keys;
use super::database::Database;
use super::error::STORE;
use super::leases;
use super::owner_changes;
use super::watch::{Notice, Watch};
use crate::adapters::sql_rows as rows;
use crate::placement::{ChangeId, Epoch, Node, Topology};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Checkpoint, LeaseOutcome, MetadataEvent, MetadataStore, Migration,
    StoreError, Tenant, TenantId,
};

/// Whoever counts a change keeps others from doing so until it is committed.
const COUNT: &str = "UPDATE tenant_changes SET newest = newest + 1 RETURNING newest";

/// Both take a tenant's fields in their order and the change's number, and return the row, if they wrote one.
const CREATE: &str = "
    INSERT INTO tenants (id, replication_factor, conflict_policy, default_consistency, created_at, updated_at, version,
                         changed, siblings_warn, siblings_max)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const UPDATE: &str = "
    UPDATE tenants
    SET replication_factor = $2, conflict_policy = $3, default_consistency = $4, created_at = $5, updated_at = $6,
        version = version + 1, changed = $8, siblings_warn = $9, siblings_max = $10
    WHERE id = $1 AND version = $7
    RETURNING *";

const REPLACE_EPOCH: &str = "
    UPDATE topology SET epoch = $1, partitions = $2, factors_since = $4, change = $5
    WHERE epoch = $3 AND epoch < $1";
/// What a newer version knows of nodes in columns of its own is kept.
const DROP_OTHERS: &str = "DELETE FROM storage_nodes WHERE id <> ALL($1::TEXT[])";
const REPLACE_NODES: &str = "
    INSERT INTO storage_nodes (id, host, port, virtual_nodes, status, zone, seat)
    SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::TEXT[], $6::TEXT[], $7::TEXT[])
    ON CONFLICT (id) DO UPDATE
    SET host = excluded.host, port = excluded.port, virtual_nodes = excluded.virtual_nodes, status = excluded.status,
        zone = excluded.zone, seat = excluded.seat";

/// The metadata store in PostgreSQL. Copies share its connections.
#[derive(Clone, Debug)]
pub struct PostgresMetadata {
    database: Arc<Database>,
    watch: Arc<Watch>,
}

impl PostgresMetadata {
    /// Connects, and brings the tables up to date. `url` is as libpq has it, `sslmode` and `sslrootcert` included.
    ///
    /// # Errors
    /// When the database can't be used, or was migrated by a newer version of this program.
    pub async fn open(url: &str, settings: PostgresSettings) -> Result<Self, StoreError> {
        let database = Arc::new(Database::open(url, settings).await?);
        let watch = Arc::new(Watch::start(&database).await?);
        Ok(Self { database, watch })
    }

    /// Ends all work and closes the connections; every later call fails.
    pub async fn close(&self) {
        self.watch.stop();
        self.database.close().await;
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    async fn change_tenant(
        &self,
        statement: &'static str,
        tenant: Tenant,
    ) -> Result<Change<Tenant>, StoreError> {
        let tells = self.watch.is_told();
        let tenant = Arc::new(tenant);
        let change = self.database.write(|connection| {
            let tenant = Arc::clone(&tenant);
            Box::pin(async move { change_tenant(connection, statement, &tenant, tells).await })
        });
        let change = change.await?;
        if let Change::Made(made) = &change {
            self.watch.tell(MetadataEvent::Tenant(made.id.clone()));
        }
        Ok(change)
    }
}

impl MetadataStore for PostgresMetadata {
    async fn tenant_and_epoch(&self, id: &TenantId) -> Result<Option<(Tenant, Epoch)>, StoreError> {
        let work = || async {
            let query = sqlx::query(rows::TENANT_AND_EPOCH).bind(id.as_str());
            let row = query.fetch_optional(self.database.pool()).await?;
            row.as_ref().map(rows::tenant_and_epoch).transpose()
        };
        self.database.run(work).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let work = || async {
            let query = sqlx::query("SELECT * FROM tenants WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after.map_or("", TenantId::as_str)) // no name is empty
                .bind(i64::try_from(limit).unwrap_or(i64::MAX));
            let rows = query.fetch_all(self.database.pool()).await?;
            rows.iter().map(rows::tenant).collect()
        };
        self.database.run(work).await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let version = 1;
        self.change_tenant(CREATE, Tenant { version, ..tenant })
            .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.change_tenant(UPDATE, tenant).await
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let found = || api_keys::find(self.database.pool(), id);
        self.database.run(found).await
    }

    async fn api_keys(
        &self,
        tenant: &TenantId,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let listed = || api_keys::list(self.database.pool(), tenant, after, limit);
        self.database.run(listed).await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<Change<ApiKey>, StoreError> {
        let tells = self.watch.is_told();
        let key = Arc::new(key);
        let change = self.database.write(|connection| {
            let key = Arc::clone(&key);
            Box::pin(async move { api_keys::create(connection, &key, tells).await })
        });
        let change = change.await?;
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
        let tells = self.watch.is_told();
        let revocation = self.database.write(|connection| {
            let (tenant, id) = (tenant.clone(), id.clone());
            Box::pin(async move {
                api_keys::revoke(connection, &tenant, &id, unix_seconds, tells).await
            })
        });
        let (key, changed) = revocation.await?;
        if changed {
            self.watch.tell(MetadataEvent::ApiKey(id.clone()));
        }
        Ok(key)
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        let work = || async {
            let query = sqlx::query(rows::TOPOLOGY);
            rows::topology(&query.fetch_all(self.database.pool()).await?)
        };
        self.database.run(work).await
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        // What could not be read again is not written.
        if let Err(error) = next.validate() {
            return Err(StoreError::Unreadable {
                store: STORE,
                cause: format!("refused a topology: {error}"),
            });
        }
        let tells = self.watch.is_told();
        let next = Arc::new(next);
        let change = self.database.write(|connection| {
            let next = Arc::clone(&next);
            Box::pin(async move { replace_topology(connection, expected, &next, tells).await })
        });
        let change = change.await?;
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
        let new = Arc::new(Migration {
            version,
            ..migration
        });
        let created = self.database.write(|connection| {
            let new = Arc::clone(&new);
            Box::pin(async move { owner_changes::create(connection, &new).await })
        });
        created.await
    }

    async fn migration(&self, id: &ChangeId) -> Result<Option<Migration>, StoreError> {
        let found = || owner_changes::find(self.database.pool(), id);
        self.database.run(found).await
    }

    async fn migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let listed = || owner_changes::newest(self.database.pool(), limit);
        self.database.run(listed).await
    }

    async fn open_migrations(&self, limit: usize) -> Result<Vec<Migration>, StoreError> {
        let listed = || owner_changes::open(self.database.pool(), limit);
        self.database.run(listed).await
    }

    async fn update_migration(
        &self,
        migration: Migration,
    ) -> Result<Change<Migration>, StoreError> {
        let migration = Arc::new(migration);
        let updated = self.database.write(|connection| {
            let migration = Arc::clone(&migration);
            Box::pin(async move { owner_changes::update(connection, &migration).await })
        });
        updated.await
    }

    async fn checkpoint_migration(
        &self,
        id: &ChangeId,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(), StoreError> {
        let noted = || owner_changes::note(self.database.pool(), id, &checkpoints);
        self.database.run(noted).await
    }

    async fn migration_checkpoints(&self, id: &ChangeId) -> Result<Vec<Checkpoint>, StoreError> {
        let noted = || owner_changes::noted(self.database.pool(), id);
        self.database.run(noted).await
    }

    async fn forget_migrations(&self, keep: usize) -> Result<(), StoreError> {
        let forgotten = self
            .database
            .write(|connection| Box::pin(owner_changes::forget(connection, keep)));
        forgotten.await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: u64,
        ttl: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let work = || async {
            let mut connection = self.database.pool().acquire().await?;
            leases::acquire(&mut connection, name, holder, ttl).await
        };
        self.database.run(work).await
    }

    async fn release_lease(&self, name: &str, holder: u64) -> Result<(), StoreError> {
        let work = || async {
            let mut connection = self.database.pool().acquire().await?;
            leases::release(&mut connection, name, holder).await
        };
        self.database.run(work).await
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.watch.subscribe()
    }
}

async fn change_tenant(
    connection: &mut PgConnection,
    statement: &'static str,
    change: &Tenant,
    tells: bool,
) -> sqlx::Result<Change<Tenant>> {
    let number: i64 = sqlx::query(COUNT)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let written = sqlx::query(statement)
        .bind(change.id.as_str())
        .bind(i64::from(change.replication_factor))
        .bind(change.conflict_policy.as_str())
        .bind(change.default_consistency.map(|level| level.as_str()))
        .bind(change.created_at)
        .bind(change.updated_at)
        .bind(i64::try_from(change.version).unwrap_or(0)) // which no stored version is
        .bind(number)
        .bind(i64::from(change.siblings.warn))
        .bind(i64::from(change.siblings.max))
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(made) = tenant(written)? {
        if tells {
            Notice::Tenant(number, made.id.clone())
                .post(connection)
                .await?;
        }
        return Ok(Change::Made(made));
    }
    let stored = sqlx::query("SELECT * FROM tenants WHERE id = $1").bind(change.id.as_str());
    Ok(Change::Conflict(tenant(
        stored.fetch_optional(connection).await?,
    )?))
}

fn tenant(row: Option<PgRow>) -> sqlx::Result<Option<Tenant>> {
    row.as_ref().map(rows::tenant).transpose()
}

async fn replace_topology(
    connection: &mut PgConnection,
    expected: Epoch,
    next: &Topology,
    tells: bool,
) -> sqlx::Result<Change<Topology>> {
    if !replace_epoch(connection, expected, next).await? {
        let stored = sqlx::query(rows::TOPOLOGY).fetch_all(connection).await?;
        return Ok(Change::Conflict(Some(rows::topology(&stored)?)));
    }
    replace_nodes(connection, next).await?;
    if tells {
        Notice::Topology(next.epoch).post(connection).await?;
    }
    Ok(Change::Made(next.clone()))
}

/// Whether `expected` was stored and `next` is greater. If so, nobody else replaces it before the transaction ends.
async fn replace_epoch(
    connection: &mut PgConnection,
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
        .bind(i64::from(next.partitions))
        .bind(expected)
        .bind(factors_since)
        .bind(next.change.as_deref().map(rows::json).transpose()?);
    Ok(update.execute(connection).await?.rows_affected() == 1)
}

async fn replace_nodes(connection: &mut PgConnection, next: &Topology) -> sqlx::Result<()> {
    let texts = |text: fn(&Node) -> &str| -> Vec<String> {
        next.nodes
            .iter()
            .map(|node| text(node).to_owned())
            .collect()
    };
    sqlx::query(DROP_OTHERS)
        .bind(texts(|node| node.id.as_str()))
        .execute(&mut *connection)
        .await?;
    let optional_texts = |text: fn(&Node) -> &Option<String>| -> Vec<Option<String>> {
        next.nodes.iter().map(|node| text(node).clone()).collect()
    };
    let numbers =
        |number: fn(&Node) -> i64| -> Vec<i64> { next.nodes.iter().map(number).collect() };
    sqlx::query(REPLACE_NODES)
        .bind(texts(|node| node.id.as_str()))
        .bind(texts(|node| &node.host))
        .bind(numbers(|node| node.port.into()))
        .bind(numbers(|node| node.virtual_nodes.into()))
        .bind(texts(|node| node.status.as_str()))
        .bind(optional_texts(|node| &node.zone))
        .bind(optional_texts(|node| &node.seat))
        .execute(connection)
        .await?;
    Ok(())
}
