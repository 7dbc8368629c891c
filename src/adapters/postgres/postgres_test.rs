//! The suite on a real server, and what only servers do: fail over, hang, come back, serve several, speak TLS.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown by --nocapture"
)]

use std::time::Instant;

use futures::StreamExt;
use futures::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use super::migrations::MIGRATIONS;
use super::*;
use crate::adapters::tokio::TokioClock;
use crate::placement::{ChangeId, ChangeRequest, Epoch, Node, NodeId, NodeStatus, Topology};
use crate::ports::{
    Change, LeaseOutcome, MetadataEvent, MetadataStore, Migration, MigrationStatus, StoreError,
    Tenant, TenantId, conformance,
};
use crate::test_servers::{Fate, Postgres, Proxy, postgres};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn metadata_conforms() {
    let fresh = async || open(&postgres().fresh()).await;
    conformance::metadata_store(fresh, &TokioClock::new()).await;
}

#[tokio::test]
async fn a_new_database_has_the_default_tenant() {
    conformance::default_tenant(&open(&postgres().fresh()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_database_at_once() {
    let url = postgres().fresh();
    let all = join_all((0..8).map(|_| open(&url))).await;
    for store in &all {
        conformance::default_tenant(store).await;
    }
    assert!(
        migrations(&url)
            .await
            .unwrap()
            .iter()
            .all(|migration| migration.is_applied)
    );
}

#[tokio::test]
async fn migrations_are_listed_without_being_applied() {
    let url = postgres().fresh();
    let before = migrations(&url).await.unwrap();
    assert!(!before.is_empty() && before.iter().all(|migration| !migration.is_applied));
    assert_eq!(migrations(&url).await.unwrap(), before);
    let after = migrate(&url).await.unwrap();
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|migration| migration.is_applied));
    assert_eq!(migrate(&url).await.unwrap(), after);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_unreadable() {
    let url = postgres().fresh();
    migrate(&url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), TRUE, '\\x00', 0)";
    postgres().sql(name(&url), newer);
    let refused = PostgresMetadata::open(&url, patient()).await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::Unreadable { .. })),
        "{refused:?}"
    );
    let last = migrations(&url).await.unwrap().pop().unwrap();
    assert_eq!((last.version, last.is_applied), (9999, true));
}

/// What a newer version may do to the tables while this one uses them.
const ADDED: &str = "
    ALTER TABLE tenants ADD COLUMN later TEXT;
    ALTER TABLE topology ADD COLUMN later BIGINT NOT NULL DEFAULT 7;
    ALTER TABLE storage_nodes ADD COLUMN later TEXT;
    ALTER TABLE leases ADD COLUMN later TEXT;
    ALTER TABLE api_keys ADD COLUMN later TEXT;
    ALTER TABLE migrations ADD COLUMN later TEXT;
    ALTER TABLE migration_checkpoints ADD COLUMN later TEXT;
    CREATE TABLE later (id TEXT NOT NULL PRIMARY KEY);
    INSERT INTO _sqlx_migrations VALUES (9999, 'additive later', now(), TRUE, '\\x00', 0);";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_only_adds_to_is_used_as_ever() {
    let later = async || {
        let url = postgres().fresh();
        migrate(&url).await.unwrap();
        postgres().sql(name(&url), ADDED);
        url
    };
    let fresh = async || open(&later().await).await;
    conformance::metadata_store(fresh, &TokioClock::new()).await;

    let url = later().await;
    let store = open(&url).await;
    let made = store.replace_topology(Epoch(0), topology(1)).await;
    assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    let note = "UPDATE storage_nodes SET later = 'noted'";
    postgres().sql(name(&url), note);
    let made = store.replace_topology(Epoch(1), topology(2)).await;
    assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let kept = sqlx::query_scalar("SELECT later FROM storage_nodes");
    let kept: Vec<Option<String>> = kept.fetch_all(&mut connection).await.unwrap();
    assert_eq!(
        kept,
        vec![Some("noted".to_owned()); topology(2).nodes.len()]
    );
}

