//! Storage nodes as people add and remove them.
//!
//! Data does not move yet. So a change of the topology is made only while that is harmless, and refused otherwise:
//! nodes are added and removed only while every node that is there is empty. Each of them, a new one included, promises
//! in one step that it is empty and refuses the old epoch from then on, so no write can slip in before the change. Only
//! a node that does not answer can be removed by force, without its promise.

use super::pass_failure::in_words;
use super::tenant_admin::Admin;
use super::{CoordinatorError, validate::invalid};
use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{
    AdoptEpochIfEmpty, Ask, CallError, Change, Clock, CoordinatorWorld, Instant, NodeReport,
    ReplicaTransport, Request, answer_to,
};

/// A storage node as the topology and its own last report show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOverview {
    /// What the topology says.
    pub node: Node,
    /// What the node said when it was last probed; `None` if it never answered this coordinator.
    pub report: Option<NodeReport>,
    /// Whether it answers, if only to refuse.
    pub answers: bool,
    /// Whether it does what it is asked for.
    pub healthy: bool,
    /// Whether it refuses everything for an epoch that the metadata store does not have; then it counts as missing.
    pub out_of_step: bool,
}

/// A node that was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// The topology without it.
    pub topology: Topology,
    /// Whether the node promised that it is empty; otherwise what it may hold is given up.
    pub promised: bool,
}

/// Why a node did not promise to be empty.
enum NoPromise {
    HoldsData(String),
    Silent(String),
}

impl NoPromise {
    fn into_text(self) -> String {
        match self {
            Self::HoldsData(text) | Self::Silent(text) => text,
        }
    }
}

fn promise(change: &str, name: &str, answer: Result<bool, CallError>) -> Result<(), NoPromise> {
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(NoPromise::HoldsData(format!(
            "{change}: {name} holds data, which would have to move; this version can change the nodes of an empty \
             cluster only"
        ))),
        Err(error) => Err(NoPromise::Silent(format!(
            "{change}: {name} must answer that it holds no data, and did not ({}); start it and try again",
            in_words(&error)
        ))),
    }
}

fn changed_meanwhile(change: &str) -> CoordinatorError {
    CoordinatorError::NodeInUse(format!(
        "{change}: the topology was changed by somebody else at the same time; look at it and try again"
    ))
}

