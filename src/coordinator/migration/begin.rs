//! How a change of owners that waits is begun, and how one ends.

use std::sync::Arc;

use super::super::CoordinatorError;
use super::super::older::refuse_older;
use super::forecast::factor_changes;
use super::lead::Leader;
use super::stored::{all_tenants, open_migrations, started};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, Node, RefusedChange, Topology, TopologyChange};
use crate::ports::{
    AdoptEpochIfEmpty, Ask, Change, Clock, CoordinatorWorld, MetadataStore, Migration,
    MigrationStatus, ReplicaTransport, Request, StoreError, Tenant, answer_to,
};

/// How often a tenant is changed anew because somebody else changed it at the same time.
const TENANT_CHANGES_MAX: usize = 8;

/// What became of one that waits.
enum Begun {
    /// It is under way.
    Yes,
    /// It is over, and nothing was changed.
    Over,
    /// It has to wait.
    Waits,
}

impl<W: CoordinatorWorld> Leader<W> {
    /// Begins the first change that can be begun. Returns whether something was done.
    pub(super) async fn begin_next(&self, stored: &Topology) -> Result<bool, CoordinatorError> {
        let open = open_migrations(&self.metadata).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let tenants = all_tenants(&self.metadata).await?;
        for migration in open {
            if migration.status == MigrationStatus::InProgress {
                self.is_over(migration).await?;
                return Ok(true);
            }
            match self.begin(stored, migration, &tenants).await? {
                Begun::Yes | Begun::Over => return Ok(true),
                Begun::Waits => {} // whoever comes after it need not wait for it
            }
        }
        Ok(false)
    }

    /// A migration is under way and no change is: it has ended, and only that was not noted. (If it was not about to,
    /// the store has lost its change.)
    async fn is_over(&self, migration: Migration) -> Result<(), StoreError> {
        let status = match (migration.ended_at, migration.cancel) {
            (Some(_), false) => MigrationStatus::Completed,
            (Some(_), true) => MigrationStatus::Cancelled,
            (None, _) => MigrationStatus::Pending,
        };
        let waits_for = None;
        self.update(Migration {
            status,
            waits_for,
            ..migration
        })
        .await
        .map(drop)
    }

    async fn begin(
        &self,
        stored: &Topology,
        migration: Migration,
        tenants: &[Tenant],
    ) -> Result<Begun, CoordinatorError> {
        let factors = factor_changes(&migration.request, tenants);
        let next = match stored.begun(migration.id.clone(), &migration.request, factors) {
            Ok(next) => next,
            Err(RefusedChange::Nothing) => {
                self.ends(migration, MigrationStatus::Completed, None)
                    .await?;
                return Ok(Begun::Over);
            }
            Err(refused) => {
                let why = Some(refused.to_string());
                self.ends(migration, MigrationStatus::Failed, why).await?;
                return Ok(Begun::Over);
            }
        };
        let change = next.change.clone();
        let Some(change) = change else {
            return Ok(Begun::Waits); // one that is begun has a change
        };
        let until = self.world.clock().now() + self.settings.probe_interval;
        let routing = self.topologies.routing();
        if let Err(older) = refuse_older(&self.world, &routing, Some(&change), until).await {
            return self.waits(migration, older.to_string()).await;
        }
        for node in &change.target {
            if stored.node(&node.id).is_some() {
                continue;
            }
            match self.joins(node, next.epoch).await {
                Ok(true) => {}
                Ok(false) => {
                    let why = format!(
                        "{} holds data of a cluster; start it on an empty directory and ask again",
                        node.id
                    );
                    self.ends(migration, MigrationStatus::Failed, Some(why))
                        .await?;
                    return Ok(Begun::Over);
                }
                Err(why) => {
                    let why = format!(
                        "{} at {}, which does not answer ({why}); start it, or cancel this",
                        node.id,
                        node.address()
                    );
                    return self.waits(migration, why).await;
                }
            }
        }
        if mutant::on(Mutant::FactorSetEarly) {
            self.set_factors(&change).await?;
        }
        let deadline = self.metadata.deadline();
        let replaced = self.topologies.replace(stored.epoch, next, deadline);
        if let Change::Made(_) = replaced.await? {
            marks::reached(Mark::MigrationBegun);
            tracing::info!(migration = %migration.id, partitions = change.moves.len(), "owners begin to change");
            let now = self.unix_seconds();
            self.update(started(migration, &change, now)).await?;
        }
        Ok(Begun::Yes)
    }

