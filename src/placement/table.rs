//! The placement table: every partition's preference list, worked out once per topology.
//!
//! Immutable, meant to be shared behind an `Arc`. A look-up is one hash and one slice; it does not allocate.

use super::ring::Ring;
use super::{Epoch, Node, PartitionId, Token, Topology};

/// The longest preference list kept, and so the greatest replication factor.
pub const MAX_OWNERS: usize = 10;

/// Who owns what under one topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    topology: Topology,
    /// Length of every preference list: the number of nodes that own, at most [`MAX_OWNERS`].
    width: usize,
    /// The preference lists end to end, as indices into the topology's nodes.
    table: Vec<u16>,
}

impl Placement {
    /// Works the table out.
    ///
    /// # Panics
    /// If the topology is invalid, which one from [`Topology::new`] or from serde never is.
    pub fn build(topology: Topology) -> Self {
        if let Err(error) = topology.validate() {
            panic!("a placement of an invalid topology: {error}");
        }
        let owning = topology.nodes.iter().filter(|node| node.status.owns());
        let width = owning.count().min(MAX_OWNERS);
        let table = Ring::new(&topology.nodes).preference_lists(topology.partitions, width);
        Self {
            topology,
            width,
            table,
        }
    }

    /// What it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The topology's epoch.
    pub fn epoch(&self) -> Epoch {
        self.topology.epoch
    }

    /// The first `r` owners in order of preference: fewer when fewer nodes own, never more than [`MAX_OWNERS`],
    /// none for a partition that isn't one.
    pub fn owners(&self, partition: PartitionId, r: usize) -> &[u16] {
        let first = usize::from(partition.0) * self.width;
        self.table
            .get(first..first + r.min(self.width))
            .unwrap_or_default()
    }

    /// The node an index of [`Placement::owners`] stands for.
    pub fn node(&self, index: u16) -> &Node {
        &self.topology.nodes[usize::from(index)]
    }

    /// The key's point on the ring.
    pub fn token(&self, tenant: &str, key: &str) -> Token {
        Token::of_key(tenant, key)
    }

    /// The key's partition.
    pub fn route(&self, tenant: &str, key: &str) -> PartitionId {
        self.token(tenant, key).partition(self.topology.partitions)
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
