//! Tenants and nodes: the changes that people make.
//!
//! Data does not move yet. So a change of the topology or of a replication factor is made only while that is harmless,
//! and refused otherwise: nodes are added and removed only while every node that is there is empty. Each of them, a new
//! one included, promises in one step that it is empty and refuses the old epoch from then on, so no write can slip in
//! before the change. Only a node that does not answer can be removed by force, without its promise.

use std::sync::Arc;

use super::service::Coordinator;
use super::setback::in_words;
use super::validate;
use super::{CoordinatorError, validate::invalid};
use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{
    CallError, Change, Clock, CoordinatorWorld, Instant, MetadataStore, NodeReport, Operation,
    ReplicaTransport, Reply, Request, SiblingLimits, Tenant,
};
use crate::quorum::ConflictPolicy;

/// The replication factor of who asks for none.
const DEFAULT_REPLICATION_FACTOR: u8 = 3;

/// How often a change of a tenant is begun anew because somebody else changed it at the same time.
const TENANT_CHANGES_MAX: usize = 8;

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

fn promise(change: &str, name: &str, answer: Result<Reply, CallError>) -> Result<(), NoPromise> {
    match answer {
        Ok(Reply::Adopted { adopted: true }) => Ok(()),
        Ok(_) => Err(NoPromise::HoldsData(format!(
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

impl<W: CoordinatorWorld> Coordinator<W> {
    /// Adds a tenant. A replication factor of 0 means 3, however few nodes there are; one that is asked for must be
    /// possible with the nodes that there are, if there are any yet.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantExists`], a bad field, or the metadata store's trouble.
    pub async fn create_tenant(
        &self,
        name: &str,
        replication_factor: u32,
        policy: Option<ConflictPolicy>,
    ) -> Result<Tenant, CoordinatorError> {
        let id = validate::tenant_id(name)?;
        let nodes = self.routing().topology().nodes.len();
        let replication_factor = match replication_factor {
            0 => DEFAULT_REPLICATION_FACTOR,
            asked => validate::replicas(validate::replication_factor(asked)?, nodes)?,
        };
        let now = self.unix_seconds();
        let tenant = Tenant {
            id,
            replication_factor,
            conflict_policy: policy.unwrap_or_default(),
            default_consistency: None,
            siblings: SiblingLimits::default(),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let created = self.world().metadata().create_tenant(tenant);
        match self.in_time(self.admin_deadline(), created).await? {
            Change::Made(tenant) => Ok(tenant),
            Change::Conflict(_) => Err(CoordinatorError::TenantExists(name.to_owned())),
        }
    }

    /// How many replicas a tenant's keys have now: its replication factor, or as many as there are nodes. Quorums are
    /// of these, so any two of them meet; nodes come and go only while they are empty.
    #[must_use]
    pub fn replicas_now(&self, tenant: &Tenant) -> usize {
        usize::from(tenant.replication_factor).min(self.routing().topology().nodes.len())
    }

    /// A tenant, straight from the metadata store or from the cache.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantNotFound`], or the metadata store's trouble.
    pub async fn tenant(&self, name: &str) -> Result<Arc<Tenant>, CoordinatorError> {
        let id = validate::tenant_id(name)?;
        self.cached_tenant(&id, self.admin_deadline()).await
    }

    /// Changes how many owners hold each of a tenant's keys. Until data can move, only to what it is already.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when data would have to move.
    pub async fn update_replication_factor(
        &self,
        name: &str,
        factor: u32,
    ) -> Result<Tenant, CoordinatorError> {
        let factor = validate::replication_factor(factor)?;
        let tenant = self.tenant(name).await?;
        if tenant.replication_factor == factor {
            return Ok(Tenant::clone(&tenant));
        }
        Err(CoordinatorError::NodeInUse(format!(
            "tenant '{name}' keeps replication factor {}: changing it to {factor} moves data, which this version can't do \
             yet; create a tenant with that factor and copy the keys",
            tenant.replication_factor
        )))
    }

    /// Changes how many unresolved siblings a tenant's keys may have.
    ///
    /// # Errors
    /// Limits out of range, [`CoordinatorError::TenantNotFound`], or the metadata store's trouble.
    pub async fn set_sibling_limits(
        &self,
        name: &str,
        siblings: SiblingLimits,
    ) -> Result<Tenant, CoordinatorError> {
        let id = validate::tenant_id(name)?;
        let deadline = self.admin_deadline();
        for _ in 0..TENANT_CHANGES_MAX {
            let metadata = self.world().metadata();
            let found = self.in_time(deadline, metadata.tenant(&id)).await?;
            let Some(tenant) = found else {
                return Err(CoordinatorError::TenantNotFound(name.to_owned()));
            };
            let changed = metadata.update_tenant(Tenant {
                siblings,
                updated_at: self.unix_seconds(),
                ..tenant
            });
            match self.in_time(deadline, changed).await? {
                Change::Made(tenant) => {
                    self.forget_tenant(&id);
                    return Ok(tenant);
                }
                Change::Conflict(_) => {} // changed or gone meanwhile
            }
        }
        Err(CoordinatorError::NodeInUse(format!(
            "tenant '{name}' keeps being changed by others; look at it and try again"
        )))
    }

    /// The storage nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeOverview> {
        let routing = self.routing();
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
        let deadline = self.admin_deadline();
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
        let soon = self.clock().now() + self.settings().probe_interval;
        self.probe_nodes(deadline.min(soon)).await;
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
        let deadline = self.admin_deadline();
        let current = self.current_topology(&change, deadline).await?;
        let next = current
            .without_node(id)
            .map_err(|error| invalid("node_id", error.to_string()))?;
        for other in current.nodes.iter().filter(|other| other.id != *id) {
            self.empty_node_adopts(&change, &other.id, &next, deadline)
                .await?;
        }
        // Half of what is left, so that there is time to publish.
        let left = deadline.since(self.clock().now());
        let patience = self.clock().now() + left / 2;
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
        let current = self.fetch_topology(deadline).await?;
        self.advance_topology(current.clone());
        if self.routing().epoch() == current.epoch {
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
        let metadata = self.world().metadata();
        let replaced = metadata.replace_topology(current.epoch, next);
        match self.in_time(deadline, replaced).await? {
            Change::Made(topology) => {
                self.advance_topology(topology.clone());
                Ok(topology)
            }
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
        let request = Request {
            node: node.id.clone(),
            epoch: next.epoch,
            operation: Operation::AdoptEpochIfEmpty {
                epoch: next.epoch,
                is_new,
            },
        };
        let answer = self.world().transport().call(node, request, deadline).await;
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

    /// Asks a node of the topology in use. It is asked by the epoch that it is to promise: it may have promised that
    /// already, to an attempt that failed at another node.
    async fn adopts_if_empty(
        &self,
        id: &NodeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let routing = self.routing();
        let Some(node) = routing.topology().node(id) else {
            return Err(CallError::NotSent("it is not in the topology".into()));
        };
        let request = Request {
            node: id.clone(),
            epoch,
            operation: Operation::AdoptEpochIfEmpty {
                epoch,
                is_new: false,
            },
        };
        self.world().transport().call(node, request, deadline).await
    }

    pub(super) fn admin_deadline(&self) -> Instant {
        self.clock().now() + self.settings().write_timeout
    }

    pub(super) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.clock().wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}
