//! The one thread that writes.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fjall::{AbstractTree, PersistMode};
use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;

use super::commits::{Acknowledged, KEY, Mark, Numbered};
use super::directory::{self, Opened};
use super::disk_space::DiskSpace;
use super::engine::{Engine, Place, SharedProof};
use super::jobs::{AbandonOnPanic, Jobs, Wake};
use super::{FjallDurability, FjallSettings, error};
use crate::ports::{Batch, Proof, Put, Space, StorageError};

/// Commits are gathered into one journal entry up to about this size.
const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the engine can't take; it panics at more.
pub(super) const KEY_LEN_MAX: usize = u16::MAX as usize;
const VALUE_LEN_MAX: usize = u32::MAX as usize;
/// A write that takes longer than this is worth a line in the log.
const STALL: Duration = Duration::from_millis(250);
/// The mark of what was acknowledged gets to the disk at the latest so long after it was written.
const MARK_SYNC: Duration = Duration::from_secs(1);
/// The engine has a commit wait for its background threads, beyond four memtables that are not written yet and thirty
/// files that are not merged, also when those threads have ended. With fewer a commit is not begun; these leave room
/// for it.
const MEMTABLES_MAX: usize = 2;
const RUNS_MAX: usize = 26;
const BEHIND_PAUSE: Duration = Duration::from_millis(5);
/// So many more files have to be there to be opened before the engine is opened again.
const FILES_SPARE: usize = 32;

type Answer = oneshot::Sender<Result<(), StorageError>>;

pub(super) struct WriteJob {
    pub(super) write: Write,
    pub(super) answer: Answer,
    pub(super) _place: OwnedSemaphorePermit,
}

pub(super) enum Write {
    Commit(Batch),
    Sync,
    Reopen,
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
    place: Place,
    directory: PathBuf,
    settings: FjallSettings,
    space: DiskSpace,
    /// `None`: every write is synced before it is answered.
    sync_interval: Option<Duration>,
    sync_due: Option<Instant>,
    failure: Option<StorageError>,
    mark: Mark,
    mark_due: Option<Instant>,
    mark_failed: bool,
    /// The last commit that there was.
    number: u64,
    /// The last one that is there.
    previous: u64,
    /// Something was committed since it was opened.
    has_committed: bool,
    proof: SharedProof,
}

impl Committer {
    pub(super) fn new(
        opened: Opened,
        directory: &Path,
        settings: &FjallSettings,
        proof: SharedProof,
    ) -> Self {
        let sync_interval = match settings.durability {
            FjallDurability::Always => None,
            FjallDurability::IntervalMs(ms) => Some(Duration::from_millis(ms)),
        };
        Self {
            place: Arc::new(RwLock::new(Some(opened.engine))),
            directory: directory.into(),
            settings: settings.clone(),
            space: DiskSpace::new(directory, settings.disk_reserve_bytes),
            sync_interval,
            sync_due: None,
            failure: None,
            mark: opened.mark,
            mark_due: None,
            mark_failed: false,
            number: opened.number,
            previous: opened.previous,
            has_committed: false,
            proof,
        }
    }

