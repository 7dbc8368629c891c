//! The storage engine on disk: [fjall](https://docs.rs/fjall), a log-structured merge tree with a journal.
//!
//! The engine is synchronous and sleeps when it must, so no async worker ever calls it:
//!
//! ```text
//! commit, sync ─► bounded queue ─► one committer thread: all that waits becomes one journal entry, one fsync
//! read, scan   ─► bounded queue ─► a few reader threads, each answer from one snapshot
//! ```
//!
//! - The committer syncs the journal before the engine shows the entry to anybody, so under [`Durability::Always`] no
//!   reader sees what power loss could take back.
//! - A commit is part of exactly one journal entry, which recovery takes whole or not at all.
//! - Commits are refused while less than the reserve is free on the disk: an engine that meets the end of the disk
//!   stops, and what became of its last entry is unknown.
//! - The first failed write or sync, or the end of one of the engine's threads, ends writing until the engine is opened
//!   again, in place ([`StorageEngine::reopen`]). That is tried once what it was short of is there again; until then it
//!   is read. Its last journal is written anew before: what the system shows of a file whose sync failed may not be on
//!   the disk (Rebello et al.: *Can Applications Recover from fsync Failures?*, 2020).
//! - An engine that opens says whether all that was acknowledged before is there ([`commits`], [`journal`]).
//! - A panic while a query is answered fails that query. One in the committer leaves nobody who knows what is written:
//!   the process ends (see [`vitals`](crate::adapters::vitals)).
//! - One process at a time has the directory, and only its owner reads it.
//!
//! What this is not: it knows nothing of records, and keeps no cache of its own beside the engine's.

mod commits;
mod committer;
mod directory;
mod disk_space;
mod engine;
mod error;
mod jobs;
mod journal;
mod private;
mod reader;
mod settings;
mod somewhere;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::adapters::front::{Budget, Share};
use crate::adapters::vitals::Vitals;
use crate::ports::{Batch, Durability, Proof, Space, StorageEngine, StorageError};

use committer::{Committer, Write, WriteJob};
use directory::{DirectoryLock, Opened};
use engine::SharedProof;
use jobs::Jobs;
use reader::{Query, Reader};

pub use error::FjallOpenError;
pub use settings::{FjallDurability, FjallSettings};

/// How many commits, and how many reads, may wait or run at once; more wait without a place in the queue.
const WAITING_MAX: usize = 1024;

/// How long a read waits for room: what holds it leaves by then, or is given up.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// Shorter values are not paid for one by one.
const PAID_BYTES_MIN: usize = 16 * 1024;

/// The engine in one directory. Copies share it; the last one closes it.
#[derive(Clone)]
pub struct FjallStorage {
    inner: Arc<Inner>,
    budget: Budget,
}

struct Inner {
    directory: PathBuf,
    durability: Durability,
    writes: Arc<Jobs<WriteJob>>,
    queries: Arc<Jobs<Query>>,
    write_places: Arc<Semaphore>,
    query_places: Arc<Semaphore>,
    proof: SharedProof,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The directory is others' only after the threads, and with them the engine, are gone.
    lock: Mutex<Option<DirectoryLock>>,
}