/// A database of the version before is brought up to date, and all that it has is kept.
#[tokio::test]
async fn what_an_older_version_stored_is_kept() {
    let url = postgres().fresh();
    let older = MIGRATIONS.iter().filter(|migration| migration.version <= 3);
    let older = Migrator::with_migrations(older.cloned().collect());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    older
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    let rows = "
        INSERT INTO tenants VALUES ('kept', 3, 'last_write_wins', NULL, 1700000000, 1700000000, 1, 2, 16, 256);
        UPDATE tenant_changes SET newest = 2;
        INSERT INTO storage_nodes VALUES ('node-1', '::1', 7000, 150, 'active');
        UPDATE topology SET epoch = 4;
        INSERT INTO leases VALUES ('held', 7, 4102444800000)";
    postgres().sql(name(&url), rows);

    let store = open(&url).await;
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
    let url = postgres().fresh();
    let store = open(&url).await;
    let made = store.replace_topology(Epoch(0), topology(1)).await;
    assert!(matches!(made, Ok(Change::Made(_))), "{made:?}");
    let of_node_1 = concat!(
        r#"{"id":"m-1","target":[],"moves":[{"#,
        r#""partition":0,"state":"copying","since":1,"from":[1],"to":[]}]}"#,
    );
    for change in [of_node_1, "{}", ""] {
        let nonsense = format!("UPDATE topology SET change = '{change}'");
        postgres().sql(name(&url), &nonsense);
        let read = store.topology().await;
        assert!(
            matches!(read, Err(StoreError::Unreadable { .. })),
            "{change}: {read:?}"
        );
    }
}

/// What a storage node says may end up in a migration's row.
#[tokio::test]
async fn a_text_with_a_zero_byte_is_stored_without_it() {
    let store = open(&postgres().fresh()).await;
    let zero = Some("a\0b".to_owned());
    let asked = Migration {
        status: MigrationStatus::Failed,
        waits_for: zero.clone(),
        error: zero,
        ..Migration::asked(ChangeId::of_number(1), ChangeRequest::default(), 0)
    };
    let stored = Migration {
        waits_for: Some("a\u{fffd}b".to_owned()),
        error: Some("a\u{fffd}b".to_owned()),
        ..asked.clone()
    };
    let made = store.create_migration(asked).await;
    assert_eq!(made, Ok(Change::Made(stored)));
}

#[tokio::test]
async fn rows_that_make_no_sense_are_unreadable() {
    let url = postgres().fresh();
    let store = open(&url).await;
    let nonsense =
        "UPDATE tenants SET conflict_policy = 'newest'; UPDATE topology SET partitions = 1000000";
    postgres().sql(name(&url), nonsense);
    let tenant = store.tenant(&tenant("default").id).await;
    assert!(
        matches!(tenant, Err(StoreError::Unreadable { .. })),
        "{tenant:?}"
    );
    let topology = store.topology().await;
    assert!(
        matches!(topology, Err(StoreError::Unreadable { .. })),
        "{topology:?}"
    );
}

#[tokio::test]
async fn a_topology_that_could_not_be_read_again_is_not_stored() {
    let store = open(&postgres().fresh()).await;
    let twice = Topology {
        nodes: [topology(1).nodes, topology(1).nodes].concat(),
        ..topology(1)
    };
    assert!(store.replace_topology(Epoch(0), twice).await.is_err());
    assert_eq!(store.topology().await.unwrap().epoch, Epoch(0));
}

/// Whatever the server's default is, a change that was answered survives a crash of the server.
#[tokio::test]
async fn commits_are_durable_whatever_the_server_thinks() {
    for (default, awaited) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let url = postgres().fresh();
        let database = name(&url);
        postgres().sql(
            database,
            &format!("ALTER DATABASE {database} SET synchronous_commit = {default}"),
        );
        let store = open(&url).await;
        let shown: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(store.database().pool())
            .await
            .unwrap();
        assert_eq!(shown, awaited, "by default {default}");
    }
}

/// Every coordinator has a store of its own; each is told of a change by another.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_to_all_in_no_time() {
    let url = postgres().fresh();
    let stores = join_all((0..8).map(|_| open(&url))).await;
    let mut watches: Vec<_> = stores[1..].iter().map(MetadataStore::watch).collect();
    let mut delays = Vec::new();
    for epoch in 1..=50 {
        let began = Instant::now();
        let change = stores[0]
            .replace_topology(Epoch(epoch - 1), topology(epoch))
            .await;
        assert!(matches!(change, Ok(Change::Made(_))), "{change:?}");
        let told = watches.iter_mut().map(async |events| {
            told(events, &MetadataEvent::Topology(Epoch(epoch))).await;
            began.elapsed()
        });
        delays.extend(join_all(told).await);
    }
    delays.sort();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!(
        "from asking for a change until all others were told of it: median {median:?}, worst of {} {worst:?}",
        delays.len()
    );
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}

