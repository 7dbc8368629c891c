//! What every storage engine must do.
//!
//! Two suites: one for a running engine, one for what a reopened engine still holds. Both take ways to make engines, so
//! that they know nothing of paths, disks or crashes.

use bytes::Bytes;
use futures::future::join_all;

use crate::ports::{Batch, Put, Space, StorageEngine};

const VALUE_LEN_BIG: usize = 1024 * 1024;

/// Runs the suite; `fresh` makes an engine that holds nothing.
///
/// # Panics
/// At the first thing that is not as [`StorageEngine`] says.
pub async fn storage_engine<E: StorageEngine>(fresh: impl AsyncFn() -> E) {
    reads_what_was_committed(&fresh().await).await;
    an_empty_value_is_a_value(&fresh().await).await;
    the_later_change_of_a_batch_wins(&fresh().await).await;
    spaces_are_separate(&fresh().await).await;
    deletes(&fresh().await).await;
    scans_in_order_within_bounds(&fresh().await).await;
    names_longer_than_any_key_are_asked_for(&fresh().await).await;
    counts_are_exact_at_zero(&fresh().await).await;
    big_values_come_back(&fresh().await).await;
    nothing_is_fine_too(&fresh().await).await;
    concurrent_commits_all_take_effect(&fresh().await).await;
    batches_are_atomic(&fresh().await).await;
}

/// Runs the suite on what is left after `reopen`, which ends an engine and opens another on the same data.
///
/// # Panics
/// When something committed is gone, or something deleted is back.
pub async fn storage_engine_reopened<E: StorageEngine>(
    fresh: impl AsyncFn() -> E,
    reopen: impl AsyncFn(E) -> E,
) {
    let engine = fresh().await;
    let big = Bytes::from(vec![7; VALUE_LEN_BIG]);
    commit(
        &engine,
        vec![put("kept", "old"), put("deleted", "x"), put("empty", "")],
    )
    .await;
    commit(&engine, vec![put("kept", "new"), delete("deleted")]).await;
    commit(
        &engine,
        vec![Put {
            space: Space::Meta,
            key: key("meta"),
            value: Some(big.clone()),
        }],
    )
    .await;
    engine.sync().await.expect("sync");

    let engine = reopen(engine).await;
    assert_eq!(
        read(&engine, &["kept", "deleted", "empty"]).await,
        [value("new"), None, value("")]
    );
    let meta = engine
        .read(Space::Meta, vec![key("meta")])
        .await
        .expect("read");
    assert!(meta == [Some(big)], "a big value is still there");
    assert_eq!(scan(&engine, "", None, 10).await, ["empty", "kept"]);

    commit(&engine, vec![put("kept", "newest")]).await;
    engine.sync().await.expect("sync");
    let engine = reopen(reopen(engine).await).await;
    assert_eq!(
        read(&engine, &["kept"]).await,
        [value("newest")],
        "a commit after reopening wins over those before"
    );
}

async fn reads_what_was_committed(engine: &impl StorageEngine) {
    assert_eq!(read(engine, &["a", "b"]).await, [None, None]);
    commit(engine, vec![put("a", "1"), put("b", "2")]).await;
    assert_eq!(
        read(engine, &["b", "missing", "a", "a"]).await,
        [value("2"), None, value("1"), value("1")]
    );
    for n in 0..50 {
        commit(engine, vec![put("a", &n.to_string())]).await;
        assert_eq!(
            read(engine, &["a"]).await,
            [value(&n.to_string())],
            "one's own commit is seen at once"
        );
    }
}

async fn an_empty_value_is_a_value(engine: &impl StorageEngine) {
    commit(engine, vec![put("empty", "")]).await;
    assert_eq!(read(engine, &["empty", "absent"]).await, [value(""), None]);
    assert_eq!(scan(engine, "", None, 10).await, ["empty"]);
}

