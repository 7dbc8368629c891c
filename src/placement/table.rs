//! The placement table: every partition's preference list, worked out once per topology.
//!
//! Immutable, meant to be shared behind an `Arc`. A look-up is one hash and one slice; it does not allocate.
//!
//! While owners change, the owners of partitions that move are those that the change lists.

use std::sync::Arc;

use super::change::Move;
use super::record_owners::RecordOwners;
use super::ring::{MAX_OWNERS, Ring};
use super::{Epoch, Node, PartitionId, Token, Topology};

/// Who owns what under one topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    topology: Topology,
    /// Length of every preference list: the number of nodes that own, at most [`MAX_OWNERS`].
    width: usize,
    /// The preference lists end to end, as indices into the topology's nodes.
    table: Arc<[u16]>,
    /// Indices of nodes that the change under way takes for lost.
    given_up: Vec<u16>,
}

impl Placement {
    /// Works the table out.
    ///
    /// # Panics
    /// If the topology is invalid, which one from [`Topology::new`] or from serde never is.
    pub fn build(topology: Topology) -> Self {
        Self::validated(topology, None)
    }

    /// The same, where `before` is in use: what nodes and partitions alone decide is not worked out anew if they are
    /// the same, as they are from one step of a change to the next.
    ///
    /// # Panics
    /// As [`Placement::build`].
    pub fn following(before: &Self, topology: Topology) -> Self {
        Self::validated(topology, Some(before))
    }

    fn validated(topology: Topology, before: Option<&Self>) -> Self {
        if let Err(error) = topology.validate() {
            panic!("a placement of an invalid topology: {error}");
        }
        let is_same = |before: &&Self| {
            let before = &before.topology;
            (before.partitions, &before.nodes) == (topology.partitions, &topology.nodes)
        };
        let (width, table) = match before.filter(is_same) {
            Some(before) => (before.width, Arc::clone(&before.table)),
            None => {
                let ring = Ring::new(&topology.nodes, |node| node.status.owns());
                let (width, table) = ring.preference_lists(topology.partitions, MAX_OWNERS);
                (width, table.into())
            }
        };
        let lost = topology.change.iter().flat_map(|change| &change.given_up);
        let given_up = lost.filter_map(|id| topology.position(id).ok());
        Self {
            given_up: given_up.map(|index| index as u16).collect(), // there are at most MAX_NODES
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

    /// The first `r` owners in order of preference, as they are while nothing changes: fewer when fewer nodes own,
    /// never more than [`MAX_OWNERS`], none for a partition that isn't one.
    pub fn owners(&self, partition: PartitionId, r: usize) -> &[u16] {
        let first = usize::from(partition.0) * self.width;
        self.table
            .get(first..first + r.min(self.width))
            .unwrap_or_default()
    }

    /// The owners of a tenant's records in a partition, whose replication factor is `factor` unless that changes.
    pub fn record_owners(&self, partition: PartitionId, tenant: &str, factor: u8) -> RecordOwners {
        let change = self.topology.change.as_deref();
        let moving = change.and_then(|change| Some((change, change.of(partition)?)));
        match moving {
            None => RecordOwners::stable(self.owners(partition, usize::from(factor))),
            Some((change, moving)) => {
                let is_given_up = |node| self.given_up.contains(&node);
                RecordOwners::moving(change, moving, (tenant, factor), is_given_up)
            }
        }
    }

    /// The move of a partition, if it moves.
    pub fn moving(&self, partition: PartitionId) -> Option<&Move> {
        self.topology.change.as_deref()?.of(partition)
    }

    /// Whether the change under way takes a node for lost.
    pub fn is_given_up(&self, index: u16) -> bool {
        self.given_up.contains(&index)
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
