//! Changes of owners as people ask for them and look after them.
//!
//! Nothing moves here: a change that is asked for waits in a queue until whoever leads begins it.

use std::collections::BTreeSet;

use super::super::CoordinatorError;
use super::super::older::refuse_older;
use super::super::tenant_admin::Admin;
use super::super::validate::{self, invalid};
use super::Forecast;
use super::refused::refused;
use super::stored::{OPEN_MAX, all_tenants, open_migrations};
use crate::placement::{
    ChangeId, ChangeRequest, MAX_NODES, MoveState, NodeChange, NodeId, RefusedChange, Topology,
};
use crate::ports::{
    Change, Clock, CoordinatorWorld, MetadataStore, Migration, MigrationProgress, MigrationStatus,
    Random, Tenant,
};

/// Replication factors that change at once.
const FACTORS_MAX: usize = 1024;
/// How often an update is begun anew because somebody else changed the migration at the same time.
const UPDATES_MAX: usize = 8;

/// A migration, how far its partitions have come, and what it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationView {
    /// As it is stored.
    pub migration: Migration,
    /// How many partitions are in each state, while it is under way.
    pub partitions: Vec<(MoveState, u64)>,
    /// When it will be done if it goes on as fast as so far, Unix seconds; `None`: that can't be told.
    pub estimated_completion: Option<i64>,
    /// Records copied in a second so far; 0 before any was.
    pub keys_per_second: u64,
    /// What it waits for, and what would help; `None`: it goes on.
    pub waits_for: Option<String>,
}

/// What has to be known to show a migration.
struct Around {
    stored: Topology,
    open: Vec<Migration>,
    now: i64,
}

impl Around {
    fn view(&self, migration: Migration) -> MigrationView {
        let change = self.stored.change.as_deref();
        let under_way = change.filter(|change| change.id == migration.id);
        let partitions = under_way.map_or_else(Vec::new, |change| {
            let of_state = |state| (state, change.in_state(state) as u64);
            MoveState::ALL.map(of_state).into()
        });
        let (progress, start) = (migration.progress, migration.started_at);
        let until = migration.ended_at.unwrap_or(self.now);
        let seconds = start.map_or(0, |start| (until - start).max(0).unsigned_abs());
        let is_running = migration.status == MigrationStatus::InProgress && !migration.cancel;
        let left = is_running
            .then(|| seconds_left(&progress, seconds))
            .flatten();
        let estimated = left.map(|left| self.now.saturating_add_unsigned(left));
        MigrationView {
            partitions,
            estimated_completion: migration.ended_at.or(estimated),
            keys_per_second: progress.keys.checked_div(seconds).unwrap_or(0),
            waits_for: self.waits_for(&migration),
            migration,
        }
    }

    fn waits_for(&self, migration: &Migration) -> Option<String> {
        match migration.status {
            MigrationStatus::InProgress if migration.bytes_per_second == Some(0) => {
                Some("another pace than 0, at which it rests".to_owned())
            }
            MigrationStatus::InProgress => migration.waits_for.clone(),
            MigrationStatus::Pending if migration.waits_for.is_some() => {
                migration.waits_for.clone()
            }
            MigrationStatus::Pending => {
                let mut before = self.open.iter().take_while(|open| open.id != migration.id);
                let first = before.next()?;
                Some(match before.count() {
                    0 => format!("its turn, after {}", first.id),
                    others => format!("its turn, after {} and {others} more", first.id),
                })
            }
            _ => None,
        }
    }
}

/// How long it takes from here on if it goes on as so far; `None`: nothing was moved yet.
fn seconds_left(progress: &MigrationProgress, seconds: u64) -> Option<u64> {
    let at_this_rate = |all: u64, done: u64| {
        let left = u128::from(all.saturating_sub(done)) * u128::from(seconds);
        let left = left.checked_div(u128::from(done))?;
        Some(u64::try_from(left).unwrap_or(u64::MAX))
    };
    // How many keys there are may be unknown.
    let by_keys = match progress.keys_total {
        0 => None,
        total => at_this_rate(total, progress.keys),
    };
    by_keys.max(at_this_rate(progress.partitions, progress.partitions_done))
}