async fn the_later_change_of_a_batch_wins(engine: &impl StorageEngine) {
    commit(
        engine,
        vec![
            put("a", "1"),
            put("a", "2"),
            put("b", "1"),
            delete("b"),
            delete("c"),
            put("c", "3"),
        ],
    )
    .await;
    assert_eq!(
        read(engine, &["a", "b", "c"]).await,
        [value("2"), None, value("3")]
    );
}

async fn spaces_are_separate(engine: &impl StorageEngine) {
    let meta = Put {
        space: Space::Meta,
        key: key("a"),
        value: value("meta"),
    };
    commit(engine, vec![put("a", "record"), meta]).await;
    assert_eq!(read(engine, &["a"]).await, [value("record")]);
    assert_eq!(
        engine.read(Space::Meta, vec![key("a")]).await,
        Ok(vec![value("meta")])
    );
    commit(engine, vec![delete("a")]).await;
    assert_eq!(
        engine.read(Space::Meta, vec![key("a")]).await,
        Ok(vec![value("meta")])
    );
}

async fn deletes(engine: &impl StorageEngine) {
    commit(engine, vec![put("a", "1"), put("b", "2")]).await;
    commit(engine, vec![delete("a"), delete("never there")]).await;
    assert_eq!(read(engine, &["a", "b"]).await, [None, value("2")]);
    assert_eq!(scan(engine, "", None, 10).await, ["b"]);
    commit(engine, vec![put("a", "again")]).await;
    assert_eq!(read(engine, &["a"]).await, [value("again")]);
}

async fn scans_in_order_within_bounds(engine: &impl StorageEngine) {
    commit(
        engine,
        ["d", "a", "c", "b", "ab"]
            .into_iter()
            .map(|name| put(name, name))
            .collect(),
    )
    .await;
    assert_eq!(scan(engine, "", None, 10).await, ["a", "ab", "b", "c", "d"]);
    assert_eq!(
        scan(engine, "ab", Some("d"), 10).await,
        ["ab", "b", "c"],
        "from is in it, to is not"
    );
    assert_eq!(
        scan(engine, "aa", Some("bb"), 10).await,
        ["ab", "b"],
        "bounds need not be there"
    );
    assert_eq!(scan(engine, "", None, 2).await, ["a", "ab"]);
    assert_eq!(scan(engine, "", None, 0).await, [""; 0]);
    assert_eq!(scan(engine, "c", Some("c"), 10).await, [""; 0]);
    assert_eq!(
        scan(engine, "d", Some("a"), 10).await,
        [""; 0],
        "bounds the wrong way round hold nothing"
    );
    let pairs = engine
        .scan(Space::Records, key("ab"), None, 1)
        .await
        .expect("scan");
    assert_eq!(pairs, [(key("ab"), Bytes::from_static(b"ab"))]);
}

async fn names_longer_than_any_key_are_asked_for(engine: &impl StorageEngine) {
    let longest = "k".repeat(1024);
    commit(
        engine,
        vec![put("j", "1"), put(&longest, "2"), put("l", "3")],
    )
    .await;
    for len in [65_535, 65_536, 66_003, 1 << 20] {
        let name = "k".repeat(len);
        assert_eq!(
            read(engine, &["j", &name, "l"]).await,
            [Some("1".into()), None, Some("3".into())],
            "{len}"
        );
        let keys = async |from: Bytes, to| {
            let pairs = engine.scan(Space::Records, from, to, 9).await;
            let pairs = pairs.expect("a scan");
            pairs.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(key(&name), None).await, [key("l")], "{len}");
        assert_eq!(
            keys(Bytes::new(), Some(key(&name))).await,
            [key("j"), key(&longest)],
            "{len}"
        );
        assert!(keys(key(&name), Some(key(&name))).await.is_empty(), "{len}");
    }
}

