//! Tenants and topology.
//!
//! Invariant: the row of `topology` and the rows of `storage_nodes` change together, by one transaction.

use std::sync::Arc;

use futures::Stream;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::database::Database;
use super::rows;
use super::watch::Watch;
use crate::placement::{Epoch, Topology};
use crate::ports::{Change, MetadataEvent, MetadataStore, StoreError, Tenant, TenantId};

const STORE: &str = "metadata store";

const TOPOLOGY: &str = "SELECT * FROM topology LEFT JOIN storage_nodes ON TRUE";

/// The metadata store in a SQLite file. Copies share its connections.
#[derive(Clone, Debug)]
pub struct SqliteMetadata {
    database: Arc<Database>,
    watch: Arc<Watch>,
}

impl SqliteMetadata {
    pub(super) async fn new(database: Arc<Database>) -> Result<Self, StoreError> {
        let watch = database.call(STORE, Watch::start(&database)).await?;
        Ok(Self {
            database,
            watch: Arc::new(watch),
        })
    }

    async fn make<T>(
        &self,
        change: impl Future<Output = sqlx::Result<Change<T>>>,
        event: impl FnOnce(&T) -> MetadataEvent,
    ) -> Result<Change<T>, StoreError> {
        let change = self.database.call(STORE, change).await?;
        if let Change::Made(made) = &change {
            self.watch.tell(event(made));
        }
        Ok(change)
    }
}

impl MetadataStore for SqliteMetadata {
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let query = sqlx::query("SELECT * FROM tenants WHERE id = ?").bind(id.as_str());
        let work = async { tenant(query.fetch_optional(self.database.readers()).await?) };
        self.database.call(STORE, work).await
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
            query
                .fetch_all(self.database.readers())
                .await?
                .iter()
                .map(rows::tenant)
                .collect()
        };
        self.database.call(STORE, work).await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let change = self.change_tenant(
            Tenant {
                version: 1,
                ..tenant
            },
            CREATE,
        );
        self.make(change, |made| MetadataEvent::Tenant(made.id.clone()))
            .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let change = self.change_tenant(tenant, UPDATE);
        self.make(change, |made| MetadataEvent::Tenant(made.id.clone()))
            .await
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        let query = sqlx::query(TOPOLOGY); // one statement, so one snapshot
        let work = async { rows::topology(&query.fetch_all(self.database.readers()).await?) };
        self.database.call(STORE, work).await
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
        let change = async {
            let mut transaction = self.database.write().await?;
            if !replace_epoch(&mut transaction, expected, &next).await? {
                let stored = sqlx::query(TOPOLOGY).fetch_all(&mut *transaction).await?;
                return Ok(Change::Conflict(Some(rows::topology(&stored)?)));
            }
            replace_nodes(&mut transaction, &next).await?;
            transaction.commit().await?;
            Ok(Change::Made(next))
        };
        self.make(change, |made| MetadataEvent::Topology(made.epoch))
            .await
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.watch.subscribe()
    }
}

/// Both take the tenant's fields in their order and return the row, if they wrote one.
const CREATE: &str = "
    INSERT INTO tenants
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT coalesce(max(changed), 0) + 1 FROM tenants))
    ON CONFLICT (id) DO NOTHING
    RETURNING *";
const UPDATE: &str = "
    UPDATE tenants
    SET replication_factor = ?2, conflict_policy = ?3, default_consistency = ?4, created_at = ?5, updated_at = ?6,
        version = version + 1, changed = (SELECT max(changed) + 1 FROM tenants)
    WHERE id = ?1 AND version = ?7
    RETURNING *";

impl SqliteMetadata {
    async fn change_tenant(
        &self,
        change: Tenant,
        statement: &'static str,
    ) -> sqlx::Result<Change<Tenant>> {
        let mut transaction = self.database.write().await?;
        let written = sqlx::query(statement)
            .bind(change.id.as_str())
            .bind(change.replication_factor)
            .bind(change.conflict_policy.as_str())
            .bind(change.default_consistency.map(|level| level.as_str()))
            .bind(change.created_at)
            .bind(change.updated_at)
            .bind(i64::try_from(change.version).unwrap_or(0)) // which no stored version is
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(made) = tenant(written)? {
            transaction.commit().await?;
            return Ok(Change::Made(made));
        }
        let query = sqlx::query("SELECT * FROM tenants WHERE id = ?").bind(change.id.as_str());
        Ok(Change::Conflict(tenant(
            query.fetch_optional(&mut *transaction).await?,
        )?))
    }
}

fn tenant(row: Option<SqliteRow>) -> sqlx::Result<Option<Tenant>> {
    row.as_ref().map(rows::tenant).transpose()
}

/// Whether `expected` was stored and `next` is greater.
async fn replace_epoch(
    transaction: &mut Transaction<'static, Sqlite>,
    expected: Epoch,
    next: &Topology,
) -> sqlx::Result<bool> {
    let (Ok(expected), Ok(epoch)) = (i64::try_from(expected.0), i64::try_from(next.epoch.0)) else {
        return Ok(false); // nothing of the kind is stored, or can be
    };
    let updated = sqlx::query(
        "UPDATE topology SET epoch = ?1, partitions = ?2 WHERE epoch = ?3 AND epoch < ?1",
    )
    .bind(epoch)
    .bind(next.partitions)
    .bind(expected)
    .execute(&mut **transaction)
    .await?;
    Ok(updated.rows_affected() == 1)
}

async fn replace_nodes(
    transaction: &mut Transaction<'static, Sqlite>,
    next: &Topology,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM storage_nodes")
        .execute(&mut **transaction)
        .await?;
    for node in &next.nodes {
        sqlx::query("INSERT INTO storage_nodes VALUES (?, ?, ?, ?, ?)")
            .bind(node.id.as_str())
            .bind(&node.host)
            .bind(node.port)
            .bind(node.virtual_nodes)
            .bind(node.status.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
