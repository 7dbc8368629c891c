//! The data directory: whose it is, and how it comes to be.
//!
//! | in it | what |
//! |---|---|
//! | `lock` | locked by the process that has the directory |
//! | `engine/` | the engine's files |
//! | `engine.new/` | an engine in the making; left over when that was interrupted, and then removed |
//!
//! The engine does not survive a crash while it makes its first files: it finds a journal without a version and gives
//! up for good. So it is made aside and takes its name when it is whole.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use fjall::config::{BlockSizePolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use super::{Engine, FjallOpenError, FjallSettings};

const LOCK: &str = "lock";
const ENGINE: &str = "engine";
const ENGINE_NEW: &str = "engine.new";
const JOURNAL_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// The right to use the directory, until it is dropped.
pub(super) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a process that is just being started has it open, too, until it becomes what it is to run.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the data directory could not be unlocked");
        }
    }
}

pub(super) fn open(
    directory: &Path,
    settings: &FjallSettings,
) -> Result<(DirectoryLock, Engine), FjallOpenError> {
    let failed = |error: io::Error| FjallOpenError::failed(directory, &error);
    let of_engine = |error: fjall::Error| FjallOpenError::from_engine(directory, &error);

    fs::create_dir_all(directory).map_err(failed)?;
    let lock = lock(directory)?;
    let whole = directory.join(ENGINE);
    if !whole.try_exists().map_err(failed)? {
        let new = directory.join(ENGINE_NEW);
        if new.try_exists().map_err(failed)? {
            fs::remove_dir_all(&new).map_err(failed)?;
        }
        let engine = open_engine(&new, settings).map_err(of_engine)?;
        engine
            .database
            .persist(PersistMode::SyncAll)
            .map_err(of_engine)?;
        drop(engine);
        fs::rename(&new, &whole).map_err(failed)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
    }
    let engine = open_engine(&whole, settings).map_err(of_engine)?;
    Ok((lock, engine))
}

fn lock(directory: &Path) -> Result<DirectoryLock, FjallOpenError> {
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK));
    let file = open.map_err(|error| FjallOpenError::failed(directory, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { file }),
        Err(TryLockError::WouldBlock) => Err(FjallOpenError::InUse {
            path: directory.into(),
        }),
        Err(TryLockError::Error(error)) => Err(FjallOpenError::failed(directory, &error)),
    }
}

fn open_engine(path: &Path, settings: &FjallSettings) -> fjall::Result<Engine> {
    let database = Database::builder(path)
        .cache_size(settings.cache_bytes)
        .max_journaling_size(settings.journal_bytes_max.max(JOURNAL_BYTES_MIN))
        .worker_threads(settings.background_threads.max(1))
        .open()?;
    let records = database.keyspace("records", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(settings.memtable_bytes)
            .data_block_size_policy(BlockSizePolicy::all(4096))
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                fjall::config::BloomConstructionPolicy::BitsPerKey(10.0),
            )))
    })?;
    let small = |name| database.keyspace(name, KeyspaceCreateOptions::default);
    Ok(Engine {
        records,
        meta: small("meta")?,
        digests: small("digests")?,
        tombstones: small("tombstones")?,
        hints: small("hints")?,
        database,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_back_though_a_child_has_inherited_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let inherited = first.file.try_clone().unwrap();
        assert!(matches!(
            lock(directory.path()),
            Err(FjallOpenError::InUse { .. })
        ));
        drop(first);
        assert!(lock(directory.path()).is_ok());
        drop(inherited);
    }
}
