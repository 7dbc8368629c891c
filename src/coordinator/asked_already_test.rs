//! A request that is repeated is told what became of it.

use std::sync::Arc;

use super::*;
use crate::placement::{Epoch, FactorChange};

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn node(name: &str) -> Node {
    Node {
        id: id(name),
        host: "h".into(),
        port: 1,
        virtual_nodes: 4,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn add(name: &str) -> NodeChange {
    NodeChange::Add(node(name))
}

fn remove(name: &str, force: bool) -> NodeChange {
    let id = id(name);
    NodeChange::Remove { id, force }
}

fn replace(name: &str, by: &str) -> NodeChange {
    let (id, by, force) = (id(name), node(by), false);
    NodeChange::Replace { id, by, force }
}

fn set(name: &str, count: u32) -> NodeChange {
    NodeChange::Set {
        id: id(name),
        virtual_nodes: Some(count),
        zone: None,
    }
}

fn request(nodes: &[NodeChange]) -> ChangeRequest {
    ChangeRequest {
        nodes: nodes.to_vec(),
        factors: Vec::new(),
    }
}

fn migration(number: u64, status: MigrationStatus, nodes: &[NodeChange]) -> Migration {
    Migration {
        status,
        ..Migration::asked(ChangeId::of_number(number), request(nodes), 0)
    }
}

fn topology() -> Topology {
    let nodes = ["n1", "n2", "n3", "n4"].map(node);
    Topology::new(Epoch(3), 8, nodes.into()).unwrap()
}

fn begun(migration: &Migration) -> Topology {
    let factors: Vec<FactorChange> = Vec::new();
    let begun = topology().begun(migration.id.clone(), &migration.request, factors);
    begun.unwrap()
}

/// What is known of a change: so, with the migration's number; or on its way by such a one, after so many.
fn known(cluster: &Cluster<'_>, change: NodeChange) -> String {
    let number = |id: &ChangeId| id.as_str().trim_start_matches(['m', '-', '0']).to_owned();
    match cluster.known(&request(&[change])) {
        None => "news".to_owned(),
        Some(Known::So(None)) => "so".to_owned(),
        Some(Known::So(Some(id))) => format!("so since {}", number(&id)),
        Some(Known::OnItsWay(migration, ahead)) => {
            format!("by {} after {ahead}", number(&migration.id))
        }
    }
}

#[test]
fn what_moves_is_on_its_way_and_not_so_already() {
    let running = migration(
        1,
        MigrationStatus::InProgress,
        &[add("n5"), remove("n1", false)],
    );
    let queued = migration(
        2,
        MigrationStatus::Pending,
        &[replace("n2", "n6"), set("n3", 9)],
    );
    let stored = begun(&running);
    let open = [running, queued];
    let cluster = Cluster {
        stored: &stored,
        open: &open,
        over: &[],
    };
    for (change, expected) in [
        (add("n5"), "by 1 after 0"),
        (remove("n1", false), "by 1 after 0"),
        (replace("n2", "n6"), "by 2 after 1"),
        (remove("n2", false), "by 2 after 1"),
        (set("n3", 9), "by 2 after 1"),
        (set("n3", 4), "news"),
        (add("n4"), "so"),
        (remove("n1", true), "news"),
        (remove("n4", false), "news"),
        (remove("nobody", false), "news"),
    ] {
        assert_eq!(known(&cluster, change.clone()), expected, "{change:?}");
    }
    let both = cluster.known(&request(&[add("n5"), add("n4")]));
    assert_eq!(both, Some(Known::OnItsWay(Box::new(open[0].clone()), 0)));
}

#[test]
fn who_is_given_up_already_is_not_given_up_once_more() {
    let running = migration(1, MigrationStatus::InProgress, &[add("n5")]);
    let lost = migration(2, MigrationStatus::Pending, &[remove("n1", true)]);
    let amended = begun(&running).amended(&lost.request).unwrap();
    let open = [running, lost];
    let cluster = Cluster {
        stored: &amended,
        open: &open,
        over: &[],
    };
    assert_eq!(known(&cluster, remove("n1", true)), "by 2 after 1");
    assert_eq!(known(&cluster, remove("n1", false)), "by 2 after 1");
    let both = cluster.known(&request(&[remove("n1", true), add("n4")]));
    assert_eq!(both, Some(Known::OnItsWay(Box::new(open[1].clone()), 1)));
    let asked_for_only = begun(&open[0]);
    let cluster = Cluster {
        stored: &asked_for_only,
        ..cluster
    };
    assert_eq!(
        cluster.known(&request(&[remove("n1", true), add("n4")])),
        both
    );
}

#[test]
fn what_is_to_be_cancelled_brings_nothing_about() {
    let running = migration(1, MigrationStatus::InProgress, &[add("n5")]);
    let stored = begun(&running);
    let open = [Migration {
        cancel: true,
        ..running
    }];
    let cluster = Cluster {
        stored: &stored,
        open: &open,
        over: &[],
    };
    assert_eq!(known(&cluster, add("n5")), "news");
}

#[test]
fn what_is_over_is_so_since_then() {
    let mut stored = topology();
    stored.nodes.retain(|node| node.id != id("n1"));
    let five = Node {
        seat: Some("n9".into()),
        ..node("n5")
    };
    stored.nodes.push(five);
    let over = [
        migration(4, MigrationStatus::Cancelled, &[remove("n7", false)]),
        migration(3, MigrationStatus::Completed, &[remove("n1", false)]),
    ];
    let cluster = Cluster {
        stored: &stored,
        open: &[],
        over: &over,
    };
    for (change, expected) in [
        (remove("n1", false), "so since 3"),
        (remove("n1", true), "so since 3"),
        (remove("n7", false), "news"),
        (replace("n9", "n5"), "so"),
        (replace("n1", "n6"), "news"),
        (set("n2", 4), "so"),
        (set("n1", 4), "news"),
    ] {
        assert_eq!(known(&cluster, change.clone()), expected, "{change:?}");
    }
    let factors = vec![crate::placement::FactorRequest {
        tenant: Arc::from("shop"),
        factor: 3,
    }];
    let nodes = Vec::new();
    assert_eq!(cluster.known(&ChangeRequest { nodes, factors }), None);
}
