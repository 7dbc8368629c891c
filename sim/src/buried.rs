//! What a delete leaves in the end where the last write wins: nothing that hides beneath it.
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

fn is_judged(world: &World) -> bool {
    let jumps = |step: &FaultStep| matches!(step.fault, Fault::ClockJump { .. });
    world.replica.tombstone_grace <= GRACE_MAX && !world.faults.iter().any(jumps)
}

fn hides(world: &World, last: &FinalRecord) -> bool {
    let held = last
        .records
        .iter()
        .filter_map(|(_, record)| record.as_ref().ok());
    let mut held = held.filter_map(|bytes| Record::decode(bytes.clone()).ok());
    world.tenants[last.tenant].conflict_policy == ConflictPolicy::LastWriteWins
        && held.any(|record| record.hides_values())
}
