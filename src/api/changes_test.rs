//! What is asked for is read in full, and what is shown says all that there is.

use super::*;
use crate::placement::{ChangeId, Epoch, NodeId, NodeStatus, Topology};
use crate::ports::MigrationProgress;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn node(name: &str) -> Node {
    Node {
        id: id(name),
        host: "h".into(),
        port: 7000,
        virtual_nodes: 150,
        status: NodeStatus::Active,
        zone: Some("east".into()),
        seat: None,
    }
}

fn added(name: &str) -> v1::AddStorageNodeRequest {
    v1::AddStorageNodeRequest {
        node_id: name.into(),
        host: "h".into(),
        port: 7000,
        virtual_nodes: 0,
        zone: "east".into(),
    }
}

fn asked(change: Change) -> v1::ChangeNodesRequest {
    v1::ChangeNodesRequest {
        changes: vec![v1::NodeChange {
            change: Some(change),
        }],
        factors: Vec::new(),
    }
}

fn every_change() -> ChangeRequest {
    ChangeRequest {
        nodes: vec![
            NodeChange::Add(node("n4")),
            NodeChange::Remove {
                id: id("n1"),
                force: true,
            },
            NodeChange::Replace {
                id: id("n2"),
                by: node("n5"),
                force: false,
            },
            NodeChange::Set {
                id: id("n3"),
                virtual_nodes: Some(300),
                zone: Some(String::new()),
            },
        ],
        factors: vec![FactorRequest {
            tenant: "shop".into(),
            factor: 5,
        }],
    }
}

fn migration(status: MigrationStatus) -> Migration {
    Migration {
        id: ChangeId::of_number(7),
        request: every_change(),
        status,
        cancel: false,
        created_at: 100,
        started_at: Some(110),
        ended_at: None,
        progress: MigrationProgress {
            partitions: 8,
            partitions_done: 2,
            keys: 50,
            keys_total: 200,
            bytes: 5000,
        },
        waits_for: None,
        error: None,
        bytes_per_second: Some(1000),
        version: 3,
    }
}

fn view(migration: Migration) -> MigrationView {
    MigrationView {
        migration,
        partitions: vec![
            (MoveState::Waiting, 1),
            (MoveState::Copying, 2),
            (MoveState::HandingOver, 1),
            (MoveState::Moved, 4),
        ],
        estimated_completion: Some(180),
        keys_per_second: 5,
        waits_for: Some("n9 to answer; start it".into()),
    }
}

#[test]
fn every_change_is_read() {
    let changes = [
        Change::Add(added("n4")),
        Change::Remove(v1::RemoveStorageNodeRequest {
            node_id: "n1".into(),
            force: true,
        }),
        Change::Replace(v1::ReplaceStorageNode {
            node_id: "n2".into(),
            by: Some(added("n5")),
            force: false,
        }),
        Change::Set(v1::SetStorageNode {
            node_id: "n3".into(),
            virtual_nodes: Some(300),
            zone: Some(String::new()),
        }),
    ];
    let mut all = v1::ChangeNodesRequest {
        changes: changes.into_iter().flat_map(|c| asked(c).changes).collect(),
        factors: vec![v1::UpdateReplicationFactorRequest {
            tenant_id: "shop".into(),
            new_replication_factor: 5,
        }],
    };
    assert_eq!(request(all.clone()), Ok(every_change()));
    all.changes.push(v1::NodeChange { change: None });
    let problem = request(all).unwrap_err().to_string();
    assert!(
        problem.starts_with("changes: one of them is empty"),
        "{problem}"
    );
    let nobody = v1::ReplaceStorageNode {
        node_id: "n2".into(),
        ..v1::ReplaceStorageNode::default()
    };
    let problem = request(asked(Change::Replace(nobody))).unwrap_err();
    assert!(problem.to_string().starts_with("node_id: "), "{problem}");
}