impl<W: CoordinatorWorld> Admin<W> {
    /// Asks for a change of owners. It waits for its turn, and is carried out in the background.
    ///
    /// # Errors
    /// When it can't be, by what is known now: [`CoordinatorError::NodeInUse`] if fewer nodes would be left than some
    /// tenant has replicas; [`CoordinatorError::OlderVersion`] if somebody has to be upgraded first.
    pub async fn request_change(
        &self,
        request: ChangeRequest,
    ) -> Result<Migration, CoordinatorError> {
        let deadline = self.metadata.deadline();
        let metadata = self.metadata.store();
        let open = self.open_migrations().await?;
        if open.len() >= OPEN_MAX {
            return Err(CoordinatorError::Overloaded(format!(
                "{} migrations are waiting; cancel some of them",
                open.len()
            )));
        }
        let stored = self.topologies.fetch(deadline).await?;
        let after = after_all(&stored, &open);
        self.check_change((&stored, &after), &open, &request)
            .await?;
        let until = self.world.clock().now() + self.settings.probe_interval;
        refuse_older(&self.world, &self.topologies.routing(), None, until).await?;
        let migration = Migration::asked(
            ChangeId::of_number(self.world.random().next_u64()),
            request,
            self.unix_seconds(),
        );
        let created = metadata.create_migration(migration);
        match self
            .metadata
            .in_time(self.metadata.deadline(), created)
            .await?
        {
            Change::Made(migration) => Ok(migration),
            Change::Conflict(_) => Err(CoordinatorError::Internal(
                "a migration's id was drawn twice",
            )),
        }
    }

    /// What a change would move if it were begun now, after all that were asked for before.
    ///
    /// # Errors
    /// As for [`Admin::request_change`]; but nobody is asked for its version.
    pub async fn forecast_change(
        &self,
        request: &ChangeRequest,
    ) -> Result<Forecast, CoordinatorError> {
        let deadline = self.metadata.deadline();
        let stored = self.topologies.fetch(deadline).await?;
        let open = self.open_migrations().await?;
        let before = after_all(&stored, &open);
        self.check_change((&stored, &before), &open, request)
            .await?;
        self.forecast(before, request).await
    }

    /// The same for a change that is made at once, since nobody holds anything.
    ///
    /// # Errors
    /// When the nodes that there would be make no sense.
    pub(in crate::coordinator) async fn forecast_at_once(
        &self,
        stored: Topology,
        request: &ChangeRequest,
    ) -> Result<Forecast, CoordinatorError> {
        match request.applied_to(&stored.nodes) {
            // One that is put elsewhere.
            Err(RefusedChange::Known(_)) => self.forecast(stored, &ChangeRequest::default()).await,
            _ => self.forecast(stored, request).await,
        }
    }

    /// Migrations that are not over, those asked for first first.
    pub(in crate::coordinator) async fn open_migrations(
        &self,
    ) -> Result<Vec<Migration>, CoordinatorError> {
        Ok(open_migrations(&self.metadata).await?)
    }

    /// Migrations and how far they have come, those asked for last first.
    ///
    /// # Errors
    /// The metadata store's trouble.
    pub async fn migrations(&self, limit: usize) -> Result<Vec<MigrationView>, CoordinatorError> {
        let migrations = self.metadata.store().migrations(limit);
        let deadline = self.metadata.deadline();
        let migrations = self.metadata.in_time(deadline, migrations).await?;
        let around = self.around().await?;
        let views = migrations.into_iter();
        Ok(views.map(|migration| around.view(migration)).collect())
    }

    /// One migration, and how far it has come.
    ///
    /// # Errors
    /// [`CoordinatorError::MigrationNotFound`], or the metadata store's trouble.
    pub async fn migration(&self, id: &str) -> Result<MigrationView, CoordinatorError> {
        let migration = self.stored_migration(id).await?;
        Ok(self.around().await?.view(migration))
    }

    async fn around(&self) -> Result<Around, CoordinatorError> {
        Ok(Around {
            stored: self.topologies.fetch(self.metadata.deadline()).await?,
            open: self.open_migrations().await?,
            now: self.unix_seconds(),
        })
    }