    /// The migration can't be begun yet, and says why.
    async fn waits(&self, migration: Migration, why: String) -> Result<Begun, CoordinatorError> {
        if migration.waits_for.as_ref() != Some(&why) {
            let waits_for = Some(why);
            self.update(Migration {
                waits_for,
                ..migration
            })
            .await?;
        }
        Ok(Begun::Waits)
    }

    /// Has a node promise that it holds nothing, and refuse epochs before this one. The error says why it does not
    /// answer.
    async fn joins(&self, node: &Node, epoch: Epoch) -> Result<bool, String> {
        let is_new = true;
        let request = Request {
            node: node.id.clone(),
            epoch,
            operation: AdoptEpochIfEmpty { epoch, is_new }.into_operation(),
        };
        let deadline = self.metadata.deadline();
        let answer = self.world.transport().call(node, request, deadline).await;
        answer_to::<AdoptEpochIfEmpty>(answer)
            .map_err(|error| super::super::pass_failure::in_words(&error))
    }

    /// The migration is over, without any change of the topology.
    async fn ends(
        &self,
        migration: Migration,
        status: MigrationStatus,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let ended_at = Some(self.unix_seconds());
        self.update(Migration {
            status,
            error,
            ended_at,
            waits_for: None,
            ..migration
        })
        .await
        .map(drop)
    }

    /// All partitions have their new owners, and nobody else has a copy: the change is over.
    pub(super) async fn end(
        &self,
        stored: &Topology,
        change: &TopologyChange,
        migration: &Migration,
    ) -> Result<super::lead::Outcome, CoordinatorError> {
        self.set_factors(change).await?;
        let ending = Migration {
            ended_at: Some(self.unix_seconds()),
            cancel: change.cancelled,
            ..migration.clone()
        };
        let Some(ending) = self.update(ending).await? else {
            return Ok(super::lead::Outcome::default());
        };
        let next = stored.finished().map_err(super::refused::refused)?;
        let published = self.publish(stored, next).await?;
        if published.went_on {
            marks::reached(match change.cancelled {
                true => Mark::MigrationUndone,
                false => Mark::MigrationCompleted,
            });
            tracing::info!(migration = %change.id, cancelled = change.cancelled, "owners have changed");
            let progress = crate::ports::MigrationProgress {
                partitions: change.moves.len() as u64,
                partitions_done: change.moves.len() as u64,
                ..ending.progress
            };
            self.is_over(Migration { progress, ..ending }).await?;
        }
        Ok(published)
    }

    /// Stores the new factors with their tenants. Until the change is over they say nothing.
    async fn set_factors(&self, change: &TopologyChange) -> Result<(), CoordinatorError> {
        for factor in &change.factors {
            let id = crate::ports::TenantId::new(Arc::clone(&factor.tenant))
                .map_err(|_| CoordinatorError::TenantNotFound(factor.tenant.to_string()))?;
            let mut tries = 0;
            loop {
                let found = self.metadata.store().tenant(&id);
                let found = self
                    .metadata
                    .in_time(self.metadata.deadline(), found)
                    .await?;
                let Some(tenant) = found.filter(|it| it.replication_factor != factor.to) else {
                    break;
                };
                let changed = self.metadata.store().update_tenant(Tenant {
                    replication_factor: factor.to,
                    updated_at: self.unix_seconds(),
                    ..tenant
                });
                let changed = self.metadata.in_time(self.metadata.deadline(), changed);
                if let Change::Made(_) = changed.await? {
                    break;
                }
                tries += 1;
                if tries >= TENANT_CHANGES_MAX {
                    let busy = format!("tenant '{id}' is changed by others all the time");
                    return Err(CoordinatorError::NodeInUse(busy));
                }
            }
        }
        Ok(())
    }
}