async fn counts_are_exact_at_zero(engine: &impl StorageEngine) {
    assert_eq!(engine.approximate_count(Space::Records).await, Ok(0));
    let meta = Put {
        space: Space::Meta,
        key: key("m"),
        value: value(""),
    };
    commit(engine, vec![meta]).await;
    assert_eq!(
        engine.approximate_count(Space::Records).await,
        Ok(0),
        "each space counts its own"
    );
    commit(engine, vec![put("a", "")]).await;
    assert_ne!(engine.approximate_count(Space::Records).await, Ok(0));
    commit(engine, vec![delete("a")]).await;
    assert_eq!(
        engine.approximate_count(Space::Records).await,
        Ok(0),
        "what is deleted does not count"
    );
}

async fn big_values_come_back(engine: &impl StorageEngine) {
    let big: Bytes = (0..VALUE_LEN_BIG).map(|n| (n % 251) as u8).collect();
    let puts = ["big 1", "big 2", "big 3"];
    commit(
        engine,
        puts.iter()
            .map(|name| Put {
                space: Space::Records,
                key: key(name),
                value: Some(big.clone()),
            })
            .collect(),
    )
    .await;
    for found in read(engine, &puts).await {
        assert!(
            found.as_ref() == Some(&big),
            "a big value comes back as it was"
        );
    }
}

async fn nothing_is_fine_too(engine: &impl StorageEngine) {
    assert_eq!(read(engine, &[]).await, []);
    commit(engine, Batch::new()).await;
    engine.sync().await.expect("sync");
    engine.sync().await.expect("sync");
}

async fn concurrent_commits_all_take_effect(engine: &impl StorageEngine) {
    let writers = (0..16).map(|writer| async move {
        let own = format!("own {writer}");
        for n in 0..20 {
            commit(
                engine,
                vec![
                    put(&own, &n.to_string()),
                    put(&format!("{writer} {n}"), "x"),
                ],
            )
            .await;
            assert_eq!(
                read(engine, &[&own]).await,
                [value(&n.to_string())],
                "in the order of one caller's commits"
            );
        }
    });
    join_all(writers).await;
    assert_eq!(
        engine
            .scan(Space::Records, key(""), None, 1000)
            .await
            .expect("scan")
            .len(),
        16 + 16 * 20
    );
}

/// Keys that are always written together are always read together.
async fn batches_are_atomic(engine: &impl StorageEngine) {
    let together = ["x", "y", "z"];
    let writers = (0..4).map(|writer| async move {
        for n in 0..50 {
            let text = format!("{writer}/{n}");
            commit(
                engine,
                together.iter().map(|name| put(name, &text)).collect(),
            )
            .await;
        }
    });
    let readers = (0..4).map(|_| async move {
        for _ in 0..50 {
            let found = read(engine, &together).await;
            assert!(
                found.iter().all(|one| *one == found[0]),
                "half of a batch was read: {found:?}"
            );
            let pairs = engine
                .scan(Space::Records, key(""), None, 10)
                .await
                .expect("scan");
            assert!(
                pairs.iter().all(|(_, one)| *one == pairs[0].1),
                "half of a batch was scanned: {pairs:?}"
            );
        }
    });
    futures::join!(join_all(writers), join_all(readers));
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn value(text: &str) -> Option<Bytes> {
    Some(key(text))
}

fn put(name: &str, text: &str) -> Put {
    Put {
        space: Space::Records,
        key: key(name),
        value: value(text),
    }
}

fn delete(name: &str) -> Put {
    Put {
        space: Space::Records,
        key: key(name),
        value: None,
    }
}

async fn commit(engine: &impl StorageEngine, batch: Batch) {
    engine.commit(batch).await.expect("commit");
}

async fn read(engine: &impl StorageEngine, names: &[&str]) -> Vec<Option<Bytes>> {
    let keys = names.iter().map(|name| key(name)).collect();
    engine.read(Space::Records, keys).await.expect("read")
}

async fn scan(
    engine: &impl StorageEngine,
    from: &str,
    to: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let pairs = engine
        .scan(Space::Records, key(from), to.map(key), limit)
        .await
        .expect("scan");
    pairs
        .into_iter()
        .map(|(key, _)| String::from_utf8_lossy(&key).into_owned())
        .collect()
}
