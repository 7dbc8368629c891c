//! The data directory: whose it is, how it comes to be, and whether what was acknowledged is in it.
//!
//! | in it | what |
//! |---|---|
//! | `lock` | locked by the process that has the directory |
//! | `engine/` | the engine's files |
//! | `engine.new/` | an engine in the making; left over when that was interrupted, and then removed |
//! | `acknowledged` | up to where commits were acknowledged; see [`commits`](super::commits) |
//! | `damaged/` | journals that were found damaged, as they were found |
//! | `joining` | the process has begun to ask to be part of a cluster (not the engine's business) |
//!
//! The engine does not survive a crash while it makes its first files: it finds a journal without a version and gives
//! up for good. So it is made aside and takes its name when it is whole.
//!
//! Of which version the data is, the replica's identity says, which is in the engine. Files of a newer engine are left
//! alone before anything looks into them.
//!
//! What is lost is known again at the next start until something was committed on top of it: whoever opens the
//! directory makes what follows from the loss part of that commit.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use fjall::config::{BlockSizePolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use rustix::process::{Resource, getrlimit};

use super::commits::{Acknowledged, Found, KEY, Mark, Numbered};
use super::engine::Engine;
use super::somewhere::Somewhere;
use super::{FjallOpenError, FjallSettings, journal, private};
use crate::adapters::directories;
use crate::ports::Proof;

const LOCK: &str = "lock";
const ENGINE: &str = "engine";
const ENGINE_NEW: &str = "engine.new";
const DAMAGED: &str = "damaged";
/// In the engine's directory: its name, and the format of its files.
const FORMAT_MARKER: &str = "version";
/// In the engine's directory: a directory for each keyspace.
const KEYSPACES: &str = "keyspaces";
/// What the engine that this program is built with writes.
const FORMAT: u8 = 3;
const JOURNAL_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// There is one key in it, and every commit changes it.
const COMMITS_MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;

/// The right to use the directory, until it is dropped.
pub(super) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a process that is just being started has it open, too, until it becomes what it
    /// is to run.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the data directory could not be unlocked");
        }
    }
}

/// An engine, and what is known of what it holds.
pub(super) struct Opened {
    pub(super) engine: Engine,
    pub(super) mark: Mark,
    /// The number of the last commit that there was, lost ones included.
    pub(super) number: u64,
    /// The number of the last commit that is there.
    pub(super) previous: u64,
    pub(super) proof: Proof,
}

/// How long an engine that was closed may take to let go of its files.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
const CLOSE_PAUSE: Duration = Duration::from_millis(1);
/// Files that the engine keeps open, of all that the process may have open: so many at most, and such a part.
const FILES_MAX: u64 = 900;
const FILES_MIN: u64 = 16;
const FILES_PART: u64 = 8;

pub(super) fn open(
    directory: &Path,
    settings: &FjallSettings,
) -> Result<(DirectoryLock, Opened), FjallOpenError> {
    let failed = |error: io::Error| FjallOpenError::failed(directory, error);
    private::make(directory).map_err(failed)?;
    let lock = lock(directory)?;
    private::hide(directory);
    let whole = directory.join(ENGINE);
    if !whole.try_exists().map_err(failed)? {
        make(directory, settings)?;
    }
    Ok((lock, open_checked(directory, settings)?))
}

/// Makes a new engine.
fn make(directory: &Path, settings: &FjallSettings) -> Result<(), FjallOpenError> {
    let failed = |error: io::Error| FjallOpenError::failed(directory, error);
    let of_engine = |error: fjall::Error| FjallOpenError::from_engine(directory, error);
    let new = directory.join(ENGINE_NEW);
    if new.try_exists().map_err(failed)? {
        fs::remove_dir_all(&new).map_err(failed)?;
    }
    private::make(&new).map_err(failed)?;
    let engine = open_engine(&new, settings).map_err(of_engine)?;
    engine
        .database
        .persist(PersistMode::SyncAll)
        .map_err(of_engine)?;
    drop(engine);
    fs::rename(&new, directory.join(ENGINE)).map_err(failed)?;
    directories::sync(directory).map_err(failed)
}

