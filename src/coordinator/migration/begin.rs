//! How a change of owners that waits is begun, and how one ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::CoordinatorError;
use super::super::older::refuse_older;
use super::super::pass_failure::in_words;
use super::super::promise::ask_promise;
use super::super::wait::before;
use super::forecast::{Surveyor, factor_changes};
use super::lead::Leader;
use super::stored::{KEPT, all_tenants, open_migrations, started};
use super::turn::Outcome;
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::{
    ChangeId, ChangeRequest, Epoch, Node, NodeId, RefusedChange, Topology, TopologyChange,
};
use crate::ports::{
    Change, Clock, CoordinatorWorld, MetadataStore, Migration, MigrationStatus, StoreError, Tenant,
};

/// How long it may take to tell how many records have to be copied.
const FORECAST_MAX: Duration = Duration::from_secs(10);
/// How often a tenant is changed anew because somebody else changed it at the same time.
const TENANT_CHANGES_MAX: usize = 8;

/// What became of one that waits.
pub(super) enum Begun {
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
        let mut waiting: BTreeSet<NodeId> = BTreeSet::new();
        for migration in open {
            if migration.status == MigrationStatus::InProgress {
                self.is_over(migration).await?;
                return Ok(true);
            }
            let named: Vec<NodeId> = migration.request.named().cloned().collect();
            // Whoever comes after one that waits need not wait for it, unless both are about one node.
            let is_begun = match named.iter().any(|id| waiting.contains(id)) {
                true => Begun::Waits,
                false => self.begin(stored, migration, &tenants).await?,
            };
            match is_begun {
                Begun::Yes | Begun::Over => return Ok(true),
                Begun::Waits => waiting.extend(named),
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
        .await?;
        self.forget_old().await;
        Ok(())
    }

    /// Only so many that are over are kept, and nothing of their partitions.
    async fn forget_old(&self) {
        let forgotten = self.metadata.store().forget_migrations(KEPT);
        let forgotten = self.metadata.in_time(self.metadata.deadline(), forgotten);
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "old migrations are kept until the next one has ended");
        }
    }

    async fn begin(
        &self,
        stored: &Topology,
        migration: Migration,
        tenants: &[Tenant],
    ) -> Result<Begun, CoordinatorError> {
        let request = migration.request.left_to_do(&stored.nodes);
        let factors = factor_changes(&request, tenants);
        let next = match stored.begun(migration.id.clone(), &request, factors) {
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
            self.waits(&migration, older.to_string()).await?;
            return Ok(Begun::Waits);
        }
        let newcomers = change.target.iter();
        let newcomers = newcomers.filter(|node| stored.node(&node.id).is_none());
        if let Some(begun) = self.keeps_out(&migration, newcomers, next.epoch).await? {
            return Ok(begun);
        }
        if mutant::on(Mutant::FactorSetEarly) {
            self.set_factors(&change).await?;
        }
        let keys_total = self.keys_to_copy(stored, &request).await;
        let deadline = self.metadata.deadline();
        let replaced = self.topologies.replace(stored.epoch, next, deadline);
        if let Change::Made(_) = replaced.await? {
            marks::reached(Mark::MigrationBegun);
            tracing::info!(migration = %migration.id, partitions = change.moves.len(), "owners begin to change");
            let now = self.unix_seconds();
            let mut started = started(migration, &change, now);
            started.progress.keys_total = keys_total;
            self.update(started).await?;
        }
        Ok(Begun::Yes)
    }

    /// About how many records have to be copied; 0: that can't be told in time.
    async fn keys_to_copy(&self, stored: &Topology, request: &ChangeRequest) -> u64 {
        let surveyor = Surveyor {
            world: &self.world,
            metadata: &self.metadata,
            topologies: &self.topologies,
            tenants: &self.tenants,
        };
        let until = self.world.clock().now() + FORECAST_MAX;
        let forecast = surveyor.forecast(stored.clone(), request);
        let forecast = before(self.world.clock(), until, forecast).await;
        forecast.map_or(0, |forecast| forecast.map_or(0, |it| it.copies_moving))
    }

    /// Has newcomers promise that they hold nothing, and refuse epochs before this one. Returns what that means for a
    /// migration that waits if one of them does not.
    pub(super) async fn keeps_out(
        &self,
        migration: &Migration,
        newcomers: impl Iterator<Item = &Node>,
        epoch: Epoch,
    ) -> Result<Option<Begun>, CoordinatorError> {
        for node in newcomers {
            let deadline = self.metadata.deadline();
            match ask_promise(&self.world, node, (epoch, true), deadline).await {
                Ok(true) => {}
                Ok(false) => {
                    let why = format!(
                        "{} holds data of a cluster; start it on an empty directory and ask again",
                        node.id
                    );
                    self.ends(migration.clone(), MigrationStatus::Failed, Some(why))
                        .await?;
                    return Ok(Some(Begun::Over));
                }
                Err(_) if let Some(by) = self.is_given_up_by(&node.id).await? => {
                    let why = format!("{} did not join, and is taken for lost by {by}", node.id);
                    self.ends(migration.clone(), MigrationStatus::Failed, Some(why))
                        .await?;
                    return Ok(Some(Begun::Over));
                }
                Err(error) => {
                    let why = format!(
                        "{} at {}, which does not answer ({}); start it, or cancel this",
                        node.id,
                        node.address(),
                        in_words(&error)
                    );
                    self.waits(migration, why).await?;
                    return Ok(Some(Begun::Waits));
                }
            }
        }
        Ok(None)
    }

    /// The migration that takes a node for lost which was to join, if one does.
    async fn is_given_up_by(&self, lost: &NodeId) -> Result<Option<ChangeId>, StoreError> {
        let open = open_migrations(&self.metadata).await?;
        let mut open = open.into_iter().filter(|migration| !migration.cancel);
        let by = open.find(|migration| {
            let mut leavers = migration.request.leavers();
            leavers.any(|(id, force)| force && id == lost)
        });
        Ok(by.map(|migration| migration.id))
    }

    /// Writes down what a migration waits for, if that is news.
    pub(super) async fn waits(
        &self,
        migration: &Migration,
        why: String,
    ) -> Result<(), CoordinatorError> {
        if migration.waits_for.as_ref() != Some(&why) {
            let waits_for = Some(why);
            let migration = migration.clone();
            self.update(Migration {
                waits_for,
                ..migration
            })
            .await?;
        }
        Ok(())
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
        .await?;
        self.forget_old().await;
        Ok(())
    }

    /// All partitions have their new owners, and nobody else has a copy: the change is over.
    pub(super) async fn end(
        &self,
        stored: &Topology,
        change: &TopologyChange,
        migration: &Migration,
    ) -> Result<Outcome, CoordinatorError> {
        self.set_factors(change).await?;
        let ending = Migration {
            ended_at: Some(self.unix_seconds()),
            cancel: change.cancelled,
            ..migration.clone()
        };
        let Some(ending) = self.update(ending).await? else {
            return Ok(Outcome::default());
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
