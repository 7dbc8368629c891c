//! Group commit: whoever wants to write while a commit is being made durable shares the next one.
//!
//! One task has the only connection that writes. It runs the changes that wait, one after the other, in one immediate
//! transaction, and answers all of them once it is durable. A change that fails is undone alone (by a savepoint); a
//! commit that fails fails for all. So the sync of the disk is paid once a batch and not once a change.

use futures::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::SqliteSettings;
use super::database::{failed, timed_out};
use crate::ports::StoreError;

/// How many changes may wait. Who finds it full waits outside, until time is up.
const QUEUE_MAX: usize = 1024;

/// How many changes share a transaction at most; it bounds how long other processes wait.
const BATCH_MAX: usize = 128;

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
    pub(super) fn start(writer: SqlitePool, settings: SqliteSettings) -> Self {
        let (queue, mut jobs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
                commit(&writer, &settings, std::mem::take(&mut batch)).await;
            }
            writer.close().await;
        });
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

async fn commit(writer: &SqlitePool, settings: &SqliteSettings, mut jobs: Vec<Box<dyn Job>>) {
    jobs.retain(|job| !job.is_abandoned());
    if jobs.is_empty() {
        return;
    }
    let attempt = tokio::time::timeout(settings.call_timeout, attempt(writer, &mut jobs)).await;
    match attempt.unwrap_or_else(|_| Err(timed_out(settings))) {
        Ok(results) => {
            for (job, result) in jobs.into_iter().zip(&results) {
                job.answer(result.as_ref().copied());
            }
        }
        Err(error) => jobs.into_iter().for_each(|job| job.answer(Err(&error))),
    }
}

/// What became of each change, once what they made is durable.
async fn attempt(
    writer: &SqlitePool,
    jobs: &mut [Box<dyn Job>],
) -> sqlx::Result<Vec<sqlx::Result<()>>> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut savepoint = transaction.begin().await?;
        let result = job.run(&mut savepoint).await;
        match &result {
            Ok(()) => savepoint.commit().await?,
            Err(_) => savepoint.rollback().await?,
        }
        results.push(result);
    }
    transaction.commit().await?;
    Ok(results)
}