/// Opens again what was open and failed. `acknowledged` is exact: it was not lost with a process.
pub(super) fn reopen(
    directory: &Path,
    settings: &FjallSettings,
    acknowledged: u64,
) -> Result<Opened, FjallOpenError> {
    let failed = |error: io::Error| FjallOpenError::failed(directory, error);
    let engine = directory.join(ENGINE).canonicalize().map_err(failed)?;
    await_closed(&engine).map_err(failed)?;
    journal::rewrite_last(&engine).map_err(failed)?;
    let mut opened = open_checked(directory, settings)?;
    let is_lacking = matches!(opened.proof, Proof::Lacking(_));
    if !is_lacking && opened.previous < acknowledged {
        opened.proof = Proof::Lacking(missing(acknowledged, opened.previous));
    }
    opened.number = opened.number.max(acknowledged);
    Ok(opened)
}

/// Threads of an engine that was closed may have its journal for a moment longer, and write to it.
fn await_closed(engine: &Path) -> io::Result<()> {
    let give_up = Instant::now() + CLOSE_PATIENCE;
    while is_open(engine) {
        if Instant::now() >= give_up {
            return Err(io::Error::other("the engine does not let go of its files"));
        }
        std::thread::sleep(CLOSE_PAUSE);
    }
    Ok(())
}

/// Whether this process has a file below `engine` open; no, on systems that can't tell.
fn is_open(engine: &Path) -> bool {
    let is_of_engine = |link: io::Result<fs::DirEntry>| {
        let path = link.and_then(|link| fs::read_link(link.path()));
        path.is_ok_and(|path| path.starts_with(engine))
    };
    fs::read_dir("/proc/self/fd").is_ok_and(|mut links| links.any(is_of_engine))
}

/// Refuses files of a newer engine: what is sound there must not be taken for damage, and repaired.
fn check_format(directory: &Path) -> Result<(), FjallOpenError> {
    let marker = fs::read(directory.join(ENGINE).join(FORMAT_MARKER));
    match marker.as_deref() {
        Ok([b'F', b'J', b'L', found, ..]) if *found > FORMAT => Err(FjallOpenError::Newer {
            path: directory.into(),
            found: *found,
            understood: FORMAT,
        }),
        _ => Ok(()), // the engine itself says what is wrong with it, if anything is
    }
}

/// Opens the engine and finds out whether it has all that was acknowledged.
fn open_checked(directory: &Path, settings: &FjallSettings) -> Result<Opened, FjallOpenError> {
    let failed = |error: io::Error| FjallOpenError::failed(directory, error);
    let of_engine = |error: fjall::Error| FjallOpenError::from_engine(directory, error);
    check_format(directory)?;
    let path = directory.join(ENGINE);
    let (mut mark, found) = Mark::open(directory).map_err(failed)?;
    let (acknowledged, is_exact) = match found {
        Found::Says {
            acknowledged,
            is_exact,
        } => (acknowledged, is_exact),
        Found::Nothing | Found::Unreadable => (Acknowledged::default(), false),
    };
    let mut doubts = acknowledged.is_lossy.then(|| {
        "it was found at an earlier start that acknowledged commits are missing".to_owned()
    });
    let checked = journal::check(&path).map_err(failed)?;
    if let Some(damage) = &checked.damage {
        // First what must not be forgotten, then what makes it unseen.
        let lossy = Acknowledged {
            is_lossy: true,
            ..acknowledged
        };
        mark.write(lossy)
            .and_then(|()| mark.sync())
            .map_err(failed)?;
        journal::take_back(damage, &directory.join(DAMAGED)).map_err(failed)?;
        doubts = Some(damage.to_string());
    }
    let open = AssertUnwindSafe(|| open_engine(&path, settings));
    let engine = catch_unwind(open)
        .map_err(|_| FjallOpenError::panicked(directory))?
        .map_err(of_engine)?;
    let stored = engine.commits.get(KEY).map_err(of_engine)?;
    let stored = stored.and_then(|stored| Numbered::decode(KEY, &stored));
    let stored = stored.map(|stored| stored.number);
    if doubts.is_none() {
        doubts = match found {
            Found::Says { .. } if stored.unwrap_or(0) < acknowledged.number => {
                Some(missing(acknowledged.number, stored.unwrap_or(0)))
            }
            Found::Unreadable => Some("the mark of what was acknowledged can't be read".into()),
            Found::Nothing if stored.is_some() => {
                Some("the mark of what was acknowledged is gone".into())
            }
            Found::Says { .. } | Found::Nothing => None,
        };
    }
    let number = stored.unwrap_or(0).max(acknowledged.number);
    if let Some(doubts) = &doubts {
        let lossy = Acknowledged {
            number,
            is_lossy: true,
        };
        mark.write(lossy)
            .and_then(|()| mark.sync())
            .map_err(failed)?;
        tracing::error!(directory = %directory.display(), doubts, "acknowledged commits are missing, or may be");
    }
    Ok(Opened {
        engine,
        mark,
        number,
        previous: checked.number.or(stored).unwrap_or(0),
        proof: match doubts {
            Some(why) => Proof::Lacking(why),
            None if is_exact => Proof::Whole,
            None => Proof::Synced,
        },
    })
}

