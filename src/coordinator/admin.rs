//! Tenants and nodes: the changes that people make.
//!
//! Data does not move yet. So a change of the topology or of a replication factor is made only while that is harmless, and
//! refused otherwise: nodes are added and removed only while every node that is there is empty. Each of them promises in
//! one step that it is empty and refuses the old epoch from then on, so no write can slip in before the change.

use std::sync::Arc;

use super::owners::Owners;
use super::service::Coordinator;
use super::validate;
use super::{CoordinatorError, validate::invalid};
use crate::placement::{Node, NodeId, Topology};
use crate::ports::{
    Change, Clock, CoordinatorWorld, Instant, MetadataStore, NodeReport, Operation, Reply, Tenant,
};
use crate::quorum::ConflictPolicy;

/// A storage node as the topology and its own last report show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOverview {
    /// What the topology says.
    pub node: Node,
    /// What the node said when it was last probed; `None` if it never answered this coordinator.
    pub report: Option<NodeReport>,
    /// Whether it answers.
    pub healthy: bool,
}

impl<W: CoordinatorWorld> Coordinator<W> {
    /// Adds a tenant. A replication factor of 0 means 3.
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
        let replication_factor = validate::replication_factor(if replication_factor == 0 {
            3
        } else {
            replication_factor
        })?;
        let now = self.unix_seconds();
        let tenant = Tenant {
            id,
            replication_factor,
            conflict_policy: policy.unwrap_or_default(),
            default_consistency: None,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        match self.world().metadata().create_tenant(tenant).await? {
            Change::Made(tenant) => Ok(tenant),
            Change::Conflict(_) => Err(CoordinatorError::TenantExists(name.to_owned())),
        }
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

    /// The storage nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeOverview> {
        let routing = self.routing();
        let overview = routing.nodes().map(|(node, health)| NodeOverview {
            node: node.clone(),
            report: health.report(),
            healthy: health.is_healthy(),
        });
        overview.collect()
    }

    /// Adds a node to a cluster that holds no data yet.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when data would have to move or another change came first.
    pub async fn add_node(&self, node: Node) -> Result<Topology, CoordinatorError> {
        let change = format!("adding {}", node.id);
        self.change_topology(&change, |topology| {
            topology
                .with_node(node.clone())
                .map_err(|error| invalid("node_id", error.to_string()))
        })
        .await
    }

    /// Removes a node from a cluster that holds no data yet.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when data would have to move or another change came first.
    pub async fn remove_node(&self, id: &NodeId) -> Result<Topology, CoordinatorError> {
        let change = format!("removing {id}");
        self.change_topology(&change, |topology| {
            topology
                .without_node(id)
                .map_err(|error| invalid("node_id", error.to_string()))
        })
        .await
    }

    async fn change_topology(
        &self,
        change: &str,
        next: impl Fn(&Topology) -> Result<Topology, CoordinatorError>,
    ) -> Result<Topology, CoordinatorError> {
        let deadline = self.admin_deadline();
        let current = self.fetch_topology(deadline).await?;
        self.advance_topology(current.clone());
        let next = next(&current)?;
        let changed_meanwhile = || {
            CoordinatorError::NodeInUse(format!(
                "{change}: the topology was changed by somebody else at the same time; look at it and try again"
            ))
        };
        let routing = self.routing();
        if routing.epoch() != current.epoch {
            return Err(changed_meanwhile());
        }
        for index in 0..current.nodes.len() as u16 {
            let owners = Owners::of_node(self.world().clone(), Arc::clone(&routing), index);
            self.empty_node_adopts(change, &owners, &next, deadline)
                .await?;
        }
        match self
            .world()
            .metadata()
            .replace_topology(current.epoch, next)
            .await?
        {
            Change::Made(topology) => {
                self.advance_topology(topology.clone());
                Ok(topology)
            }
            Change::Conflict(_) => Err(changed_meanwhile()),
        }
    }

    async fn empty_node_adopts(
        &self,
        change: &str,
        owners: &Owners<W>,
        next: &Topology,
        deadline: Instant,
    ) -> Result<(), CoordinatorError> {
        let name = owners.name(0);
        match owners
            .call(
                0,
                Operation::AdoptEpochIfEmpty { epoch: next.epoch },
                deadline,
            )
            .await
            .result
        {
            Ok(Reply::Adopted { adopted: true }) => Ok(()),
            Ok(_) => Err(CoordinatorError::NodeInUse(format!(
                "{change}: {name} holds data, which would have to move; this version can change the nodes of an empty \
                 cluster only"
            ))),
            Err(error) => Err(CoordinatorError::NodeInUse(format!(
                "{change}: {name} must answer that it holds no data, and did not ({error}); start it and try again"
            ))),
        }
    }

    pub(super) fn admin_deadline(&self) -> Instant {
        self.clock().now() + self.settings().write_timeout
    }

    fn unix_seconds(&self) -> i64 {
        i64::try_from(self.clock().wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}
