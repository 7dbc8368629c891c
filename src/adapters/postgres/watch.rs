//! Who changed what: told by the database, and looked for now and then.
//!
//! Every change posts a [`Notice`] in its own transaction, so it is told when it is committed and not otherwise. A look
//! at the newest epoch and the newest change of a tenant or API key finds what was committed while nobody listened; a
//! look that finds what should have been told before begins to listen anew. Events are hints: a watcher that lags
//! misses the oldest ones and is told so, and the same change may be told twice.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use sqlx::postgres::{PgListener, PgPool};
use sqlx::{PgConnection, Row};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::PostgresSettings;
use super::database::Database;
use super::error::{failed, is_unsupported, late};
use crate::adapters::sql_rows as rows;
use crate::adapters::vitals::{Vitals, keep};
use crate::adapters::watched::{EVENTS_MAX, watched};
use crate::placement::Epoch;
use crate::ports::{ApiKeyId, MetadataEvent, StoreError, TenantId};

/// What notices are posted to.
const CHANNEL: &str = "pairdb_metadata";

/// How many changed tenants and API keys one look tells of; the next look goes on from there.
const CHANGES_MAX: i64 = 128;

/// Tenants and API keys share one sequence of changes.
const CHANGED: &str = "
    SELECT id, changed, 0 AS is_key FROM tenants WHERE changed > $1
    UNION ALL SELECT id, changed, 1 FROM api_keys WHERE changed > $1
    ORDER BY changed LIMIT $2";

/// The first and the longest pause before listening is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the database tells everyone who listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    /// The topology has this epoch.
    Topology(Epoch),
    /// This was the change of this number.
    Tenant(i64, TenantId),
    /// This was the change of this number.
    ApiKey(i64, ApiKeyId),
}

impl Notice {
    /// Is told when the transaction is committed.
    pub(super) async fn post(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let text = match self {
            Self::Topology(epoch) => format!("topology {}", epoch.0),
            Self::Tenant(number, id) => format!("tenant {number} {id}"),
            Self::ApiKey(number, id) => format!("key {number} {id}"),
        };
        let post = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(text);
        post.execute(connection).await?;
        Ok(())
    }