impl<W: CoordinatorWorld> Admin<W> {
    /// The storage nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeOverview> {
        let routing = self.topologies.routing();
        let overview = routing.nodes().map(|(node, health)| NodeOverview {
            node: node.clone(),
            report: health.report(),
            answers: health.answers(),
            healthy: health.is_healthy(),
            out_of_step: health.is_out_of_step(),
        });
        overview.collect()
    }

    /// Adds a node, which must answer and be empty, to a cluster that holds no data yet.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when data would have to move, a node does not answer, or another change came
    /// first.
    pub async fn add_node(&self, node: Node) -> Result<Topology, CoordinatorError> {
        let change = format!("adding {}", node.id);
        let deadline = self.metadata.deadline();
        let current = self.current_topology(&change, deadline).await?;
        let next = current
            .with_node(node.clone())
            .map_err(|error| invalid("node_id", error.to_string()))?;
        // First the newcomer: while it does not answer nothing has changed anywhere.
        let is_new = current.node(&node.id).is_none();
        self.newcomer_adopts(&change, &node, is_new, &next, deadline)
            .await?;
        let others = current.nodes.iter().filter(|other| other.id != node.id);
        for other in others {
            self.empty_node_adopts(&change, &other.id, &next, deadline)
                .await?;
        }
        let topology = self.publish(&change, &current, next, deadline).await?;
        // Whoever asks next how the nodes are is told of the new one as well.
        let soon = self.world.clock().now() + self.settings.probe_interval;
        self.probes.ask(deadline.min(soon)).await;
        Ok(topology)
    }

    /// Removes a node from a cluster that holds no data yet. With `force` the node itself need not answer; one that
    /// answers that it holds data is not removed.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when data would have to move, a node does not answer, or another change came
    /// first.
    pub async fn remove_node(&self, id: &NodeId, force: bool) -> Result<Removal, CoordinatorError> {
        let change = format!("removing {id}");
        let deadline = self.metadata.deadline();
        let current = self.current_topology(&change, deadline).await?;
        let next = current
            .without_node(id)
            .map_err(|error| invalid("node_id", error.to_string()))?;
        for other in current.nodes.iter().filter(|other| other.id != *id) {
            self.empty_node_adopts(&change, &other.id, &next, deadline)
                .await?;
        }
        // Half of what is left, so that there is time to publish.
        let left = deadline.since(self.world.clock().now());
        let patience = self.world.clock().now() + left / 2;
        let (name, epoch) = (id.as_str(), next.epoch);
        let promised = match self.adopts_if_empty(id, epoch, patience).await {
            Err(CallError::NotSent(_) | CallError::NoAnswer(_)) if force => false,
            answer => match promise(&change, name, answer) {
                Ok(()) => true,
                Err(NoPromise::Silent(text)) => {
                    return Err(CoordinatorError::NodeInUse(format!(
                        "{text}, or remove it by force if it never comes back"
                    )));
                }
                Err(NoPromise::HoldsData(text)) => return Err(CoordinatorError::NodeInUse(text)),
            },
        };
        let topology = self.publish(&change, &current, next, deadline).await?;
        Ok(Removal { topology, promised })
    }

    /// The stored topology, which is also the one in use here.
    async fn current_topology(
        &self,
        change: &str,
        deadline: Instant,
    ) -> Result<Topology, CoordinatorError> {
        let current = self.topologies.fetch(deadline).await?;
        if self.topologies.routing().epoch() == current.epoch {
            Ok(current)
        } else {
            Err(changed_meanwhile(change))
        }
    }

    async fn publish(
        &self,
        change: &str,
        current: &Topology,
        next: Topology,
        deadline: Instant,
    ) -> Result<Topology, CoordinatorError> {
        match self
            .topologies
            .replace(current.epoch, next, deadline)
            .await?
        {
            Change::Made(topology) => Ok(topology),
            Change::Conflict(_) => Err(changed_meanwhile(change)),
        }
    }

    async fn newcomer_adopts(
        &self,
        change: &str,
        node: &Node,
        is_new: bool,
        next: &Topology,
        deadline: Instant,
    ) -> Result<(), CoordinatorError> {
        let answer = self.ask_promise(node, next.epoch, is_new, deadline).await;
        promise(change, node.id.as_str(), answer)
            .map_err(|error| CoordinatorError::NodeInUse(error.into_text()))
    }

    async fn empty_node_adopts(
        &self,
        change: &str,
        id: &NodeId,
        next: &Topology,
        deadline: Instant,
    ) -> Result<(), CoordinatorError> {
        let answer = self.adopts_if_empty(id, next.epoch, deadline).await;
        promise(change, id.as_str(), answer)
            .map_err(|error| CoordinatorError::NodeInUse(error.into_text()))
    }

    /// Asks a node of the topology in use.
    async fn adopts_if_empty(
        &self,
        id: &NodeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<bool, CallError> {
        let routing = self.topologies.routing();
        match routing.topology().node(id) {
            Some(node) => self.ask_promise(node, epoch, false, deadline).await,
            None => Err(CallError::NotSent("it is not in the topology".into())),
        }
    }

    /// Asks a node to promise an epoch, by that epoch: it may have promised it already, to an attempt that failed at
    /// another node.
    async fn ask_promise(
        &self,
        node: &Node,
        epoch: Epoch,
        is_new: bool,
        deadline: Instant,
    ) -> Result<bool, CallError> {
        let request = Request {
            node: node.id.clone(),
            epoch,
            operation: AdoptEpochIfEmpty { epoch, is_new }.into_operation(),
        };
        let answer = self.world.transport().call(node, request, deadline).await;
        answer_to::<AdoptEpochIfEmpty>(answer)
    }
}
