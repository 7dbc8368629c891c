//! What a change of owners would move, before it is begun: a value to be looked at, printed, and compared with what
//! happened.
//!
//! All nodes list their trees with the number of their records, so keys are counted and not guessed. Writes that come
//! meanwhile are not in it, nor is a node that does not answer (it is named).

use std::sync::Arc;

use super::super::CoordinatorError;
use super::super::listing::{Listings, Next};
use super::super::metadata::Metadata;
use super::super::routing::Routing;
use super::super::tenant_admin::Admin;
use super::super::tenants::TenantCache;
use super::super::topologies::Topologies;
use super::refused::refused;
use super::stored::{KEPT, all_tenants};
use crate::placement::{
    ChangeId, ChangeRequest, FactorChange, MoveState, NodeId, PartitionId, Placement,
    RefusedChange, Topology, TopologyChange,
};
use crate::ports::{CoordinatorWorld, MetadataStore, Migration, MigrationStatus, Tenant};

/// A migration that moved fewer records tells little of how long another one takes.
const KEYS_TELLING: u64 = 1000;

/// What a change would move.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forecast {
    /// How many partitions there are.
    pub partitions: u64,
    /// Those of which some tenant's keys get another owner.
    pub partitions_moving: u64,
    /// Records that are held, each once for each owner that it is to have.
    pub copies: u64,
    /// Those of them that have to be made, at owners that lack them.
    pub copies_moving: u64,
    /// About how many bytes that is, by the last migration that moved many keys; `None`: none is known.
    pub bytes_moving: Option<u64>,
    /// About how many seconds it takes, by the same.
    pub seconds: Option<u64>,
    /// Each node's part, in the order of their names.
    pub nodes: Vec<NodeForecast>,
    /// Nodes that did not answer: what they alone hold is not counted.
    pub silent: Vec<NodeId>,
}

/// What becomes of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeForecast {
    /// Which one.
    pub id: NodeId,
    /// Partitions that it owns by the largest replication factor there is, before and after.
    pub partitions: (u64, u64),
    /// Records that it is to hold, before and after.
    pub keys: (u64, u64),
    /// Records that it gets.
    pub keys_gained: u64,
}

/// Who looks at what nodes hold.
pub(super) struct Surveyor<'a, W: CoordinatorWorld> {
    pub(super) world: &'a W,
    pub(super) metadata: &'a Metadata<W>,
    pub(super) topologies: &'a Topologies<W>,
    pub(super) tenants: &'a TenantCache<W>,
}

impl<W: CoordinatorWorld> Admin<W> {
    /// What `request` would move, begun on `before`, and how long that may take.
    pub(super) async fn forecast(
        &self,
        before: Topology,
        request: &ChangeRequest,
    ) -> Result<Forecast, CoordinatorError> {
        let surveyor = Surveyor {
            world: &self.world,
            metadata: &self.metadata,
            topologies: &self.topologies,
            tenants: &self.tenants,
        };
        let mut forecast = surveyor.forecast(before, request).await?;
        let ended = self.metadata.store().migrations(KEPT);
        let ended = self
            .metadata
            .in_time(self.metadata.deadline(), ended)
            .await?;
        forecast.estimate(&ended);
        Ok(forecast)
    }
}

impl<W: CoordinatorWorld> Surveyor<'_, W> {
    /// What `request` would move, begun on `before`.
    pub(super) async fn forecast(
        &self,
        before: Topology,
        request: &ChangeRequest,
    ) -> Result<Forecast, CoordinatorError> {
        let tenants = all_tenants(self.metadata).await?;
        let factors = factor_changes(request, &tenants);
        let begun = match before.begun(ChangeId::of_number(0), request, factors) {
            // Nothing moves.
            Err(RefusedChange::Nothing | RefusedChange::NobodyLeft) => before,
            begun => begun.map_err(refused)?,
        };
        let change = begun.change.clone();
        let old = Placement::build(begun.clone());
        let new = change
            .as_ref()
            .map_or_else(|| old.clone(), |change| moved(&begun, change));
        let most = largest_factor(&tenants, change.as_deref());
        let mut forecast = Forecast::of_nodes(&old, &new, most);
        let mut listings = Listings::new(self.topologies.routing());
        let mut moving = std::collections::BTreeSet::new();
        loop {
            if let Err(newer) = listings.fill(self.world).await {
                let deadline = self.metadata.deadline();
                self.topologies.refresh(newer, deadline).await;
                return Err(CoordinatorError::NodeInUse(
                    "the topology changed meanwhile; try again".into(),
                ));
            }
            let next = listings.next::<W>(self.tenants, self.metadata.deadline());
            match next.await {
                Next::End => break,
                Next::Nobodys(_) | Next::Unknown(_) => {}
                Next::Tree(found) => {
                    let records = found.digests.iter().flatten().map(|d| d.records).max();
                    let (tree, factor) = (&found.tree, found.factor);
                    let is_moved = forecast.add(
                        (&old, &new),
                        (tree.partition(), tree.tenant(), factor),
                        records.unwrap_or(0),
                    );
                    if is_moved {
                        moving.insert(tree.partition());
                    }
                }
            }
        }
        let heard: Vec<NodeId> = listings.heard().cloned().collect();
        let routing: Arc<Routing> = self.topologies.routing();
        let all = routing.topology().nodes.iter().map(|node| node.id.clone());
        forecast.silent = all.filter(|id| !heard.contains(id)).collect();
        forecast.partitions = begun.partitions.into();
        forecast.partitions_moving = moving.len() as u64;
        Ok(forecast)
    }
}

