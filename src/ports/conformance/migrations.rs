//! What every [`MetadataStore`] does with migrations: a queue in the order in which they were asked for, changes by
//! version, and checkpoints that are kept once.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::outcomes::{exactly_one_made, ok};
use crate::placement::{
    ChangeId, ChangeRequest, FactorRequest, Node, NodeChange, NodeId, NodeStatus, PartitionId,
};
use crate::ports::{
    Change, Checkpoint, MetadataStore, Migration, MigrationProgress, MigrationStatus,
};

/// Panics unless the stores made by `fresh` keep to [`MetadataStore`] with migrations.
pub(super) async fn conform<S: MetadataStore>(fresh: &impl AsyncFn() -> S) {
    they_are_created_once(&fresh().await).await;
    every_part_comes_back(&fresh().await).await;
    updates_need_the_stored_version(&fresh().await).await;
    of_many_updates_one_is_made(&fresh().await).await;
    they_keep_their_order(&fresh().await).await;
    many_who_ask_at_once_get_one_order(&fresh().await).await;
    checkpoints_are_kept_once(&fresh().await).await;
    many_checkpoints_are_kept(&fresh().await).await;
    what_is_over_is_forgotten(&fresh().await).await;
}

async fn they_are_created_once(store: &impl MetadataStore) {
    let first = migration(1);
    assert_eq!(ok(store.migration(&first.id).await), None);
    assert_eq!(ok(store.migrations(10).await), []);
    assert_eq!(ok(store.open_migrations(10).await), []);
    let asked = Migration {
        version: 7,
        ..first.clone()
    };
    assert_eq!(
        ok(store.create_migration(asked).await),
        Change::Made(first.clone()),
        "versions start at 1"
    );
    let again = Migration {
        created_at: 5,
        ..first.clone()
    };
    assert_eq!(
        ok(store.create_migration(again).await),
        Change::Conflict(Some(first.clone()))
    );
    assert_eq!(ok(store.migration(&first.id).await), Some(first.clone()));

    let racers = (0..10).map(|created_at| {
        let store = store.clone();
        let racing = Migration {
            created_at,
            ..migration(2)
        };
        async move { ok(store.create_migration(racing).await) }
    });
    let outcomes = join_all(racers).await;
    let stored = ok(store.migration(&migration(2).id).await).expect("one was created");
    exactly_one_made(&outcomes, &stored);
    assert_eq!(ok(store.migrations(10).await), [stored, first]);
}

async fn every_part_comes_back(store: &impl MetadataStore) {
    let node = Node {
        id: NodeId::new("node-9").expect("a node's name"),
        host: "::1".to_owned(),
        port: 7000,
        virtual_nodes: 150,
        status: NodeStatus::Active,
        zone: Some("rack-1".to_owned()),
        seat: Some("node-1#2".to_owned()),
    };
    let (id, force) = (node.id.clone(), true);
    let (virtual_nodes, zone) = (Some(7), Some(String::new()));
    let nodes = vec![
        NodeChange::Add(node.clone()),
        NodeChange::Remove {
            id: id.clone(),
            force,
        },
        NodeChange::Replace {
            id: id.clone(),
            by: node,
            force: false,
        },
        NodeChange::Set {
            id,
            virtual_nodes,
            zone,
        },
    ];
    let factors = vec![FactorRequest {
        tenant: "Ünïcödé \u{1F600} '; drop table migrations --".into(),
        factor: 10,
    }];
    let full = Migration {
        request: ChangeRequest { nodes, factors },
        status: MigrationStatus::Failed,
        cancel: true,
        created_at: -1,
        started_at: Some(0),
        ended_at: Some(4_102_444_800),
        progress: MigrationProgress {
            partitions: u64::MAX,
            partitions_done: 2,
            keys: 1 << 63,
            keys_total: 4,
            bytes: i64::MAX as u64,
        },
        waits_for: Some("node-1 \"answers\"".to_owned()),
        error: Some(String::new()),
        bytes_per_second: Some(0),
        ..migration(1)
    };
    let unlimited = Migration {
        bytes_per_second: Some(u64::MAX),
        ..migration(2)
    };
    for all in [full, unlimited, migration(3)] {
        let made = ok(store.create_migration(all.clone()).await);
        assert_eq!(made, Change::Made(all.clone()));
        assert_eq!(ok(store.migration(&all.id).await), Some(all.clone()));
        assert_eq!(ok(store.migrations(1).await), [all]);
    }
}

