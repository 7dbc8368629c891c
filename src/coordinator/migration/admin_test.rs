//! What is shown of a migration, and what is left of the cluster after all that were asked for.

use super::*;
use crate::placement::{FactorRequest, Node, NodeId, NodeStatus, RefusedChange};
use crate::ports::{SiblingLimits, TenantId};
use crate::quorum::ConflictPolicy;

const NOW: i64 = 1000;

fn node(name: &str) -> Node {
    Node {
        id: NodeId::new(name).unwrap(),
        host: "h".into(),
        port: 1,
        virtual_nodes: 4,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn migration(number: u64, status: MigrationStatus) -> Migration {
    let request = ChangeRequest {
        nodes: vec![NodeChange::Add(node(&format!("n{number}")))],
        factors: Vec::new(),
    };
    Migration {
        status,
        started_at: Some(NOW - 100),
        ..Migration::asked(ChangeId::of_number(number), request, 0)
    }
}

fn around(open: &[Migration]) -> Around {
    Around {
        stored: Topology::empty(8),
        open: open.to_vec(),
        now: NOW,
    }
}

#[test]
fn the_end_is_told_by_the_slower_of_keys_and_partitions() {
    let progress = |partitions_done, keys| MigrationProgress {
        partitions: 10,
        partitions_done,
        keys,
        keys_total: 400,
        bytes: 0,
    };
    for (done, keys, left) in [
        (0, 0, None),
        (0, 100, Some(300)),
        (1, 100, Some(900)),
        (5, 100, Some(300)),
        (10, 400, Some(0)),
        (10, 500, Some(0)), // there were more than was thought
    ] {
        let shown = around(&[]).view(Migration {
            progress: progress(done, keys),
            ..migration(1, MigrationStatus::InProgress)
        });
        let expected = left.map(|left: i64| NOW + left);
        assert_eq!(shown.estimated_completion, expected, "{done} {keys}");
        assert_eq!(shown.keys_per_second, keys / 100);
    }
    let huge = progress(1, 1);
    let huge = MigrationProgress {
        partitions: u64::MAX,
        ..huge
    };
    assert_eq!(seconds_left(&huge, u64::MAX), Some(u64::MAX));
}

#[test]
fn nobody_knows_the_end_of_what_rests_leads_back_or_is_over() {
    let under_way = Migration {
        progress: MigrationProgress {
            partitions: 2,
            partitions_done: 1,
            ..MigrationProgress::default()
        },
        ..migration(1, MigrationStatus::InProgress)
    };
    let led_back = Migration {
        cancel: true,
        ..under_way.clone()
    };
    assert_eq!(around(&[]).view(led_back).estimated_completion, None);
    let over = Migration {
        ended_at: Some(500),
        status: MigrationStatus::Completed,
        ..under_way
    };
    assert_eq!(around(&[]).view(over).estimated_completion, Some(500));
}

#[test]
fn what_it_waits_for_is_its_turn_its_pace_or_what_its_leader_says() {
    let running = migration(1, MigrationStatus::InProgress);
    let queued = [2, 3, 4].map(|number| migration(number, MigrationStatus::Pending));
    let [second, third, fourth] = queued.clone();
    let around = around(&[&[running.clone()][..], &queued].concat());
    let waits_for = |migration: &Migration| around.view(migration.clone()).waits_for;
    let id = &running.id;
    assert_eq!(waits_for(&running), None);
    assert_eq!(waits_for(&second), Some(format!("its turn, after {id}")));
    assert_eq!(
        waits_for(&third),
        Some(format!("its turn, after {id} and 1 more"))
    );
    let told = Migration {
        waits_for: Some("n4 to answer".into()),
        ..fourth
    };
    assert_eq!(waits_for(&told).as_deref(), Some("n4 to answer"));
    let rests = Migration {
        bytes_per_second: Some(0),
        ..running
    };
    assert!(waits_for(&rests).is_some_and(|why| why.contains("rests")));
}

#[test]
fn a_change_is_judged_by_what_those_before_it_leave() {
    let stored = Topology {
        nodes: vec![node("n0"), node("n1")],
        ..Topology::empty(8)
    };
    let leaves = Migration {
        request: ChangeRequest {
            nodes: vec![NodeChange::Remove {
                id: NodeId::new("n0").unwrap(),
                force: false,
            }],
            factors: Vec::new(),
        },
        ..migration(9, MigrationStatus::Pending)
    };
    let joins = migration(2, MigrationStatus::Pending);
    let after = after_all(&stored, &[joins, leaves]);
    let names: Vec<&str> = after.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(names, ["n1", "n2"]);
    let known = refused(RefusedChange::Known(NodeId::new("n1").unwrap()));
    assert!(matches!(known, CoordinatorError::NodeInUse(_)), "{known}");
}

#[test]
fn a_tenant_needs_as_many_nodes_as_it_may_come_to_have_owners() {
    let tenant = |factor| Tenant {
        id: TenantId::new("shop").unwrap(),
        replication_factor: factor,
        conflict_policy: ConflictPolicy::default(),
        default_consistency: None,
        siblings: SiblingLimits::default(),
        created_at: 0,
        updated_at: 0,
        version: 1,
    };
    let to = |factor| ChangeRequest {
        nodes: Vec::new(),
        factors: vec![FactorRequest {
            tenant: "shop".into(),
            factor,
        }],
    };
    let on_the_way = |factor| Migration {
        request: to(factor),
        ..migration(1, MigrationStatus::Pending)
    };
    let none = ChangeRequest::default();
    assert_eq!(factor_needed(&tenant(3), &[], &none), 3);
    assert_eq!(factor_needed(&tenant(3), &[on_the_way(5)], &none), 5);
    assert_eq!(
        factor_needed(&tenant(3), &[on_the_way(2)], &none),
        3,
        "it may be cancelled"
    );
    assert_eq!(
        factor_needed(&tenant(3), &[], &to(2)),
        2,
        "in the same change"
    );
    let refused = enough_are_left(2, (3, "shop")).unwrap_err().to_string();
    assert!(
        refused.contains("2 nodes would be left, and tenant 'shop'"),
        "{refused}"
    );
    assert!(enough_are_left(3, (3, "shop")).is_ok());
    assert!(enough_are_left(0, (1, "")).is_err());
}
