//! What is waited for once nothing is wrong any more: that owners become equal and owe nobody anything, and that all
//! can be read.
//!
//! What does not come about in time is a complaint, which [`crate::invariants`] judges.

use std::time::Duration;

use bytes::Bytes;
use pairdb::placement::{Node, NodeId};
use pairdb::ports::{RecordKey, Refusal, Space};
use pairdb::quorum::Consistency;

use crate::client::Client;
use crate::cluster::{Cluster, locate};
use crate::endpoint::Endpoint;
use crate::inspect::final_records;
use crate::pause::pause;
use crate::recorded::FinalRecord;
use crate::world::ClientPlan;

/// How long anything may take once nothing is wrong any more.
const CALM_MAX: Duration = Duration::from_secs(60);

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

/// Waits until the owners of every key are equal and nobody owes anything. Returns complaints.
pub async fn converge(cluster: &Cluster) -> Vec<String> {
    let owned = owned(cluster).await;
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
    };
    if wait_until(converged).await {
        return Vec::new();
    }
    let complaints = [
        differing(cluster, &owned).map(|key| format!("the owners of {key} still differ")),
        owing(cluster).map(|who| format!("{who} still owes somebody something")),
        refilling(cluster).map(|who| format!("{who} still counts for no quorum")),
        given_up(cluster)
            .map(|(who, node)| format!("{who} still takes {node} for one that is away")),
    ];
    complaints.into_iter().flatten().collect()
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
type Owned = (RecordKey, Vec<Node>);

/// Every key of the world.
async fn owned(cluster: &Cluster) -> Vec<Owned> {
    let placement = cluster.placement().await;
    let mut owned = Vec::new();
    for tenant in &cluster.world.tenants {
        for key in cluster.world.keys(tenant) {
            let r = tenant.replication_factor;
            owned.push(locate(&placement, &tenant.name, &key, r));
        }
    }
    owned
}

/// A key whose owners hold different records.
fn differing(cluster: &Cluster, owned: &[Owned]) -> Option<String> {
    let records = cluster.contents(Space::Records);
    let hold = |node: &Node, key: &RecordKey| {
        let records = records.get(&Endpoint::Storage(node.port as u8))?;
        records.get(key.as_bytes()).cloned()
    };
    let differ = owned.iter().find(|(key, owners)| {
        let mut held = owners.iter().map(|node| hold(node, key));
        let first = held.next();
        held.any(|held| Some(held) != first)
    });
    differ.map(|(key, _)| format!("{}/{}", key.tenant(), key.key()))
}

/// A node that has something noted for another one.
fn owing(cluster: &Cluster) -> Option<Endpoint> {
    let hints = cluster.contents(Space::Hints);
    let pointer = |hint: &Bytes| hint.len() > 1 + usize::from(hint[0]);
    let mut owing = hints
        .into_iter()
        .filter(|(_, hints)| hints.keys().any(pointer));
    owing.next().map(|(who, _)| who)
}

/// A node that counts for no quorum.
fn refilling(cluster: &Cluster) -> Option<Endpoint> {
    let nodes = cluster.world.storage();
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

/// Reads every key at every owner through every coordinator. Returns complaints.
pub async fn read_everything(cluster: &Cluster) -> Vec<String> {
    let mut complaints = Vec::new();
    let plan = ClientPlan {
        timeout_ms: 5_000,
        cancel_permille: 0,
        sticky: false,
        ..ClientPlan::default()
    };
    let mut reader = Client::new(0, plan, cluster.clone());
    for (index, tenant) in cluster.world.tenants.iter().enumerate() {
        for key in cluster.world.keys(tenant) {
            let mut answered = 0;
            for _ in 0..40 {
                let read = reader.read_at(index, key.clone(), Consistency::All, None);
                answered += u32::from(read.await.is_some());
                if answered == 2 {
                    break;
                }
                pause(LOOK_AGAIN).await;
            }
            if answered < 2 {
                let name = &tenant.name;
                complaints.push(format!("{name}/{key} can't be read at all its owners"));
            }
            reader.read_at(index, key, Consistency::Quorum, None).await;
        }
    }
    complaints
}
