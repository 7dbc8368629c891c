//! The routing table in use: the placement of the newest topology this coordinator knows, and each node's health.
//!
//! Built once for a topology, read by every request through one atomic load. Invariant: the epoch in use never goes back.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::health::NodeHealth;
use crate::placement::{Epoch, Node, NodeId, PartitionId, Placement, Topology};
use crate::version::Actor;

/// One topology, ready for use.
#[derive(Debug)]
pub(super) struct Routing {
    placement: Placement,
    /// By the index of the node in the topology.
    health: Vec<Arc<NodeHealth>>,
}

impl Routing {
    fn build(topology: Topology, before: Option<&Self>) -> Self {
        let health = topology
            .nodes
            .iter()
            .map(|node| {
                before
                    .and_then(|routing| routing.health_of(&node.id))
                    .unwrap_or_default()
            })
            .collect();
        Self {
            placement: Placement::build(topology),
            health,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.placement.epoch()
    }

    pub(super) fn topology(&self) -> &Topology {
        self.placement.topology()
    }

    pub(super) fn owners(&self, partition: PartitionId, replication_factor: u8) -> &[u16] {
        self.placement
            .owners(partition, usize::from(replication_factor))
    }

    pub(super) fn node(&self, index: u16) -> &Node {
        self.placement.node(index)
    }

    pub(super) fn health(&self, index: u16) -> &Arc<NodeHealth> {
        &self.health[usize::from(index)]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Node, &Arc<NodeHealth>)> {
        self.topology().nodes.iter().zip(&self.health)
    }

    fn health_of(&self, id: &NodeId) -> Option<Arc<NodeHealth>> {
        self.nodes()
            .find(|(node, _)| node.id == *id)
            .map(|(_, health)| Arc::clone(health))
    }

    /// A replica's incarnation as people read it: `node-1#3f9a`, or `?#` and all digits when no node reported it.
    pub(super) fn actor_name(&self, actor: Actor) -> String {
        self.nodes()
            .find(|(_, health)| {
                health.with_report(|r| r.is_some_and(|r| r.incarnations.contains(&actor)))
            })
            .map_or_else(
                || format!("?#{actor}"),
                |(node, _)| format!("{}#{}", node.id, actor.short()),
            )
    }
}

/// The routing table in use, replaced as a whole.
#[derive(Debug)]
pub(super) struct CurrentRouting(ArcSwap<Routing>);

impl CurrentRouting {
    pub(super) fn new(topology: Topology) -> Self {
        Self(ArcSwap::from_pointee(Routing::build(topology, None)))
    }

    pub(super) fn get(&self) -> Arc<Routing> {
        self.0.load_full()
    }

    /// Takes `topology` into use unless it is not newer. Returns whether it was.
    pub(super) fn advance(&self, topology: Topology) -> bool {
        let current = self.get();
        if topology.epoch <= current.epoch() {
            return false;
        }
        let next = Arc::new(Routing::build(topology, Some(&current)));
        let mut advanced = false;
        self.0.rcu(|in_use| {
            advanced = next.epoch() > in_use.epoch();
            if advanced {
                Arc::clone(&next)
            } else {
                Arc::clone(in_use)
            }
        });
        advanced
    }
}