async fn updates_need_the_stored_version(store: &impl MetadataStore) {
    let first = migration(1);
    let absent = ok(store.update_migration(first.clone()).await);
    assert_eq!(absent, Change::Conflict(None));
    assert_eq!(
        ok(store.migration(&first.id).await),
        None,
        "an update creates nothing"
    );
    ok(store.create_migration(first.clone()).await);
    ok(store.create_migration(migration(2)).await);
    let change = Migration {
        status: MigrationStatus::InProgress,
        cancel: true,
        started_at: Some(8),
        ended_at: Some(9),
        progress: MigrationProgress {
            partitions: 1,
            partitions_done: 2,
            keys: 3,
            keys_total: 4,
            bytes: 5,
        },
        waits_for: Some("node-1".to_owned()),
        error: Some("none".to_owned()),
        bytes_per_second: Some(6),
        ..first.clone()
    };
    let second = Migration {
        version: 2,
        ..change.clone()
    };
    let made = ok(store.update_migration(change).await);
    assert_eq!(made, Change::Made(second.clone()));
    for version in [0, 1, 3, u64::MAX] {
        let stale = Migration {
            version,
            ..first.clone()
        };
        assert_eq!(
            ok(store.update_migration(stale).await),
            Change::Conflict(Some(second.clone())),
            "version {version}"
        );
    }
    // What was set can be taken away.
    let bare = Migration {
        version: 2,
        ..first.clone()
    };
    let third = Migration {
        version: 3,
        ..first.clone()
    };
    let made = ok(store.update_migration(bare).await);
    assert_eq!(made, Change::Made(third.clone()));
    assert_eq!(ok(store.migration(&first.id).await), Some(third));
    let bystander = migration(2);
    assert_eq!(
        ok(store.migration(&bystander.id).await),
        Some(bystander.clone())
    );
}

async fn of_many_updates_one_is_made(store: &impl MetadataStore) {
    let first = migration(1);
    ok(store.create_migration(first.clone()).await);
    let racers = (1..=10).map(|keys| {
        let (store, mut change) = (store.clone(), first.clone());
        change.progress.keys = keys;
        async move { ok(store.update_migration(change).await) }
    });
    let outcomes = join_all(racers).await;
    let stored = ok(store.migration(&first.id).await).expect("it exists");
    assert_eq!(stored.version, 2);
    exactly_one_made(&outcomes, &stored);
}

/// Whatever their names are, what becomes of them, and when they were asked for by somebody's clock.
async fn they_keep_their_order(store: &impl MetadataStore) {
    let mut all = Vec::new();
    for (n, status) in (0..).zip([
        MigrationStatus::Completed,
        MigrationStatus::Pending,
        MigrationStatus::Cancelled,
        MigrationStatus::InProgress,
        MigrationStatus::Failed,
        MigrationStatus::Pending,
    ]) {
        let asked = Migration {
            created_at: -n,
            ..migration(100 - n as u64 * 7)
        };
        ok(store.create_migration(asked.clone()).await);
        all.push(Migration { status, ..asked });
    }
    // The last one first, so that the order is not that of the updates.
    for migration in all.iter_mut().rev() {
        ok(store.update_migration(migration.clone()).await);
        migration.version = 2;
    }
    let newest: Vec<Migration> = all.iter().rev().cloned().collect();
    let open: Vec<Migration> = [1, 3, 5].map(|n| all[n].clone()).to_vec();
    for limit in [0, 1, 2, 4, 100, usize::MAX] {
        let first = |list: &[Migration]| list[..limit.min(list.len())].to_vec();
        assert_eq!(ok(store.migrations(limit).await), first(&newest));
        assert_eq!(ok(store.open_migrations(limit).await), first(&open));
    }
}

/// Once one is seen in the queue, none comes before it.
async fn many_who_ask_at_once_get_one_order(store: &impl MetadataStore) {
    let racers = (0..30).map(|number| {
        let store = store.clone();
        async move {
            ok(store.create_migration(migration(number)).await);
            ok(store.open_migrations(100).await)
        }
    });
    let seen = join_all(racers).await;
    let queue = ok(store.open_migrations(100).await);
    assert_eq!(queue.len(), 30);
    for list in seen {
        assert_eq!(list, queue[..list.len()]);
    }
    let newest = ok(store.migrations(100).await);
    assert!(newest.iter().rev().eq(&queue), "{newest:?}");
}

