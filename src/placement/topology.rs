//! The topology: which nodes there are, at which epoch, over how many partitions, and the change under way.
//!
//! A value, changed only by making the next one: every change is one epoch further, which is what the metadata
//! store compares and sets on. Reading one from outside (serde) checks it like [`Topology::new`] does.
//!
//! A change of owners begins, steps and ends by values of its own: see [`super::succession`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::TopologyChange;
use super::{Epoch, InvalidNode, MAX_PARTITIONS, Node, NodeId, PartitionId};

/// The most nodes a topology lists. It bounds the table's building, and lets an index be sixteen bits.
pub const MAX_NODES: usize = 1024;

/// What is wrong with a topology, or with a change to one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidTopology {
    /// One node's description is wrong.
    #[error("node {id}: {source}")]
    Node {
        /// The node.
        id: NodeId,
        /// What is wrong with it.
        source: InvalidNode,
    },
    /// Two entries have one id.
    #[error("node {0} is listed twice")]
    Duplicate(NodeId),
    /// The nodes are not in order of their ids.
    #[error("node {0} is out of order")]
    Unsorted(NodeId),
    /// The node to be removed isn't there.
    #[error("node {0} is not in the topology")]
    Unknown(NodeId),
    /// More nodes than [`MAX_NODES`].
    #[error("{0} nodes are more than {MAX_NODES}")]
    TooManyNodes(usize),
    /// No partitions, or more than [`MAX_PARTITIONS`].
    #[error("partitions are 1 to {MAX_PARTITIONS}, not {0}")]
    Partitions(u32),
    /// There is no greater epoch.
    #[error("epochs are used up")]
    LastEpoch,
    /// Two nodes have one seat, and so all their places on the ring.
    #[error("node {0} has the seat of another node")]
    SeatTaken(NodeId),
    /// The change under way makes no sense.
    #[error("the change under way: {0}")]
    Change(&'static str),
    /// The nodes can't be replaced while their owners change.
    #[error("a change of owners is under way")]
    ChangeUnderWay,
}

/// The nodes of a cluster at one epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Topology {
    /// Which version this is.
    pub epoch: Epoch,
    /// How many slices the token space is cut into; fixed for a cluster's life.
    pub partitions: u32,
    /// Sorted by id, no id twice. While owners change, those that join and those that leave are among them.
    pub nodes: Vec<Node>,
    /// What was known of tenants' replication factors before this epoch says nothing now.
    #[serde(default)]
    pub factors_since: Epoch,
    /// The change of owners under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<TopologyChange>>,
}

#[derive(Deserialize)]
struct Unchecked {
    epoch: Epoch,
    partitions: u32,
    nodes: Vec<Node>,
    #[serde(default)]
    factors_since: Epoch,
    #[serde(default)]
    change: Option<Arc<TopologyChange>>,
}

impl TryFrom<Unchecked> for Topology {
    type Error = InvalidTopology;

    fn try_from(from: Unchecked) -> Result<Self, InvalidTopology> {
        let topology = Self {
            factors_since: from.factors_since,
            change: from.change,
            ..Self::new(from.epoch, from.partitions, from.nodes)?
        };
        topology.validate()?;
        Ok(topology)
    }
}

impl Topology {
    /// The topology of a cluster without nodes, as every metadata store begins.
    #[must_use]
    pub const fn empty(partitions: u32) -> Self {
        Self {
            epoch: Epoch(0),
            partitions,
            nodes: Vec::new(),
            factors_since: Epoch(0),
            change: None,
        }
    }

    /// Sorts and checks the nodes; the order they come in doesn't matter.
    pub fn new(
        epoch: Epoch,
        partitions: u32,
        mut nodes: Vec<Node>,
    ) -> Result<Self, InvalidTopology> {
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let topology = Self {
            epoch,
            partitions,
            nodes,
            factors_since: Epoch(0),
            change: None,
        };
        topology.validate()?;
        Ok(topology)
    }

    /// Checks all that [`Topology::new`] promises, for one that was put together by hand.
    pub fn validate(&self) -> Result<(), InvalidTopology> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(InvalidTopology::Partitions(self.partitions));
        }
        if self.nodes.len() > MAX_NODES {
            return Err(InvalidTopology::TooManyNodes(self.nodes.len()));
        }
        validate_nodes(&self.nodes)?;
        validate_seats(&self.nodes, |node| node.status.owns())?;
        if let Some(change) = &self.change {
            let checked = change.validate(self.nodes.len(), self.partitions);
            checked.map_err(InvalidTopology::Change)?;
            validate_nodes(&change.target)?;
            validate_seats(&change.target, |_| true)?;
            if let Some(node) = change
                .target
                .iter()
                .find(|node| self.node(&node.id).is_none())
            {
                return Err(InvalidTopology::Unknown(node.id.clone()));
            }
        }
        Ok(())
    }

    /// The node of that id, if it is listed.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.position(id).ok().map(|index| &self.nodes[index])
    }

    /// Whether the token space, as it is cut here, has that partition.
    pub fn has_partition(&self, partition: PartitionId) -> bool {
        u32::from(partition.0) < self.partitions
    }

    /// The next topology: the node added or, if its id is listed already, its entry replaced.
    pub fn with_node(&self, node: Node) -> Result<Self, InvalidTopology> {
        let mut nodes = self.nodes.clone();
        match self.position(&node.id) {
            Ok(index) => nodes[index] = node,
            Err(index) => nodes.insert(index, node),
        }
        self.succeeded_by(nodes)
    }

    /// The next topology: without that node.
    pub fn without_node(&self, id: &NodeId) -> Result<Self, InvalidTopology> {
        let index = self
            .position(id)
            .map_err(|_| InvalidTopology::Unknown(id.clone()))?;
        let mut nodes = self.nodes.clone();
        nodes.remove(index);
        self.succeeded_by(nodes)
    }

    /// The same under another epoch.
    #[must_use]
    pub fn at(&self, epoch: Epoch) -> Self {
        Self {
            epoch,
            ..self.clone()
        }
    }

    pub(super) fn position(&self, id: &NodeId) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.id.cmp(id))
    }

    fn succeeded_by(&self, nodes: Vec<Node>) -> Result<Self, InvalidTopology> {
        if self.change.is_some() {
            return Err(InvalidTopology::ChangeUnderWay);
        }
        let epoch = self.epoch.next().ok_or(InvalidTopology::LastEpoch)?;
        Ok(Self {
            factors_since: self.factors_since,
            ..Self::new(epoch, self.partitions, nodes)?
        })
    }
}

/// Each one by itself, and that they are in order.
fn validate_nodes(nodes: &[Node]) -> Result<(), InvalidTopology> {
    for node in nodes {
        node.validate().map_err(|source| InvalidTopology::Node {
            id: node.id.clone(),
            source,
        })?;
    }
    for (node, next) in nodes.iter().zip(nodes.iter().skip(1)) {
        match node.id.cmp(&next.id) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                return Err(InvalidTopology::Duplicate(next.id.clone()));
            }
            std::cmp::Ordering::Greater => {
                return Err(InvalidTopology::Unsorted(next.id.clone()));
            }
        }
    }
    Ok(())
}

fn validate_seats(
    nodes: &[Node],
    is_seated: impl Fn(&Node) -> bool,
) -> Result<(), InvalidTopology> {
    let mut seats = BTreeSet::new();
    for node in nodes.iter().filter(|node| is_seated(node)) {
        if !seats.insert(node.seat()) {
            return Err(InvalidTopology::SeatTaken(node.id.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "topology_test.rs"]
mod tests;