fn missing(acknowledged: u64, stored: u64) -> String {
    format!(
        "commits up to number {acknowledged} were acknowledged, and those after {stored} are missing"
    )
}

fn lock(directory: &Path) -> Result<DirectoryLock, FjallOpenError> {
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK));
    let file = open.map_err(|error| FjallOpenError::failed(directory, error))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { file }),
        Err(TryLockError::WouldBlock) => Err(FjallOpenError::InUse {
            path: directory.into(),
        }),
        Err(TryLockError::Error(error)) => Err(FjallOpenError::failed(directory, error)),
    }
}

fn open_engine(path: &Path, settings: &FjallSettings) -> fjall::Result<Engine> {
    let may_open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = (may_open / FILES_PART).clamp(FILES_MIN, FILES_MAX);
    let database = Database::builder(path)
        .cache_size(settings.cache_bytes)
        .max_cached_files(usize::try_from(files).ok())
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
    let engine = Engine {
        records,
        meta: small("meta")?,
        digests: small("digests")?,
        tombstones: small("tombstones")?,
        hints: small("hints")?,
        commits: database.keyspace("commits", || {
            KeyspaceCreateOptions::default().max_memtable_size(COMMITS_MEMTABLE_BYTES)
        })?,
        somewhere: Somewhere::default(),
        database,
    };
    // The engine syncs what is in a keyspace's directory, and not the one that this is in.
    directories::sync(&path.join(KEYSPACES))?;
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files below a directory, and what is in them.
    fn files(below: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => found.extend(files(&path)),
                false => found.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
        found.sort();
        found
    }

    #[test]
    fn files_of_a_newer_engine_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let settings = FjallSettings::default();
        drop(open(directory.path(), &settings).unwrap());
        let marker = directory.path().join(ENGINE).join(FORMAT_MARKER);
        let [magic @ .., format] = &fs::read(&marker).unwrap()[..] else {
            panic!("the engine marks its files otherwise");
        };
        assert_eq!((magic, *format), (&b"FJL"[..], FORMAT));
        fs::write(&marker, [magic, &[FORMAT + 1]].concat()).unwrap();
        let before = files(&directory.path().join(ENGINE));
        let refused = open(directory.path(), &settings).err().unwrap();
        assert!(
            matches!(
                refused,
                FjallOpenError::Newer {
                    found: 4,
                    understood: 3,
                    ..
                }
            ),
            "{refused}"
        );
        assert!(refused.to_string().contains("format 4"), "{refused}");
        assert!(refused.way_out().contains("upgrade.md"));
        assert_eq!(files(&directory.path().join(ENGINE)), before);
    }

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