async fn checkpoints_are_kept_once(store: &impl MetadataStore) {
    let (one, other) = (migration(1).id, migration(2).id);
    assert_eq!(ok(store.migration_checkpoints(&one).await), []);
    ok(store.checkpoint_migration(&one, Vec::new()).await);
    assert_eq!(ok(store.migration_checkpoints(&one).await), []);

    let full = Checkpoint {
        keys: u64::MAX,
        bytes: 1 << 63,
        ..checkpoint(u16::MAX, 0)
    };
    let noted = vec![checkpoint(7, 1), full, checkpoint(0, 2)];
    ok(store.checkpoint_migration(&one, noted).await);
    let again = vec![checkpoint(7, 9), checkpoint(8, 3), checkpoint(8, 9)];
    ok(store.checkpoint_migration(&one, again).await);
    let kept = [checkpoint(0, 2), checkpoint(7, 1), checkpoint(8, 3), full];
    assert_eq!(ok(store.migration_checkpoints(&one).await), kept);
    assert_eq!(ok(store.migration_checkpoints(&other).await), []);
    ok(store
        .checkpoint_migration(&other, vec![checkpoint(7, 5)])
        .await);
    let others = ok(store.migration_checkpoints(&other).await);
    assert_eq!(others, [checkpoint(7, 5)]);
    assert_eq!(ok(store.migration_checkpoints(&one).await), kept);
}

async fn many_checkpoints_are_kept(store: &impl MetadataStore) {
    let id = migration(1).id;
    let all: Vec<Checkpoint> = (0..4096).map(|n| checkpoint(n, u64::from(n))).collect();
    let racers = [0, 0, 1, 2].map(|part| {
        let (store, id) = (store.clone(), id.clone());
        let some = all.iter().rev().filter(|one| one.keys % 3 == part);
        let some: Vec<Checkpoint> = some.copied().collect();
        async move { ok(store.checkpoint_migration(&id, some).await) }
    });
    join_all(racers).await;
    let kept = ok(store.migration_checkpoints(&id).await);
    let partitions: BTreeSet<PartitionId> = kept.iter().map(|one| one.partition).collect();
    assert_eq!(partitions.len(), kept.len());
    assert!(kept == all, "{} of {} were kept", kept.len(), all.len());
}

async fn what_is_over_is_forgotten(store: &impl MetadataStore) {
    ok(store.forget_migrations(0).await);
    let statuses = [
        MigrationStatus::Pending,
        MigrationStatus::Completed,
        MigrationStatus::Failed,
        MigrationStatus::InProgress,
        MigrationStatus::Cancelled,
        MigrationStatus::Completed,
    ];
    for (number, status) in (1..).zip(statuses) {
        let one = Migration {
            status,
            ..migration(number)
        };
        ok(store.create_migration(one.clone()).await);
        let noted = store.checkpoint_migration(&one.id, vec![checkpoint(3, number)]);
        ok(noted.await);
    }
    let kept = async || -> Vec<ChangeId> {
        let kept = ok(store.migrations(10).await);
        kept.into_iter().map(|migration| migration.id).collect()
    };
    let ids = |numbers: &[u64]| -> Vec<ChangeId> {
        numbers
            .iter()
            .map(|number| ChangeId::of_number(*number))
            .collect()
    };
    ok(store.forget_migrations(4).await);
    assert_eq!(kept().await, ids(&[6, 5, 4, 3, 2, 1]));
    ok(store.forget_migrations(2).await);
    assert_eq!(kept().await, ids(&[6, 5, 4, 1]));
    for number in 1..=6 {
        let noted = ok(store
            .migration_checkpoints(&ChangeId::of_number(number))
            .await);
        let is_open = [1, 4].contains(&number);
        assert_eq!(noted.len(), usize::from(is_open), "{number}");
    }
    ok(store.forget_migrations(0).await);
    assert_eq!(kept().await, ids(&[4, 1]), "they keep their order");
    ok(store.create_migration(migration(7)).await);
    assert_eq!(kept().await, ids(&[7, 4, 1]), "at the end of the queue");
    assert_eq!(ok(store.migration(&ChangeId::of_number(6)).await), None);
}

fn checkpoint(partition: u16, keys: u64) -> Checkpoint {
    Checkpoint {
        partition: PartitionId(partition),
        keys,
        bytes: keys * 100,
    }
}

fn migration(number: u64) -> Migration {
    let tenant = "shop".into();
    Migration::asked(
        ChangeId::of_number(number),
        ChangeRequest {
            nodes: Vec::new(),
            factors: vec![FactorRequest { tenant, factor: 5 }],
        },
        1_700_000_000,
    )
}
