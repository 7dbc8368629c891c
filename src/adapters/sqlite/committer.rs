//! Group commit: whoever wants to write while a commit is being made durable shares the next one.
//!
//! One task has the only connection that writes. It runs the changes that wait, one after the other, in one immediate
//! transaction, and answers all of them once it is durable. A change that fails, or panics, is undone alone (by a
//! savepoint); a commit that fails fails for all. So the sync of the disk is paid once a batch and not once a change.
//!
//! A transaction that did not come to its end ends its connection. SQLite ends it by itself when the disk is full,
//! fails, or memory is short, and the driver goes on to count it as open: every later one would be refused.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::error::{failed, timed_out};
use super::place::keep_reserve;
use super::settings::SqliteSettings;
use crate::adapters::vitals::{Vitals, keep};
use crate::ports::StoreError;

/// How many changes may wait. Who finds it full waits outside, until time is up.
const QUEUE_MAX: usize = 1024;

/// How many changes share a transaction at most; it bounds how long other processes wait.
const BATCH_MAX: usize = 128;

/// Every so many commits the reserve is looked after.
const COMMITS_PER_RESERVE: u64 = 1024;

/// The way to the committer. It ends with the last copy.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    queue: mpsc::Sender<Box<dyn Job>>,
}

/// A change that waits, whatever it answers.
trait Job: Send {
    /// Nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    fn run<'a>(
        &'a mut self,
        connection: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>>;
    fn answer(self: Box<Self>, committed: Result<(), &sqlx::Error>);
}

struct Change<W, T> {
    store: &'static str,
    work: Option<W>,
    outcome: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl Committer {
    pub(super) fn start(writer: SqlitePool, settings: SqliteSettings, file: &Path) -> Self {
        let (queue, mut jobs) = mpsc::channel(QUEUE_MAX);
        let file: Arc<Path> = file.into();
        let work = async move {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            let mut commits: u64 = 0;
            while jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
                let committed = commit(&writer, &settings, std::mem::take(&mut batch)).await;
                commits += u64::from(committed);
                if committed && commits % COMMITS_PER_RESERVE == 1 {
                    // Since it opened there may have come to be room for it.
                    let file = Arc::clone(&file);
                    let _ = tokio::task::spawn_blocking(move || keep_reserve(&file)).await;
                }
            }
            writer.close().await;
        };
        tokio::spawn(keep(Vitals::process(), "SQLite commits", work));
        Self { queue }
    }

    /// Runs `work` in a transaction that no other writer's, of any process, overlaps, and waits until it is durable.
    pub(super) async fn write<T, W>(&self, store: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> FnOnce(&'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<T>>
            + Send
            + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let change = Change {
            store,
            work: Some(work),
            outcome: None,
            answer,
        };
        let gone = || StoreError::Unavailable {
            store,
            cause: "it is closed".to_owned(),
        };
        self.queue
            .send(Box::new(change))
            .await
            .map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl<T, W> Job for Change<W, T>
where
    T: Send,
    W: for<'a> FnOnce(&'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<T>> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run<'a>(
        &'a mut self,
        connection: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.outcome = Some(work(connection).await?);
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), &sqlx::Error>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => Ok(outcome),
            (Ok(()), None) => return, // never run; the sender's loss tells
            (Err(error), _) => Err(failed(self.store, error)),
        };
        let _ = self.answer.send(answer); // fails when nobody waits any more
    }
}

/// Returns whether anything was committed.
async fn commit(
    writer: &SqlitePool,
    settings: &SqliteSettings,
    mut jobs: Vec<Box<dyn Job>>,
) -> bool {
    jobs.retain(|job| !job.is_abandoned());
    if jobs.is_empty() {
        return false;
    }
    let attempt = tokio::time::timeout(settings.call_timeout, attempt(writer, &mut jobs)).await;
    match attempt.unwrap_or_else(|_| Err(timed_out(settings))) {
        Ok(results) => {
            for (job, result) in jobs.into_iter().zip(&results) {
                job.answer(result.as_ref().copied());
            }
            true
        }
        Err(error) => {
            jobs.into_iter().for_each(|job| job.answer(Err(&error)));
            false
        }
    }
}

/// What became of each change, once what they made is durable.
async fn attempt(
    writer: &SqlitePool,
    jobs: &mut [Box<dyn Job>],
) -> sqlx::Result<Vec<sqlx::Result<()>>> {
    let mut lent = Lent::new(writer.acquire().await?);
    let results = transact(&mut lent.connection, jobs).await?;
    lent.is_settled = true;
    Ok(results)
}