    /// The engine, for those who read.
    pub(super) fn place(&self) -> Place {
        Arc::clone(&self.place)
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, jobs: &Jobs<WriteJob>) {
        let _guard = AbandonOnPanic(jobs);
        let mut waiting = VecDeque::new();
        loop {
            let due = [self.sync_due, self.mark_due].into_iter().flatten().min();
            match jobs.take_all(&mut waiting, due) {
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
        self.sync_mark();
    }

    /// Makes one journal entry of what waits, and answers all whose it is.
    fn write(&mut self, waiting: &mut VecDeque<WriteJob>) {
        #[cfg(test)]
        crate::adapters::vitals::doom::check("pairdb-commit");
        let started = Instant::now();
        let mut answers = Vec::new();
        let mut merged: BTreeMap<(Space, bytes::Bytes), Option<bytes::Bytes>> = BTreeMap::new();
        let mut bytes = 0;
        let mut must_sync = false;
        while let Some(job) = waiting.pop_front() {
            let is_next = match &job.write {
                Write::Commit(batch) => bytes > 0 && bytes + size(batch) > ENTRY_BYTES_MAX,
                Write::Sync => false,
                Write::Reopen if answers.is_empty() => return self.answer_reopen(job),
                Write::Reopen => true,
            };
            if is_next {
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
                Write::Reopen => {} // not here
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
        let numbered = Numbered {
            number: self.number + 1,
            previous: self.previous,
        };
        let place = Arc::clone(&self.place);
        let place = place.read().unwrap_or_else(PoisonError::into_inner);
        let committed = match &*place {
            Some(engine) => self.commit_to(engine, &merged, numbered),
            None => Err(fjall::Error::Poisoned),
        };
        drop(place);
        committed.map_err(|error| self.fail(&error))?;
        self.number = numbered.number;
        self.previous = numbered.number;
        self.has_committed = true;
        if let Some(interval) = self.sync_interval {
            self.sync_due
                .get_or_insert_with(|| Instant::now() + interval);
        } else {
            self.is_proved();
        }
        self.write_mark();
        Ok(())
    }

    fn commit_to(
        &self,
        engine: &Engine,
        merged: &BTreeMap<(Space, bytes::Bytes), Option<bytes::Bytes>>,
        numbered: Numbered,
    ) -> fjall::Result<()> {
        while engine.is_behind() {
            engine.check()?;
            std::thread::sleep(BEHIND_PAUSE);
        }
        let persist = match self.sync_interval {
            None => PersistMode::SyncAll,
            Some(_) => PersistMode::Buffer,
        };
        let mut entry = engine.database.batch().durability(Some(persist));
        for ((space, key), value) in merged {
            let keyspace = engine.keyspace(*space);
            match value {
                Some(value) => entry.insert(keyspace, &key[..], &value[..]),
                None => entry.remove(keyspace, &key[..]),
            }
        }
        entry.insert(&engine.commits, KEY, numbered.encode());
        entry.commit()
    }

    /// Something durable is on top of what is there: it follows from what is lacking. Returns whether anything was.
    fn is_proved(&self) -> bool {
        let proof = self.proof.lock();
        let mut proof = proof.unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *proof, Proof::Whole);
        matches!(before, Proof::Lacking(_))
    }

    /// What was committed is about to be acknowledged.
    fn write_mark(&mut self) {
        let proof = self.proof.lock();
        let proof = proof.unwrap_or_else(PoisonError::into_inner);
        let is_lossy = matches!(*proof, Proof::Lacking(_));
        drop(proof);
        let number = self.number;
        let written = self.mark.write(Acknowledged { number, is_lossy });
        self.note_mark(written);
        self.mark_due
            .get_or_insert_with(|| Instant::now() + MARK_SYNC);
    }

    fn sync_mark(&mut self) {
        self.mark_due = None;
        let synced = self.mark.sync();
        self.note_mark(synced);
    }

    /// A mark that can't be written is behind; nothing worse.
    fn note_mark(&mut self, outcome: std::io::Result<()>) {
        if let Err(error) = &outcome
            && !self.mark_failed
        {
            tracing::warn!(%error, "the mark of what was acknowledged can't be written");
        }
        self.mark_failed = outcome.is_err();
    }

    fn sync_if_due(&mut self) {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| Instant::now() >= due);
        if is_due(self.sync_due) {
            let _ = self.sync(); // kept as the failure, which every later commit is told
        }
        if is_due(self.mark_due) {
            self.sync_mark();
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.sync_due = None;
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let place = Arc::clone(&self.place);
        let place = place.read().unwrap_or_else(PoisonError::into_inner);
        let synced = match &*place {
            Some(engine) => engine.database.persist(PersistMode::SyncAll),
            None => Err(fjall::Error::Poisoned),
        };
        drop(place);
        synced.map_err(|error| self.fail(&error))?;
        if self.has_committed && self.is_proved() {
            self.write_mark();
        }
        Ok(())
    }

    fn fail(&mut self, error: &fjall::Error) -> StorageError {
        let failure = error::failed(error);
        tracing::error!(%failure, "the storage engine failed; it takes no writes until it was opened again");
        self.failure = Some(failure.clone());
        failure
    }

    fn answer_reopen(&mut self, job: WriteJob) {
        let outcome = self.reopen();
        drop(job._place);
        let _ = job.answer.send(outcome); // nobody there: the caller gave up
    }

    /// Opens the engine again, if it failed.
    fn reopen(&mut self) -> Result<(), StorageError> {
        if self.failure.is_none() {
            return Ok(());
        }
        // What it was short of may be short still, and then it would not open: better to go on reading.
        self.space.check_now()?;
        has_spare_files(&self.directory)?;
        let place = Arc::clone(&self.place);
        let mut place = place.write().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
        let opened = directory::reopen(&self.directory, &self.settings, self.number);
        let opened = opened.map_err(|error| StorageError::Failed(error.to_string()))?;
        *place = Some(opened.engine);
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = opened.proof;
        self.mark = opened.mark;
        self.number = opened.number;
        self.previous = opened.previous;
        self.has_committed = false;
        self.sync_due = None;
        self.failure = None;
        tracing::info!("the storage engine was opened again");
        Ok(())
    }
}

impl Engine {
    /// Whether a commit would wait for the background threads.
    fn is_behind(&self) -> bool {
        let keyspaces = [
            &self.records,
            &self.meta,
            &self.digests,
            &self.tombstones,
            &self.hints,
            &self.commits,
        ];
        keyspaces.iter().any(|keyspace| {
            keyspace.tree.sealed_memtable_count() > MEMTABLES_MAX
                || keyspace.tree.l0_run_count() > RUNS_MAX
        })
    }

    /// Tells whether one of its threads has ended.
    fn check(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }
}

fn has_spare_files(directory: &Path) -> Result<(), StorageError> {
    let open = |_| File::open(directory);
    let opened: std::io::Result<Vec<File>> = (0..FILES_SPARE).map(open).collect();
    let short = |error| StorageError::Failed(format!("it can't be opened again yet: {error}"));
    opened.map(drop).map_err(short)
}

fn size(batch: &[Put]) -> usize {
    batch
        .iter()
        .map(|put| 32 + put.key.len() + put.value.as_ref().map_or(0, |value| value.len()))
        .sum()
}
