//! The suites on files, and what only files have: reopening, sharing, damage, other versions, locks.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use super::migrations::MIGRATIONS;
use super::*;
use crate::adapters::tokio::TokioClock;
use crate::placement::{Epoch, Node, NodeId, NodeStatus, PartitionId, Topology};
use crate::ports::{
    Change, Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, LeaseOutcome,
    MetadataEvent, MetadataStore, RecordKey, Tenant, TenantId, conformance,
};
use crate::version::{Stamp, WriteId};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn metadata_conforms() {
    let fresh = async || ephemeral().await.metadata;
    conformance::metadata_store(fresh, &TokioClock::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_conforms() {
    let fresh = async || ephemeral().await.idempotency;
    conformance::idempotency_store(fresh, tokio::time::sleep).await;
}

#[tokio::test]
async fn a_new_file_has_the_default_tenant() {
    conformance::default_tenant(&ephemeral().await.metadata).await;
}

#[tokio::test]
async fn what_is_stored_is_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let stores = open(&directory).await;
    let kept = tenant("kept");
    stores.metadata.create_tenant(kept.clone()).await.unwrap();
    stores
        .metadata
        .replace_topology(Epoch(0), topology(4))
        .await
        .unwrap();
    stores
        .idempotency
        .claim(&scope("pending"), claim(1), MINUTE, MINUTE)
        .await
        .unwrap();
    stores
        .idempotency
        .complete(
            &scope("done"),
            claim(2),
            Bytes::from_static(b"answer"),
            MINUTE,
        )
        .await
        .unwrap();
    stores.close().await;

    let stores = open(&directory).await;
    assert_eq!(stores.metadata.tenant(&kept.id).await, Ok(Some(kept)));
    assert_eq!(stores.metadata.topology().await, Ok(topology(4)));
    let pending = stores
        .idempotency
        .claim(&scope("pending"), claim(9), MINUTE, MINUTE)
        .await;
    assert_eq!(pending, Ok(ClaimOutcome::Pending(claim(1))));
    let done = stores
        .idempotency
        .complete(&scope("done"), claim(9), Bytes::new(), MINUTE)
        .await;
    assert_eq!(done, Ok(Completion::Already(Bytes::from_static(b"answer"))));
}

#[tokio::test]
async fn many_open_a_new_file_at_once() {
    let directory = TempDir::new().unwrap();
    let all = join_all((0..8).map(|_| open(&directory))).await;
    for stores in &all {
        conformance::default_tenant(&stores.metadata).await;
    }
}

#[tokio::test]
async fn handles_of_one_file_see_and_tell_each_other() {
    let directory = TempDir::new().unwrap();
    let (one, other) = (
        open(&directory).await.metadata,
        open(&directory).await.metadata,
    );
    let mut events = other.watch();
    one.create_tenant(tenant("told")).await.unwrap();
    one.replace_topology(Epoch(0), topology(1)).await.unwrap();
    let mut awaited = vec![
        MetadataEvent::Tenant(tenant("told").id),
        MetadataEvent::Topology(Epoch(1)),
    ];
    while !awaited.is_empty() {
        let event = tokio::time::timeout(MINUTE, events.next())
            .await
            .unwrap()
            .unwrap();
        awaited.retain(|other| *other != event);
    }
    assert_eq!(
        other.tenant(&tenant("told").id).await,
        Ok(Some(tenant("told")))
    );
    assert_eq!(other.topology().await, Ok(topology(1)));
}

#[tokio::test]
async fn a_watcher_catches_up_with_more_than_one_look_tells() {
    let directory = TempDir::new().unwrap();
    let (one, other) = (
        open(&directory).await.metadata,
        open(&directory).await.metadata,
    );
    let mut events = other.watch();
    let ids: Vec<TenantId> = (0..200).map(|n| tenant(&format!("t{n}")).id).collect();
    for id in &ids {
        one.create_tenant(Tenant {
            id: id.clone(),
            ..tenant("t")
        })
        .await
        .unwrap();
    }
    for id in ids {
        let event = tokio::time::timeout(MINUTE, events.next()).await.unwrap();
        assert_eq!(event, Some(MetadataEvent::Tenant(id)));
    }
}

#[tokio::test]
async fn handles_of_one_file_race_for_a_claim_and_an_epoch() {
    let directory = TempDir::new().unwrap();
    let handles = join_all((0..4).map(|_| open(&directory))).await;
    let claims = (0..40).map(|n| {
        let store = &handles[n % handles.len()].idempotency;
        async move {
            store
                .claim(&scope("raced"), claim(n as u64), MINUTE, MINUTE)
                .await
                .unwrap()
        }
    });
    let outcomes = join_all(claims).await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == ClaimOutcome::Claimed)
            .count(),
        1
    );

    let changes = handles
        .iter()
        .map(|stores| stores.metadata.replace_topology(Epoch(0), topology(1)));
    let changes = join_all(changes).await;
    assert_eq!(
        changes
            .iter()
            .filter(|change| matches!(change, Ok(Change::Made(_))))
            .count(),
        1,
        "{changes:?}"
    );
}

