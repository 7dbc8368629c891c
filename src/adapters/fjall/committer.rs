//! The one thread that writes.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use fjall::PersistMode;
use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;

use super::disk_space::DiskSpace;
use super::jobs::{AbandonOnPanic, Jobs, Wake};
use super::{Engine, FjallDurability, FjallSettings, error};
use crate::ports::{Batch, Put, Space, StorageError};

/// Commits are gathered into one journal entry up to about this size.
const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the engine can't take; it panics at more.
pub(super) const KEY_LEN_MAX: usize = u16::MAX as usize;
const VALUE_LEN_MAX: usize = u32::MAX as usize;
/// A write that takes longer than this is worth a line in the log.
const STALL: Duration = Duration::from_millis(250);

type Answer = oneshot::Sender<Result<(), StorageError>>;

pub(super) struct WriteJob {
    pub(super) write: Write,
    pub(super) answer: Answer,
    pub(super) _place: OwnedSemaphorePermit,
}

pub(super) enum Write {
    Commit(Batch),
    Sync,
}

/// Refuses what the engine would panic at.
pub(super) fn check(batch: &[Put]) -> Result<(), StorageError> {
    for put in batch {
        let (key_len, value_len) = (
            put.key.len(),
            put.value.as_ref().map_or(0, |value| value.len()),
        );
        if key_len == 0 || key_len > KEY_LEN_MAX || value_len > VALUE_LEN_MAX {
            let sizes =
                format!("a key of {key_len} bytes with a value of {value_len} can't be stored");
            return Err(StorageError::Failed(sizes));
        }
    }
    Ok(())
}

pub(super) struct Committer {
    engine: Engine,
    space: DiskSpace,
    /// `None`: every write is synced before it is answered.
    sync_interval: Option<Duration>,
    sync_due: Option<Instant>,
    failure: Option<StorageError>,
}

impl Committer {
    pub(super) fn new(engine: Engine, directory: &Path, settings: &FjallSettings) -> Self {
        let sync_interval = match settings.durability {
            FjallDurability::Always => None,
            FjallDurability::IntervalMs(ms) => Some(Duration::from_millis(ms)),
        };
        let space = DiskSpace::new(directory, settings.disk_reserve_bytes);
        Self {
            engine,
            space,
            sync_interval,
            sync_due: None,
            failure: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, jobs: &Jobs<WriteJob>) {
        let _guard = AbandonOnPanic(jobs);
        let mut waiting = VecDeque::new();
        loop {
            match jobs.take_all(&mut waiting, self.sync_due) {
                Wake::Jobs => {
                    while !waiting.is_empty() {
                        self.write(&mut waiting);
                    }
                    self.sync_if_due();
                }
                Wake::Deadline => self.sync_if_due(),
                Wake::Closed => break,
            }
        }
        let _ = self.sync(); // told in the log, and there is nobody else to tell
    }

    /// Makes one journal entry of what waits, and answers all whose it is.
    fn write(&mut self, waiting: &mut VecDeque<WriteJob>) {
        let started = Instant::now();
        let mut answers = Vec::new();
        let mut merged: BTreeMap<(Space, bytes::Bytes), Option<bytes::Bytes>> = BTreeMap::new();
        let mut bytes = 0;
        let mut must_sync = false;
        while let Some(job) = waiting.pop_front() {
            if let Write::Commit(batch) = &job.write
                && bytes > 0
                && bytes + size(batch) > ENTRY_BYTES_MAX
            {
                waiting.push_front(job);
                break;
            }
            match job.write {
                Write::Commit(batch) => {
                    bytes += size(&batch);
                    merged.extend(
                        batch
                            .into_iter()
                            .map(|put| ((put.space, put.key), put.value)),
                    );
                }
                Write::Sync => must_sync = true,
            }
            answers.push((job.answer, job._place));
        }

        let mut outcome = self.commit(merged, bytes);
        if must_sync && outcome.is_ok() {
            outcome = self.sync();
        }
        let took = started.elapsed();
        metrics::histogram!("storage_commit_duration_seconds").record(took.as_secs_f64());
        metrics::histogram!("storage_commit_merged").record(answers.len() as f64);
        if took >= STALL {
            metrics::counter!("storage_stalls_total").increment(1);
            tracing::warn!(
                took_ms = took.as_millis() as u64,
                bytes,
                "the storage engine stalled a commit"
            );
        }
        for (answer, place) in answers {
            drop(place);
            let _ = answer.send(outcome.clone()); // nobody there: the caller gave up
        }
    }

    fn commit(
        &mut self,
        merged: BTreeMap<(Space, bytes::Bytes), Option<bytes::Bytes>>,
        bytes: usize,
    ) -> Result<(), StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if merged.is_empty() {
            return Ok(());
        }
        self.space.check(bytes as u64)?;
        let persist = if self.sync_interval.is_none() {
            PersistMode::SyncAll
        } else {
            PersistMode::Buffer
        };
        let mut entry = self.engine.database.batch().durability(Some(persist));
        for ((space, key), value) in &merged {
            let keyspace = self.engine.keyspace(*space);
            match value {
                Some(value) => entry.insert(keyspace, &key[..], &value[..]),
                None => entry.remove(keyspace, &key[..]),
            }
        }
        entry.commit().map_err(|error| self.fail(&error))?;
        if let Some(interval) = self.sync_interval {
            self.sync_due
                .get_or_insert_with(|| Instant::now() + interval);
        }
        Ok(())
    }

    fn sync_if_due(&mut self) {
        if self.sync_due.is_some_and(|due| Instant::now() >= due) {
            let _ = self.sync(); // kept as the failure, which every later commit is told
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.sync_due = None;
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.engine
            .database
            .persist(PersistMode::SyncAll)
            .map_err(|error| self.fail(&error))
    }

    fn fail(&mut self, error: &fjall::Error) -> StorageError {
        let failure = error::failed(error);
        tracing::error!(%failure, "the storage engine failed; it takes no more writes");
        self.failure = Some(failure.clone());
        failure
    }
}

fn size(batch: &[Put]) -> usize {
    batch
        .iter()
        .map(|put| 32 + put.key.len() + put.value.as_ref().map_or(0, |value| value.len()))
        .sum()
}
