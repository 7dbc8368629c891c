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
