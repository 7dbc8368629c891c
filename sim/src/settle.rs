//! What is waited for once nothing is wrong any more: that owners become equal and owe nobody anything, and that all
//! can be read.
//!
//! What does not come about in time is a complaint, which [`crate::invariants`] judges.

use std::time::Duration;

use bytes::Bytes;
use pairdb::placement::NodeId;
use pairdb::ports::{Migration, MigrationStatus, RecordKey, Refusal, Space, TreeName};
use pairdb::quorum::Consistency;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::excuse::Excuse;
use crate::inspect::final_records;
use crate::pause::pause;
use crate::recorded::FinalRecord;
use crate::world::ClientPlan;

/// How long anything may take once nothing is wrong any more.
const CALM_MAX: Duration = Duration::from_secs(60);

/// How long all changes of owners together may take once nothing is wrong any more.
const CHANGES_MAX: Duration = Duration::from_secs(300);

/// Looks again after this time.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits for something that has to come about. Returns whether it did.
pub async fn wait_until(condition: impl Fn() -> bool) -> bool {
    let mut left = CALM_MAX;
    while !condition() {
        if left.is_zero() {
            return false;
        }
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
    true
}

/// Waits until no change of owners is asked for or under way. Returns complaints.
pub async fn changes_end(cluster: &Cluster) -> Vec<String> {
    if !cluster.world.changes_owners() {
        return Vec::new();
    }
    let mut left = CHANGES_MAX;
    let open = async || {
        let mut open = cluster.migrations().await;
        open.retain(|migration| migration.status.is_open());
        open
    };
    while !open().await.is_empty() && !left.is_zero() {
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
    let migrations = cluster.migrations().await;
    migrations.iter().filter_map(unfinished).collect()
}

/// What is wrong with a migration that should be over, or should say why it came to nothing.
fn unfinished(migration: &Migration) -> Option<String> {
    let (kind, status) = (migration.kind(), migration.status);
    let waits_for = migration.waits_for.as_deref().unwrap_or("nothing");
    let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    match status {
        _ if status.is_open() => Some(format!(
            "a {kind} is still {status}, and waits for {waits_for}"
        )),
        MigrationStatus::Failed if !says(&migration.error) => {
            Some(format!("a {kind} has failed, and does not say why"))
        }
        _ => None,
    }
}

/// Waits until the owners of every key are equal, nobody else has a copy, and nobody owes anything. Returns complaints.
pub async fn converge(cluster: &Cluster) -> Vec<String> {
    let owned = owned(cluster);
    // What is damaged is met by who looks at it, as an operator would have it verified.
    let mut left = CALM_MAX;
    while !final_records(cluster).await.iter().all(is_looked_at) && !left.is_zero() {
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
    let converged = || {
        differing(cluster, &owned).is_none()
            && owing(cluster).is_none()
            && refilling(cluster).is_none()
            && given_up(cluster).is_none()
            && left_over(cluster).is_none()
    };
    let is_equal = wait_until(converged).await;
    excuse_given_up(cluster);
    if is_equal {
        return Vec::new();
    }
    let complaints = [
        differing(cluster, &owned).map(|key| format!("the owners of {key} still differ")),
        owing(cluster).map(|who| format!("{who} still owes somebody something")),
        refilling(cluster).map(|who| format!("{who} still counts for no quorum")),
        given_up(cluster)
            .map(|(who, node)| format!("{who} still takes {node} for one that is away")),
        left_over(cluster).map(|(who, what)| format!("{who} still has {what}, which others own")),
    ];
    complaints.into_iter().flatten().collect()
}

/// Notes which nodes that were given up still have something that others own, or hints: they are asked for nothing.
fn excuse_given_up(cluster: &Cluster) {
    for who in cluster.tap.lost_for_good() {
        let has = |space| {
            cluster
                .contents(space)
                .get(&who)
                .is_some_and(|it| !it.is_empty())
        };
        if has(Space::Records) || has(Space::Hints) {
            cluster.tap.excused(Excuse::GivenUp);
        }
    }
}

/// What the owners of every key hold, once they are equal or the time for that is over.
///
/// Tombstones are purged at one owner after the other, and may be just now. What a tombstone hides goes at one owner
/// first; the others learn of it in the next round.
pub async fn last_records(cluster: &Cluster) -> Vec<FinalRecord> {
    let mut last = final_records(cluster).await;
    let mut left = CALM_MAX;
    while !last.iter().all(FinalRecord::is_equal) && !left.is_zero() {
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
        last = final_records(cluster).await;
    }
    last
}

/// A record's name, and who owns it.
pub type Owned = (RecordKey, Vec<Endpoint>);

/// Every key of the world.
#[must_use]
pub fn owned(cluster: &Cluster) -> Vec<Owned> {
    let reign = cluster.reign();
    let mut owned = Vec::new();
    for tenant in &cluster.world.tenants {
        for key in cluster.world.keys(tenant) {
            let key = reign.record_key(&tenant.name, &key);
            let owners = reign.owners(&key.tree());
            owned.push((key, owners));
        }
    }
    owned
}

/// A node with something of a tree that it does not own. (One that was taken for lost is asked for nothing.)
fn left_over(cluster: &Cluster) -> Option<(Endpoint, String)> {
    if !cluster.world.changes_owners() {
        return None;
    }
    let reign = cluster.reign();
    let lost = cluster.tap.lost_for_good();
    let kept = [
        (Space::Records, "records"),
        (Space::Digests, "digests"),
        (Space::Tombstones, "notes of tombstones"),
        (Space::Meta, "what was purged"),
    ];
    kept.into_iter().find_map(|(space, what)| {
        let stored = cluster.contents(space).into_iter();
        let mut stored = stored.filter(|(who, _)| !lost.contains(who));
        stored.find_map(|(who, stored)| {
            let mut trees = stored.keys().filter_map(|name| tree_of(space, name));
            let tree = trees.find(|tree| !reign.owners(tree).contains(&who))?;
            let (partition, tenant) = (tree.partition().0, tree.tenant());
            Some((who, format!("{what} of {tenant} in partition {partition}")))
        })
    })
}

/// The tree that something stored is of, if it is of one.
fn tree_of(space: Space, name: &Bytes) -> Option<TreeName> {
    match space {
        Space::Records | Space::Tombstones => {
            Some(RecordKey::from_bytes(name.clone()).ok()?.tree())
        }
        // The number of a leaf comes last.
        Space::Digests => TreeName::from_bytes(name.slice(..name.len().checked_sub(1)?)).ok(),
        Space::Meta => {
            let tree = name.strip_prefix(b"purged ")?;
            TreeName::from_bytes(Bytes::copy_from_slice(tree)).ok()
        }
        Space::Hints => None,
    }
}

/// A key whose owners hold different records.
fn differing(cluster: &Cluster, owned: &[Owned]) -> Option<String> {
    let records = cluster.contents(Space::Records);
    let hold = |who: &Endpoint, key: &RecordKey| records.get(who)?.get(key.as_bytes()).cloned();
    let differ = owned.iter().find(|(key, owners)| {
        let mut held = owners.iter().map(|who| hold(who, key));
        let first = held.next();
        held.any(|held| Some(held) != first)
    });
    differ.map(|(key, _)| format!("{}/{}", key.tenant(), key.key()))
}

/// A node that has something noted for another one. (One that was taken for lost, with that, is asked for nothing.)
fn owing(cluster: &Cluster) -> Option<Endpoint> {
    let lost = cluster.tap.lost_for_good();
    let mut hints = cluster.contents(Space::Hints);
    hints.retain(|who, _| !lost.contains(who));
    let pointer = |hint: &Bytes| hint.len() > 1 + usize::from(hint[0]);
    let mut owing = hints
        .into_iter()
        .filter(|(_, hints)| hints.keys().any(pointer));
    owing.next().map(|(who, _)| who)
}

/// A node of the topology that counts for no quorum.
fn refilling(cluster: &Cluster) -> Option<Endpoint> {
    let nodes = cluster.reign().members();
    nodes.into_iter().find(|who| cluster.is_refilling(*who))
}

/// A coordinator that takes a node for one that is away, and that node.
fn given_up(cluster: &Cluster) -> Option<(Endpoint, NodeId)> {
    let mut coordinators = cluster.world.coordinators().into_iter();
    coordinators.find_map(|who| {
        let mut nodes = cluster.coordinator(who)?.1.admin().nodes().into_iter();
        let away = nodes.find(|overview| !overview.healthy)?;
        Some((who, away.node.id))
    })
}

/// Whether every owner has looked at its record.
fn is_looked_at(record: &FinalRecord) -> bool {
    let damaged = Refusal::Damaged.to_string();
    let mut records = record.records.iter();
    records.all(|(_, record)| record.as_ref().err().is_none_or(|error| *error == damaged))
}

/// Who reads when all else is done: with patience, and through one coordinator after the other.
pub struct Reader(Client);

/// So often a key is read before it counts as one that can't be.
const READS_MAX: u32 = 40;

impl Reader {
    /// It has read nothing yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        let plan = ClientPlan {
            timeout_ms: 5_000,
            cancel_permille: 0,
            sticky: false,
            ..ClientPlan::default()
        };
        Self(Client::new(0, plan, cluster.clone()))
    }

    /// Reads a key until it was answered so often. Returns whether it was.
    pub async fn is_answered(
        &mut self,
        (tenant, key): (usize, &str),
        consistency: Consistency,
        times: u32,
    ) -> bool {
        let mut answered = 0;
        for _ in 0..READS_MAX {
            let read = self.0.read_at(tenant, key.to_owned(), consistency, None);
            answered += u32::from(read.await.is_some());
            if answered == times {
                return true;
            }
            pause(LOOK_AGAIN).await;
        }
        false
    }
}

/// Reads every key at every owner through every coordinator. Returns complaints.
pub async fn read_everything(cluster: &Cluster) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut reader = Reader::new(cluster);
    for (index, tenant) in cluster.world.tenants.iter().enumerate() {
        for key in cluster.world.keys(tenant) {
            let place = (index, key.as_str());
            if !reader.is_answered(place, Consistency::All, 2).await {
                let name = &tenant.name;
                complaints.push(format!("{name}/{key} can't be read at all its owners"));
            }
            let read = reader.0.read_at(index, key, Consistency::Quorum, None);
            read.await;
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use pairdb::placement::{ChangeId, ChangeRequest};

    use super::*;

    fn migration(status: MigrationStatus, error: Option<&str>) -> Migration {
        Migration {
            status,
            waits_for: Some("n2".to_owned()),
            error: error.map(ToOwned::to_owned),
            ..Migration::asked(ChangeId::of_number(1), ChangeRequest::default(), 0)
        }
    }

    #[test]
    fn a_migration_ends_or_says_why_it_came_to_nothing() {
        let unfinished = |status, error| unfinished(&migration(status, error));
        for status in [MigrationStatus::Completed, MigrationStatus::Cancelled] {
            assert_eq!(unfinished(status, None), None);
        }
        assert_eq!(unfinished(MigrationStatus::Failed, Some("why")), None);
        let silent = unfinished(MigrationStatus::Failed, None);
        assert_eq!(
            silent.as_deref(),
            Some("a replication_factor has failed, and does not say why")
        );
        let open = unfinished(MigrationStatus::InProgress, None);
        let what = "a replication_factor is still in_progress, and waits for n2";
        assert_eq!(open.as_deref(), Some(what));
    }
}
