//! The routing table in use: the placement of the newest topology this coordinator knows, and each node's health.
//!
//! Built once for a topology, read by every request through one atomic load. Invariant: the epoch in use never goes
//! back.
//!
//! A node that refuses for a newer epoch is believed as far as the metadata store bears it out. From an epoch on that
//! could not be had there, at least not now, epochs are *doubted*: a node that names one counts as missing, and the
//! others go on without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::health::NodeHealth;
use crate::placement::{Epoch, Node, NodeId, PartitionId, Placement, RecordOwners, Topology};
use crate::version::Actor;

const NONE_DOUBTED: u64 = u64::MAX;

/// One topology, ready for use.
#[derive(Debug)]
pub(super) struct Routing {
    placement: Placement,
    /// By the index of the node in the topology.
    health: Vec<Arc<NodeHealth>>,
    /// Epochs from this one on are doubted. Starts anew with each topology.
    doubted_from: AtomicU64,
    has_doubted: AtomicBool,
}

impl Routing {
    pub(super) fn build(topology: Topology, before: Option<&Self>) -> Self {
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
            placement: match before {
                None => Placement::build(topology),
                Some(before) => Placement::following(&before.placement, topology),
            },
            health,
            doubted_from: AtomicU64::new(NONE_DOUBTED),
            has_doubted: AtomicBool::new(false),
        }
    }

    /// Whether an epoch that a node names is doubted.
    pub(super) fn doubts(&self, epoch: Epoch) -> bool {
        epoch.0 >= self.doubted_from.load(Ordering::Acquire)
    }

    /// The least that is, if any is.
    pub(super) fn doubted_from(&self) -> Option<Epoch> {
        let from = self.doubted_from.load(Ordering::Acquire);
        (from != NONE_DOUBTED).then_some(Epoch(from))
    }

    /// Doubts epochs from this one on. Returns whether it is the first time that any is.
    pub(super) fn doubt(&self, epoch: Epoch) -> bool {
        self.doubted_from.fetch_min(epoch.0, Ordering::AcqRel);
        !self.has_doubted.swap(true, Ordering::AcqRel)
    }

    /// Doubts epochs from this one on, or none, and trusts those below again. Returns whether that is news.
    pub(super) fn doubt_only(&self, epoch: Option<Epoch>) -> bool {
        let from = epoch.map_or(NONE_DOUBTED, |epoch| epoch.0);
        from != self.doubted_from.swap(from, Ordering::AcqRel)
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.placement.epoch()
    }

    /// What was known of replication factors before this epoch says nothing now.
    pub(super) fn factors_since(&self) -> Epoch {
        self.topology().factors_since
    }

    pub(super) fn topology(&self) -> &Topology {
        self.placement.topology()
    }

    /// The owners of a tenant's records in a partition, whose replication factor is `factor` unless that changes.
    pub(super) fn owners_of(
        &self,
        partition: PartitionId,
        tenant: &str,
        factor: u8,
    ) -> RecordOwners {
        self.placement.record_owners(partition, tenant, factor)
    }

    /// Whether the change under way takes a node for lost.
    pub(super) fn is_given_up(&self, index: u16) -> bool {
        self.placement.is_given_up(index)
    }

    /// Whether a partition's owners change, or have just changed.
    pub(super) fn moves(&self, partition: PartitionId) -> bool {
        self.placement.moving(partition).is_some()
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

    /// How each node answers.
    pub(super) fn answers_of_nodes(&self) -> impl Iterator<Item = (&NodeId, &NodeHealth)> {
        self.nodes().map(|(node, health)| (&node.id, &**health))
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