    /// `None` when it says something that this version doesn't know.
    fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "topology" => Some(Self::Topology(Epoch(rest.parse().ok()?))),
            "tenant" => {
                let (number, id) = rest.split_once(' ')?;
                Some(Self::Tenant(number.parse().ok()?, TenantId::new(id).ok()?))
            }
            "key" => {
                let (number, id) = rest.split_once(' ')?;
                Some(Self::ApiKey(number.parse().ok()?, id.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// Tells watchers of changes, until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    events: broadcast::Sender<MetadataEvent>,
    is_told: bool,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) async fn start(database: &Arc<Database>) -> Result<Self, StoreError> {
        let events = broadcast::Sender::new(EVENTS_MAX);
        let settings = database.settings.clone();
        let limit = settings.call_timeout;
        let opened = async {
            // In this order, so that a change in between is found by the first look.
            let ear = Ear::open(database.pool()).await?;
            Ok((ear, Eye::open(database.pool()).await?))
        };
        let (ear, eye) = match timeout(limit, opened).await {
            Ok(opened) => opened.map_err(|error| failed(&error))?,
            Err(_) => return Err(late(&format!("{limit:?}"))),
        };
        let is_told = ear.is_some();
        if !is_told {
            let interval = settings.look_interval_untold;
            tracing::warn!(
                ?interval,
                "the database has no LISTEN and NOTIFY; looking for changes instead"
            );
        }
        let watcher = Watcher {
            pool: database.pool().clone(),
            eye,
            events: events.clone(),
            settings,
        };
        let watching = watcher.run(ear);
        let task = tokio::spawn(keep(Vitals::process(), "watch of the database", watching));
        Ok(Self {
            events,
            is_told,
            task,
        })
    }

    /// Whether whoever changes something posts a notice.
    pub(super) const fn is_told(&self) -> bool {
        self.is_told
    }

    pub(super) fn tell(&self, event: MetadataEvent) {
        let _ = self.events.send(event); // fails only when nobody watches
    }

    pub(super) fn subscribe(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        watched(&self.events)
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection that hears of changes.
struct Ear(PgListener);

impl Ear {
    /// `None` where the database tells nobody. The connection is none of the pool's: one that has fallen silent goes
    /// only when the system gives it up, which takes many minutes, and calls must not want for it so long.
    async fn open(pool: &PgPool) -> sqlx::Result<Option<Self>> {
        let own = pool.options().clone().min_connections(0).max_connections(1);
        let own = own.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        let mut probe = pool.acquire().await?;
        let probed = sqlx::query("SELECT pg_notify($1, '')")
            .bind(CHANNEL)
            .execute(&mut *probe);
        match probed.await.and(listener.listen(CHANNEL).await) {
            Ok(()) => Ok(Some(Self(listener))),
            Err(error) if is_unsupported(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct Watcher {
    pool: PgPool,
    eye: Eye,
    events: broadcast::Sender<MetadataEvent>,
    settings: PostgresSettings,
}

impl Watcher {
    async fn run(mut self, ear: Option<Ear>) {
        match ear {
            Some(ear) => self.listen(ear).await,
            None => loop {
                sleep(self.settings.look_interval_untold).await;
                self.look().await;
            },
        }
    }

    /// Never ends. Whenever the connection is lost it looks at what was missed.
    async fn listen(&mut self, mut ear: Ear) {
        loop {
            self.hear(&mut ear).await;
            ear = self.listen_anew().await;
            self.look().await;
        }
    }

    /// Until the connection is of no use any more.
    async fn hear(&mut self, ear: &mut Ear) {
        loop {
            let Ok(heard) = timeout(self.settings.look_interval, ear.0.try_recv()).await else {
                if self.look().await > 0 {
                    return; // what it found should have been told before
                }
                continue;
            };
            match heard {
                Ok(Some(notice)) => {
                    if let Some(notice) = Notice::read(notice.payload()) {
                        let event = self.eye.heard(notice);
                        self.tell(event);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the metadata store tells of changes no more");
                    return;
                }
            }
        }
    }

    async fn listen_anew(&self) -> Ear {
        let mut pause = PAUSE_MIN;
        loop {
            let opened = timeout(self.settings.call_timeout, Ear::open(&self.pool)).await;
            match opened {
                Ok(Ok(Some(ear))) => return ear,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "can't listen for changes of the metadata")
                }
                Ok(Ok(None)) | Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Returns how many changes it found.
    async fn look(&mut self) -> usize {
        match timeout(self.settings.call_timeout, self.eye.look(&self.pool)).await {
            Ok(Ok(seen)) => {
                let found = seen.len();
                seen.into_iter().for_each(|event| self.tell(event));
                return found;
            }
            Ok(Err(error)) => tracing::warn!(%error, "can't look for changes of the metadata"),
            Err(_) => tracing::warn!("no answer when looking for changes of the metadata"),
        }
        0
    }

    fn tell(&self, event: MetadataEvent) {
        let _ = self.events.send(event); // fails only when nobody watches
    }
}

/// What was seen or heard last.
struct Eye {
    epoch: Epoch,
    changed: i64,
}

impl Eye {
    async fn open(pool: &PgPool) -> sqlx::Result<Self> {
        let (epoch, changed) = newest(pool).await?;
        Ok(Self { epoch, changed })
    }

    fn heard(&mut self, notice: Notice) -> MetadataEvent {
        match notice {
            Notice::Topology(epoch) => {
                self.epoch = epoch;
                MetadataEvent::Topology(epoch)
            }
            Notice::Tenant(number, id) => {
                self.changed = number;
                MetadataEvent::Tenant(id)
            }
            Notice::ApiKey(number, id) => {
                self.changed = number;
                MetadataEvent::ApiKey(id)
            }
        }
    }

    async fn look(&mut self, pool: &PgPool) -> sqlx::Result<Vec<MetadataEvent>> {
        let (epoch, changed) = newest(pool).await?;
        let mut events = Vec::new();
        if epoch != self.epoch {
            events.push(MetadataEvent::Topology(epoch));
            self.epoch = epoch;
        }
        // Fewer changes than before: an older copy of the database took over.
        self.changed = self.changed.min(changed);
        if self.changed == changed {
            return Ok(events);
        }
        let rows_changed = sqlx::query(CHANGED)
            .bind(self.changed)
            .bind(CHANGES_MAX)
            .fetch_all(pool)
            .await?;
        for row in &rows_changed {
            self.changed = rows::number(row, "changed")?;
            let id: &str = row.try_get("id")?;
            let event = match row.try_get::<i32, _>("is_key")? {
                0 => TenantId::new(id).ok().map(MetadataEvent::Tenant),
                _ => id.parse().ok().map(MetadataEvent::ApiKey),
            };
            events.extend(event);
        }
        if (rows_changed.len() as i64) < CHANGES_MAX {
            // What was counted and then not changed has no row.
            self.changed = self.changed.max(changed);
        }
        Ok(events)
    }
}

async fn newest(pool: &PgPool) -> sqlx::Result<(Epoch, i64)> {
    let sql = "SELECT epoch, newest FROM topology CROSS JOIN tenant_changes";
    let row = sqlx::query(sql).fetch_one(pool).await?;
    Ok((
        Epoch(rows::number(&row, "epoch")?),
        rows::number(&row, "newest")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_of_another_version_is_nothing() {
        for text in [
            "",
            "topology",
            "topology x",
            "tenant 1",
            "tenant x y",
            "tenant 1 a:b",
            "key 1 2",
            "weather 1 2",
        ] {
            assert_eq!(Notice::read(text), None, "{text}");
        }
        let tenant = Notice::Tenant(7, TenantId::new("a b").unwrap());
        assert_eq!(Notice::read("tenant 7 a b"), Some(tenant));
        let key = Notice::ApiKey(8, ApiKeyId::from_bits(1));
        assert_eq!(Notice::read("key 8 0000000000000001"), Some(key));
        assert_eq!(Notice::read("topology 3"), Some(Notice::Topology(Epoch(3))));
    }
}
