//! Who changed what: this process's changes at once, other processes' by looking now and then.
//!
//! SQLite numbers the commits that a connection has not made itself (`PRAGMA data_version`). While the number stays,
//! nothing is read. Events are hints: a watcher that lags misses the oldest ones and is told so,
//! and the same change may be told twice.

use futures::Stream;
use sqlx::{Row, SqliteConnection};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::database::Database;
use super::error::failed;
use crate::adapters::sql_rows as rows;
use crate::adapters::vitals::{Vitals, keep};
use crate::adapters::watched::{EVENTS_MAX, watched};
use crate::placement::Epoch;
use crate::ports::{ApiKeyId, MetadataEvent, StoreError, TenantId};

/// How many changed tenants, and API keys, one look tells of; the next look goes on from there.
const CHANGES_MAX: i64 = 128;

/// Tells watchers of changes, until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    events: broadcast::Sender<MetadataEvent>,
    look: JoinHandle<()>,
}

impl Watch {
    pub(super) async fn start(database: &Database) -> Result<Self, StoreError> {
        let opened = async { Eye::open(database.watcher().await?).await };
        let mut eye = opened
            .await
            .map_err(|error| failed("metadata store", &error))?;
        let events = broadcast::Sender::new(EVENTS_MAX);
        let (interval, sender) = (database.settings.watch_interval, events.clone());
        let looking = async move {
            loop {
                tokio::time::sleep(interval).await;
                if sender.receiver_count() == 0 {
                    continue;
                }
                match eye.look().await {
                    Ok(seen) => seen.into_iter().for_each(|event| drop(sender.send(event))),
                    Err(error) => tracing::warn!(%error, "can't look for changes of the metadata"),
                }
            }
        };
        let look = tokio::spawn(keep(Vitals::process(), "watch of the SQLite file", looking));
        Ok(Self { events, look })
    }

    pub(super) fn tell(&self, event: MetadataEvent) {
        let _ = self.events.send(event); // fails only when nobody watches
    }

    pub(super) fn subscribe(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        watched(&self.events)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.look.abort();
    }
}

/// What was seen last.
struct Eye {
    connection: SqliteConnection,
    data_version: i64,
    epoch: Epoch,
    tenants_changed: i64,
    keys_changed: i64,
}

impl Eye {
    async fn open(mut connection: SqliteConnection) -> sqlx::Result<Self> {
        // In this order, so that a change in between is seen by the first look.
        let data_version = data_version(&mut connection).await?;
        let now = sqlx::query(
            "SELECT epoch, (SELECT coalesce(max(changed), 0) FROM tenants) AS tenants_changed,
                    (SELECT coalesce(max(changed), 0) FROM api_keys) AS keys_changed FROM topology",
        );
        let now = now.fetch_one(&mut connection).await?;
        Ok(Self {
            connection,
            data_version,
            epoch: Epoch(rows::number(&now, "epoch")?),
            tenants_changed: now.try_get("tenants_changed")?,
            keys_changed: now.try_get("keys_changed")?,
        })
    }

    async fn look(&mut self) -> sqlx::Result<Vec<MetadataEvent>> {
        let data_version = data_version(&mut self.connection).await?;
        if data_version == self.data_version {
            return Ok(Vec::new());
        }
        let topology = sqlx::query("SELECT epoch FROM topology")
            .fetch_one(&mut self.connection)
            .await?;
        let epoch = Epoch(rows::number(&topology, "epoch")?);
        let tenants = sqlx::query(
            "SELECT id, changed FROM tenants WHERE changed > ? ORDER BY changed LIMIT ?",
        )
        .bind(self.tenants_changed)
        .bind(CHANGES_MAX)
        .fetch_all(&mut self.connection)
        .await?;
        let keys = sqlx::query(
            "SELECT id, changed FROM api_keys WHERE changed > ? ORDER BY changed LIMIT ?",
        )
        .bind(self.keys_changed)
        .bind(CHANGES_MAX)
        .fetch_all(&mut self.connection)
        .await?;

        let mut events = Vec::new();
        if epoch != self.epoch {
            events.push(MetadataEvent::Topology(epoch));
        }
        for row in &tenants {
            self.tenants_changed = row.try_get("changed")?;
            if let Ok(id) = TenantId::new(row.try_get::<&str, _>("id")?) {
                events.push(MetadataEvent::Tenant(id));
            }
        }
        for row in &keys {
            self.keys_changed = row.try_get("changed")?;
            if let Ok(id) = row.try_get::<&str, _>("id")?.parse::<ApiKeyId>() {
                events.push(MetadataEvent::ApiKey(id));
            }
        }
        self.epoch = epoch;
        if (tenants.len().max(keys.len()) as i64) < CHANGES_MAX {
            self.data_version = data_version; // otherwise there is more to see
        }
        Ok(events)
    }
}

async fn data_version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query("PRAGMA data_version")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
