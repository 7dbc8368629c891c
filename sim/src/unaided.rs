//! What hints have to do by themselves, in worlds in which owners are not compared: before anybody reads.
//!
//! Judged in worlds where one storage node was away for a while and nothing else went wrong (disks may be slow), and
//! there the keys whose writes were all acknowledged, at their first attempt and stamped once: a coordinator knew of
//! every owner that missed one, and had it noted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::inspect::final_records;
use crate::op::Kind;
use crate::pause::pause;
use crate::recorded::FinalRecord;
use crate::world::{Fault, FaultStep, NEVER, World};

/// The pauses between all tries come to less.
const WITHIN: Duration = Duration::from_secs(30);
/// Looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Waits for repair. Returns what owners of judged keys hold that still differ after that.
pub async fn repaired(cluster: &Cluster) -> Vec<FinalRecord> {
    if !is_judged(&cluster.world) {
        return Vec::new();
    }
    let keys = judged_keys(cluster);
    let mut left = WITHIN;
    loop {
        let mut differ = final_records(cluster).await;
        differ.retain(|last| keys.contains(&(last.tenant, last.key.clone())) && !last.is_equal());
        if differ.is_empty() || left.is_zero() {
            return differ;
        }
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
}

/// Whether owners are not compared in this world.
#[must_use]
pub fn is_unaided(world: &World) -> bool {
    world.coordinator.anti_entropy_pause >= NEVER
}

fn is_judged(world: &World) -> bool {
    let network = &world.network;
    let losses = network.lost_request_permille + network.lost_reply_permille;
    let lasts = |step: &&FaultStep| !matches!(step.fault, Fault::SlowDisk { .. });
    let lasting: Vec<_> = world.faults.iter().filter(lasts).collect();
    let [step] = lasting[..] else {
        return false;
    };
    let away = match &step.fault {
        Fault::Crash { .. } | Fault::FullDisk { .. } => true,
        Fault::Partition { from, .. } => from.len() == 1,
        _ => false,
    };
    is_unaided(world)
        && away
        && losses == 0
        && network.duplicate_permille == 0
        && world.buggify.is_empty()
        && world.disk.sync_interval_ms.is_none()
        && step.at_ms + step.for_ms >= world.chaos_ms
}

fn judged_keys(cluster: &Cluster) -> BTreeSet<(usize, String)> {
    let mut stamped = BTreeMap::new();
    let seen = cluster.tap.seen();
    let twice: BTreeSet<_> = seen
        .versions
        .iter()
        .filter(|(dot, version)| {
            let first = *stamped.entry(version.write_id).or_insert(**dot);
            first != **dot
        })
        .map(|(_, version)| {
            (
                version.key.tenant().to_owned(),
                version.key.key().to_owned(),
            )
        })
        .collect();
    let ops = cluster.history.ops();
    let mut keys: BTreeSet<(usize, String)> = BTreeSet::new();
    let mut uncertain = BTreeSet::new();
    for op in ops.values().filter(|op| op.kind != Kind::Read) {
        let place = (op.tenant, op.key.clone());
        let tenant = cluster.world.tenants[op.tenant].name.clone();
        if op.attempts != 1
            || op.unknown
            || op.success().is_none()
            || twice.contains(&(tenant, op.key.clone()))
        {
            uncertain.insert(place.clone());
        }
        keys.insert(place);
    }
    keys.retain(|place| !uncertain.contains(place));
    keys
}