impl FjallStorage {
    /// Opens the engine in `directory`, which is made if need be. Blocks, for a second or so after a crash.
    ///
    /// # Errors
    /// When another process has the directory, or it can't be read, or there is no room in it.
    pub fn open(directory: &Path, settings: &FjallSettings) -> Result<Self, FjallOpenError> {
        let (lock, opened) = directory::open(directory, settings)?;
        let inner = Inner {
            proof: Arc::new(Mutex::new(opened.proof.clone())),
            directory: directory.into(),
            durability: settings.durability.into(),
            writes: Arc::default(),
            queries: Arc::default(),
            write_places: Arc::new(Semaphore::new(WAITING_MAX)),
            query_places: Arc::new(Semaphore::new(WAITING_MAX)),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        inner
            .start(opened, directory, settings)
            .map_err(|cause| FjallOpenError::failed(directory, cause))?;
        Ok(Self {
            inner: Arc::new(inner),
            budget: Budget::unlimited(),
        })
    }

    /// The same, with what it reads paid for by `budget`; when that has no room, reads wait a while.
    #[must_use]
    pub fn paid_for_by(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Finishes what is queued, syncs, ends the threads and gives the directory back. Blocks until then; whoever asks
    /// for something later is told that the engine is closed.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn start(
        &self,
        opened: Opened,
        directory: &Path,
        settings: &FjallSettings,
    ) -> std::io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = Arc::clone(&self.proof);
        let committer = Committer::new(opened, directory, settings, proof);
        let place = committer.place();
        let writes = Arc::clone(&self.writes);
        threads.push(spawn("pairdb-commit", move || committer.run(&writes))?);
        for _ in 0..settings.reader_threads.max(1) {
            let reader = Reader::new(Arc::clone(&place));
            let queries = Arc::clone(&self.queries);
            threads.push(spawn("pairdb-read", move || reader.run(&queries))?);
        }
        Ok(())
    }

    fn close(&self) {
        self.writes.close();
        self.queries.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage engine panicked");
            }
        }
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let place = place(&self.write_places).await?;
        let (answer, answered) = oneshot::channel();
        self.writes
            .push(WriteJob {
                write,
                answer,
                _place: place,
            })
            .map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn query<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<Result<T, StorageError>>, OwnedSemaphorePermit) -> Query,
    ) -> Result<T, StorageError> {
        let place = place(&self.query_places).await?;
        let (answer, answered) = oneshot::channel();
        self.queries
            .push(query(answer, place))
            .map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl StorageEngine for FjallStorage {
    fn durability(&self) -> Durability {
        self.inner.durability
    }

    async fn read(
        &self,
        space: Space,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        if !self.budget.has_room() {
            let _room_or_not = tokio::time::timeout(ROOM_PATIENCE, self.budget.room()).await;
        }
        let query = self.inner.query(|answer, place| Query::Read {
            space,
            keys,
            answer,
            _place: place,
        });
        let pay = |value: Bytes| match value.len() {
            0..PAID_BYTES_MIN => value,
            bytes => self.budget.take_anyway(Share::Inner, bytes).over(value),
        };
        let found = query.await?.into_iter();
        Ok(found.map(|value| value.map(pay)).collect())
    }

    async fn scan(
        &self,
        space: Space,
        from: Bytes,
        to: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.inner
            .query(|answer, place| Query::Scan {
                space,
                from,
                to,
                limit,
                answer,
                _place: place,
            })
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        committer::check(&batch)?;
        self.inner.write(Write::Commit(batch)).await
    }

    async fn sync(&self) -> Result<(), StorageError> {
        self.inner.write(Write::Sync).await
    }

    fn proof(&self) -> Proof {
        let proof = self.inner.proof.lock();
        proof.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reopen(&self) -> Result<(), StorageError> {
        self.inner.write(Write::Reopen).await
    }

    fn disk_used_percent(&self) -> Option<u8> {
        disk_space::used_percent(&self.inner.directory)
    }

    async fn approximate_count(&self, space: Space) -> Result<u64, StorageError> {
        self.inner
            .query(|answer, place| Query::Count {
                space,
                answer,
                _place: place,
            })
            .await
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StorageError> {
    Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(|_| closed())
}

/// A job that was taken on was dropped without an answer.
fn lost() -> StorageError {
    StorageError::Failed("it failed at this, or was closed meanwhile; see the log".into())
}

fn closed() -> StorageError {
    StorageError::Failed("it is closed".into())
}

/// Starts a thread that ends when its queue is closed, and not before.
fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let vital = Vitals::process().hold(name);
            run();
            vital.ends();
        })
}

#[cfg(test)]
#[path = "fjall_test.rs"]
mod tests;