    /// Asks for a migration to be cancelled. One that waits is over then; one that is under way leads back to where it
    /// began. Does nothing to one that was cancelled before.
    ///
    /// # Errors
    /// [`CoordinatorError::MigrationNotFound`]; [`CoordinatorError::NodeInUse`] when it is over, or gave up a node.
    pub async fn cancel_migration(&self, id: &str) -> Result<Migration, CoordinatorError> {
        let stored = self.topologies.fetch(self.metadata.deadline()).await?;
        let change = stored.change.as_deref();
        let lost_so_far = change.map_or(&[][..], |change| &change.given_up);
        self.update_open(id, |migration, now| {
            let lost = migration.request.leavers().filter(|(_, force)| *force);
            let lost: Vec<&NodeId> = lost.map(|(id, _)| id).collect();
            let lost_already = lost.iter().find(|id| lost_so_far.contains(id));
            // What is under way may have given up somebody that only another request named.
            let under_way = change.filter(|change| change.id == migration.id);
            let lost_under_way = under_way.and_then(|change| change.given_up.first());
            let lost = lost_under_way.or(lost.first().copied());
            match (migration.status, lost) {
                (_, _) if migration.ended_at.is_some() => Err(CoordinatorError::NodeInUse(
                    format!("migration '{id}' can't be cancelled: all is done, and its end is being published"),
                )),
                (MigrationStatus::Pending, _) => {
                    if let (Some(lost), Some(change)) = (lost_already, change) {
                        return Err(CoordinatorError::NodeInUse(format!(
                            "migration '{id}' can't be cancelled: migration '{}' goes on without {lost} already; add the \
                             node again when both have ended",
                            change.id
                        )));
                    }
                    // Should it be begun at this very time, it leads back.
                    migration.cancel = true;
                    migration.status = MigrationStatus::Cancelled;
                    migration.ended_at = Some(now);
                    Ok(())
                }
                (_, Some(lost)) => Err(CoordinatorError::NodeInUse(format!(
                    "migration '{id}' can't be cancelled: it gave up {lost}, and others own what that had; let it end, \
                     and add the node again"
                ))),
                (_, None) => {
                    migration.cancel = true;
                    Ok(())
                }
            }
        })
        .await
    }

    /// Sets how many bytes a migration may move in a second; `None`: as many as storage nodes let pass; 0: it rests.
    ///
    /// # Errors
    /// [`CoordinatorError::MigrationNotFound`]; [`CoordinatorError::NodeInUse`] when it is over.
    pub async fn pace_migration(
        &self,
        id: &str,
        bytes_per_second: Option<u64>,
    ) -> Result<Migration, CoordinatorError> {
        self.update_open(id, |migration, _| {
            // No signed number of 64 bits, as metadata stores have them, is greater.
            if bytes_per_second.is_some_and(|bytes| i64::try_from(bytes).is_err()) {
                let most = i64::MAX;
                return Err(invalid(
                    "bytes_per_second_max",
                    format!("is more than {most}"),
                ));
            }
            migration.bytes_per_second = bytes_per_second;
            Ok(())
        })
        .await
    }

    /// Changes a migration that is not over.
    async fn update_open(
        &self,
        id: &str,
        change: impl Fn(&mut Migration, i64) -> Result<(), CoordinatorError>,
    ) -> Result<Migration, CoordinatorError> {
        for _ in 0..UPDATES_MAX {
            let mut migration = self.stored_migration(id).await?;
            if !migration.status.is_open() {
                return Err(CoordinatorError::NodeInUse(format!(
                    "migration '{id}' is {} already",
                    migration.status
                )));
            }
            change(&mut migration, self.unix_seconds())?;
            let updated = self.metadata.store().update_migration(migration);
            match self
                .metadata
                .in_time(self.metadata.deadline(), updated)
                .await?
            {
                Change::Made(migration) => return Ok(migration),
                Change::Conflict(_) => {} // changed meanwhile
            }
        }
        Err(CoordinatorError::NodeInUse(format!(
            "migration '{id}' is changed by others all the time; try again"
        )))
    }

    async fn stored_migration(&self, id: &str) -> Result<Migration, CoordinatorError> {
        let not_found = || CoordinatorError::MigrationNotFound(id.to_owned());
        let name = ChangeId::new(id).map_err(|_| not_found())?;
        let found = self.metadata.store().migration(&name);
        let found = self
            .metadata
            .in_time(self.metadata.deadline(), found)
            .await?;
        found.ok_or_else(not_found)
    }

