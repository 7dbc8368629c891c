//! Clusters for this folder's tests.

use proptest::prelude::*;

use super::{DEFAULT_PARTITIONS, DEFAULT_VIRTUAL_NODES, Epoch, Node, NodeId, NodeStatus, Topology};

pub(super) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn node(name: &str) -> Node {
    Node {
        id: id(name),
        host: name.to_owned(),
        port: 50052,
        virtual_nodes: DEFAULT_VIRTUAL_NODES,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

/// `node-0` to `node-(n-1)`, all alike, over the default number of partitions.
pub(super) fn cluster(n: usize) -> Topology {
    let nodes = (0..n).map(|i| node(&format!("node-{i}"))).collect();
    Topology::new(Epoch(1), DEFAULT_PARTITIONS, nodes).unwrap()
}

fn any_status() -> impl Strategy<Value = NodeStatus> {
    prop_oneof![
        4 => Just(NodeStatus::Active),
        1 => Just(NodeStatus::Draining),
        1 => Just(NodeStatus::Inactive),
        1 => Just(NodeStatus::Joining),
    ]
}

/// Any small topology: up to fourteen nodes of unequal weight and any status, any number of partitions.
pub(super) fn any_topology() -> impl Strategy<Value = Topology> {
    let nodes = prop::collection::btree_map(0..100u32, (1..40u32, any_status()), 0..14);
    (1..300u32, nodes).prop_map(|(partitions, nodes)| {
        let nodes = nodes.into_iter().map(|(i, (virtual_nodes, status))| Node {
            virtual_nodes,
            status,
            ..node(&format!("node-{i}"))
        });
        Topology::new(Epoch(7), partitions, nodes.collect()).unwrap()
    })
}