/// A connection that is lost without a word is noticed by what should have been heard over it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_told_is_found_by_looking() {
    let url = postgres().fresh();
    let settings = PostgresSettings {
        look_interval: Duration::from_millis(50),
        ..patient()
    };
    let store = PostgresMetadata::open(&url, settings).await.unwrap();
    let mut events = store.watch();
    let many = "WITH number AS (SELECT generate_series(1, 300) AS n)
        INSERT INTO tenants SELECT 't' || n, 3, 'siblings', NULL, 0, 0, 1, 1 + n FROM number;
        UPDATE tenant_changes SET newest = 301; UPDATE topology SET epoch = 7";
    postgres().sql(name(&url), many);
    told(&mut events, &MetadataEvent::Topology(Epoch(7))).await;
    for n in 1..=300 {
        told(
            &mut events,
            &MetadataEvent::Tenant(tenant(&format!("t{n}")).id),
        )
        .await;
    }
    // An older copy takes over, and goes on from there.
    let back = "DELETE FROM tenants WHERE changed > 200; UPDATE tenant_changes SET newest = 200; UPDATE topology SET epoch = 6";
    postgres().sql(name(&url), back);
    told(&mut events, &MetadataEvent::Topology(Epoch(6))).await;
    let on =
        "UPDATE tenants SET changed = 201 WHERE id = 't9'; UPDATE tenant_changes SET newest = 201";
    postgres().sql(name(&url), on);
    told(&mut events, &MetadataEvent::Tenant(tenant("t9").id)).await;
}

/// More often than there are connections, and as often it is listened anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_falls_silent_is_missed_for_no_longer_than_a_look() {
    let url = postgres().fresh();
    let (proxy, through) = postgres().through_a_proxy(&url);
    let settings = PostgresSettings {
        look_interval: Duration::from_millis(100),
        call_timeout: Duration::from_secs(5),
        ..patient()
    };
    let store = PostgresMetadata::open(&through, settings.clone()).await;
    let (store, other) = (store.unwrap(), open(&url).await);
    let mut events = store.watch();
    let silences = u64::from(settings.connections_max) + 3;
    for epoch in 1..=silences {
        eventually("it listens", || proxy.silence("LISTEN \"") == 1).await;
        let began = Instant::now();
        let change = other.replace_topology(Epoch(epoch - 1), topology(epoch));
        assert!(matches!(change.await, Ok(Change::Made(_))));
        told(&mut events, &MetadataEvent::Topology(Epoch(epoch))).await;
        let (took, bound) = (
            began.elapsed(),
            settings.look_interval + settings.call_timeout,
        );
        assert!(took < bound, "silence {epoch}: {took:?}");
        // It is not what it listened by that others wait for.
        assert_eq!(
            store.topology().await,
            Ok(topology(epoch)),
            "silence {epoch}"
        );
    }
}

/// It looks by itself once an hour only, so what is told is what is looked for when it listens again.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_nobody_listened_is_told_when_somebody_does_again() {
    let url = postgres().fresh();
    let settings = PostgresSettings {
        look_interval: Duration::from_secs(3600),
        ..patient()
    };
    let store = PostgresMetadata::open(&url, settings).await.unwrap();
    let other = open(&url).await;
    let mut events = store.watch();
    for epoch in 1..=5 {
        // The server's restart or failover, as who is connected sees it.
        postgres().terminate(name(&url));
        let ask = async || {
            other
                .replace_topology(Epoch(epoch - 1), topology(epoch))
                .await
        };
        let change = recovered(ask).await;
        assert!(matches!(change, Change::Made(_)), "{change:?}");
        told(&mut events, &MetadataEvent::Topology(Epoch(epoch))).await;
    }
}

/// The database has made the change, and who asked for it was not told.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_found_by_who_asks_again() {
    let (store, proxy, _) = proxied().await;
    proxy.next("COMMIT", Fate::AnswerLost, 1);
    unknown(store.replace_topology(Epoch(0), topology(1)).await);
    assert_eq!(store.topology().await, Ok(topology(1)));
    let again = store.replace_topology(Epoch(0), topology(1)).await;
    assert_eq!(again, Ok(Change::Conflict(Some(topology(1)))));

    proxy.next("COMMIT", Fate::AnswerLost, 1);
    unknown(store.create_tenant(tenant("t")).await);
    let again = store.create_tenant(tenant("t")).await;
    assert_eq!(again, Ok(Change::Conflict(Some(tenant("t")))));

    let asked = Migration::asked(ChangeId::of_number(1), ChangeRequest::default(), 0);
    proxy.next("COMMIT", Fate::AnswerLost, 1);
    unknown(store.create_migration(asked.clone()).await);
    let again = store.create_migration(asked.clone()).await;
    assert_eq!(again, Ok(Change::Conflict(Some(asked.clone()))));
    assert_eq!(
        store.migrations(10).await,
        Ok(vec![asked]),
        "it is there once"
    );
}

