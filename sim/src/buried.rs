//! What a delete leaves in the end: nothing. Where the last write wins nothing hides beneath it; and once it is older
//! than the grace period it is purged, by all owners, so that keys that come and go take no room.
//!
//! Owners that were written to at the same time can be left with an older value beside a newer tombstone. No reader is
//! shown it, and no purge takes it: it has to be settled first, by the nodes themselves, when they are told that the
//! last write wins.
//!
//! Judged in worlds in which a tombstone grows old in time: where the grace period is short and no wall clock jumps.

use std::time::Duration;

use pairdb::quorum::ConflictPolicy;
use pairdb::version::Record;

use crate::cluster::Cluster;
use crate::inspect::final_records;
use crate::pause::pause;
use crate::recorded::FinalRecord;
use crate::world::{Fault, FaultStep, World};

/// Many rounds of comparing take less.
const WITHIN: Duration = Duration::from_secs(90);
/// Looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// One world of so many waits for tombstones to go.
const KEPT_OF: u64 = 3;
/// A grace period that is short.
const GRACE_MAX: Duration = Duration::from_secs(2);

/// Waits until nothing is hidden any more. Returns what owners hold of keys of which something still is.
pub async fn hidden(cluster: &Cluster) -> Vec<FinalRecord> {
    if !is_judged(&cluster.world) {
        return Vec::new();
    }
    let mut left = WITHIN;
    loop {
        let mut hidden = final_records(cluster).await;
        hidden.retain(|last| hides(&cluster.world, last));
        if hidden.is_empty() || left.is_zero() {
            return hidden;
        }
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
}

/// Waits until everything that is deleted is purged. Returns complaints. In some of the worlds: it takes a while.
pub async fn kept(cluster: &Cluster) -> Vec<String> {
    if !is_judged(&cluster.world) || !cluster.world.seed.is_multiple_of(KEPT_OF) {
        return Vec::new();
    }
    let mut left = WITHIN;
    loop {
        let mut kept = final_records(cluster).await;
        kept.retain(|last| held(last).any(|record| record.is_deleted()));
        if kept.is_empty() || left.is_zero() {
            let names = kept.iter().map(|last| {
                let tenant = &cluster.world.tenants[last.tenant].name;
                format!("{tenant}/{} was deleted, and is kept for ever", last.key)
            });
            return names.collect();
        }
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
}

fn is_judged(world: &World) -> bool {
    let jumps = |step: &FaultStep| matches!(step.fault, Fault::ClockJump { .. });
    world.replica.tombstone_grace <= GRACE_MAX && !world.faults.iter().any(jumps)
}

fn hides(world: &World, last: &FinalRecord) -> bool {
    world.tenants[last.tenant].conflict_policy == ConflictPolicy::LastWriteWins
        && held(last).any(|record| record.hides_values())
}

/// What its owners hold.
fn held(last: &FinalRecord) -> impl Iterator<Item = Record> + '_ {
    let answers = last.records.iter();
    let held = answers.filter_map(|(_, record)| record.as_ref().ok());
    held.filter_map(|bytes| Record::decode(bytes.clone()).ok())
}