async fn transact(
    connection: &mut SqliteConnection,
    jobs: &mut [Box<dyn Job>],
) -> sqlx::Result<Vec<sqlx::Result<()>>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut savepoint = transaction.begin().await?;
        let run = AssertUnwindSafe(job.run(&mut savepoint)).catch_unwind();
        let result = run.await.unwrap_or_else(|_| {
            tracing::error!("a change of the SQLite file panicked");
            Err(sqlx::Error::Protocol("internal error".into()))
        });
        match &result {
            Ok(()) => savepoint.commit().await?,
            // There is nothing to go back to where SQLite has undone all of it: then that is why everything failed.
            Err(_) if savepoint.rollback().await.is_err() => return Err(failure(result)),
            Err(_) => {}
        }
        results.push(result);
    }
    transaction.commit().await?;
    Ok(results)
}

fn failure(result: sqlx::Result<()>) -> sqlx::Error {
    result.err().unwrap_or(sqlx::Error::WorkerCrashed)
}

/// A connection that is used again only once its transaction is known to be over.
struct Lent {
    connection: PoolConnection<Sqlite>,
    is_settled: bool,
}

impl Lent {
    const fn new(connection: PoolConnection<Sqlite>) -> Self {
        Self {
            connection,
            is_settled: false,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_settled {
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

    use super::super::database::Database;
    use super::*;

    const SMALL: usize = 10;
    const TOO_BIG: usize = 1024 * 1024;

    /// One that can't outgrow a few pages: SQLite then does what it does on a full disk.
    async fn on_a_small_disk(directory: &tempfile::TempDir) -> (Committer, SqlitePool) {
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("small.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("max_page_count", "16");
        let pool = SqlitePoolOptions::new().max_connections(1);
        let writer = pool.clone().connect_lazy_with(options.clone());
        sqlx::query("CREATE TABLE things (thing BLOB)")
            .execute(&writer)
            .await
            .unwrap();
        let settings = SqliteSettings {
            call_timeout: Duration::from_secs(60),
            ..SqliteSettings::default()
        };
        let committer = Committer::start(writer, settings, &directory.path().join("small.sqlite"));
        (committer, pool.connect_lazy_with(options))
    }

    async fn insert(committer: &Committer, len: usize) -> Result<(), StoreError> {
        let insert = committer.write("things", move |connection| {
            Box::pin(async move {
                let insert = sqlx::query("INSERT INTO things VALUES (?)").bind(vec![1; len]);
                insert.execute(connection).await.map(drop)
            })
        });
        insert.await
    }

    async fn things(reader: &SqlitePool) -> usize {
        let count = sqlx::query_scalar("SELECT count(*) FROM things");
        let count: i64 = count.fetch_one(reader).await.unwrap();
        usize::try_from(count).unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_fails_what_did_not_fit_and_nothing_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let (committer, reader) = on_a_small_disk(&directory).await;
        insert(&committer, SMALL).await.unwrap();
        for _ in 0..3 {
            let refused = insert(&committer, TOO_BIG).await.unwrap_err();
            assert!(refused.to_string().contains("full"), "{refused}");
        }
        insert(&committer, SMALL).await.unwrap();
        assert_eq!(things(&reader).await, 2);
    }

    #[tokio::test]
    async fn what_shared_a_transaction_that_was_undone_is_not_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let (committer, reader) = on_a_small_disk(&directory).await;
        let lens = [SMALL, SMALL, TOO_BIG, SMALL, TOO_BIG, SMALL];
        let done = join_all(lens.map(|len| insert(&committer, len))).await;
        assert!(done[2].is_err() && done[4].is_err(), "{done:?}");
        let acknowledged = done.iter().filter(|done| done.is_ok()).count();
        assert_eq!(things(&reader).await, acknowledged, "{done:?}");
        insert(&committer, SMALL).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_fails_the_change_it_is_in_and_no_other() {
        let database = Database::ephemeral(SqliteSettings::default())
            .await
            .unwrap();
        let insert = |id: &'static str| {
            database.write("test", move |connection: &mut SqliteConnection| {
                Box::pin(async move {
                    let sql = "INSERT INTO leases (name, holder, until_ms) VALUES (?, 1, 1)";
                    sqlx::query(sql).bind(id).execute(connection).await?;
                    assert!(id != "panics", "on purpose");
                    Ok(())
                }) as BoxFuture<'_, sqlx::Result<()>>
            })
        };
        let (before, panics, after) =
            futures::join!(insert("before"), insert("panics"), insert("after"));
        assert!(
            before.is_ok() && panics.is_err() && after.is_ok(),
            "{before:?} {panics:?} {after:?}"
        );
        insert("later").await.unwrap();
        let names = sqlx::query_scalar::<_, String>("SELECT name FROM leases ORDER BY name");
        let names = names.fetch_all(database.readers()).await.unwrap();
        assert_eq!(names, ["after", "before", "later"]);
    }
}
