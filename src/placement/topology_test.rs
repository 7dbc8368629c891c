//! A topology is checked however it comes about, and grows by one epoch.

use super::*;
use crate::placement::NodeStatus;
use crate::placement::sample::{cluster, id, node};

fn topology(names: &[&str]) -> Result<Topology, InvalidTopology> {
    let nodes = names.iter().map(|name| node(name)).collect();
    Topology::new(Epoch(1), 8, nodes)
}

#[test]
fn nodes_are_sorted_whatever_order_they_come_in() {
    let sorted = topology(&["a", "b", "c"]).unwrap();
    assert_eq!(topology(&["c", "a", "b"]).unwrap(), sorted);
    assert_eq!(sorted.node(&id("b")), Some(&node("b")));
    assert_eq!(sorted.node(&id("d")), None);
}

#[test]
fn a_node_twice_is_refused() {
    assert_eq!(
        topology(&["a", "b", "a"]),
        Err(InvalidTopology::Duplicate(id("a")))
    );
}

#[test]
fn bounds_are_kept() {
    let partitions = |partitions| Topology::new(Epoch(1), partitions, vec![]);
    assert_eq!(partitions(0), Err(InvalidTopology::Partitions(0)));
    assert!(partitions(MAX_PARTITIONS).is_ok());
    let above = MAX_PARTITIONS + 1;
    assert_eq!(partitions(above), Err(InvalidTopology::Partitions(above)));

    let full = cluster(MAX_NODES);
    let above = MAX_NODES + 1;
    assert_eq!(
        full.with_node(node("one-more")),
        Err(InvalidTopology::TooManyNodes(above))
    );
}

#[test]
fn one_put_together_by_hand_is_checked() {
    let mut by_hand = topology(&["a", "b"]).unwrap();
    assert_eq!(by_hand.validate(), Ok(()));
    by_hand.nodes.swap(0, 1);
    assert_eq!(by_hand.validate(), Err(InvalidTopology::Unsorted(id("a"))));
    by_hand.nodes.swap(0, 1);
    by_hand.nodes[1].port = 0;
    let source = InvalidNode::Port;
    let error = InvalidTopology::Node {
        id: id("b"),
        source,
    };
    assert_eq!(by_hand.validate(), Err(error));
}

#[test]
fn every_change_is_one_epoch_further() {
    let two = topology(&["a", "c"]).unwrap();
    let three = two.with_node(node("b")).unwrap();
    assert_eq!(three.epoch, Epoch(2));
    assert_eq!(three.nodes, topology(&["a", "b", "c"]).unwrap().nodes);
    let again = three.without_node(&id("b")).unwrap();
    assert_eq!(again.epoch, Epoch(3));
    assert_eq!(again.nodes, two.nodes);
}

#[test]
fn a_node_that_is_listed_is_replaced() {
    let draining = Node {
        status: NodeStatus::Draining,
        ..node("a")
    };
    let next = topology(&["a", "b"]).unwrap().with_node(draining.clone());
    assert_eq!(next.unwrap().nodes, [draining, node("b")]);
}

#[test]
fn what_is_not_there_can_not_be_removed() {
    assert_eq!(
        topology(&["a"]).unwrap().without_node(&id("b")),
        Err(InvalidTopology::Unknown(id("b")))
    );
}

#[test]
fn the_last_epoch_has_no_successor() {
    let last = Topology::new(Epoch(u64::MAX), 8, vec![]).unwrap();
    assert_eq!(last.with_node(node("a")), Err(InvalidTopology::LastEpoch));
}

#[test]
fn it_is_checked_on_the_way_in() {
    let good = topology(&["a", "b"]).unwrap();
    let mut json = serde_json::to_value(&good).unwrap();
    assert_eq!(
        serde_json::from_value::<Topology>(json.clone()).unwrap(),
        good
    );
    json["nodes"][1]["id"] = "a".into();
    let error = serde_json::from_value::<Topology>(json).unwrap_err();
    assert_eq!(error.to_string(), "node a is listed twice");
}

#[test]
fn it_knows_its_partitions() {
    let eight = topology(&[]).unwrap();
    assert!(eight.has_partition(PartitionId(7)));
    assert!(!eight.has_partition(PartitionId(8)));
}