/// The connection ends before the database hears the commit, or as it hears it: there is no change.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_cut_off_is_none_and_is_made_by_who_asks_again() {
    let (store, proxy, url) = proxied().await;
    for (epoch, fate) in [(1, Fate::NotHeard), (2, Fate::Held)] {
        let before = store.topology().await.unwrap();
        proxy.next("COMMIT", fate, 1);
        let (asking, expected) = (store.clone(), before.epoch);
        let asked =
            tokio::spawn(async move { asking.replace_topology(expected, topology(epoch)).await });
        if fate == Fate::Held {
            tokio::task::block_in_place(|| {
                proxy.await_held();
                postgres().terminate(name(&url));
                proxy.let_go();
            });
        }
        unknown(asked.await.unwrap());
        let seen = recovered(async || store.topology().await).await;
        let ask = async || store.replace_topology(before.epoch, topology(epoch)).await;
        let again = recovered(ask).await;
        assert_eq!(seen, before, "{fate:?}");
        assert_eq!(again, Change::Made(topology(epoch)), "{fate:?}");
    }
}

/// A store on the other side of a proxy.
async fn proxied() -> (PostgresMetadata, Proxy, String) {
    let url = postgres().fresh();
    let (proxy, through) = postgres().through_a_proxy(&url);
    (open(&through).await, proxy, url)
}

/// The store says that it does not know.
fn unknown<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(
        matches!(outcome, Err(StoreError::Unavailable { .. })),
        "{outcome:?}"
    );
}

/// Until there are connections again.
async fn recovered<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(
                began.elapsed() < MINUTE,
                "the store did not recover: {error}"
            ),
        }
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < MINUTE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_used_and_listened_to_again() {
    let mut server = Postgres::own();
    let url = server.fresh();
    let (store, other) = (open(&url).await, open(&url).await);
    let mut events = other.watch();
    server.stop();
    let began = Instant::now();
    let quick = PostgresSettings {
        call_timeout: Duration::from_millis(300),
        ..patient()
    };
    let refused = PostgresMetadata::open(&url, quick.clone()).await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );

    server.start_again();
    let change = store.replace_topology(Epoch(0), topology(1)).await; // waits for the pool to connect again
    assert!(matches!(change, Ok(Change::Made(_))), "{change:?}");
    told(&mut events, &MetadataEvent::Topology(Epoch(1))).await;
    assert_eq!(other.topology().await, Ok(topology(1)));

    // A server that hangs doesn't hold up who calls it.
    let hasty = PostgresMetadata::open(&url, quick).await.unwrap();
    assert_eq!(hasty.topology().await, Ok(topology(1)));
    server.hold();
    let began = Instant::now();
    let refused = hasty.topology().await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    server.go_on();
    let mut attempts = 0;
    while hasty.topology().await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "the store did not recover");
    }
}

/// Who waits for a row that another session holds is told so in time, and the row is free when that session ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_does_not_hold_up_for_ever() {
    let url = postgres().fresh();
    let settings = PostgresSettings {
        call_timeout: Duration::from_millis(300),
        ..patient()
    };
    let store = PostgresMetadata::open(&url, settings).await.unwrap();
    let intruder = open(&url).await;
    let mut held = intruder.database().pool().begin().await.unwrap();
    sqlx::query("SELECT * FROM topology FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    let began = Instant::now();
    let refused = store.replace_topology(Epoch(0), topology(1)).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        store.topology().await.unwrap().epoch,
        Epoch(0),
        "reads go on"
    );
    held.rollback().await.unwrap();
    let mut attempts = 0;
    while store.replace_topology(Epoch(0), topology(1)).await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "the store did not recover");
    }
}

/// A database whose transactions are serializable asks to repeat some of them.
#[tokio::test(flavor = "multi_thread")]
async fn conforms_where_transactions_must_be_repeated() {
    let fresh = async || {
        let url = postgres().fresh();
        let database = name(&url);
        let serializable =
            format!("ALTER DATABASE {database} SET default_transaction_isolation = serializable");
        postgres().sql(database, &serializable);
        open(&url).await
    };
    conformance::metadata_store(fresh, &TokioClock::new()).await;
}