    /// Whether a change can be, where there is the topology that is `stored`, after the one to which the `open` ones
    /// lead.
    async fn check_change(
        &self,
        (stored, topology): (&Topology, &Topology),
        open: &[Migration],
        request: &ChangeRequest,
    ) -> Result<(), CoordinatorError> {
        if request.nodes.len() > MAX_NODES {
            return Err(invalid("changes", format!("are more than {MAX_NODES}")));
        }
        if request.factors.len() > FACTORS_MAX {
            let why =
                format!("are more than {FACTORS_MAX}; ask for the others when these are done");
            return Err(invalid("factors", why));
        }
        let tenants = all_tenants(&self.metadata).await?;
        let mut named = BTreeSet::new();
        for asked in &request.factors {
            validate::replication_factor(asked.factor.into())?;
            if !named.insert(&asked.tenant) {
                return Err(invalid(
                    "tenant_id",
                    format!("{} is named twice", asked.tenant),
                ));
            }
            let mut tenants = tenants.iter();
            if !tenants.any(|tenant| tenant.id.as_str() == &*asked.tenant) {
                return Err(CoordinatorError::TenantNotFound(asked.tenant.to_string()));
            }
        }
        let rest = without_given_up(request, stored, topology);
        let (target, _) = rest.applied_to(&topology.nodes).map_err(refused)?;
        let count = target.iter().filter(|node| node.status.owns()).count();
        for node in &target {
            node.validate()
                .map_err(|error| invalid("node_id", format!("{}: {error}", node.id)))?;
        }
        if target.len() < topology.nodes.len() {
            let needs = tenants.iter().map(|tenant| {
                let factor = factor_needed(tenant, open, request);
                (usize::from(factor), tenant.id.as_str())
            });
            enough_are_left(count, needs.max().unwrap_or((1, "")))?;
        }
        if count == 0 && !request.factors.is_empty() {
            return Err(CoordinatorError::NodeInUse(
                "there is no storage node yet; add some first".into(),
            ));
        }
        for asked in &request.factors {
            validate::replicas(asked.factor, count)?;
        }
        Ok(())
    }
}

/// A request without those who leave already, and are now to be given up: they are there until they have left.
fn without_given_up(request: &ChangeRequest, stored: &Topology, after: &Topology) -> ChangeRequest {
    let leaves = |id: &NodeId| stored.node(id).is_some() && after.node(id).is_none();
    let mut rest = request.clone();
    rest.nodes
        .retain(|change| !matches!(change, NodeChange::Remove { id, force: true } if leaves(id)));
    rest
}

/// How many owners a tenant's keys have at most, whichever of the changes that are asked for come true.
fn factor_needed(tenant: &Tenant, open: &[Migration], request: &ChangeRequest) -> u8 {
    let of = |request: &ChangeRequest| {
        let mut factors = request.factors.iter();
        let asked = factors.find(|asked| &*asked.tenant == tenant.id.as_str());
        asked.map(|asked| asked.factor)
    };
    let on_the_way = open.iter().filter_map(|migration| of(&migration.request));
    let most = on_the_way.chain([tenant.replication_factor]).max();
    of(request).or(most).unwrap_or(tenant.replication_factor)
}

/// Whether so many nodes are enough for the tenant that needs the most of them.
fn enough_are_left(count: usize, (most, tenant): (usize, &str)) -> Result<(), CoordinatorError> {
    if count >= most {
        return Ok(());
    }
    let left = match count {
        0 => "no node would be left".to_owned(),
        1 => "one node would be left".to_owned(),
        count => format!("{count} nodes would be left"),
    };
    Err(CoordinatorError::NodeInUse(match tenant {
        "" => format!("{left}; add another one first"),
        tenant => format!(
            "{left}, and tenant '{tenant}' has replication factor {most}; add nodes first, or lower the factor"
        ),
    }))
}

/// The nodes that there will be when the change under way, and all that wait, have ended.
pub(in crate::coordinator) fn after_all(stored: &Topology, open: &[Migration]) -> Topology {
    let mut after = stored.clone();
    if let Some(change) = stored.change.as_deref() {
        after.nodes.clone_from(&change.target);
        after.change = None;
    }
    for migration in open.iter().filter(|m| m.status == MigrationStatus::Pending) {
        let request = migration.request.left_to_do(&after.nodes);
        if let Ok((target, _)) = request.applied_to(&after.nodes) {
            after.nodes = target;
        }
    }
    after
}

#[cfg(test)]
#[path = "admin_test.rs"]
mod tests;
