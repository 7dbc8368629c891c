//! What `verify` has to say once all owners are equal: that they are, of every key that is on their disks, and nothing
//! else.
//!
//! It is what an operator relies on before a replication factor goes down, or after something was repaired by hand. So
//! it is asked in the end of each world, page by page, in the sizes of that world.
//!
//! What this is not: a look at records. That they are equal is looked at on the disks, by [`crate::settle`].

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::channel::oneshot;
use pairdb::coordinator::Verified;
use pairdb::ports::Space;

use crate::cluster::Cluster;
use crate::pause::pause;
use crate::settle::LOOK_AGAIN;

/// Tombstones may be purged while it goes on, and a coordinator may have as much to do as it takes: then it is asked
/// once more.
///
/// A coordinator may have one place for requests, and one that its client has given up holds it until its own deadline,
/// up to 5 s after. With a pause of 50 ms between two tries this many are so long.
const TRIES_MAX: usize = 100;

/// Asks one coordinator. Returns complaints.
pub async fn wrong(cluster: &Cluster) -> Vec<String> {
    let mut wrong = None;
    for _ in 0..TRIES_MAX {
        let (before, verified) = (keys(cluster), verified(cluster).await);
        wrong = match verified {
            Err(problem) => Some(problem),
            Ok(verified) => complaint(&verified, before),
        };
        if wrong.is_none() {
            break;
        }
        pause(LOOK_AGAIN).await;
    }
    wrong.into_iter().collect()
}

/// What is wrong with what it says where owners hold so many keys, all of them equal.
fn complaint(verified: &Verified, keys: u64) -> Option<String> {
    let Verified {
        differences,
        unverified,
        keys: compared,
        ..
    } = verified;
    if let Some(differ) = differences.first() {
        let (tenant, key) = (differ.key.tenant(), differ.key.key());
        return Some(format!("verified: {tenant}/{key} differs, and does not"));
    }
    if let Some(missed) = unverified.first() {
        let (what, cause) = (&missed.what, &missed.cause);
        return Some(format!("verified: {what} was not looked at: {cause}"));
    }
    let what = format!("verified: {compared} keys were compared, and there are {keys}");
    (*compared != keys).then_some(what)
}

/// Everything that it found, on all its pages.
async fn verified(cluster: &Cluster) -> Result<Verified, String> {
    let mut all = Verified::default();
    let mut after = Bytes::new();
    loop {
        let mut coordinators = cluster.world.coordinators().into_iter();
        let coordinator = coordinators.find_map(|who| cluster.coordinator(who));
        let (node, coordinator) = coordinator.ok_or("verified: there is no coordinator")?;
        let (answer, answered) = oneshot::channel();
        let from = after.clone();
        drop(node.spawn(async move { drop(answer.send(coordinator.verify("", from).await)) }));
        let page = answered.await.map_err(|_| "verified: no answer")?;
        let page = page.map_err(|error| format!("verified: {error}"))?;
        all.keys += page.keys;
        all.differences.extend(page.differences);
        all.unverified.extend(page.unverified);
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

/// How many keys there are on the disks of all members.
fn keys(cluster: &Cluster) -> u64 {
    let members = cluster.reign().members();
    let stored = cluster.contents(Space::Records).into_iter();
    let stored = stored.filter(|(who, _)| members.contains(who));
    let names: BTreeSet<Bytes> = stored
        .flat_map(|(_, records)| records.into_keys())
        .collect();
    names.len() as u64
}
