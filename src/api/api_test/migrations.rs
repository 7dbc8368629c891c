//! Changes of owners are asked for, planned, shown, cancelled and paced. Nobody carries them out here: what is shown of
//! one that is under way was written into the metadata store by hand.

use tonic::Code;

use super::super::test_cluster::TestCluster;
use super::nodes::{refused, told};
use super::{Client, cluster, reason, write};
use crate::placement::{ChangeId, ChangeRequest, FactorRequest};
use crate::ports::{Migration, MigrationProgress, MigrationStatus};
use crate::proto::v1;
use crate::proto::v1::node_change::Change;

/// A cluster of three nodes that hold something, and a fourth one that is not part of it.
async fn filled() -> (TestCluster, Client) {
    let (cluster, mut client) = cluster().await;
    for n in 0..8 {
        let write = client.write_key_value(write("lww", &format!("k{n}"), "v"));
        write.await.unwrap();
    }
    cluster.start_node(3).await;
    (cluster, client)
}

fn add(n: usize) -> v1::AddStorageNodeRequest {
    let node = TestCluster::node(n);
    v1::AddStorageNodeRequest {
        node_id: node.id.as_str().into(),
        host: node.host,
        port: i32::from(node.port),
        ..Default::default()
    }
}

fn remove(name: &str, force: bool) -> v1::RemoveStorageNodeRequest {
    v1::RemoveStorageNodeRequest {
        node_id: name.into(),
        force,
    }
}

fn changes(changes: impl IntoIterator<Item = Change>) -> v1::ChangeNodesRequest {
    let changes = changes.into_iter().map(|change| v1::NodeChange {
        change: Some(change),
    });
    v1::ChangeNodesRequest {
        changes: changes.collect(),
        factors: Vec::new(),
    }
}

async fn status(client: &mut Client, id: &str) -> v1::GetMigrationStatusResponse {
    let request = v1::GetMigrationStatusRequest {
        migration_id: id.into(),
    };
    let found = client.get_migration_status(request).await;
    found.unwrap().into_inner()
}

