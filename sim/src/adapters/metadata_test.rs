//! What a metadata store that fails over has lost, and what it has kept.

use std::time::Duration;

use madsim::runtime::Runtime;
use pairdb::placement::{ChangeId, ChangeRequest, Epoch, NodeChange, Topology};
use pairdb::ports::{Change, Checkpoint, MetadataStore, Migration, MigrationStatus};

use super::super::{SimClock, WallClock};
use super::MetadataHome;
use crate::endpoint::Endpoint;
use crate::world::World;

/// Longer than any test takes: a copy this far behind knows nothing but the first topology.
const ALL: Duration = Duration::from_secs(60);

fn world() -> World {
    World {
        storage_nodes: 3,
        spare_nodes: 1,
        ..World::default()
    }
}

fn founded() -> Topology {
    let world = world();
    let nodes = world.founders().into_iter().map(|who| world.node(who));
    Topology::new(Epoch(1), 4, nodes.collect()).expect("a topology")
}

async fn home() -> MetadataHome {
    let clock = SimClock::new(WallClock::new(0, 0), 0);
    MetadataHome::new(Vec::new(), founded(), clock).await
}

fn request() -> ChangeRequest {
    ChangeRequest {
        nodes: vec![NodeChange::Add(world().node(Endpoint::Storage(4)))],
        factors: Vec::new(),
    }
}

/// Stores a topology after the one that is there.
async fn store(home: &MetadataHome, next: &Topology) {
    let stored = home.store().topology().await.expect("an answer").epoch;
    let changed = home.store().replace_topology(stored, next.clone()).await;
    let Ok(Change::Made(topology)) = changed else {
        panic!("{changed:?}");
    };
    home.keep(topology);
}

async fn stored(home: &MetadataHome) -> Topology {
    home.store().topology().await.expect("an answer")
}

#[test]
fn a_failover_loses_epochs_with_nothing_in_them() {
    Runtime::new().block_on(async {
        let home = home().await;
        let next = founded().at(Epoch(2));
        store(&home, &next).await;
        assert_eq!(home.fail_over(ALL).await, [Epoch(2)]);
        assert_eq!(stored(&home).await, founded());
        assert_eq!(home.newest_epoch(), Epoch(2));
    });
}

#[test]
fn a_failover_loses_no_topology_of_a_change() {
    Runtime::new().block_on(async {
        let home = home().await;
        let begun = founded().begun(ChangeId::of_number(1), &request(), Vec::new());
        let begun = begun.expect("a change");
        store(&home, &begun).await;
        assert!(home.fail_over(ALL).await.is_empty());
        assert_eq!(stored(&home).await, begun);

        let back = begun.cancelled().expect("a change that is cancelled");
        let ended = back.finished().expect("nothing had moved");
        store(&home, &back).await;
        store(&home, &ended).await;
        store(&home, &ended.at(Epoch(9))).await;
        assert_eq!(home.fail_over(ALL).await, [Epoch(9)]);
        assert_eq!(stored(&home).await, ended, "the end of a change is kept");
    });
}

#[test]
fn a_failover_keeps_migrations_as_they_are() {
    Runtime::new().block_on(async {
        let home = home().await;
        let migration = |number: u64| Migration::asked(ChangeId::of_number(number), request(), 0);
        let before = home.store();
        for number in [2, 1] {
            let created = before.create_migration(migration(number)).await;
            created.expect("an answer");
        }
        let checkpoint = Checkpoint {
            partition: pairdb::placement::PartitionId(3),
            keys: 1,
            bytes: 2,
        };
        let (first, second) = (ChangeId::of_number(2), ChangeId::of_number(1));
        let noted = before.checkpoint_migration(&first, vec![checkpoint]).await;
        noted.expect("an answer");
        for version in 1..3 {
            let changed = Migration {
                status: MigrationStatus::InProgress,
                version,
                ..migration(2)
            };
            before.update_migration(changed).await.expect("an answer");
        }
        home.fail_over(Duration::ZERO).await;
        let after = home.store();
        let open = after.open_migrations(10).await.expect("an answer");
        assert_eq!(open, before.open_migrations(10).await.expect("an answer"));
        assert_eq!(
            open.iter().map(|it| it.id.clone()).collect::<Vec<_>>(),
            [first.clone(), second]
        );
        let noted = after.migration_checkpoints(&first).await;
        assert_eq!(noted.expect("an answer").len(), 1);
    });
}
