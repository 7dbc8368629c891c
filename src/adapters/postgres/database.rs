//! The pool of connections, and a deadline on everything.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio::time::{sleep, timeout};

use super::PostgresSettings;
use super::connection::{begin_session, options};
use super::error::{asks_to_repeat, failed, late};
use super::migrations;
use crate::ports::StoreError;

/// The first pause before a transaction is repeated, and the longest. It doubles, and is drawn from between half and
/// all of it: those that were in each other's way must not meet again.
const REPEAT_PAUSE_MIN: Duration = Duration::from_millis(4);
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(256);

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    pool: PgPool,
    pub(super) settings: PostgresSettings,
}

impl Database {
    /// Connects and brings the tables up to date.
    pub(super) async fn open(url: &str, settings: PostgresSettings) -> Result<Self, StoreError> {
        let options = options(url).map_err(|error| failed(&error))?;
        migrations::bring_up_to_date(&options).await?;
        // A statement whose caller is gone ends, too, and so does a transaction.
        let limit_ms = settings.call_timeout.as_millis().to_string();
        // Connecting again, with back-off, is the pool's business: for as long as the caller waits.
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .min_connections(settings.connections_min)
            .max_lifetime(settings.connection_lifetime)
            .acquire_timeout(settings.call_timeout)
            .after_connect(move |connection, _| {
                let limit_ms = limit_ms.clone();
                Box::pin(async move { begin_session(connection, &limit_ms).await })
            })
            .connect_lazy_with(options);
        let database = Self { pool, settings };
        match database.run(|| standbys_behind(&database.pool)).await {
            Ok(0) => {}
            Ok(standbys) => tracing::warn!(
                standbys,
                "standbys follow the database and none is synchronous; one that takes over may lack the newest topology, so \
                 set synchronous_standby_names"
            ),
            Err(error) => tracing::debug!(%error, "the database doesn't tell of its standbys"),
        }
        Ok(database)
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Runs `work`, a single statement or a transaction, again while the database asks for that, but not longer than a
    /// call may take.
    pub(super) async fn run<T, W, F>(&self, work: W) -> Result<T, StoreError>
    where
        W: Fn() -> F,
        F: Future<Output = sqlx::Result<T>>,
    {
        let repeated = async {
            let mut pause = REPEAT_PAUSE_MIN;
            loop {
                match work().await {
                    Err(error) if asks_to_repeat(&error) => {
                        sleep(rand::random_range(pause / 2..=pause)).await;
                    }
                    result => return result,
                }
                pause = REPEAT_PAUSE_MAX.min(pause * 2);
            }
        };
        match timeout(self.settings.call_timeout, repeated).await {
            Ok(result) => result.map_err(|error| failed(&error)),
            Err(_) => Err(late(&format!("{:?}", self.settings.call_timeout))),
        }
    }

    /// Runs `work` in one transaction; durable when this returns. Failing work has no effect. When time is up it is not
    /// known whether it had its effect.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        W: for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<T>>,
    {
        self.run(|| self.attempt(&work)).await
    }

    async fn attempt<T, W>(&self, work: &W) -> sqlx::Result<T>
    where
        W: for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<T>>,
    {
        let mut transaction = self.pool.begin().await?;
        let done = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// How many standbys follow, if the database acknowledges without waiting for any of them.
pub(super) async fn standbys_behind(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_replication WHERE current_setting('synchronous_standby_names') = ''",
    )
    .fetch_one(pool)
    .await
}