#[tokio::test]
async fn expired_rows_are_removed() {
    let stores = ephemeral().await;
    for n in 0..100 {
        stores
            .idempotency
            .claim(
                &scope(&format!("old {n}")),
                claim(n),
                MINUTE,
                Duration::ZERO,
            )
            .await
            .unwrap();
    }
    for n in 0..40 {
        stores
            .idempotency
            .claim(&scope(&format!("new {n}")), claim(n), MINUTE, MINUTE)
            .await
            .unwrap();
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency")
        .fetch_one(stores.database.readers())
        .await
        .unwrap();
    assert_eq!(rows, 40);
}

#[tokio::test]
async fn a_call_does_not_wait_for_ever_for_another_writer() {
    let directory = TempDir::new().unwrap();
    let settings = SqliteSettings {
        call_timeout: Duration::from_millis(200),
        ..SqliteSettings::default()
    };
    let stores = SqliteStores::open(&path(&directory), settings)
        .await
        .unwrap();
    let mut intruder = raw(&directory).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut intruder)
        .await
        .unwrap();

    let start = std::time::Instant::now();
    let refused = stores
        .idempotency
        .claim(&scope("blocked"), claim(1), MINUTE, MINUTE)
        .await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Unavailable {
                store: "idempotency store",
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(
        stores
            .metadata
            .tenant(&tenant("default").id)
            .await
            .unwrap()
            .is_some(),
        "reads go on"
    );

    sqlx::query("ROLLBACK")
        .execute(&mut intruder)
        .await
        .unwrap();
    let mut attempts = 0;
    while stores
        .idempotency
        .claim(&scope("freed"), claim(1), MINUTE, MINUTE)
        .await
        .is_err()
    {
        attempts += 1;
        assert!(attempts < 50, "the store did not recover");
    }
}

#[tokio::test]
async fn a_damaged_row_fails_alone() {
    let stores = ephemeral().await;
    let store = &stores.idempotency;
    for n in 0..10 {
        store
            .claim(&scope(&n.to_string()), claim(n), MINUTE, MINUTE)
            .await
            .unwrap();
    }
    let sql = "PRAGMA ignore_check_constraints = ON;
               UPDATE idempotency SET write_id = x'00' WHERE idempotency_key = '7'";
    let mut intruder = SqliteConnection::connect_with(&stores.database.readers().connect_options())
        .await
        .unwrap();
    sqlx::query("PRAGMA query_only = OFF")
        .execute(&mut intruder)
        .await
        .unwrap();
    sqlx::raw_sql(sql).execute(&mut intruder).await.unwrap();

    let all = join_all((0..10).map(async |n| {
        let scope = scope(&n.to_string());
        store.claim(&scope, claim(99), MINUTE, MINUTE).await
    }));
    for (n, outcome) in (0..).zip(all.await) {
        match n {
            7 => assert!(
                matches!(outcome, Err(StoreError::Unreadable { .. })),
                "{outcome:?}"
            ),
            _ => assert_eq!(outcome, Ok(ClaimOutcome::Pending(claim(n)))),
        }
    }
}

#[tokio::test]
async fn more_may_write_at_once_than_share_a_commit() {
    let stores = ephemeral().await;
    let all = join_all((0..500).map(async |n| {
        let scope = scope(&n.to_string());
        stores
            .idempotency
            .claim(&scope, claim(n), MINUTE, MINUTE)
            .await
    }));
    for outcome in all.await {
        assert_eq!(outcome, Ok(ClaimOutcome::Claimed));
    }
}

#[tokio::test]
async fn what_is_no_database_is_unreadable() {
    let directory = TempDir::new().unwrap();
    std::fs::write(path(&directory), [7; 8192]).unwrap();
    let refused = SqliteStores::open(&path(&directory), SqliteSettings::default()).await;
    assert!(
        matches!(refused, Err(StoreError::Unreadable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let occupied = directory.path().join("occupied");
    std::fs::write(&occupied, "").unwrap();
    let refused = SqliteStores::open(&occupied.join("file"), SqliteSettings::default()).await;
    let Err(StoreError::Unavailable { cause, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(cause.contains(&*occupied.to_string_lossy()), "{cause}");
}

#[tokio::test]
async fn what_is_stored_is_only_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let stores = open(&directory).await;
    stores.metadata.create_tenant(tenant("t")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    let expected = ["", "-reserve", "-shm", "-wal"].map(|part| format!("stores.sqlite{part}"));
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_unreadable() {
    let directory = TempDir::new().unwrap();
    open(&directory).await.close().await;
    let newer =
        "INSERT INTO _sqlx_migrations VALUES (9999, 'later', CURRENT_TIMESTAMP, TRUE, x'00', 0)";
    sqlx::query(newer)
        .execute(&mut raw(&directory).await)
        .await
        .unwrap();
    let refused = SqliteStores::open(&path(&directory), SqliteSettings::default()).await;
    assert!(
        matches!(refused, Err(StoreError::Unreadable { .. })),
        "{refused:?}"
    );
    let words = refused.unwrap_err().to_string();
    assert!(
        words.contains("a newer version of pairdb has changed the tables (migration 9999)"),
        "{words}"
    );
}

/// What a newer version may do to the tables while this one uses them.
const ADDED: &str = "
    ALTER TABLE tenants ADD COLUMN later TEXT;
    ALTER TABLE topology ADD COLUMN later INTEGER NOT NULL DEFAULT 7;
    ALTER TABLE storage_nodes ADD COLUMN later TEXT;
    ALTER TABLE idempotency ADD COLUMN later TEXT;
    ALTER TABLE leases ADD COLUMN later TEXT;
    ALTER TABLE api_keys ADD COLUMN later TEXT;
    ALTER TABLE migrations ADD COLUMN later TEXT;
    ALTER TABLE migration_checkpoints ADD COLUMN later TEXT;
    CREATE TABLE later (id TEXT NOT NULL PRIMARY KEY);
    INSERT INTO _sqlx_migrations VALUES (9999, 'additive later', CURRENT_TIMESTAMP, TRUE, x'00', 0)";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_only_adds_to_is_used_as_ever() {
    let directories = std::sync::Mutex::new(Vec::new());
    let later = async || {
        let directory = TempDir::new().unwrap();
        open(&directory).await.close().await;
        let mut file = raw(&directory).await;
        sqlx::raw_sql(ADDED).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
        let stores = open(&directory).await;
        directories.lock().unwrap().push(directory);
        stores
    };
    let fresh = async || later().await.metadata;
    conformance::metadata_store(fresh, &TokioClock::new()).await;
    let fresh = async || later().await.idempotency;
    conformance::idempotency_store(fresh, tokio::time::sleep).await;
}

#[tokio::test]
async fn what_a_newer_version_knows_of_nodes_is_kept() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory).await.metadata;
    let made = store.replace_topology(Epoch(0), topology(1)).await;
    assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    let mut file = raw(&directory).await;
    for sql in [ADDED, "UPDATE storage_nodes SET later = 'noted'"] {
        sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
    }
    let made = store.replace_topology(Epoch(1), topology(2)).await;
    assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    let kept = sqlx::query_scalar("SELECT later FROM storage_nodes");
    let kept: Vec<Option<String>> = kept.fetch_all(&mut file).await.unwrap();
    assert_eq!(
        kept,
        vec![Some("noted".to_owned()); topology(2).nodes.len()]
    );
}

#[tokio::test]
async fn migrations_are_listed_without_being_applied() {
    let directory = TempDir::new().unwrap();
    let path = path(&directory);
    let before = migrations(&path).await.unwrap();
    assert!(!before.is_empty() && before.iter().all(|migration| !migration.is_applied));
    assert!(!path.exists());
    let after = migrate(&path).await.unwrap();
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|migration| migration.is_applied));
    assert_eq!(migrations(&path).await.unwrap(), after);
    conformance::default_tenant(&open(&directory).await.metadata).await;
}

/// A file of the version before is brought up to date, and all that it has is kept.
#[tokio::test]
async fn what_an_older_version_stored_is_kept() {
    let directory = TempDir::new().unwrap();
    let older = MIGRATIONS.iter().filter(|migration| migration.version <= 4);
    let older = Migrator::with_migrations(older.cloned().collect());
    let creating = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path(&directory))
        .create_if_missing(true);
    let mut file = SqliteConnection::connect_with(&creating).await.unwrap();
    older.run_direct(None, &mut file, false).await.unwrap();
    let rows = "
        INSERT INTO tenants VALUES ('kept', 3, 'last_write_wins', NULL, 1700000000, 1700000000, 1, 2, 16, 256);
        INSERT INTO storage_nodes VALUES ('node-1', '::1', 7000, 150, 'active');
        UPDATE topology SET epoch = 4;
        INSERT INTO leases VALUES ('held', 7, 4102444800000)";
    sqlx::raw_sql(rows).execute(&mut file).await.unwrap();
    file.close().await.unwrap();

    let store = open(&directory).await.metadata;
    assert_eq!(
        store.tenant(&tenant("kept").id).await,
        Ok(Some(tenant("kept")))
    );
    assert_eq!(store.topology().await, Ok(topology(4)));
    let lease = store.acquire_lease("held", 8, MINUTE).await;
    assert!(
        matches!(lease, Ok(LeaseOutcome::HeldByOther { holder: 7, .. })),
        "{lease:?}"
    );
    assert_eq!(store.migrations(10).await, Ok(Vec::new()));
    let change = store.replace_topology(Epoch(4), topology(5)).await;
    assert_eq!(change, Ok(Change::Made(topology(5))));
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_unreadable() {
    let directory = TempDir::new().unwrap();
    let stores = open(&directory).await;
    stores
        .metadata
        .replace_topology(Epoch(0), topology(1))
        .await
        .unwrap();
    let mut intruder = raw(&directory).await;
    let of_node = |index: u16| {
        let moving =
            format!(r#"{{"partition":0,"state":"copying","since":1,"from":[{index}],"to":[]}}"#);
        format!(r#"{{"id":"m-1","target":[],"moves":[{moving}]}}"#)
    };
    for (change, is_readable) in [
        (of_node(0), true),
        (of_node(1), false),
        ("{}".to_owned(), false),
        (String::new(), false),
    ] {
        sqlx::query("UPDATE topology SET change = ?")
            .bind(&change)
            .execute(&mut intruder)
            .await
            .unwrap();
        let read = stores.metadata.topology().await;
        match is_readable {
            true => assert!(read.is_ok(), "{change}: {read:?}"),
            false => assert!(
                matches!(read, Err(StoreError::Unreadable { .. })),
                "{change}: {read:?}"
            ),
        }
    }
}

#[tokio::test]
async fn rows_that_make_no_sense_are_unreadable() {
    let directory = TempDir::new().unwrap();
    let stores = open(&directory).await;
    let mut intruder = raw(&directory).await;
    let sql =
        "UPDATE tenants SET conflict_policy = 'newest'; UPDATE topology SET partitions = 1000000";
    sqlx::raw_sql(sql).execute(&mut intruder).await.unwrap();
    let tenant = stores.metadata.tenant(&tenant("default").id).await;
    assert!(
        matches!(tenant, Err(StoreError::Unreadable { .. })),
        "{tenant:?}"
    );
    let topology = stores.metadata.topology().await;
    assert!(
        matches!(topology, Err(StoreError::Unreadable { .. })),
        "{topology:?}"
    );
}

#[tokio::test]
async fn a_topology_that_could_not_be_read_again_is_not_stored() {
    let stores = ephemeral().await;
    let twice = Topology {
        nodes: [topology(1).nodes, topology(1).nodes].concat(),
        ..topology(1)
    };
    assert!(
        stores
            .metadata
            .replace_topology(Epoch(0), twice)
            .await
            .is_err()
    );
    assert_eq!(stores.metadata.topology().await.unwrap().epoch, Epoch(0));
}

#[tokio::test]
async fn nothing_works_after_closing() {
    let stores = ephemeral().await;
    stores.close().await;
    let refused = stores.metadata.topology().await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
}

async fn ephemeral() -> SqliteStores {
    SqliteStores::ephemeral(patient()).await.unwrap()
}

async fn open(directory: &TempDir) -> SqliteStores {
    SqliteStores::open(&path(directory), patient())
        .await
        .unwrap()
}

/// For machines that are busy with other tests.
fn patient() -> SqliteSettings {
    SqliteSettings {
        call_timeout: MINUTE,
        ..SqliteSettings::default()
    }
}

async fn raw(directory: &TempDir) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path(directory));
    SqliteConnection::connect_with(&options).await.unwrap()
}

fn path(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("stores.sqlite")
}

fn tenant(name: &str) -> Tenant {
    Tenant {
        id: TenantId::new(name).unwrap(),
        ..Tenant::default_at(1_700_000_000)
    }
}

fn topology(epoch: u64) -> Topology {
    let node = Node {
        id: NodeId::new("node-1").unwrap(),
        host: "::1".to_owned(),
        port: 7000,
        virtual_nodes: 150,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    };
    Topology::new(Epoch(epoch), 4096, vec![node]).unwrap()
}

fn scope(idempotency_key: &str) -> IdempotencyScope {
    let record = RecordKey::new(PartitionId(7), &tenant("t").id, "k");
    IdempotencyScope {
        record,
        idempotency_key: idempotency_key.to_owned(),
    }
}

fn claim(holder: u64) -> Claim {
    Claim {
        fingerprint: [1; 32],
        write_id: WriteId(1),
        stamp: Stamp(1),
        holder,
    }
}