#[tokio::test]
async fn a_node_joins_nodes_that_hold_data_by_a_migration() {
    let (_cluster, mut client) = filled().await;
    let asked = client.add_storage_node(add(3)).await.unwrap().into_inner();
    assert_eq!((asked.success, asked.node_id.as_str()), (true, "n4"));
    assert!(asked.message.contains(&asked.migration_id), "{asked:?}");
    let shown = status(&mut client, &asked.migration_id).await;
    assert_eq!(
        (&*shown.r#type, &*shown.node_id, &*shown.status),
        ("node_addition", "n4", "pending")
    );
    assert_eq!((&*shown.waits_for, shown.started_at), ("", 0));
    let again = client.add_storage_node(add(3)).await.unwrap().into_inner();
    assert_eq!(again, asked, "it was asked for already");

    let nobody = client.add_storage_node(add(4)).await.unwrap_err();
    assert_eq!(reason(&nobody), "NODE_IN_USE", "it must answer: {nobody:?}");
    let listed = client.list_storage_nodes(v1::ListStorageNodesRequest {});
    assert_eq!(listed.await.unwrap().into_inner().nodes.len(), 3, "so far");
}

#[tokio::test]
async fn what_waits_is_listed_last_first_and_cancelled_at_once() {
    let (_cluster, mut client) = filled().await;
    let first = client.add_storage_node(add(3)).await.unwrap().into_inner();
    let factor = v1::UpdateReplicationFactorRequest {
        tenant_id: "lww".into(),
        new_replication_factor: 4,
    };
    let second = client.update_replication_factor(factor.clone()).await;
    let second = second.unwrap().into_inner();
    assert_eq!(
        (second.old_replication_factor, second.new_replication_factor),
        (3, 4),
        "there will be four nodes"
    );
    let again = client.update_replication_factor(factor).await.unwrap();
    assert_eq!(again.into_inner(), second);

    let listed = client.list_migrations(v1::ListMigrationsRequest { limit: 0 });
    let listed = listed.await.unwrap().into_inner().migrations;
    let shown = |found: &v1::GetMigrationStatusResponse| {
        (
            found.migration_id.clone(),
            found.r#type.clone(),
            found.waits_for.clone(),
        )
    };
    let turn = format!("its turn, after {}", first.migration_id);
    assert_eq!(
        listed.iter().map(shown).collect::<Vec<_>>(),
        [
            (second.migration_id, "replication_factor".into(), turn),
            (
                first.migration_id.clone(),
                "node_addition".into(),
                String::new()
            )
        ]
    );
    let migration_id = first.migration_id;
    let cancel = v1::CancelMigrationRequest {
        migration_id: migration_id.clone(),
    };
    let cancelled = client.cancel_migration(cancel.clone()).await.unwrap();
    let cancelled = cancelled.into_inner();
    assert_eq!(
        (&*cancelled.status, cancelled.cancelling),
        ("cancelled", false)
    );
    assert!(cancelled.ended_at > 0);
    let over = refused(Code::FailedPrecondition, "NODE_IN_USE");
    assert_eq!(told(client.cancel_migration(cancel).await), over);
    let pace = v1::PaceMigrationRequest {
        migration_id,
        bytes_per_second_max: Some(1),
    };
    assert_eq!(told(client.pace_migration(pace).await), over);
}

#[tokio::test]
async fn a_plan_tells_what_would_move_and_changes_nothing() {
    let (_cluster, mut client) = filled().await;
    let change = changes([Change::Add(add(3))]);
    let plan = v1::PlanNodesRequest {
        change: Some(change),
    };
    let plan = client.plan_nodes(plan).await.unwrap().into_inner();
    assert_eq!((plan.copies, plan.silent.len()), (24, 0), "{plan:?}");
    assert!(
        plan.partitions_moving <= 8 && plan.copies_moving <= 8,
        "{plan:?}"
    );
    let names: Vec<_> = plan.nodes.iter().map(|node| &*node.node_id).collect();
    assert_eq!(names, ["n1", "n2", "n3", "n4"]);
    let new = &plan.nodes[3];
    assert_eq!((new.partitions_before, new.keys_before), (0, 0));
    assert!(new.partitions_after > 0);
    assert_eq!(new.keys_gained, plan.copies_moving, "nobody else gets any");
    let after: u64 = plan.nodes.iter().map(|node| node.keys_after).sum();
    assert_eq!(after, plan.copies);

    let listed = client.list_migrations(v1::ListMigrationsRequest { limit: 1 });
    assert_eq!(listed.await.unwrap().into_inner().migrations, []);
}

#[tokio::test]
async fn several_changes_of_an_empty_cluster_are_one_and_made_at_once() {
    let (cluster, mut client) = cluster().await;
    cluster.start_node(3).await;
    cluster.start_node(4).await;
    let east = v1::AddStorageNodeRequest {
        zone: "east".into(),
        ..add(3)
    };
    let replace = v1::ReplaceStorageNode {
        node_id: "n1".into(),
        by: Some(add(4)),
        force: false,
    };
    let both = changes([Change::Add(east), Change::Replace(replace)]);
    let changed = client.change_nodes(both).await.unwrap().into_inner();
    assert_eq!(
        (&*changed.migration_id, &*changed.message),
        ("", "done since epoch 4; no data had to move")
    );
    let listed = client.list_storage_nodes(v1::ListStorageNodesRequest {});
    let listed = listed.await.unwrap().into_inner().nodes;
    let shown = |node: &v1::StorageNodeInfo| format!("{} {}", node.node_id, node.zone);
    assert_eq!(
        listed.iter().map(shown).collect::<Vec<_>>(),
        ["n2 ", "n3 ", "n4 east", "n5 "]
    );
    let twice = changes([Change::Add(add(0)), Change::Remove(remove("n1", false))]);
    for wrong in [twice, changes([])] {
        assert_eq!(
            told(client.change_nodes(wrong).await),
            refused(Code::InvalidArgument, "INVALID_REQUEST")
        );
    }
}

#[tokio::test]
async fn who_is_to_hand_over_must_answer_and_who_is_given_up_must_not() {
    let (cluster, mut client) = cluster().await;
    cluster.start_node(3).await;
    client.add_storage_node(add(3)).await.unwrap();
    for n in 0..8 {
        let write = client.write_key_value(write("lww", &format!("k{n}"), "v"));
        write.await.unwrap();
    }
    let status = client.remove_storage_node(remove("n1", true)).await;
    let status = status.unwrap_err();
    assert_eq!(reason(&status), "NODE_IN_USE");
    assert!(status.message().contains("leave out force"), "{status:?}");
    cluster.cut_off(0);
    let status = client.remove_storage_node(remove("n1", false)).await;
    let status = status.unwrap_err();
    assert_eq!(reason(&status), "NODE_IN_USE");
    assert!(status.message().contains("does not answer"), "{status:?}");
    let asked = client.remove_storage_node(remove("n1", true)).await;
    let asked = asked.unwrap().into_inner();
    let shown = self::status(&mut client, &asked.migration_id).await;
    assert_eq!(shown.changes, ["remove n1, which is given up"]);
    assert_eq!((&*shown.r#type, &*shown.node_id), ("node_deletion", "n1"));

    // With it gone there are three, and tenants that want as many.
    let status = client.remove_storage_node(remove("n2", false)).await;
    let status = status.unwrap_err();
    assert_eq!(reason(&status), "NODE_IN_USE");
    assert!(status.message().contains("add nodes first"), "{status:?}");
}

#[tokio::test]
async fn one_that_is_under_way_is_shown_paced_and_led_back() {
    let (cluster, mut client) = cluster().await;
    let id = ChangeId::of_number(7);
    let factors = vec![FactorRequest {
        tenant: "lww".into(),
        factor: 2,
    }];
    cluster
        .seed(Migration {
            id: id.clone(),
            request: ChangeRequest {
                nodes: Vec::new(),
                factors,
            },
            status: MigrationStatus::InProgress,
            cancel: false,
            created_at: 100,
            started_at: Some(110),
            ended_at: None,
            progress: MigrationProgress {
                partitions: 4,
                partitions_done: 1,
                keys: 30,
                keys_total: 90,
                bytes: 500,
            },
            waits_for: Some("n3 to answer; start it".into()),
            error: None,
            bytes_per_second: None,
            version: 1,
        })
        .await;
    let shown = status(&mut client, id.as_str()).await;
    assert_eq!((&*shown.status, shown.started_at), ("in_progress", 110));
    assert_eq!(shown.waits_for, "n3 to answer; start it");
    assert!(shown.estimated_completion > shown.started_at);
    assert_eq!(shown.bytes_per_second_max, None);
    let progress = shown.progress.unwrap();
    assert_eq!((progress.keys_migrated, progress.total_keys), (30, 90));
    assert_eq!((progress.percentage, progress.bytes), (25.0, 500));

    let pace = |bytes_per_second_max| v1::PaceMigrationRequest {
        migration_id: id.to_string(),
        bytes_per_second_max,
    };
    let rests = client.pace_migration(pace(Some(0))).await.unwrap();
    let rests = rests.into_inner();
    assert_eq!(rests.bytes_per_second_max, Some(0));
    assert!(rests.waits_for.contains("rests"), "{rests:?}");
    let free = client.pace_migration(pace(None)).await.unwrap();
    assert_eq!(free.into_inner().bytes_per_second_max, None);
    let cancel = v1::CancelMigrationRequest {
        migration_id: id.to_string(),
    };
    let cancelled = client.cancel_migration(cancel).await.unwrap().into_inner();
    assert_eq!(
        (&*cancelled.status, cancelled.cancelling),
        ("in_progress", true)
    );
}
