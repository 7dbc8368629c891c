//! Tenants and storage nodes as people look after them: tenants are here, nodes in [`node_admin`](super::node_admin),
//! API keys in [`api_keys`](super::api_keys).
//!
//! Nothing here moves data: another replication factor is asked for as a change of owners, and a migration carries it
//! out.

use std::sync::Arc;

use super::CoordinatorError;
use super::metadata::Metadata;
use super::probes::Probes;
use super::settings::CoordinatorSettings;
use super::tenants::TenantCache;
use super::topologies::Topologies;
use super::validate;
use crate::placement::{ChangeRequest, FactorRequest};
use crate::ports::{
    Change, Clock, CoordinatorWorld, MetadataStore, Migration, SiblingLimits, Tenant,
};
use crate::quorum::ConflictPolicy;

/// The replication factor of who asks for none.
const DEFAULT_REPLICATION_FACTOR: u8 = 3;

/// How often a change of a tenant is begun anew because somebody else changed it at the same time.
const TENANT_CHANGES_MAX: usize = 8;

/// What came of asking for another replication factor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactorChanged {
    /// The tenant, as it is now.
    pub tenant: Tenant,
    /// What brings it there; `None`: it is there.
    pub migration: Option<Migration>,
}

/// What people do to tenants, storage nodes and API keys.
pub struct Admin<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) metadata: Arc<Metadata<W>>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) tenants: Arc<TenantCache<W>>,
    pub(super) probes: Arc<Probes<W>>,
}

impl<W: CoordinatorWorld> Admin<W> {
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
        let nodes = self.owning_nodes();
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
        let created = self.metadata.store().create_tenant(tenant);
        match self
            .metadata
            .in_time(self.metadata.deadline(), created)
            .await?
        {
            Change::Made(tenant) => Ok(tenant),
            Change::Conflict(_) => Err(CoordinatorError::TenantExists(name.to_owned())),
        }
    }

    /// How many replicas a tenant's keys have now: its replication factor, or as many as there are nodes. Quorums are
    /// of these, so any two of them meet; while owners change, of both sets.
    #[must_use]
    pub fn replicas_now(&self, tenant: &Tenant) -> usize {
        usize::from(tenant.replication_factor).min(self.owning_nodes())
    }

    /// How many nodes own a share.
    fn owning_nodes(&self) -> usize {
        let routing = self.topologies.routing();
        let nodes = routing.topology().nodes.iter();
        nodes.filter(|node| node.status.owns()).count()
    }

    /// A tenant, straight from the metadata store or from the cache.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantNotFound`], or the metadata store's trouble.
    pub async fn tenant(&self, name: &str) -> Result<Arc<Tenant>, CoordinatorError> {
        let id = validate::tenant_id(name)?;
        let routing = self.topologies.routing();
        let known = self.tenants.get(&id, &routing, self.metadata.deadline());
        Ok(known.await?.tenant)
    }

    /// Asks for another number of owners of each of a tenant's keys. Does nothing if it has that many, or has been
    /// asked for it before.
    ///
    /// # Errors
    /// [`CoordinatorError::InvalidReplicationFactor`] when there are fewer nodes.
    pub async fn update_replication_factor(
        &self,
        name: &str,
        factor: u32,
    ) -> Result<FactorChanged, CoordinatorError> {
        let factor = validate::replication_factor(factor)?;
        let id = validate::tenant_id(name)?;
        let stored = self.metadata.store().tenant(&id);
        let stored = self
            .metadata
            .in_time(self.metadata.deadline(), stored)
            .await?;
        let tenant = stored.ok_or_else(|| CoordinatorError::TenantNotFound(name.to_owned()))?;
        let open = self.open_migrations().await?;
        // Of several, the one that was asked for last has the last word.
        let asked = open.into_iter().rev().find_map(|migration| {
            let mut factors = migration.request.factors.iter();
            let asked = factors.find(|asked| &*asked.tenant == name)?.factor;
            Some((asked, migration))
        });
        let migration = match asked {
            Some((asked, migration)) if asked == factor && !migration.cancel => Some(migration),
            None if tenant.replication_factor == factor => None,
            _ => {
                let request = ChangeRequest {
                    nodes: Vec::new(),
                    factors: vec![FactorRequest {
                        tenant: name.into(),
                        factor,
                    }],
                };
                Some(self.request_change(request).await?)
            }
        };
        Ok(FactorChanged { tenant, migration })
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
        let deadline = self.metadata.deadline();
        for _ in 0..TENANT_CHANGES_MAX {
            let metadata = self.metadata.store();
            let found = self
                .metadata
                .in_time(deadline, metadata.tenant(&id))
                .await?;
            let Some(tenant) = found else {
                return Err(CoordinatorError::TenantNotFound(name.to_owned()));
            };
            let changed = metadata.update_tenant(Tenant {
                siblings,
                updated_at: self.unix_seconds(),
                ..tenant
            });
            match self.metadata.in_time(deadline, changed).await? {
                Change::Made(tenant) => {
                    self.tenants.invalidate(&id);
                    return Ok(tenant);
                }
                Change::Conflict(_) => {} // changed or gone meanwhile
            }
        }
        Err(CoordinatorError::NodeInUse(format!(
            "tenant '{name}' keeps being changed by others; look at it and try again"
        )))
    }

    pub(super) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.world.clock().wall_ms() / 1000).unwrap_or(i64::MAX)
    }
}