#[test]
fn a_factor_has_its_bounds_and_so_has_a_list() {
    for wrong in [-1, 256, i32::MAX] {
        let factors = vec![v1::UpdateReplicationFactorRequest {
            tenant_id: "shop".into(),
            new_replication_factor: wrong,
        }];
        let refused = request(v1::ChangeNodesRequest {
            factors,
            ..v1::ChangeNodesRequest::default()
        });
        let is_refused = matches!(refused, Err(CoordinatorError::InvalidReplicationFactor(_)));
        assert!(is_refused, "{wrong}: {refused:?}");
    }
    assert_eq!((limit(0), limit(1000)), (Ok(20), Ok(1000)));
    assert!(limit(1001).is_err());
}

#[test]
fn a_migration_is_shown_in_full() {
    let shown = status(view(migration(MigrationStatus::InProgress)));
    let expected = v1::GetMigrationStatusResponse {
        success: true,
        migration_id: "m-0000000000000007".into(),
        r#type: "node_addition".into(),
        node_id: "n4".into(),
        status: "in_progress".into(),
        progress: Some(v1::MigrationProgress {
            keys_migrated: 50,
            total_keys: 200,
            percentage: 25.0,
            partitions: 8,
            partitions_done: 2,
            partitions_waiting: 1,
            partitions_copying: 2,
            partitions_handing_over: 1,
            partitions_moved: 2,
            bytes: 5000,
            keys_per_second: 5,
        }),
        started_at: 110,
        estimated_completion: 180,
        error_message: String::new(),
        created_at: 100,
        ended_at: 0,
        cancelling: false,
        waits_for: "n9 to answer; start it".into(),
        bytes_per_second_max: Some(1000),
        changes: [
            "add n4 at h:7000 in zone east",
            "remove n1, which is given up",
            "replace n2 by n5 at h:7000 in zone east",
            "set n3 to 300 virtual nodes and no zone",
            "replication factor 5 for tenant shop",
        ]
        .map(str::to_owned)
        .into(),
    };
    assert_eq!(shown, expected);
}

#[test]
fn what_is_over_is_done_and_leads_nowhere() {
    let mut over = migration(MigrationStatus::Completed);
    over.progress = MigrationProgress::default();
    let shown = status(view(over));
    assert_eq!(shown.progress.unwrap().percentage, 100.0);
    let mut leading_back = migration(MigrationStatus::InProgress);
    leading_back.cancel = true;
    assert!(status(view(leading_back.clone())).cancelling);
    leading_back.status = MigrationStatus::Cancelled;
    leading_back.progress.partitions = 8;
    leading_back.progress.partitions_done = 8;
    let shown = status(view(leading_back));
    assert!(!shown.cancelling);
    assert_eq!(
        shown.progress.unwrap().percentage,
        0.0,
        "nothing was changed"
    );
}

#[test]
fn what_came_of_a_change_is_told_in_a_line() {
    let topology = Topology {
        epoch: Epoch(4),
        ..Topology::empty(8)
    };
    let at_once = |given_up: &[&str]| NodesChanged::AtOnce {
        topology: topology.clone(),
        given_up: given_up.iter().map(|name| id(name)).collect(),
    };
    let told = |changed: &NodesChanged| outcome(changed).1;
    assert_eq!(
        told(&at_once(&[])),
        "done since epoch 4; no data had to move"
    );
    assert_eq!(
        told(&at_once(&["n1", "n2"])),
        "done since epoch 4; n1, n2 did not answer, and what only they may hold is given up"
    );
    let already = |by| NodesChanged::Already {
        topology: topology.clone(),
        by,
    };
    assert_eq!(told(&already(None)), "it was so already, at epoch 4");
    let by = already(Some(migration(MigrationStatus::Completed).id));
    let (id, line) = outcome(&by);
    assert_eq!(id, "m-0000000000000007");
    assert_eq!(
        line,
        format!("it was so already, by migration {id}, which is completed")
    );
    let queued = |ahead| NodesChanged::Asked {
        migration: migration(MigrationStatus::Pending),
        ahead,
    };
    let name = "m-0000000000000007";
    assert_eq!(
        outcome(&queued(0)),
        (name.to_owned(), format!("migration {name} moves the data"))
    );
    assert!(told(&queued(1)).ends_with("once the migration before it has ended"));
    assert!(told(&queued(2)).ends_with("once the 2 migrations before it have ended"));
}