impl Forecast {
    fn of_nodes(old: &Placement, new: &Placement, factor: u8) -> Self {
        let topology = old.topology();
        let mut nodes: Vec<NodeForecast> = topology
            .nodes
            .iter()
            .map(|node| NodeForecast {
                id: node.id.clone(),
                partitions: (0, 0),
                keys: (0, 0),
                keys_gained: 0,
            })
            .collect();
        for partition in 0..topology.partitions {
            let partition = PartitionId(partition as u16); // at most 2^16 of them
            for index in old.record_owners(partition, "", factor).nodes() {
                nodes[usize::from(*index)].partitions.0 += 1;
            }
            for index in new.record_owners(partition, "", factor).nodes() {
                nodes[usize::from(*index)].partitions.1 += 1;
            }
        }
        Self {
            nodes,
            ..Self::default()
        }
    }

    /// Estimates what the last migration that moved many keys tells of this one; `migrations` are the last ones first.
    fn estimate(&mut self, migrations: &[Migration]) {
        let tells = |migration: &&Migration| {
            migration.status == MigrationStatus::Completed
                && migration.progress.keys >= KEYS_TELLING
        };
        let Some(last) = migrations.iter().find(tells) else {
            return;
        };
        let (keys, bytes) = (last.progress.keys, last.progress.bytes);
        let in_proportion = |all: u64| {
            let share = u128::from(self.copies_moving) * u128::from(all) / u128::from(keys.max(1));
            u64::try_from(share).ok()
        };
        let took = |start: i64, end: i64| (end - start).max(1).unsigned_abs();
        let seconds = last
            .started_at
            .zip(last.ended_at)
            .map(|(start, end)| took(start, end));
        // A pace says nothing of how fast it can be.
        let seconds = seconds.filter(|_| last.bytes_per_second.is_none());
        let seconds = seconds.and_then(in_proportion);
        self.bytes_moving = in_proportion(bytes);
        self.seconds = seconds;
    }

    /// Adds a tree of so many records. Returns whether some of it has to be copied.
    fn add(
        &mut self,
        (old, new): (&Placement, &Placement),
        (partition, tenant, factor): (PartitionId, &str, u8),
        records: u64,
    ) -> bool {
        let before = old.record_owners(partition, tenant, factor);
        let after = new.record_owners(partition, tenant, factor);
        for index in before.nodes() {
            self.nodes[usize::from(*index)].keys.0 += records;
        }
        let mut is_moved = false;
        for index in after.nodes() {
            let node = &mut self.nodes[usize::from(*index)];
            node.keys.1 += records;
            self.copies += records;
            if !before.nodes().contains(index) {
                node.keys_gained += records;
                self.copies_moving += records;
                is_moved = true;
            }
        }
        is_moved
    }
}

/// The factors that change, of those that are asked for, by their tenants' names.
pub(super) fn factor_changes(request: &ChangeRequest, tenants: &[Tenant]) -> Vec<FactorChange> {
    let asked = request.factors.iter().filter_map(|asked| {
        let tenant = tenants
            .iter()
            .find(|tenant| tenant.id.as_str() == &*asked.tenant)?;
        let (from, to) = (tenant.replication_factor, asked.factor);
        let tenant = Arc::clone(&asked.tenant);
        (from != to).then_some(FactorChange { tenant, from, to })
    });
    let mut changes: Vec<FactorChange> = asked.collect();
    changes.sort_by(|one, other| one.tenant.cmp(&other.tenant));
    changes
}

/// The placement when all partitions have been moved.
fn moved(begun: &Topology, change: &TopologyChange) -> Placement {
    let mut change = change.clone();
    for moving in &mut change.moves {
        moving.state = MoveState::Moved;
    }
    Placement::build(Topology {
        change: Some(Arc::new(change)),
        ..begun.clone()
    })
}

fn largest_factor(tenants: &[Tenant], change: Option<&TopologyChange>) -> u8 {
    let factors = tenants.iter().map(|tenant| tenant.replication_factor);
    let to = change.into_iter().flat_map(|change| &change.factors);
    let to = to.map(|factor| factor.to);
    factors.chain(to).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::MigrationProgress;

    fn migration(keys: u64, status: MigrationStatus) -> Migration {
        Migration {
            id: ChangeId::of_number(keys),
            request: ChangeRequest::default(),
            status,
            cancel: false,
            created_at: 0,
            started_at: Some(100),
            ended_at: Some(150),
            progress: MigrationProgress {
                keys,
                bytes: keys * 300,
                ..MigrationProgress::default()
            },
            waits_for: None,
            error: None,
            bytes_per_second: None,
            version: 1,
        }
    }

    #[test]
    fn an_estimate_goes_by_the_last_migration_that_moved_much() {
        let forecast = |migrations: &[Migration]| {
            let mut forecast = Forecast {
                copies_moving: 500,
                ..Forecast::default()
            };
            forecast.estimate(migrations);
            (forecast.bytes_moving, forecast.seconds)
        };
        let told = migration(1000, MigrationStatus::Completed);
        let little = migration(999, MigrationStatus::Completed);
        let undone = migration(5000, MigrationStatus::Cancelled);
        assert_eq!(forecast(&[little.clone(), undone.clone()]), (None, None));
        let found = forecast(&[little, undone, told.clone(), migration(9999, told.status)]);
        assert_eq!(found, (Some(150_000), Some(25)));
        let paced = Migration {
            bytes_per_second: Some(10),
            ..told
        };
        assert_eq!(forecast(&[paced]), (Some(150_000), None));
    }
}
