//! The engine on a real disk.

use std::task::Poll;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::ports::{Put, conformance};

fn settings(durability: FjallDurability) -> FjallSettings {
    FjallSettings {
        durability,
        disk_reserve_bytes: 0,
        ..FjallSettings::default()
    }
}

const DURABILITIES: [FjallDurability; 2] =
    [FjallDurability::Always, FjallDurability::IntervalMs(5)];

fn put(name: &str, value: impl Into<Bytes>) -> Batch {
    vec![Put {
        space: Space::Records,
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(value.into()),
    }]
}

async fn read(storage: &FjallStorage, name: &str) -> Option<Bytes> {
    storage
        .read(
            Space::Records,
            vec![Bytes::copy_from_slice(name.as_bytes())],
        )
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    for durability in DURABILITIES {
        let settings = settings(durability);
        let directories = std::sync::Mutex::new(Vec::new());
        let fresh = async || {
            let directory = TempDir::new().unwrap();
            let storage = FjallStorage::open(directory.path(), &settings).unwrap();
            directories.lock().unwrap().push(directory);
            storage
        };
        conformance::storage_engine(fresh).await;

        conformance::storage_engine_reopened(fresh, async |storage: FjallStorage| {
            drop(storage);
            let path = directories
                .lock()
                .unwrap()
                .last()
                .unwrap()
                .path()
                .to_owned();
            FjallStorage::open(&path, &settings).unwrap()
        })
        .await;
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let directory = TempDir::new().unwrap();
    let settings = settings(FjallDurability::Always);
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    let second = FjallStorage::open(directory.path(), &settings)
        .err()
        .unwrap();
    assert!(
        matches!(&second, FjallOpenError::InUse { path } if path == directory.path()),
        "{second}"
    );
    storage.close();
    assert!(
        FjallStorage::open(directory.path(), &settings).is_ok(),
        "closing gives the directory back"
    );
    assert!(matches!(
        storage.commit(put("a", "1")).await,
        Err(StorageError::Failed(_))
    ));
    assert!(matches!(
        storage.read(Space::Records, vec![]).await,
        Err(StorageError::Failed(_))
    ));
}

#[tokio::test]
async fn closing_finishes_what_is_queued() {
    let directory = TempDir::new().unwrap();
    let settings = settings(FjallDurability::IntervalMs(60_000));
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    let keys: Vec<String> = (0..100).map(|n| format!("key {n}")).collect();
    // Polled once, a commit is queued, or done already if the writing thread was quick.
    let mut commits =
        futures::future::join_all(keys.iter().map(|key| storage.commit(put(key, "1"))));
    let quick = futures::poll!(&mut commits);
    storage.close();
    let done = match quick {
        Poll::Ready(done) => done,
        Poll::Pending => commits.await,
    };
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    for key in &keys {
        assert_eq!(read(&storage, key).await, Some("1".into()), "{key}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_reads() {
    let directory = TempDir::new().unwrap();
    let mut settings = settings(FjallDurability::Always);
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    storage.commit(put("a", "1")).await.unwrap();
    drop(storage);

    settings.disk_reserve_bytes = u64::MAX / 2;
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    assert!(matches!(
        storage.commit(put("a", "2")).await,
        Err(StorageError::Full(_))
    ));
    assert_eq!(read(&storage, "a").await, Some("1".into()));
}

#[tokio::test]
async fn what_the_engine_cannot_take_is_an_error() {
    let directory = TempDir::new().unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    for key in [Bytes::new(), vec![1; 65_536].into()] {
        let batch = vec![Put {
            space: Space::Records,
            key: key.clone(),
            value: None,
        }];
        assert!(storage.commit(batch).await.is_err());
        assert_eq!(
            storage.read(Space::Records, vec![key]).await,
            Ok(vec![None])
        );
    }
    storage.commit(put("a", "1")).await.unwrap();
}

#[tokio::test]
async fn a_panic_fails_the_query_it_is_in_and_no_other() {
    let directory = TempDir::new().unwrap();
    let settings = settings(FjallDurability::Always);
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    storage.commit(put("a", "1")).await.unwrap();
    for _ in 0..2 * settings.reader_threads {
        let panics = storage.inner.query(|answer, place| Query::Panic {
            _answer: answer,
            _place: place,
        });
        assert!(matches!(panics.await, Err(StorageError::Failed(_))));
        assert_eq!(read(&storage, "a").await, Some("1".into()));
    }
}

#[tokio::test]
async fn a_crash_while_the_directory_was_made_is_overcome() {
    let directory = TempDir::new().unwrap();
    let half_made = directory.path().join("engine.new");
    std::fs::create_dir_all(half_made.join("keyspaces")).unwrap();
    std::fs::write(half_made.join("0.jnl"), b"half").unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    storage.commit(put("a", "1")).await.unwrap();
    assert!(!half_made.exists());
}

#[tokio::test]
async fn interval_commits_are_synced_by_themselves() {
    let directory = TempDir::new().unwrap();
    let storage =
        FjallStorage::open(directory.path(), &settings(FjallDurability::IntervalMs(1))).unwrap();
    for _ in 0..5 {
        storage.commit(put("a", "1")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(storage.durability(), Durability::Interval);
}

#[tokio::test]
async fn many_waiting_commits_become_few_journal_entries() {
    let directory = TempDir::new().unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    let big = Bytes::from(vec![1; 256 * 1024]);
    let commits = (0..200).map(|_| storage.commit(put("big", big.clone())));
    for outcome in futures::future::join_all(commits).await {
        outcome.unwrap();
    }
    assert_eq!(read(&storage, "big").await, Some(big));
}

/// Values that don't get smaller.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(byte).collect()
}

/// The journals of an engine that is closed.
fn journals(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("engine")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut journals: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .collect();
    journals.sort_unstable();
    journals
}

const KEYS: u64 = 40;

/// A directory in which `KEYS` keys were acknowledged, one after the other, and its journal.
async fn acknowledged() -> (TempDir, PathBuf, Vec<u8>) {
    let directory = TempDir::new().unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    for n in 0..KEYS {
        let batch = put(&format!("key {n}"), noise(n, 50));
        storage.commit(batch).await.unwrap();
    }
    storage.close();
    let journal = journals(directory.path()).pop().unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let len = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (directory, journal, bytes[..len].to_vec())
}

fn is_lacking(storage: &FjallStorage) -> bool {
    matches!(storage.proof(), Proof::Lacking(_))
}

/// How many of them are there, all of those before the first that is not.
async fn present(storage: &FjallStorage) -> u64 {
    let mut present = 0;
    for n in 0..KEYS {
        if read(storage, &format!("key {n}")).await.is_some() {
            assert_eq!(present, n, "what comes after a loss is lost, too");
            present += 1;
        }
    }
    present
}

#[tokio::test]
async fn what_is_whole_raises_no_doubts() {
    let (directory, ..) = acknowledged().await;
    for _ in 0..2 {
        let storage =
            FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
        assert!(!is_lacking(&storage));
        assert_eq!(present(&storage).await, KEYS);
        storage.close();
    }
}

#[tokio::test]
async fn whatever_byte_of_the_journal_changes_what_is_lost_is_told() {
    let (directory, journal, bytes) = acknowledged().await;
    let mark = std::fs::read(directory.path().join("acknowledged")).unwrap();
    let step = bytes.len() / 60;
    let mut lossy = 0;
    for at in (0..bytes.len()).step_by(step) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        std::fs::write(&journal, &changed).unwrap();
        std::fs::write(directory.path().join("acknowledged"), &mark).unwrap();
        let opened = FjallStorage::open(directory.path(), &settings(FjallDurability::Always));
        let storage = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
        let left = present(&storage).await;
        if left == KEYS {
            storage.close();
            continue; // how the engine numbers its last entry makes no difference
        }
        assert!(is_lacking(&storage), "byte {at}: {left} are left");
        lossy += 1;
        storage.close();
        // Nothing was committed on top of it: it is told again.
        let storage =
            FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
        assert!(is_lacking(&storage), "byte {at}");
        storage.commit(put("after", "1")).await.unwrap();
        assert!(!is_lacking(&storage));
        storage.close();
        let storage =
            FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
        assert!(!is_lacking(&storage), "byte {at}");
        assert_eq!(present(&storage).await, left);
        assert_eq!(read(&storage, "after").await, Some("1".into()));
        storage.close();
        // What was found is kept.
        let name = journal.file_name().unwrap();
        let _ = std::fs::remove_file(directory.path().join("damaged").join(name));
    }
    assert!(lossy >= 50);
}

#[tokio::test]
async fn an_acknowledged_commit_that_is_cut_off_is_told() {
    let (directory, journal, bytes) = acknowledged().await;
    std::fs::write(&journal, &bytes[..bytes.len() - 5]).unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    assert_eq!(present(&storage).await, KEYS - 1);
    let Proof::Lacking(why) = storage.proof() else {
        panic!("nothing is told");
    };
    assert!(why.contains("are missing"), "{why}");
}

#[tokio::test]
async fn a_commit_that_was_being_written_raises_no_doubts() {
    let (directory, journal, bytes) = acknowledged().await;
    let torn = [&bytes[..], &bytes[..bytes.len() / 50]].concat();
    std::fs::write(&journal, torn).unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    assert!(!is_lacking(&storage));
    assert_eq!(present(&storage).await, KEYS);
}

#[tokio::test]
async fn without_its_mark_an_engine_is_in_doubt() {
    for junk in [None, Some([7; 9000])] {
        let (directory, ..) = acknowledged().await;
        let mark = directory.path().join("acknowledged");
        std::fs::remove_file(&mark).unwrap();
        if let Some(junk) = junk {
            std::fs::write(&mark, junk).unwrap();
        }
        let settings = settings(FjallDurability::IntervalMs(60_000));
        for _ in 0..2 {
            let storage = FjallStorage::open(directory.path(), &settings).unwrap();
            assert!(is_lacking(&storage), "and is so at the next start");
            storage.close();
        }
        let storage = FjallStorage::open(directory.path(), &settings).unwrap();
        storage.commit(put("a", "1")).await.unwrap();
        assert!(is_lacking(&storage), "that is not durable yet");
        storage.sync().await.unwrap();
        assert!(!is_lacking(&storage));
        storage.close();
        let storage = FjallStorage::open(directory.path(), &settings).unwrap();
        assert!(!is_lacking(&storage));
    }
}

#[tokio::test]
async fn damage_that_ends_the_start_names_the_way_out() {
    let (directory, ..) = acknowledged().await;
    let keyspaces = directory.path().join("engine/keyspaces");
    for entry in std::fs::read_dir(keyspaces).unwrap() {
        let current = entry.unwrap().path().join("current");
        std::fs::write(current, "junk").unwrap();
    }
    let opened = FjallStorage::open(directory.path(), &settings(FjallDurability::Always));
    let error = opened.err().unwrap();
    assert!(matches!(error, FjallOpenError::Damaged { .. }), "{error}");
    assert!(error.way_out().contains("runbooks/storage-node.md"));
}

/// The engine can't make its next journal, as when there are too few file descriptors: one of its threads ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_failed_is_read_and_opened_again_in_place() {
    const VALUE_LEN: usize = 1024 * 1024;
    let directory = TempDir::new().unwrap();
    let settings = FjallSettings {
        memtable_bytes: 4 * VALUE_LEN as u64,
        ..settings(FjallDurability::Always)
    };
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    storage.commit(put("small", "1")).await.unwrap();
    assert_eq!(storage.reopen().await, Ok(()), "nothing to do");
    let in_its_way = directory.path().join("engine/1.jnl");
    std::fs::create_dir(&in_its_way).unwrap();
    let mut acknowledged = 0;
    let failed = loop {
        match storage
            .commit(put(
                &format!("{acknowledged}"),
                noise(acknowledged, VALUE_LEN),
            ))
            .await
        {
            Ok(()) => acknowledged += 1,
            Err(failed) => break failed,
        }
        assert!(acknowledged < 400, "it does not fail");
    };
    assert!(matches!(failed, StorageError::Failed(_)), "{failed}");
    assert!(storage.commit(put("a", "1")).await.is_err());
    assert!(storage.sync().await.is_err());
    assert_eq!(read(&storage, "small").await, Some("1".into()));
    std::fs::remove_dir(&in_its_way).unwrap();
    storage.reopen().await.unwrap();
    assert_eq!(
        storage.proof(),
        Proof::Whole,
        "all is there that was acknowledged"
    );
    for n in 0..acknowledged {
        let found = read(&storage, &n.to_string()).await;
        assert!(found == Some(noise(n, VALUE_LEN)), "{n}");
    }
    for n in 0..80 {
        let batch = put(&n.to_string(), noise(n, VALUE_LEN));
        storage.commit(batch).await.unwrap();
    }
    storage.close();
    let storage = FjallStorage::open(directory.path(), &settings).unwrap();
    assert!(!is_lacking(&storage));
}

#[tokio::test]
async fn only_its_owner_reads_what_is_stored() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, journal, _) = acknowledged().await;
    let shared = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), shared.clone()).unwrap();
    std::fs::set_permissions(&journal, shared).unwrap();
    let storage = FjallStorage::open(directory.path(), &settings(FjallDurability::Always)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&journal), 0o700 & 0o755);
    assert_eq!(mode(&directory.path().join("acknowledged")), 0o600);
    storage.close();
}