/// Distributed databases that speak PostgreSQL's language lack some of it.
#[tokio::test(flavor = "multi_thread")]
async fn conforms_where_nobody_is_told_and_nothing_is_locked() {
    let poor = || {
        let url = postgres().fresh();
        let lack = "SET allow_system_table_mods = on;
            DELETE FROM pg_proc WHERE proname IN ('pg_notify', 'pg_advisory_lock')";
        postgres().sql(name(&url), lack);
        url
    };
    let settings = PostgresSettings {
        look_interval_untold: Duration::from_millis(20),
        ..patient()
    };
    let fresh = async || {
        PostgresMetadata::open(&poor(), settings.clone())
            .await
            .unwrap()
    };
    conformance::metadata_store(fresh, &TokioClock::new()).await;

    let url = poor();
    let stores = join_all((0..4).map(|_| PostgresMetadata::open(&url, settings.clone()))).await;
    let stores: Vec<_> = stores.into_iter().map(Result::unwrap).collect();
    let mut events = stores[3].watch();
    stores[0]
        .replace_topology(Epoch(0), topology(1))
        .await
        .unwrap();
    told(&mut events, &MetadataEvent::Topology(Epoch(1))).await;
}

/// Tables are made by somebody else; the program itself may only use them.
#[tokio::test]
async fn who_may_not_make_tables_uses_those_that_are_there() {
    let url = postgres().fresh();
    let role = format!("user_of_{}", name(&url));
    postgres().sql(
        name(&url),
        &format!("CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    );
    let poor = url.replace("//postgres:", &format!("//{role}:"));
    let refused = PostgresMetadata::open(&poor, patient()).await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );

    migrate(&url).await.unwrap();
    let may =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}");
    postgres().sql(name(&url), &may);
    let store = open(&poor).await;
    let change = store.replace_topology(Epoch(0), topology(1)).await;
    assert!(matches!(change, Ok(Change::Made(_))), "{change:?}");
    let standbys = super::database::standbys_behind(store.database().pool()).await;
    assert_eq!(standbys.unwrap(), 0);
}

#[tokio::test]
async fn the_servers_certificate_is_checked_when_asked_for() {
    let server = postgres();
    let url = server.fresh();
    let authority = server.certificates.authority.display();
    let trusting = format!("{url}?sslmode=verify-full&sslrootcert={authority}");
    let store = open(&trusting).await;
    let is_encrypted: bool =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(store.database().pool())
            .await
            .unwrap();
    assert!(is_encrypted);
    let untrusting = format!("{url}?sslmode=verify-full");
    let refused = PostgresMetadata::open(&untrusting, patient())
        .await
        .map(drop);
    assert!(
        matches!(&refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        !format!("{refused:?}").contains("unneeded"),
        "shows the password: {refused:?}"
    );
}

#[tokio::test]
async fn a_lease_outlives_who_took_it() {
    let url = postgres().fresh();
    let store = open(&url).await;
    assert_eq!(
        store.acquire_lease("kept", 1, MINUTE).await,
        Ok(LeaseOutcome::Held)
    );
    store.close().await;
    let refused = store.topology().await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    let other = open(&url).await.acquire_lease("kept", 2, MINUTE).await;
    assert!(
        matches!(other, Ok(LeaseOutcome::HeldByOther { holder: 1, .. })),
        "{other:?}"
    );
}

async fn told(
    events: &mut (impl futures::Stream<Item = MetadataEvent> + Unpin),
    awaited: &MetadataEvent,
) {
    let search = async {
        while let Some(event) = events.next().await {
            if event == *awaited {
                return;
            }
        }
        panic!("the watch ended before the store");
    };
    let search = tokio::time::timeout(MINUTE, search).await;
    search.unwrap_or_else(|_| panic!("never told of {awaited:?}"));
}

async fn open(url: &str) -> PostgresMetadata {
    PostgresMetadata::open(url, patient()).await.unwrap()
}

/// For machines that are busy with other tests, and a server that many stores share.
fn patient() -> PostgresSettings {
    PostgresSettings {
        connections_max: 5,
        connections_min: 0,
        call_timeout: MINUTE,
        ..PostgresSettings::default()
    }
}

fn name(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
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
